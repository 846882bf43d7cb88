"""Which image is read of a file that holds several: an overview and a stack, positions of the stage, labels."""

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

from ..volume import VolumeError


_MOST_NAMED = 8  # images of a file that a message lists one by one


class Candidate(NamedTuple):
    """An image of a file: its sides z, y, x as far as the file states them, and what it is called there."""

    shape: tuple[int, int, int]
    title: str = ""

    def __str__(self) -> str:
        sides = " x ".join(map(str, self.shape))
        return f"{sides} {self.title!r}" if self.title else sides


def chosen_image(image: int | None, candidates: Sequence[Candidate], name: str) -> int:
    """The number of the image to read: the one asked for, or the stack of slices with the most voxels.

    Where a file holds several images and none was asked for, a warning lists them. A flat image (an overview, a label,
    a thumbnail) is chosen only where there is no stack; of equally large ones the first.

    Args:
        image: the number asked for, from 0, or None.
        candidates: the images of the file.
        name: the file, for messages.

    Raises:
        VolumeError: there is no image of that number.
    """
    count = len(candidates)
    listed = ", ".join(f"{i} is {one}" for i, one in enumerate(candidates[:_MOST_NAMED]))
    listed += f" and {count - _MOST_NAMED} more" if count > _MOST_NAMED else ""
    if image is not None:
        if isinstance(image, bool) or not 0 <= image < count:
            raise VolumeError(f"{name}: expected an image from 0 to {count - 1} (z, y, x: {listed}), got {image}")
        return image
    shapes = [one.shape for one in candidates]
    found = max(range(count), key=lambda i: (shapes[i][0] > 1, math.prod(shapes[i]), -i))
    if count > 1:
        warnings.warn(
            f"{name}: holds {count} images (z, y, x): {listed}; image {found} is read; --image N of segment, "
            "trace, convert and view reads another",
            stacklevel=6,
        )
    return found


def only_image(image: int | None, name: str) -> None:
    """Refuses an image other than number 0 of a file that holds one."""
    if image:
        raise VolumeError(f"{name}: holds one image, number 0, but image {image} was asked for")


def tell_of_one_slice(height: int, width: int, channels: int, name: str) -> None:
    """Warns of a file that holds a flat image, and does not say that it is meant for a volume."""
    with_channels = f" with {channels} channels" if channels > 1 else ""
    warnings.warn(
        f"{name}: is one 2D image {height} x {width}{with_channels}, read as a volume of one slice", stacklevel=6
    )


# Colours are at most red, green, blue and opacity; no neuron's image is so many times wider than it is.
_MOST_COLOURS, _TIMES_WIDER = 4, 8


def refuse_channels_last(shape: tuple[int, ...], name: str) -> None:
    """Refuses an array of 3 or 4 axes that nothing names, and whose last one must be channels, not x.

    Raises:
        VolumeError: the message says how to save it.
    """
    if len(shape) in (3, 4) and 2 <= shape[-1] <= _MOST_COLOURS and shape[-2] >= _TIMES_WIDER * shape[-1]:
        wanted = "(c, z, y, x)" if len(shape) == 4 else "(z, y, x)"
        saved = "numpy.moveaxis(array, -1, 0)" + ("" if len(shape) == 4 else "[:, None], which is (c, 1, y, x)")
        raise VolumeError(
            f"{name}: expected axes {wanted}, got shape {shape}, whose last axis looks like channels: save {saved}"
        )


def tell_of_surplus(surplus: int, more: bool, claimed: str, name: str) -> None:
    """Warns of bytes behind the voxels that a header tells of: the header may be wrong.

    Args:
        surplus: how many bytes were found.
        more: whether there may be more.
        claimed: what the header says.
        name: the file, for messages.
    """
    if surplus:
        warnings.warn(
            f"{name}: header says {claimed}, and {'at least ' * more}{surplus} more follow, which are left out: check "
            "the sizes and the type in the header",
            stacklevel=7,
        )
