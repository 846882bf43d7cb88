"""Makes synthetic neurons while a model learns: thousands of them, each used a few times and then forgotten."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence

import numpy as np

from .sampling import ArrayVolume
from .synthetic import synthetic_neuron
from .wild import wild_neuron


# Blocks are drawn from so many streams of neurons, the streams taking turns from batch to batch: with 2 or 4 processes
# (or workers) each makes the neurons of its own streams only, and which neuron a block shows does not depend on their
# number.
STREAMS = 4
# Neurons of a stream that are at hand at a time, and blocks cut from each before it gives way to a new one. A neuron
# takes about as long to make as three blocks to learn from.
AT_HAND = 6
BLOCKS_OF_A_NEURON = 24
# One neuron in so many imitates a confocal image (`synthetic_neuron`), half of them noisy ones; the others are wild.
IMITATED = 3
# Slices, height and width: room for a tile of 192 pixels that is turned or widened.
SHAPE = (24, 224, 224)


class FreshNeurons:
    """Streams of synthetic neurons, labelled as wide as they are seen.

    Block `index` depends on seed and `index` alone.

    Args:
        seed: of everything random.
        batch_size: blocks a batch; the streams take turns from batch to batch.
        shape: (z, y, x) of each neuron's volume.
        without: ingredients of the pictures to leave out, see `wild_neuron`.
        backgrounds: real stacks (z, y, x) that neurons may be painted onto.
    """

    def __init__(
        self,
        *,
        seed: int,
        batch_size: int,
        shape: tuple[int, int, int] = SHAPE,
        without: Collection[str] = (),
        backgrounds: Sequence[np.ndarray] = (),
    ):
        self.seed, self.batch_size, self.shape = seed, batch_size, shape
        self.without, self.backgrounds = tuple(without), list(backgrounds)
        self._made: OrderedDict[tuple[int, int], ArrayVolume] = OrderedDict()

    def draw(self, index: int, rng: np.random.Generator) -> ArrayVolume:
        """Draws one of the neurons that are at hand for block `index`."""
        stream = index // self.batch_size % STREAMS
        oldest = index // (STREAMS * BLOCKS_OF_A_NEURON)
        return self._neuron(stream, oldest + int(rng.integers(AT_HAND)))

    def _neuron(self, stream: int, number: int) -> ArrayVolume:
        key = (stream, number)
        if key not in self._made:
            self._made[key] = self._make(stream, number)
            while len(self._made) > STREAMS * (AT_HAND + 1):
                self._made.popitem(last=False)
        return self._made[key]

    def _make(self, stream: int, number: int) -> ArrayVolume:
        seed = int(np.random.SeedSequence([self.seed, stream, number]).generate_state(1, np.uint64)[0])
        if number % IMITATED == 0:
            imitated = synthetic_neuron(self.shape, seed=seed, quality=None if number % 2 else "noisy")
            image, labels = imitated.volume.array, imitated.visible_labels()
        else:
            wild = wild_neuron(self.shape, seed=seed, without=self.without, backgrounds=self.backgrounds)
            image, labels = wild.volume.array, wild.labels
        return ArrayVolume(f"synthetic neuron {stream}.{number}", image[None], labels)
