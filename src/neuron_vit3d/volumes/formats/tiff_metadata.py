"""Tells what the planes of a TIFF file are: their order (slices, channels) and the size of a voxel.

From ImageJ, OME or tifffile; of microscopes' own kinds `tiff_microscopes` knows the order.
"""

import json
import math
import re
import warnings
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np

from ..units import micrometres, voxel_size_of
from ..volume import VolumeError
from .tiff_microscopes import microscope_axes


# ImageJ shows at most 7. tifffile's imwrite(stack, imagej=True) without axes calls the slices channels.
_MOST_IMAGEJ_CHANNELS = 7


@dataclass(frozen=True)
class Description:
    """`index[z, c]` is a plane's number in the file's order; `voxel_size` is z, y, x in micrometres or None."""

    index: np.ndarray
    voxel_size: tuple[float, float, float] | None


def describe(tiff, first, pages: int, stored: int, samples: int, name: str) -> Description:
    """Read the description of the first plane.

    Args:
        tiff: the open tifffile.TiffFile.
        first: its first full-size page.
        pages: number of pages like it.
        stored: number of planes that the file has bytes for from the first one on, if it is a single uncompressed
            page; else 0. ImageJ (above 4 GB) and tifffile may describe only the first of many planes stored in one
            piece.
        samples: colour samples in a plane.
        name: the file, for messages.

    Raises:
        VolumeError: one 2D image, time points, or planes that do not fit the description.
    """
    if tiff.is_ome:
        return _describe_ome(tiff.ome_metadata, pages, samples, name)
    if tiff.is_imagej:
        metadata = tiff.imagej_metadata
        axes, lengths = _imagej_axes(metadata, pages, samples, name)
        # ImageJ never writes "slices=1"; who does means a volume of one slice, as tiff_writer does
        is_stack = "slices" in metadata
    elif first.shaped_description:
        metadata = _tifffile_metadata(first, max(pages, stored), name)
        axes, lengths = _tifffile_axes(metadata, first)
        is_stack = "Z" in axes
    else:
        axes, lengths = microscope_axes(tiff, first, pages, name) or ("Z", (pages,))
        metadata, is_stack = {}, False
    index = _plane_index(axes, lengths, max(pages, stored), exact=not stored, name=name)
    if len(index) == 1 and not is_stack:
        raise _one_image(first.imagelength, first.imagewidth, max(samples, index.shape[1]), name)
    return Description(index, _voxel_size(first, metadata))


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
    if math.prod(shape) != available * first.size:
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


def _plane_index(axes: str, lengths: tuple, available: int, *, exact: bool, name: str) -> np.ndarray:
    """(z, c) numbers of planes stored with `axes` (slowest first); an unnamed axis (I, Q) stands in for z."""
    if not all(isinstance(length, int) and length > 0 for length in lengths):
        raise VolumeError(f"{name}: expected a positive length for each of the axes {axes!r}, got {lengths}")
    for unnamed in "IQ":
        axes = axes if "Z" in axes else axes.replace(unnamed, "Z", 1)
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
    if count > available or (exact and count != available):
        stated = f"describes {depth} slices x {channels} channels, {count} planes"
        raise VolumeError(f"{name}: {stated}, but holds {available}")
    if depth == 1 and channels > _MOST_IMAGEJ_CHANNELS:
        warnings.warn(f"{name}: {channels} channels of one slice are read as {channels} slices", stacklevel=7)
        depth, channels = channels, 1
    index = np.arange(count)
    if axes.find("C") < axes.find("Z"):
        return index.reshape(channels, depth).T
    return index.reshape(depth, channels)


def _one_image(height: int | str, width: int | str, channels: int, name: str) -> VolumeError:
    with_channels = f" with {channels} channels" if channels > 1 else ""
    return VolumeError(f"{name}: expected a stack of slices, got one 2D image {height} x {width}{with_channels}")


