"""Makes wild neurons: pictures from microscopes that do not exist, so that real ones are no surprise.

`synthetic_neuron` imitates confocal images. `wild_neuron` draws every circumstance from a range far beyond what any
microscope gives (domain randomisation: Billot et al. 2023, SynthSeg, Medical Image Analysis 86:102789; Wittmann et al.
2025, vesselFM, CVPR), and labels what is seen, not what is true. It is quick enough to make each training
sample anew. `INGREDIENTS` names what goes into the pictures; each can be left out.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from neuron_vit3d.morphology import Tree
from neuron_vit3d.volumes import Volume

from .synthetic import checked_shape
from .synthetic_image import out_of_focus
from .visible import IGNORED, NEURON, label_points, paint
from .wild_background import real_background, wild_background
from .wild_camera import add_noise, clean, shade, to_grey_levels
from .wild_clutter import add_bright_things, add_somata, add_specks, draw_other_neurites
from .wild_dice import INGREDIENTS, Dice
from .wild_light import Optics, light_of_neuron
from .wild_tree import grow_wild_tree


__all__ = ["INGREDIENTS", "WildNeuron", "wild_neuron"]

# What else is as bright as this share of the neuron's contrast cannot be called background: it is ignored.
_COMPARABLE = 0.35


@dataclass(frozen=True, eq=False)
class WildNeuron:
    """One image and its truth.

    Attributes:
        volume: uint8 or uint16 (z, y, x), with a voxel size.
        labels: uint8 (z, y, x): 0 background, 1 neuron as wide as it is seen, 255 ignored.
        tree: the neuron, or the neurons, in voxels of the volume; parents before children.
    """

    volume: Volume
    labels: np.ndarray
    tree: Tree


def wild_neuron(
    shape: Sequence[int] = (24, 224, 224),
    *,
    seed: int,
    without: Collection[str] = (),
    backgrounds: Sequence[np.ndarray] = (),
) -> WildNeuron:
    """Make one neuron in a wild picture; the same arguments give the same bytes.

    Args:
        shape: (z, y, x); at least 4 slices of 32 x 32.
        seed: non-negative.
        without: names of `INGREDIENTS` to leave out. The rest stays as alike as it can.
        backgrounds: real stacks (z, y, x) of which crops are put behind some neurons.

    Returns:
        The volume, its labels and the tree.

    Raises:
        ValueError: an argument outside what is said above.
    """
    shape = checked_shape(shape)
    backgrounds = [_checked_background(array) for array in backgrounds]
    dice = Dice(seed, without)
    rng = dice.rng("microscope")
    anisotropy, optics, pixel_size = _draw_optics(dice)
    tree = grow_wild_tree(shape, dice, anisotropy)
    # Signal to noise of a typical neurite: a tenth of the images is worse than 2.9, a tenth better than 23.
    noise = 1 / float(np.exp(rng.uniform(np.log(2.2), np.log(30.0))))
    # Outside of gaps nothing of the neuron shall sink into the noise for good.
    neuron = light_of_neuron(tree, shape, optics, dice, dimmest=min(1.2 * noise + 0.05, 0.6))
    labels = label_points(neuron.points, neuron.radii, shape, optics.blur, optics.squeeze)
    _ignore_balls(labels, neuron.spine_points, neuron.spine_radii + 1.0 * optics.blur[2], optics)

    light = neuron.light
    draw_other_neurites(light, labels, optics, anisotropy, dice, comparable=_COMPARABLE)
    add_specks(light, optics, dice)
    light = _blurred(light, optics)
    if dice.happens("haze", 0.6):
        light += np.float32(dice.rng("haze").uniform(0.02, 0.6)) * out_of_focus(light)
    behind = wild_background(shape, dice)
    add_somata(behind, dice)
    if dice.happens("real_backgrounds", 0.35) and backgrounds:
        own = dice.rng("real_backgrounds")
        crop = real_background(backgrounds, shape, own)
        # Mostly dim; else what is as bright as the neuron may well be a neurite, and is ignored.
        crop *= np.float32(own.uniform(0.1, 0.4) if own.random() < 0.7 else own.uniform(0.4, 1.2))
        # A dense stack may not make more than a seventh of the image unknown.
        crop *= min(1.0, _COMPARABLE / max(float(np.percentile(crop[::2, ::4, ::4], 86)), 1e-6))
        behind *= np.float32(own.choice([0.0, 0.3, 1.0]))
        behind += crop
        labels[(crop > _COMPARABLE) & (labels != NEURON)] = IGNORED
    image = _blended(light, behind, dice)
    shade(image, dice)
    add_bright_things(image, labels, dice)
    floor = float(np.median(image[::3, ::4, ::4]))
    add_noise(image, noise, floor + 0.3, dice)
    image = clean(image, floor, noise, dice)
    grey = to_grey_levels(image, dice)
    voxel_size = (round(pixel_size * anisotropy, 3), pixel_size, pixel_size)
    return WildNeuron(Volume(grey, voxel_size), labels, tree)


def _draw_optics(dice: Dice) -> tuple[float, Optics, float]:
    """Draws the slice distance over the pixel size, its and the blur's effect on lengths, and the pixel size (um)."""
    rng = dice.rng("microscope")
    pixel_size = float(np.round(np.exp(rng.uniform(np.log(0.1), np.log(1.0))), 3))
    lateral = float(np.exp(rng.uniform(np.log(0.5), np.log(2.2))))
    own = dice.rng("anisotropy")
    anisotropy = 1.0
    if dice.happens("anisotropy", 0.6):
        anisotropy = float(np.exp(own.uniform(0, np.log(6.0))))
    elongation = float(np.exp(dice.rng("axial_blur").uniform(0, np.log(5.0))))
    if dice.left_out("axial_blur"):
        elongation = 1.0
    # Far slices are blurred into each other by fewer of them. 4.5: ten voxels wide at half maximum.
    axial = float(np.clip(lateral * elongation / anisotropy**0.6, 0.4, 4.5))
    return anisotropy, Optics((axial, lateral, lateral), anisotropy), pixel_size


