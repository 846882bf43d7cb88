"""Synthetic neurons: images that look like light microscopy, with the tree that they show.

There is never enough hand-traced data, and little of it may be redistributed. `synthetic_neuron` grows a random tree
(`synthetic_tree.py`) and takes its picture with a random bad microscope (`synthetic_image.py`), whose contrast, blur,
noise and clutter span what confocal, two-photon and light-sheet images of single neurons show.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from neuron_vit3d.morphology import Tree, rasterize
from neuron_vit3d.volumes import Volume, write_volume

from .synthetic_image import draw_microscope, take_picture
from .synthetic_tree import HABITS, grow_tree
from .visible import visible_labels


@dataclass(frozen=True, eq=False)
class SyntheticNeuron:
    """One image and its truth.

    Attributes:
        volume: uint8 (z, y, x), with a voxel size.
        tree: the neuron, in voxels of the volume, one root.
        mask: bool (z, y, x), `rasterize(tree, volume.shape)`.
        blur: (z, y, x) standard deviations of the picture's point spread function, voxels; None where unknown.
    """

    volume: Volume
    tree: Tree
    mask: np.ndarray
    blur: tuple[float, float, float] | None = None

    def visible_labels(self) -> np.ndarray:
        """Label the neuron as wide as it is seen: uint8 (z, y, x), 0 background, 1 neuron, 255 ignored."""
        return visible_labels(self.tree, self.volume.shape, self.blur or (0.0, 0.0, 0.0))


def synthetic_neuron(
    shape: Sequence[int] = (48, 256, 256),
    *,
    seed: int,
    quality: Literal["clean", "noisy"] | None = None,
    kind: Literal["arbor", "dendrite", "axon"] | None = None,
    anisotropy: float | None = None,
) -> SyntheticNeuron:
    """Make one neuron; the same arguments give the same bytes.

    Args:
        shape: (z, y, x); at least 4 slices of 32 x 32.
        seed: non-negative.
        quality: "clean" (dark, sharp, hardly any clutter), "noisy" (bright uneven background, grain, other cells);
            None draws from the whole range.
        kind: "arbor" (a trunk with tufts of short twigs), "dendrite" (few, thick, with spines) or "axon" (long, thin);
            None draws one.
        anisotropy: slice distance over pixel size, at least 0.5; None draws between 1 and 5, mostly near 1.

    Raises:
        ValueError: an argument outside what is said above.
    """
    shape = checked_shape(shape)
    if quality not in (None, "clean", "noisy"):
        raise ValueError(f"quality must be 'clean', 'noisy' or None, got {quality!r}")
    if kind is not None and kind not in HABITS:
        raise ValueError(f"kind must be one of {', '.join(HABITS)} or None, got {kind!r}")
    if anisotropy is not None and not 0.5 <= anisotropy < float("inf"):
        raise ValueError(f"anisotropy must be at least 0.5, got {anisotropy!r}")
    # Streams of their own: a change to the picture leaves the trees as they were.
    plan, growth, camera = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3))
    drawn_kind = plan.choice(list(HABITS), p=[0.6, 0.2, 0.2])
    drawn_anisotropy = 1.0 if plan.random() < 0.4 else float(np.exp(plan.uniform(0, np.log(5))))
    pixel_size = float(np.round(np.exp(plan.uniform(np.log(0.1), np.log(0.6))), 3))
    grown = kind or str(drawn_kind)
    anisotropy = drawn_anisotropy if anisotropy is None else float(anisotropy)

    tree = grow_tree(shape, growth, kind=grown, anisotropy=anisotropy)
    microscope = draw_microscope(camera, quality=quality, spiny=grown == "dendrite", anisotropy=anisotropy)
    image = take_picture(tree, shape, microscope, camera)
    voxel_size = (round(pixel_size * anisotropy, 3), pixel_size, pixel_size)
    return SyntheticNeuron(Volume(image, voxel_size), tree, rasterize(tree, shape), microscope.blur)


def write_synthetic_pairs(
    folder: str | os.PathLike, count: int, *, seed: int, shape: Sequence[int] = (48, 256, 256), **options
) -> list[Path]:
    """Write `neuron_0000.tif` (image) and `neuron_0000.swc` (tree), and so on, into a folder made if need be.

    Each file appears whole or not at all, the tree last; pairs already there are left alone, so a run that was cut
    short goes on where it ended. Neuron i depends on `seed` and i alone: a larger `count` extends the set.

    Args:
        folder: where to.
        count: how many neurons the folder shall hold.
        seed: of the set.
        shape: (z, y, x) of every volume.
        **options: `quality`, `kind` and `anisotropy` of `synthetic_neuron`.

    Returns:
        Paths of the `count` images.

    Raises:
        ValueError: a negative count, or as `synthetic_neuron`.
        OSError: a file cannot be written.
    """
    if count < 0:
        raise ValueError(f"count must not be negative, got {count}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    images = [folder / f"neuron_{i:04d}.tif" for i in range(count)]
    for i, image in enumerate(images):
        swc = image.with_suffix(".swc")
        if image.exists() and swc.exists():
            continue
        own_seed = int(np.random.SeedSequence([seed, i]).generate_state(1, np.uint64)[0])
        neuron = synthetic_neuron(shape, seed=own_seed, **options)
        write_volume(image, neuron.volume)
        neuron.tree.write(swc)
    return images


def checked_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """Give a shape as three numbers, or raise ValueError for one in which no neuron fits."""
    sizes = tuple(int(n) for n in shape)
    if len(sizes) != 3 or sizes[0] < 4 or min(sizes[1:]) < 32:
        raise ValueError(f"shape must be (z, y, x) of at least (4, 32, 32), got {tuple(shape)}")
    return sizes
