"""Draws axes with ticks, scale bars, legends and curves onto pictures, with Pillow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np


INK, FAINT, BACKGROUND = (235, 235, 235), (110, 110, 110), (40, 40, 40)
FONT_SIZE = 13
LEFT, TOP = 52, 20  # pixels that the ticks take beside and above a picture
LEGEND_HEIGHT = 22


class Key(NamedTuple):
    """A line of a legend: the word, the colour, and the width of the line that it stands for."""

    word: str
    colour: tuple[int, int, int]
    width: int = 1


@cache
def font():
    """Returns the font of all texts; it comes with Pillow."""
    from PIL import ImageFont

    return ImageFont.load_default(FONT_SIZE)


def round_step(span: float, most: float) -> float:
    """Returns the smallest of 1, 2 and 5 times a power of ten that fits into `span` at most `most` times."""
    if not span > 0:
        return 1.0
    least = span / max(most, 1)
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * times for times in (1, 2, 5, 10) if power * times >= least * (1 - 1e-9))


def ticks(first: float, last: float, most: float) -> np.ndarray:
    """Returns round numbers from `first` to `last`, about `most` at most."""
    step = round_step(last - first, most)
    return step * np.arange(math.ceil(first / step - 1e-9), math.floor(last / step + 1e-9) + 1)


def draw_ticks(draw, box: tuple[float, float, float, float], span: float, name: str, *, upright: bool) -> None:
    """Draws ticks from 0 to `span` along the left (upright) or the upper side of a box, outside of it.

    Args:
        draw: a Pillow ImageDraw.
        box: left, top, right, bottom in pixels.
        span: length of the side, in the unit of the numbers.
        name: text at the first tick instead of 0, e.g. "x (um)".
        upright: whether to draw along the left side; else along the upper one.
    """
    if not span > 0:
        return
    left, top, right, bottom = box
    pixels = bottom - top if upright else right - left
    words = draw.textlength(name, font=font())
    for value in ticks(0, span, pixels / (45 if upright else 70)):
        at = value / span * pixels if span else 0.0
        word = name if value == 0 else f"{value:g}"
        if upright:
            draw.line([(left - 5, top + at), (left - 1, top + at)], fill=INK)
            draw.text((left - 8, top + max(at, 6)), word, fill=INK, font=font(), anchor="rm")
        elif value == 0 or at > words + 14:
            draw.line([(left + at, top - 5), (left + at, top - 1)], fill=INK)
            draw.text((left + at + (0 if value == 0 else -1), top - 6), word, fill=INK, font=font(),
                      anchor="ls" if value == 0 else "ms")  # fmt: skip


def draw_scale_bar(draw, box: tuple[float, float, float, float], pixels_per_unit: float, unit: str) -> None:
    """Draws a bar of a round length, about a fifth of the box's width, into its lower right corner."""
    left, _, right, bottom = box
    room = (right - left) / pixels_per_unit
    length = round_step(room, 8)
    if not (right - left) > 60 or not math.isfinite(length):
        return
    ends = right - 10 - length * pixels_per_unit, right - 10
    draw.line([(ends[0] - 1, bottom - 10), (ends[1] + 1, bottom - 10)], fill=(0, 0, 0), width=6)
    draw.line([(ends[0], bottom - 10), (ends[1], bottom - 10)], fill=(255, 255, 255), width=4)
    draw.text(
        (sum(ends) / 2, bottom - 16), f"{length:g} {unit}", fill=(255, 255, 255), font=font(), anchor="ms",
        stroke_width=2, stroke_fill=(0, 0, 0),
    )  # fmt: skip


def draw_legend(draw, left: float, top: float, keys: Iterable[Key]) -> None:
    """Draws the legend: before each word a line in its colour and width, all side by side."""
    for key in keys:
        middle = top + LEGEND_HEIGHT / 2
        draw.line([(left, middle), (left + 22, middle)], fill=key.colour, width=max(key.width, 2))
        draw.text((left + 28, middle), key.word, fill=INK, font=font(), anchor="lm")
        left += 28 + draw.textlength(key.word, font=font()) + 20


def draw_curves(
    draw,
    box: tuple[float, float, float, float],
    x: np.ndarray,
    curves: Sequence[tuple[np.ndarray, Key]],
    names: tuple[str, str],
) -> None:
    """Draws curves into a box, over x from 0 on, with both axes, their names and a legend.

    Args:
        draw: a Pillow ImageDraw.
        box: left, top, right, bottom of the area of the curves; numbers are to the left of it and below.
        x: (n,) rising, above 0.
        curves: (n,) values of at least 0, each with its line in the legend.
        names: names of the axes, x and y.
    """
    left, top, right, bottom = box
    widest = float(x[-1]) if len(x) else 1.0
    highest = max([float(values.max()) for values, _ in curves if len(values)] + [1.0])
    draw.rectangle([left, top, right, bottom], outline=FAINT, fill=(20, 20, 20))
    for value in ticks(0, highest, (bottom - top) / 30):
        at = bottom - value / highest * (bottom - top)
        draw.line([(left, at), (right, at)], fill=(60, 60, 60))
        draw.text((left - 6, at), f"{value:g}", fill=INK, font=font(), anchor="rm")
    for value in ticks(0, widest, (right - left) / 60):
        at = left + value / widest * (right - left)
        draw.line([(at, bottom), (at, bottom + 4)], fill=INK)
        draw.text((at, bottom + 7), f"{value:g}", fill=INK, font=font(), anchor="ma")
    draw.text(((left + right) / 2, bottom + 24), names[0], fill=INK, font=font(), anchor="ma")
    draw.text((left, top - 6), names[1], fill=INK, font=font(), anchor="ls")
    for values, key in curves:
        places = [
            (left + a / widest * (right - left), bottom - b / highest * (bottom - top))
            for a, b in zip(x, values, strict=True)
        ]
        if len(places) > 1:
            draw.line(places, fill=key.colour, width=key.width, joint="curve")
        for a, b in places if len(places) < 60 else ():
            draw.ellipse([a - 2, b - 2, a + 2, b + 2], fill=key.colour)
    keys = [key for _, key in curves]
    width = sum(48 + draw.textlength(key.word, font=font()) for key in keys)
    draw_legend(draw, right - width, top - LEGEND_HEIGHT, keys)