def _blurred(light: np.ndarray, optics: Optics) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(light, optics.blur, truncate=3.0)


def _blended(light: np.ndarray, behind: np.ndarray, dice: Dice) -> np.ndarray:
    """Put the neuron's light before the background: added, painted over it, without its dim parts, or multiplied."""
    rng = dice.rng("blending")
    kind = rng.choice(["painted", "cut", "multiplied"])
    if not dice.happens("blending", 0.35):
        return light + behind
    if kind == "painted":
        share = np.float32(rng.uniform(0.3, 1.0)) * np.minimum(light, 1)
        # What it hides it replaces by as much light, lest it be darker than a bright background.
        return light + behind * (1 - share) + share * np.float32(np.median(behind[::3, ::4, ::4]))
    if kind == "cut":
        return np.maximum(light - np.float32(rng.uniform(0.0, 0.2)), 0) + behind
    level = float(behind[::3, ::4, ::4].mean())
    base = np.float32(0.2 + 0.5 * level)  # in the dark, too, it glows
    return behind + (behind + base) * light / np.float32(level + base)


def _ignore_balls(labels: np.ndarray, points: np.ndarray, radii: np.ndarray, optics: Optics) -> None:
    if len(points):
        balls = np.zeros(labels.shape, dtype=np.float32)
        paint(balls, points, radii, np.ones(len(points)), squeeze=optics.squeeze)
        labels[(balls >= 0.5) & (labels != NEURON)] = IGNORED


def _checked_background(array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim != 3 or min(array.shape) < 2 or array.dtype.kind not in "buif":
        raise ValueError(
            f"a background must be an array (z, y, x) of numbers, two or more along each axis, "
            f"got shape {array.shape}, {array.dtype}"
        )
    return array
