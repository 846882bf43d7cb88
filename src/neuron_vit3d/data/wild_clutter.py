"""Draws what glows beside a wild neuron: other neurites, specks, somata, and things that outshine all."""

from __future__ import annotations

import numpy as np

from .synthetic_clutter import other_cells, scraps_of_neurites, smooth_field, speck_positions
from .visible import IGNORED, NEURON, label_points, paint
from .wild_dice import Dice
from .wild_light import Optics, blur_loss, light_of_others
from .wild_tree import grow_other_tree


def draw_other_neurites(
    light: np.ndarray, labels: np.ndarray, optics: Optics, anisotropy: float, dice: Dice, comparable: float
) -> None:
    """Draw scraps of neurites and whole dim neurons into `light`, in place.

    Labels stay 0 where these are dimmer than `comparable`; else labels become 255, since nobody could tell these from
    the neuron.
    """
    from scipy.ndimage import gaussian_filter

    rng = dice.rng("other_neurites")
    if not dice.happens("other_neurites", 0.6):
        return
    if rng.random() < 0.6:
        count = int(np.exp(rng.uniform(0, np.log(60))))
        for points, radii, peaks in scraps_of_neurites(light.shape, count, 1.0, rng):
            paint(light, points, radii, peaks / blur_loss(radii, optics, 0.0), squeeze=optics.squeeze)
    if rng.random() < 0.5:
        tree = grow_other_tree(light.shape, rng, anisotropy)
        brightness = float(np.exp(rng.uniform(np.log(0.08), np.log(1.0))))
        if rng.random() < 0.3:  # out of focus
            others = np.zeros_like(light)
            light_of_others(others, tree, optics, 1.0, rng)
            wide = rng.uniform(2, 6)
            others = gaussian_filter(others, (wide / optics.squeeze, wide, wide), truncate=2.5)
            top = max(float(np.percentile(others[others > 0.02], 98)) if (others > 0.02).any() else 1.0, 0.05)
            light += others * np.float32(min(brightness, comparable) / top)
        else:
            points, radii = light_of_others(light, tree, optics, brightness, rng)
            if brightness >= comparable:
                theirs = label_points(points, radii, light.shape, optics.blur, optics.squeeze)
                labels[(theirs > 0) & (labels != NEURON)] = IGNORED


def add_specks(light: np.ndarray, optics: Optics, dice: Dice) -> None:
    """Draw bright specks, alone and in clouds, in place."""
    if not dice.happens("specks", 0.7):
        return
    rng = dice.rng("specks")
    per_100k = np.exp(rng.uniform(np.log(0.3), np.log(60)))
    points = speck_positions(light.shape, per_100k, rng)
    radii = 0.3 + rng.exponential(rng.uniform(0.2, 0.7), size=len(points)).clip(0, 2.5)
    peaks = rng.gamma(0.9, rng.uniform(0.1, 0.6), size=len(points)).clip(0.03, 2.0)  # most are faint
    paint(light, points, radii, peaks / blur_loss(radii, optics, 0.5), squeeze=optics.squeeze)


def add_somata(behind: np.ndarray, dice: Dice) -> None:
    """Add somata of other cells, about as bright as the neuron or dimmer, in place."""
    if dice.happens("somata", 0.3):
        rng = dice.rng("somata")
        other_cells(behind, int(rng.integers(1, 15)), np.exp(rng.uniform(np.log(0.3), np.log(3.0))), rng)


def add_bright_things(image: np.ndarray, labels: np.ndarray, dice: Dice) -> None:
    """Add what outshines the neuron, in place: a soma of another cell, a scale bar, hot pixels, a hot slice.

    Labels of neurites that it hides become 255; the thing itself is background.
    """
    if not dice.happens("bright_things", 0.25):
        return
    rng = dice.rng("bright_things")
    kind = rng.choice(["soma", "bar", "pixels", "slice"], p=[0.45, 0.2, 0.2, 0.15])
    strength = float(np.exp(rng.uniform(np.log(2.0), np.log(30.0))))
    depth, height, width = image.shape
    if kind == "pixels":
        count = int(np.exp(rng.uniform(np.log(3), np.log(300))))
        at = rng.integers(0, image.size, size=count)
        image.reshape(-1)[at] += (strength * rng.uniform(0.3, 1, size=count)).astype(np.float32)
        return
    if kind == "slice":
        image[rng.integers(0, depth)] *= np.float32(rng.uniform(1.3, 4.0))
        return
    if kind == "bar":
        _add_bars(image, labels, strength, rng)
        return
    radius = rng.uniform(0.04, 0.14) * min(height, width)  # 2 % of the projection has a radius of 0.08
    center = rng.uniform(0, 1, size=3) * (depth, height, width)
    stretch_z = rng.uniform(0.3, 1.0)
    z, y, x = (np.arange(n, dtype=np.float32) - np.float32(c) for n, c in zip(image.shape, center, strict=True))
    distance = np.sqrt(((z / np.float32(stretch_z)) ** 2)[:, None, None] + (y**2)[:, None] + x**2)
    distance *= 1 + np.float32(0.08) * smooth_field(rng, (1, height, width), (8, 12, 12))
    soma = 1 / (1 + np.exp(np.clip((distance - np.float32(radius)) / np.float32(rng.uniform(0.5, 2.5)), -30, 30)))
    soma += np.float32(0.03) * np.exp(-np.maximum(distance - np.float32(radius), 0) / np.float32(radius))  # its halo
    soma *= np.float32(strength)
    image += soma
    labels[(soma > 0.7) & (labels == NEURON)] = IGNORED


def _add_bars(image: np.ndarray, labels: np.ndarray, strength: float, rng: np.random.Generator) -> None:
    """Write a scale bar, and perhaps something like letters above it, into one slice or all."""
    depth, height, width = image.shape
    long, thick = int(rng.uniform(0.1, 0.35) * width), int(rng.integers(2, 7))
    top, left = int(rng.uniform(0.05, 0.9) * height), int(rng.uniform(0.02, 0.6) * width)
    slices = slice(None) if rng.random() < 0.6 else slice(int(rng.integers(0, depth)), None)
    drawn = np.zeros((height, width), dtype=bool)
    drawn[top : top + thick, left : left + long] = True
    if rng.random() < 0.5:
        for place in range(left, left + long, 6):
            upper = max(top - 12, 0)
            drawn[upper : max(top - 4, 0), place : place + 4] |= rng.random((max(top - 4, 0) - upper, 1)) < 0.6
            drawn[upper : max(top - 4, 0), place + 1 : place + 3] &= rng.random() < 0.5
    image[slices, drawn] = np.float32(strength)
    hidden = labels[slices, drawn]
    hidden[hidden == NEURON] = IGNORED
    labels[slices, drawn] = hidden
