"""Splits neurons into training, validation and test, by neuron or laboratory; a seed always gives the same."""

import hashlib
import re
from collections.abc import Sequence

from .dataset_files import PARTS


SPLIT_BY = ("neuron", "lab")
_PREFIX = re.compile(r"^(?:(?:err|done|hard|sv|ho)_)+(?=.)", re.DOTALL)
_EXTRACT = re.compile(r"(?<=.)\.extract_\d+$", re.DOTALL)


def part_of(
    neuron_id: str,
    lab: str | None,
    *,
    by: str = "neuron",
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    seed: int = 0,
) -> str:
    """Returns the part of a neuron: "train", "validation" or "test".

    The neuron's whole id (or the laboratory's name) and the seed are hashed to a number in [0, 1), and the fractions
    cut that range. So no neuron changes its part when others are added or removed, on any machine. The sizes of the
    parts equal the fractions only on average.

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
    """Returns a key for what must stay in one part: a neuron, whatever its folders' prefixes, with all its extracts.

    `g/done_x/x`, `g/x/image` and `g/x` are one neuron (an image in a folder of its name, or called `image`), and
    `g/x.extract_3/x.extract_3` is a part of it.
    """
    parts = [_EXTRACT.sub("", _PREFIX.sub("", part)) for part in neuron_id.split("/")]
    while len(parts) > 1 and parts[-1].lower() == "image":
        parts.pop()
    return "/".join(part for part, before in zip(parts, [None, *parts], strict=False) if part != before)
