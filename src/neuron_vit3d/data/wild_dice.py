"""One random stream for each ingredient of a wild picture, so that leaving one out disturbs the others little."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np


INGREDIENTS = (
    "thick",  # trunks of up to 30 voxels
    "thin",  # axons as thin as a hair
    "uneven_contrast",  # brightness that varies from branch to branch and along each
    "gaps",  # stretches where the stain fails
    "beads",  # bright swellings
    "lobes",  # irregular lumps, as synaptic endings of flies have
    "granules",  # neurites made of blobs
    "hollow",  # membranes brighter than what they enclose
    "spines",
    "honeycomb",  # packed cells with bright walls
    "specks",
    "other_neurites",
    "somata",  # of other cells
    "textures",  # stripes, clouds and blobs behind the neuron
    "real_backgrounds",
    "blending",  # the neuron painted over its background or multiplied with it, rather than added
    "bias",  # one side of the image brighter
    "axial_blur",
    "anisotropy",
    "haze",
    "noise_variety",  # grain, stripes and salt beside photon and read noise
    "bright_things",  # a soma that outshines all, a scale bar, hot pixels, a hot slice
    "cleaning",  # black below a threshold, sharpened or smoothed by a program
    "compression",
    "inversion",
    "saturation",
    "bit_depth",
)
# Streams that nothing switches off.
_OTHERS = ("tree", "neuron", "background", "microscope", "noise", "exposure")
_STREAMS = {name: number for number, name in enumerate(_OTHERS + INGREDIENTS)}


class Dice:
    """The random streams of one picture.

    Args:
        seed: non-negative.
        without: names of ingredients that shall never happen.

    Raises:
        ValueError: a negative seed or an unknown name.
    """

    def __init__(self, seed: int, without: Collection[str] = ()) -> None:
        if isinstance(without, str):
            raise ValueError(f"without must be a collection of names, got the single string {without!r}")
        unknown = sorted(set(without) - set(INGREDIENTS))
        if unknown:
            raise ValueError(f"unknown ingredients {', '.join(unknown)}; known are {', '.join(INGREDIENTS)}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        self._seed, self._without = int(seed), frozenset(without)
        self._streams: dict[str, np.random.Generator] = {}

    def rng(self, name: str) -> np.random.Generator:
        """Give the stream of an ingredient; the same object each time."""
        if name not in self._streams:
            sequence = np.random.SeedSequence(self._seed, spawn_key=(_STREAMS[name],))
            self._streams[name] = np.random.default_rng(sequence)
        return self._streams[name]

    def happens(self, name: str, chance: float) -> bool:
        """Throw for an ingredient; never true for one that is left out."""
        return bool(self.rng(name).random() < chance) and name not in self._without

    def left_out(self, name: str) -> bool:
        """Tell whether an ingredient is left out."""
        return name in self._without