def _describe_ome(xml: str, pages: int, samples: int, name: str) -> Description:
    """The first image of an OME-TIFF (OME data model 2016-06, "Pixels" and "TiffData")."""
    if "<!DOCTYPE" in xml:  # OME-XML has none; entities could blow it up
        raise VolumeError(f"{name}: expected OME-XML without a document type")
    root = ElementTree.fromstring(xml)
    pixels = next((element for element in root.iter() if element.tag.endswith("Pixels")), None)
    if pixels is None:
        raise VolumeError(f"{name}: expected an OME-XML description with pixels; it may be one file of a set")
    axes = pixels.attrib["DimensionOrder"][:1:-1]
    sizes = {axis: int(pixels.attrib[f"Size{axis}"]) for axis in "ZCT"}
    if min(sizes.values()) < 1 or sorted(axes) != ["C", "T", "Z"]:
        raise VolumeError(f"{name}: expected positive OME sizes in an order of Z, C and T, got {sizes}, {axes!r}")
    if samples > 1 and sizes["C"] % samples == 0:
        sizes["C"] //= samples
    lengths = tuple(sizes[axis] for axis in axes)
    count = sizes["Z"] * sizes["C"] * sizes["T"]
    if count > pages:
        raise VolumeError(f"{name}: describes {count} planes {sizes}, but holds {pages}; it may be one file of a set")
    index = _plane_index(axes, lengths, count, exact=True, name=name)
    if len(index) == 1:
        raise _one_image(pixels.attrib["SizeY"], pixels.attrib["SizeX"], int(pixels.attrib["SizeC"]), name)
    stored_at = _ome_pages(pixels, root.get("UUID"), axes, lengths, pages, name)
    voxel_size = [
        float(pixels.attrib.get(f"PhysicalSize{axis}", "nan"))
        * micrometres(pixels.attrib.get(f"PhysicalSize{axis}Unit", "µm"))
        for axis in "ZYX"
    ]
    return Description(stored_at[index], voxel_size_of(voxel_size))


def _ome_pages(pixels, uuid: str | None, axes: str, lengths: tuple, pages: int, name: str) -> np.ndarray:
    """Page in the file of every plane, in the order of `axes`."""
    count = int(np.prod(lengths))
    stored_at = np.full(count, -1)
    entries = [element for element in pixels if element.tag.endswith("TiffData")]
    for entry in entries:
        other = next((child.text for child in entry if child.tag.endswith("UUID")), uuid)
        if other != uuid and uuid is not None:
            continue
        start = int(entry.get("IFD", 0))
        planes = int(entry.get("PlaneCount", entry.get("NumPlanes", 1 if "IFD" in entry.attrib else count)))
        place = [int(entry.get(f"First{axis}", 0)) for axis in axes]
        if all(0 <= i < n for i, n in zip(place, lengths, strict=True)):
            plane = int(np.ravel_multi_index(place, lengths))
            planes = max(0, min(planes, count - plane))
            stored_at[plane : plane + planes] = np.arange(start, start + planes)
    if not entries:
        stored_at = np.arange(count)
    held = int(np.count_nonzero((stored_at >= 0) & (stored_at < pages)))
    if held < count:
        raise VolumeError(
            f"{name}: holds {held} of the {count} planes that its OME-XML names; the others are in other files"
        )
    return stored_at


def _voxel_size(first, metadata: dict) -> tuple[float, float, float] | None:
    """From `unit` and `spacing` of ImageJ or tifffile and the resolution tags; ImageJ leaves a spacing of 1 out."""
    units = [str(metadata.get(key, metadata.get("unit", ""))).strip().lower() for key in ("zunit", "yunit", "unit")]
    steps = [metadata.get("spacing", 1.0)]
    for tag in ("YResolution", "XResolution"):
        pixels, per = first.tags.valueof(tag, default=(0, 1))
        steps.append(per / pixels if pixels else np.nan)
    if not isinstance(steps[0], int | float):
        return None
    return voxel_size_of([abs(step) * micrometres(unit) for step, unit in zip(steps, units, strict=True)])
