"""Opens Vaa3D's images, trees and OME-Zarr in napari; whatever cannot be read is one sentence there."""

import csv
import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...morphology import SWCError, read_tree
from ...morphology.swc import Tree
from ...volumes import VolumeError, open_volume, read_volume
from .layers import tree_layer
from .telling import tell_error


LayerData = tuple[Any, ...]
NOTHING: list[LayerData] = [(None,)]  # how a reader says that there is no layer
IMAGES = (".v3dpbd", ".v3draw")
TREES = (".swc", ".eswc", ".traces")
PYRAMIDS = (".zarr",)


def get_reader(path: str | list[str]) -> Callable[[str], list[LayerData]] | None:
    """The reader of a path, or None for one that others may read (npe2's `readers`)."""
    if not isinstance(path, str):
        return None
    name = path.lower().rstrip("/\\")
    for suffixes, read in ((IMAGES, read_image), (TREES, read_trees), (PYRAMIDS, read_pyramid)):
        if name.endswith(suffixes):
            return _telling(read)
    return None


def read_image(path: str) -> list[LayerData]:
    """An image as a layer, or one for each channel; voxels stay on disk where the file allows it.

    Raises:
        VolumeError, OSError: it cannot be read.
    """
    volume = read_volume(path)
    return [(volume.array, _image_arguments(path, volume.num_channels, volume.voxel_size), "image")]


def read_trees(path: str) -> list[LayerData]:
    """A tree as a layer, colored by the confidence of its branches where `NAME.branches.csv` beside it says it.

    Raises:
        SWCError, VolumeError, OSError: it cannot be read.
    """
    tree = read_tree(path)
    table = Path(path).with_suffix(".branches.csv")
    if table.is_file():
        tree = with_confidences(tree, table)
    return [tree_layer(tree, Path(path).stem)]


def read_pyramid(path: str) -> list[LayerData]:
    """An OME-Zarr image as a layer of all its resolutions, of which what is shown is read.

    Raises:
        VolumeError: it is none, or zarr is not installed.
    """
    with open_volume(path, channel=0) as checked:  # what its metadata say is looked at there
        voxel_size, num_channels = checked.voxel_size, checked.num_channels
    levels = pyramid(path, num_channels)
    return [(levels, {**_image_arguments(path, num_channels, voxel_size), "multiscale": len(levels) > 1}, "image")]


def pyramid(path: str, num_channels: int) -> list[Any]:
    """The resolutions of an OME-Zarr, from the highest down, as dask arrays (z, y, x), or (c, z, y, x).

    Raises:
        VolumeError: it cannot be read.
    """
    import dask.array
    import zarr

    from ...volumes.formats.choice import chosen_image
    from ...volumes.formats.format import one_line
    from ...volumes.formats.zarr_images import images_in

    try:
        node: Any = zarr.open(path, mode="r")
        images = images_in(node, path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # told of when it was opened
            image = images[chosen_image(None, [one.candidate for one in images], path)]
        arrays = [image.array]
        attributes = {} if hasattr(node, "shape") else node.attrs.get("ome") or dict(node.attrs)
        if len(images) == 1 and attributes.get("multiscales"):
            names = [dataset["path"] for dataset in attributes["multiscales"][0]["datasets"]]
            found = [node[name] for name in names if name in node]
            smaller = [one for one in found if one.ndim == image.array.ndim and one.size < image.array.size]
            arrays += sorted(smaller, key=lambda one: -one.size)
        wanted = "czyx" if num_channels > 1 else "zyx"
        return [_ordered(dask.array.from_zarr(array), image.axes, wanted) for array in arrays]
    except VolumeError:
        raise
    except Exception as error:
        raise VolumeError(f"{path}: not a readable OME-Zarr image: {one_line(error)}") from error


def with_confidences(tree: Tree, table: Path) -> Tree:
    """The tree with scores, the confidence of its branch at every node, as a table that `segment` wrote says.

    A table that is of another tree, or none, is left alone.
    """
    from ...morphology.branches import find_branches

    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = [(int(row["start"]), int(row["end"]), float(row["confidence"])) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError):
        return tree
    branches, of_node = find_branches(tree)
    if [row[:2] for row in rows] != list(zip(branches.start.tolist(), branches.end.tolist(), strict=True)):
        return tree
    return dataclasses.replace(tree, scores=np.array([*(row[2] for row in rows), 1.0])[of_node])


def _ordered(array: Any, axes: str, wanted: str) -> Any:
    """An array of the axes wanted, in their order; others, of length 1, go, and a missing z comes."""
    array = array[tuple(slice(None) if axis in wanted else 0 for axis in axes)]
    kept = [axis for axis in axes if axis in wanted]
    array = array.transpose([kept.index(axis) for axis in wanted if axis in kept])
    return array if "z" in kept else array[..., None, :, :]


def _image_arguments(path: str, num_channels: int, voxel_size: tuple[float, float, float] | None) -> dict[str, Any]:
    from ...volumes import volume_stem

    name = volume_stem(Path(path).name)
    arguments: dict[str, Any] = {} if voxel_size is None else {"scale": voxel_size, "units": ("um",) * 3}
    if num_channels > 1:
        return {**arguments, "name": [f"{name} channel {i}" for i in range(num_channels)], "channel_axis": 0}
    return {**arguments, "name": name}


def _telling(read: Callable[[str], list[LayerData]]) -> Callable[[str], list[LayerData]]:
    """A reader that says what is wrong in a sentence, where the other raises it."""

    def reader(path: str) -> list[LayerData]:
        try:
            return read(path)
        except (VolumeError, SWCError, OSError, MemoryError) as error:
            tell_error(error, path)
            return NOTHING

    return reader
