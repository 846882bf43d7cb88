"""The images that an OME-TIFF describes (OME data model 2016-06, "Pixels" and "TiffData"), and where their planes are.

What programs get wrong is mended as far as the voxels allow, and told: XML that cannot be parsed, decimal commas, and
more planes announced than the file holds, because the acquisition was stopped.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np

from ..units import micrometres, number, voxel_size_of
from ..volume import VolumeError


_TAG = re.compile(r"<(?:\w+:)?(Pixels|TiffData)\b([^<>]*)")
_ATTRIBUTE = re.compile(r"(\w+)\s*=\s*\"([^\"]*)\"")


class OmeError(ValueError):
    """An OME-XML that cannot tell which plane is which; without it the planes are still good."""


@dataclass(frozen=True)
class OmeImage:
    """One image of an OME-TIFF.

    Args:
        axes: of its planes, slowest first.
        lengths: of these axes, as stated.
        size: y, x, as stated.
        title: its name.
        pixels: the element `Pixels`.
        uuid: of this file.
    """

    axes: str
    lengths: tuple[int, ...]
    size: tuple[int, int]
    title: str
    pixels: ElementTree.Element
    uuid: str | None

    @property
    def depth(self) -> int:
        return self.lengths[self.axes.index("Z")]


def ome_images(xml: str, name: str) -> tuple[list[OmeImage], list[str]]:
    """The images that an OME-XML describes, and what there is to tell of it.

    Raises:
        OmeError: it describes none, or not in the words of OME.
        VolumeError: it has a document type.
    """
    if "<!DOCTYPE" in xml:  # OME-XML has none; entities could blow it up
        raise VolumeError(f"{name}: expected OME-XML without a document type")
    notes = []
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        root = _salvaged(xml)
        notes.append(f"its OME-XML is broken ({error}); what can be made out of it is used")
    found = [image for image in root.iter() if image.tag.endswith("Image")] or [root]
    images = []
    for image in found:
        for pixels in image:
            if pixels.tag.endswith("Pixels"):
                images.append(_image(image, pixels, root.get("UUID")))
    if not images:
        raise OmeError("no pixels; it may be one file of a set")
    return images, notes


def _salvaged(xml: str) -> ElementTree.Element:
    """The elements that tell of planes, of XML that cannot be parsed."""
    root = ElementTree.Element("OME")
    pixels = None
    for tag, attributes in _TAG.findall(xml):
        if tag == "Pixels":
            pixels = ElementTree.SubElement(
                ElementTree.SubElement(root, "Image"), "Pixels", dict(_ATTRIBUTE.findall(attributes))
            )
        elif pixels is not None:
            ElementTree.SubElement(pixels, "TiffData", dict(_ATTRIBUTE.findall(attributes)))
    return root


def _image(image: ElementTree.Element, pixels: ElementTree.Element, uuid: str | None) -> OmeImage:
    try:
        axes = pixels.attrib["DimensionOrder"][:1:-1]
        sizes = {axis: int(pixels.attrib[f"Size{axis}"]) for axis in "ZCTYX"}
    except (KeyError, ValueError) as error:
        raise OmeError(f"no sizes that can be read: {type(error).__name__}: {error}") from error
    if min(sizes.values()) < 1 or sorted(axes) != ["C", "T", "Z"]:
        raise OmeError(f"no positive sizes in an order of Z, C and T, but {sizes}, {axes!r}")
    lengths = tuple(sizes[axis] for axis in axes)
    return OmeImage(axes, lengths, (sizes["Y"], sizes["X"]), image.get("Name", ""), pixels, uuid)


def ome_planes(image: OmeImage, pages: int, samples: int, name: str) -> tuple[np.ndarray, list[str]]:
    """The pages (z, c) of an image's planes, numbers in the file, and what there is to tell of them.

    Args:
        image: one that `ome_images` returned.
        pages: how many the file has.
        samples: colour samples in a plane.
        name: the file, for messages.

    Raises:
        VolumeError: time points; planes in other files, or missing between others.
        OmeError: none of the planes is there.
    """
    sizes = dict(zip(image.axes, image.lengths, strict=True))
    if samples > 1 and sizes["C"] % samples == 0:
        sizes["C"] //= samples
    stored = _stored(image, sizes, pages, name)
    times = {t for t, _, _ in stored}
    if len(times) > 1:
        raise VolumeError(f"{name}: expected one stack of slices, got {sizes['T']} time points; save one")
    channels: dict[int, set[int]] = {}
    for _, z, c in stored:
        channels.setdefault(c, set()).add(z)
    if not channels:
        raise OmeError("no plane that the file holds")
    longest = max(map(len, channels.values()))
    if sum(len(slices) == longest for slices in channels.values()) == len(channels):
        whole = sorted(channels)
    else:  # stopped within a slice, or, where channels come one after the other, within a channel
        common = set.intersection(*channels.values())
        whole = sorted(channels) if common else [c for c in sorted(channels) if len(channels[c]) == longest]
    slices = sorted(set.intersection(*(channels[c] for c in whole)))
    if slices != list(range(slices[0], slices[0] + len(slices))):
        raise VolumeError(f"{name}: expected slices one after the other, but between those it holds some are missing")
    planes, stated = len(slices) * len(whole), sizes["Z"] * sizes["C"] * sizes["T"]
    notes = []
    if planes < stated:
        announced = f"{sizes['Z']} slices x {sizes['C']} channels" + (f" x {sizes['T']} times" * (sizes["T"] > 1))
        notes.append(
            f"describes {announced}, but holds {len(stored)} planes (stopped early?): "
            f"{len(slices)} slices x {len(whole)} channels are read"
        )
    (time,) = times
    return np.array([[stored[time, z, c] for c in whole] for z in slices]), notes


def _stored(image: OmeImage, sizes: dict[str, int], pages: int, name: str) -> dict[tuple[int, int, int], int]:
    """(t, z, c) -> page, of the planes that the file holds."""
    axes, lengths = image.axes, tuple(sizes[axis] for axis in image.axes)
    count, order = math.prod(lengths), [axes.index(axis) for axis in "TZC"]
    stored: dict[tuple[int, int, int], int] = {}
    elsewhere = 0
    entries = [element for element in image.pixels if element.tag.endswith("TiffData")]
    for entry in entries or [ElementTree.Element("TiffData")]:
        other = next((child.text for child in entry if child.tag.endswith("UUID")), image.uuid)
        start = _whole(entry.get("IFD", "0"))
        planes = _whole(entry.get("PlaneCount", entry.get("NumPlanes", "1" if "IFD" in entry.attrib else str(count))))
        if other != image.uuid and image.uuid is not None:
            elsewhere += planes
            continue
        place = [_whole(entry.get(f"First{axis}", "0")) for axis in axes]
        if not all(0 <= i < n for i, n in zip(place, lengths, strict=True)) or not 0 <= start:
            continue
        for page, at in zip(range(start, min(start + planes, pages)), _places(place, lengths), strict=False):
            t, z, c = (at[i] for i in order)
            stored[t, z, c] = page
            if len(stored) > pages:
                raise OmeError("more planes than pages")
    if elsewhere:
        raise VolumeError(
            f"{name}: holds {len(stored)} of the {count} planes that its OME-XML names; the others are in other files"
        )
    return stored


def _places(first: list[int], lengths: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """The places from one on, in the order in which planes are stored."""
    place = list(first)
    while True:
        yield tuple(place)
        for axis in reversed(range(len(lengths))):
            place[axis] += 1
            if place[axis] < lengths[axis]:
                break
            place[axis] = 0
            if axis == 0:
                return


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise OmeError(f"no whole number, but {text[:40]!r}") from error


def ome_voxel_size(image: OmeImage) -> tuple[tuple[float, float, float] | None, list[str]]:
    """z, y, x in micrometres or None, and what there is to tell of them."""
    attributes, notes = image.pixels.attrib, []
    stated = {axis: attributes[f"PhysicalSize{axis}"] for axis in "ZYX" if f"PhysicalSize{axis}" in attributes}
    lengths = [
        number(stated.get(axis, "nan")) * micrometres(attributes.get(f"PhysicalSize{axis}Unit", "µm"))
        for axis in "ZYX"
    ]
    voxel_size = voxel_size_of(lengths)
    if any("," in text for text in stated.values()) or (voxel_size is None and len(stated) == 3):
        texts = ", ".join(f"{axis.lower()} {text[:20]!r}" for axis, text in stated.items())
        read_as = "read as z, y, x {:.6g}, {:.6g}, {:.6g} um".format(*voxel_size) if voxel_size else "not used"
        notes.append(f"writes the size of a voxel as {texts}: {read_as}; --voxel-size corrects it")
    return voxel_size, notes
