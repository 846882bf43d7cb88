"""Finds pairs of image and SWC file (or mask, or labels) in a folder, and reads them with their labels."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from ..morphology import read_swc
from ..morphology.units import expecting_micrometres, to_voxels
from ..volumes import check_finite, check_signal, is_volume_name, read_volume, volume_stem
from .alignment import AS_IS, check_alignment
from .labels import IGNORE_INDEX, LabelPolicy, draw_labels, prepare_tree, signal_level
from .pairing import TREE_SUFFIXES, find_candidates, is_image_name, neuron_id
from .sources import DataError, FolderSource


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
    """Finds all pairs below a folder, sorted by name.

    Images and trees are paired by `pairing.find_candidates`; an image `a.tif` without a tree goes with `a.mask.tif` or
    `a.labels.tif` beside it, and a folder's single image also with `mask.tif` or `labels.tif`. Images without
    annotation are left out; of an image in several formats (`a.tif`, `a.v3draw`) the first is taken. Trees and masks
    that this program made are not taken.

    Raises:
        DataError: the folder does not exist, or holds no pair.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder of images with their SWC files, found no folder")
    source = FolderSource(root)
    source.leave_out_own_results()
    files = list(source.files)
    candidates, left_out = find_candidates(files)
    pairs = [Pair(found.neuron_id, root / found.image, root / found.trees[0]) for found in candidates]
    known, names, taken = set(files), {pair.name for pair in pairs}, set()
    images = Counter(PurePosixPath(path).parent for path in files if is_image_name(path))  # in each folder
    for image in left_out:
        if (
            is_volume_name(image)
            and (labels := _labels_of(image, known, alone=images[PurePosixPath(image).parent] == 1))
            and labels not in taken
        ):
            taken.add(labels)
            name = neuron_id(image)
            if name in names:
                name = str(PurePosixPath(image).parent / volume_stem(PurePosixPath(image).name))
            names.add(name)
            pairs.append(Pair(name, root / image, root / labels))
    pairs.sort(key=lambda pair: pair.name)
    if not pairs:
        raise DataError(f"{root}: expected images with SWC files beside them, found no pair")
    return pairs


def find_untraced(root: str | os.PathLike, pairs: list[Pair]) -> list[Path]:
    """Finds the images below a folder that are in no pair, sorted; other formats of a pair's image are not counted."""
    source = FolderSource(Path(root))
    source.leave_out_own_results()
    drawn = {pair.annotation for pair in pairs}
    known = {neuron_id(pair.image.relative_to(root).as_posix()) for pair in pairs}
    images = [path for path in source.files if is_image_name(path) and is_volume_name(path)]
    return sorted(
        Path(root) / path for path in images if Path(root) / path not in drawn and neuron_id(path) not in known
    )


def read_pair(pair: Pair, *, channel: int | None = None, policy: LabelPolicy | None = None) -> LabelledVolume:
    """Reads a pair; a tree is drawn as the policy says (None: `LabelPolicy()`).

    Of several channels, radii and brightness are measured in the first.

    Raises:
        DataError: the annotation does not fit the image, or marks no voxel of it; a tree lies on the neuron only
            once it is flipped, scaled by the voxel size or its axes are swapped.
        VolumeError: the image is damaged, not finite or constant.
        SWCError: the tree is damaged.
    """
    volume = read_volume(pair.image, channel=channel)
    check_finite(volume)
    check_signal(volume)
    image = volume.array if volume.array.ndim == 4 else volume.array[None]
    shape = image.shape[1:]
    if pair.annotation.suffix.lower() in TREE_SUFFIXES:
        with expecting_micrometres():
            tree = read_swc(pair.annotation, mend_structure=True)  # drawn by hand in fragments; what is mended is told
        tree = to_voxels(tree, pair.annotation, volume.voxel_size)
        alignment = check_alignment(tree, image, volume.voxel_size)
        if alignment.fit not in (None, AS_IS):
            raise DataError(
                f"{pair.annotation}: misses the neuron of {pair.image.name}: {alignment}; `neuron-vit3d prepare` "
                "mends that"
            )
        policy = policy or LabelPolicy()
        tree = prepare_tree(tree, image[0], policy)
        level = signal_level(tree, image[0]) if policy.ignore_untraced else None
        labels = draw_labels(tree, shape, policy, image=image[0], level=level)
    else:
        labels = _read_labels(pair.annotation)
        if labels.shape != shape:
            raise DataError(f"{pair.annotation}: expected labels of the image's shape {shape}, found {labels.shape}")
    if not (labels == 1).any():
        raise DataError(f"{pair.annotation}: marks no voxel of {pair.image.name} with shape {shape} (z, y, x)")
    return LabelledVolume(pair.name, image, labels)


def _labels_of(image: str, files: set[str], *, alone: bool) -> str | None:
    """Finds an image's label image; both are relative to the root; `alone`: the image is its folder's only one."""
    folder, stem = PurePosixPath(image).parent, volume_stem(PurePosixPath(image).name)
    names = [f"{base}.{kind}.tif" for kind in ("mask", "labels") for base in (stem, PurePosixPath(image).name)]
    if alone:
        names += ["labels.tif", "mask.tif"]
    return next((path for name in names if (path := (folder / name).as_posix()) in files), None)


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
