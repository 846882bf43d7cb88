"""Folders of images with their traces: which image belongs to which SWC file, and what the labels of its voxels are."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..morphology import rasterize, read_swc
from ..volumes import check_finite, check_signal, read_volume


IMAGE_SUFFIXES = (".tif", ".tiff", ".v3draw", ".v3dpbd")
IGNORE_INDEX = 255


class DataError(ValueError):
    """A folder or a pair that training cannot use; the message names it."""


@dataclass(frozen=True)
class Pair:
    """An image and what a human drew: a tree (`.swc`), a mask (`*mask.tif`) or labels (`*labels.tif`)."""

    name: str
    image: Path
    annotation: Path


@dataclass(frozen=True, eq=False)
class LabelledVolume:
    """A pair in memory: image (channels, slices, height, width) as in its file, labels (slices, height, width) uint8.

    Labels are 0 background, 1 neuron, 255 ignored.
    """

    name: str
    image: np.ndarray
    labels: np.ndarray


def find_pairs(root: str | os.PathLike) -> list[Pair]:
    """All pairs below a folder, sorted by name.

    In one folder an image `a.tif` goes with `a.swc`, `a.tif.swc`, `a.mask.tif` or `a.labels.tif`; a folder with a single
    image also with the single `.swc` (whatever its name), `mask.tif` or `labels.tif` in it. Images without annotation
    are left out; of an image in several formats (`a.tif`, `a.v3draw`) the first is taken.

    Raises:
        DataError: the folder does not exist, or holds no pair.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder of images with their SWC files, found no folder")
    pairs = []
    for files in _files_by_folder(root):
        images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES and not _is_label_image(path)]
        taken = set()
        for image in images:
            annotation = _annotation_of(image, files, alone=len(images) == 1)
            if annotation is not None and annotation not in taken:
                taken.add(annotation)
                name = image.relative_to(root).with_suffix("").as_posix()
                pairs.append(Pair(name.removesuffix("/image"), image, annotation))
    pairs.sort(key=lambda pair: pair.name)
    if not pairs:
        raise DataError(
            f"{root}: expected images ({', '.join(IMAGE_SUFFIXES)}) with SWC files beside them, found no pair"
        )
    return pairs


def read_pair(
    pair: Pair, *, channel: int | None = None, min_radius: float | None = 1.0, max_radius: float | None = None
) -> LabelledVolume:
    """Reads a pair; a tree is rasterised with its radii clipped to [min_radius, max_radius] (voxels).

    Raises:
        DataError: the annotation does not fit the image, or marks no voxel of it.
        VolumeError: the image is damaged, not finite or constant.
        SWCError: the tree is damaged.
    """
    volume = read_volume(pair.image, channel=channel)
    check_finite(volume)
    check_signal(volume)
    image = volume.array if volume.array.ndim == 4 else volume.array[None]
    shape = image.shape[1:]
    if pair.annotation.suffix.lower() in (".swc", ".eswc"):
        tree = read_swc(pair.annotation, mend_structure=True)  # drawn by hand in fragments; what was mended is told
        mask = rasterize(tree, shape, min_radius=min_radius, max_radius=max_radius)
        labels = mask.astype(np.uint8)
    else:
        labels = _read_labels(pair.annotation)
        if labels.shape != shape:
            raise DataError(f"{pair.annotation}: expected labels of the image's shape {shape}, found {labels.shape}")
    if not (labels == 1).any():
        raise DataError(f"{pair.annotation}: marks no voxel of {pair.image.name} with shape {shape} (z, y, x)")
    return LabelledVolume(pair.name, image, labels)


def _files_by_folder(root: Path) -> Iterator[list[Path]]:
    """The visible files of every folder below root; links to folders are followed, each folder is seen once."""
    seen = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield [Path(folder, name) for name in sorted(names) if not name.startswith(".")]


def _is_label_image(path: Path) -> bool:
    return path.stem.lower().endswith(("mask", "labels"))


def _annotation_of(image: Path, files: list[Path], *, alone: bool) -> Path | None:
    names = {path.name: path for path in files}
    for suffix in (".swc", ".eswc", ".mask.tif", ".labels.tif"):
        for base in (image.stem, image.name):
            if base + suffix in names:
                return names[base + suffix]
    if alone:
        traces = [path for path in files if path.suffix.lower() in (".swc", ".eswc")]
        if len(traces) == 1:
            return traces[0]
        return names.get("labels.tif", names.get("mask.tif"))
    return None


def _read_labels(path: Path) -> np.ndarray:
    array = np.asarray(read_volume(path).array)
    if path.stem.lower().endswith("mask"):  # masks are 0 and anything else (Fiji writes 255)
        return (array != 0).astype(np.uint8)
    unknown = np.setdiff1d(np.unique(array), (0, 1, IGNORE_INDEX))
    if unknown.size:
        raise DataError(
            f"{path}: expected labels 0 (background), 1 (neuron), {IGNORE_INDEX} (ignore), found {unknown[:5]}"
        )
    return array.astype(np.uint8)
