"""Which neurons train, which validate and which test: by neuron or by laboratory, the same for ever under one seed."""

import hashlib
import re
from collections.abc import Sequence

from .dataset_files import PARTS


SPLIT_BY = ("neuron", "lab")
_FOLDER_PREFIX = re.compile(r"^(?:(?:err|done|hard|sv|ho)_)+")


def part_of(
    neuron_id: str,
    lab: str | None,
    *,
    by: str = "neuron",
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    seed: int = 0,
) -> str:
    """The part of a neuron: "train", "validation" or "test".

    A neuron's (or laboratory's) name and the seed are hashed to a number in [0, 1), and the fractions cut that range. So
    no neuron changes its part when others are added or taken away, on any machine; the parts' sizes are the
    fractions only on average.

    Args:
        neuron_id: see `pairing.neuron_id`.
        lab: its laboratory; where it is unknown the neuron stands for itself.
        by: "neuron", or "lab": all neurons of a laboratory in one part.
        fractions: of train, validation and test; their sum is 1.
        seed: another one, another split.
    """
    key = f"lab {lab}" if by == "lab" and lab else f"neuron {_key(neuron_id)}"
    place = int.from_bytes(hashlib.sha256(f"{seed} {key}".encode()).digest()[:8], "big") / 2**64
    bound = 0.0
    for part, fraction in zip(PARTS, fractions, strict=True):
        bound += fraction
        if place < bound:
            return part
    return next(part for part, fraction in zip(PARTS[::-1], fractions[::-1], strict=True) if fraction > 0)  # rounding


def _key(neuron_id: str) -> str:
    """What must stay together: a neuron under whatever prefix its folder has, and all extracts of one stack."""
    name = _FOLDER_PREFIX.sub("", neuron_id.split("/")[-1])
    return re.sub(r"\.extract_\d+$", "", name)
