"""The images of a TIFF file: which of its pages belong together.

Pages of one size and type are one image; lower resolutions that are marked as such are none. tifffile may have written
several arrays into one file, and an OME-XML may describe several images.
"""

import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..volume import VolumeError
from .choice import Candidate, tell_of_one_slice
from .tiff_directories import check_directories
from .tiff_ome import OmeError, OmeImage, ome_images, ome_planes, ome_voxel_size


class TiffImage:
    """An image of a TIFF file.

    Attributes:
        candidate: what there is to choose by.
        pages: tifffile's pages of it, of one size and type.
        index: (z, c) numbers among the pages; None where they are still to be told (`tiff_metadata.describe`).
        voxel_size: z, y, x in micrometres or None; of an image with an index.
    """

    def __init__(self, candidate: Candidate, pages: list, ome: "_Ome | None" = None):
        self.candidate, self._pages, self._ome = candidate, pages, ome
        self.index: np.ndarray | None = None
        self.voxel_size: tuple[float, float, float] | None = None

    @property
    def pages(self) -> list:
        """The pages; those of an OME image are looked for when it is read, and what is odd is told."""
        if self._ome is not None:
            self._find(self._ome)
            self._ome = None
        return self._pages

    def _find(self, ome: "_Ome") -> None:
        samples = max(1, self._pages[0].samplesperpixel)
        planes, notes = ome_planes(ome.image, len(self._pages), samples, ome.name)
        first = self._pages[planes[0, 0]]
        samples = max(1, first.samplesperpixel)
        numbers, self.index = np.unique(planes, return_inverse=True)
        self.index = self.index.reshape(planes.shape)
        self._pages = [self._pages[number] for number in numbers]
        if any(_kind(page) != _kind(first) for page in self._pages):
            raise VolumeError(f"{ome.name}: expected planes of one size and type, got several of them in one image")
        self.voxel_size, more = ome_voxel_size(ome.image)
        for note in (*notes, *more):
            warnings.warn(f"{ome.name}: {note}", stacklevel=7)
        if len(planes) == 1 and ome.image.depth == 1:
            tell_of_one_slice(first.imagelength, first.imagewidth, max(samples, planes.shape[1]), ome.name)


class _Ome(NamedTuple):
    image: OmeImage
    name: str


def images_of(tiff, name: str) -> list[TiffImage]:
    """The images of an open tifffile.TiffFile, at least one, in the file's order. Raises VolumeError."""
    pages: list[Any] = list(tiff.pages)  # frames come only where they are asked for
    xml = str(pages[0].description)
    if tiff.is_ome or ("<OME" in xml and "Pixels" in xml):
        try:
            described, notes = ome_images(xml, name)
            for one in described:
                with suppress(VolumeError):  # raised where this image is read
                    ome_planes(one, len(pages), max(1, pages[0].samplesperpixel), name)
            for note in notes:
                warnings.warn(f"{name}: {note}", stacklevel=6)
            return [
                TiffImage(Candidate((one.depth, *one.size), one.title), pages, _Ome(one, name)) for one in described
            ]
        except OmeError as error:
            warnings.warn(
                f"{name}: its OME-XML cannot be used ({error}): planes are read as slices, without a voxel size, "
                "channels and time points are not told apart",
                stacklevel=6,
            )
    pages = [_full_size(tiff, page) for page in pages]
    pages = [page for page in pages if not page.keyframe.is_reduced] or pages
    kinds: dict[tuple, list] = {}
    for page in pages:
        kinds.setdefault(_kind(page), []).append(page)
    groups = [group for same in kinds.values() for group in _arrays(same)]
    return [
        TiffImage(Candidate((len(group), group[0].imagelength, group[0].imagewidth)), group)
        for group in sorted(groups, key=lambda group: pages.index(group[0]))
    ]


def _kind(page) -> tuple:
    return page.shape, page.dtype, page.axes


def _arrays(pages: list) -> list[list]:
    """Pages of one size and type, cut where tifffile began a new array; single planes are one stack."""
    starts = [i for i, page in enumerate(pages) if getattr(page, "shaped_description", None)] or [0]
    ends = [*starts[1:], len(pages)]
    if all(end - start == 1 for start, end in zip(starts, ends, strict=True)):
        return [pages]
    return [pages[start:end] for start, end in zip([0, *starts[1:]], ends, strict=True)]


def _full_size(tiff, page):
    """The page itself, or the full-size one that a thumbnail has below it."""
    if not page.keyframe.is_reduced or not getattr(page, "subifds", None):
        return page
    for offset in page.subifds:
        check_directories(Path(tiff.filehandle.path), tiff.filehandle.size, offset)
    return next((below for below in page.pages if not below.is_reduced), page)
