"""Tells what the planes of a TIFF file are: their order (slices, channels) and the size of a voxel.

From ImageJ, OME or tifffile; of microscopes' own kinds `tiff_microscopes` knows the order.
"""

import json
import math
import re
import warnings
from dataclasses import dataclass

import numpy as np

from ..units import micrometres, number, voxel_size_of
from ..volume import VolumeError
from .choice import refuse_channels_last, tell_of_one_slice
from .tiff_microscopes import microscope_axes


# ImageJ shows at most 7. tifffile's imwrite(stack, imagej=True) without axes calls the slices channels.
_MOST_IMAGEJ_CHANNELS = 7
# Micrometres of the finest dots of printers and scanners, 4800 an inch: an image editor's inches are no microscope's.
_FINEST_DOT = 25400 / 4800


@dataclass(frozen=True)
class Description:
    """`index[z, c]` is a plane's number among the pages; `voxel_size` is z, y, x in micrometres or None."""

    index: np.ndarray
    voxel_size: tuple[float, float, float] | None


def describe(tiff, pages: list, stored: int, samples: int, name: str) -> Description:
    """Read the description of the first plane, other than an OME one (see `tiff_ome`).

    Args:
        tiff: the open tifffile.TiffFile.
        pages: those of one image, all of one size and type.
        stored: number of planes that the file has bytes for from the first one on, if it is a single uncompressed
            page; else 0. ImageJ (above 4 GB) and tifffile may describe only the first of many planes stored in one
            piece.
        samples: colour samples in a plane.
        name: the file, for messages.

    Raises:
        VolumeError: time points, or planes that do not fit the description.
    """
    first, held = pages[0], max(len(pages), stored)
    metadata, is_stack = {}, False
    if tiff.is_imagej and first.index == 0:
        metadata = tiff.imagej_metadata
        axes, lengths = _imagej_axes(metadata, len(pages), samples, name)
        # ImageJ never writes "slices=1"; who does means a volume of one slice, as tiff_writer does
        is_stack = "slices" in metadata
    elif first.shaped_description:
        metadata = _tifffile_metadata(first, held, name)
        if "axes" not in metadata and samples == 1:
            refuse_channels_last(tuple(metadata["shape"]), name)
        axes, lengths = _tifffile_axes(metadata, first)
        is_stack = "Z" in axes
    else:
        axes, lengths = microscope_axes(tiff, first, len(pages), name) or ("Z", (len(pages),))
    index = plane_index(axes, lengths, held, exact=not stored, name=name)
    if len(index) == 1 and not is_stack:
        tell_of_one_slice(first.imagelength, first.imagewidth, max(samples, index.shape[1]), name)
    return Description(index, _voxel_size(first, metadata, name))


def _imagej_axes(metadata: dict, pages: int, samples: int, name: str) -> tuple[str, tuple]:
    order = str(metadata.get("order", "czt")).lower()  # fastest first
    axes = ("czt" if order == "default" else order)[::-1].upper()
    if sorted(axes) != ["C", "T", "Z"]:
        raise VolumeError(f"{name}: expected an ImageJ order of c, z and t, got {order!r}")
    lengths = {"C": metadata.get("channels", 1), "Z": metadata.get("slices", 1), "T": metadata.get("frames", 1)}
    if samples > 1 and lengths["C"] == samples:  # the samples of an RGB plane, counted as channels
        lengths["C"] = 1
    if not {"channels", "slices", "frames"} & set(metadata):  # a plain stack; "images" is not always right
        lengths["Z"] = pages if pages > 1 else metadata.get("images", 1)
    return axes, tuple(lengths[axis] for axis in axes)


def _tifffile_metadata(first, available: int, name: str) -> dict:
    """The description as a dict: JSON, or, from old versions, `shape=(64, 256, 256)` and nothing else."""
    old = re.fullmatch(r"shape=[(\[]([\d, ]+)[)\]]", first.shaped_description.strip())
    if old is None:
        return json.loads(first.shaped_description)
    shape = tuple(int(length) for length in old[1].split(",") if length.strip())
    if math.prod(shape) not in (first.size, available * first.size):
        raise VolumeError(f"{name}: describes an array {shape}, but holds {available} planes {first.shape}")
    while len(shape) > len(first.shape) and shape[-1] == 1 < first.shape[-1]:
        shape = shape[:-1]
    return {"shape": shape}


def _tifffile_axes(metadata: dict, first) -> tuple[str, tuple]:
    shape, axes = tuple(metadata["shape"]), str(metadata.get("axes", ""))
    if len(axes) != len(shape):
        leading = max(0, len(shape) - len(first.shape))
        axes = ("Q" * leading + "CZ")[-leading:] + first.axes if leading else first.axes
    kept = [(axis, length) for axis, length in zip(axes, shape, strict=False) if axis not in "YXS"]
    return "".join(axis for axis, _ in kept), tuple(length for _, length in kept)


def plane_index(axes: str, lengths: tuple, available: int, *, exact: bool, name: str) -> np.ndarray:
    """(z, c) numbers of planes stored with `axes` (slowest first); an unnamed axis (I, Q) stands in for z.

    Of more planes than are available those that are there are taken (an acquisition was stopped), with a warning. A
    description of a single plane says nothing of those behind it (each was written by itself).
    """
    if not all(isinstance(length, int) and length > 0 for length in lengths):
        raise VolumeError(f"{name}: expected a positive length for each of the axes {axes!r}, got {lengths}")
    stated = math.prod(lengths)
    if stated == 1 and available > 1 and exact:
        axes, lengths = "Z", (available,)
    for unnamed in "IQ":
        axes = axes if "Z" in axes else axes.replace(unnamed, "Z", 1)
    if stated > available and exact:
        lengths = _there(lengths, available)
    depth = channels = 1
    for axis, length in zip(axes, lengths, strict=True):
        if axis == "Z":
            depth = length
        elif axis == "C":
            channels = length
        elif length > 1:
            what = f"{length} time points" if axis == "T" else f"an axis {axis!r} of length {length}"
            raise VolumeError(f"{name}: expected one stack of slices, got {what}; save one, or rename that axis to z")
    count = depth * channels
    if count > available or (exact and count != available and stated < available):
        described = f"describes {depth} slices x {channels} channels, {count} planes"
        raise VolumeError(f"{name}: {described}, but holds {available}")
    if stated > available:
        warnings.warn(
            f"{name}: describes {stated} planes, but holds {available} (stopped early?): "
            f"{depth} slices x {channels} channels are read",
            stacklevel=7,
        )
    if depth == 1 and channels > _MOST_IMAGEJ_CHANNELS:
        warnings.warn(f"{name}: {channels} channels of one slice are read as {channels} slices", stacklevel=7)
        depth, channels = channels, 1
    index = np.arange(count)
    if axes.find("C") < axes.find("Z"):
        return index.reshape(channels, depth).T
    return index.reshape(depth, channels)


def _there(lengths: tuple[int, ...], available: int) -> tuple[int, ...]:
    """The lengths of what is whole of an array, slowest axis first, of which only the first planes are there."""
    held: list[int] = []
    for i, length in enumerate(lengths):
        whole = available // math.prod(lengths[i + 1 :])
        held.append(max(1, min(length, whole)))
        if whole:
            return (*held, *lengths[i + 1 :])
    return tuple(held)


def _voxel_size(first, metadata: dict, name: str) -> tuple[float, float, float] | None:
    """From `unit` and `spacing` of ImageJ or tifffile and the resolution tags; ImageJ leaves a spacing of 1 out."""
    units = [str(metadata.get(key, metadata.get("unit", ""))).strip().lower() for key in ("zunit", "yunit", "unit")]
    steps = [number(metadata.get("spacing", 1.0))]
    for tag in ("YResolution", "XResolution"):
        pixels, per = first.tags.valueof(tag, default=(0, 1))
        steps.append(per / pixels if pixels else np.nan)
    voxel_size = voxel_size_of([abs(step) * micrometres(unit) for step, unit in zip(steps, units, strict=True)])
    if voxel_size and "in" in {unit[:2] for unit in units} and max(voxel_size[1:]) > _FINEST_DOT:
        warnings.warn(
            f"{name}: its resolution is in inches, as image editors write it: no voxel size is taken from it "
            "(--voxel-size tells it)",
            stacklevel=7,
        )
        return None
    if isinstance(metadata.get("spacing"), str):
        read_as = "read so" if voxel_size else "not used"
        warnings.warn(f"{name}: its spacing {metadata['spacing'][:20]!r} is no number, and {read_as}", stacklevel=7)
    return voxel_size
