"""The images in a zarr group: what its metadata say of axes and voxel sizes, in NGFF 0.1 to 0.6 or none.

A group may be one image (`multiscales`), several series (bioformats2raw), labels, the fields of a plate, or arrays
that nothing describes. Of the resolutions of an image the one with the most voxels is read.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from ..units import micrometres, number, voxel_size_of
from ..volume import VolumeError
from .choice import Candidate, refuse_channels_last


_MOST_IMAGES = 1000  # of a group that are looked at; a plate may have more fields, each a folder of its own
_DEEPEST = 3  # groups in groups: plate, well, field


class ZarrImage(NamedTuple):
    """An image: its array, the names of the array's axes, z y x in micrometres or None, what there is to tell."""

    array: Any
    axes: str
    voxel_size: tuple[float, float, float] | None
    title: str
    notes: tuple[str, ...] = ()

    @property
    def candidate(self) -> Candidate:
        sizes = dict(zip(self.axes, self.array.shape, strict=False))
        depth, height, width = (int(sizes.get(axis, 1)) for axis in "zyx")
        return Candidate((depth, height, width), self.title)


def images_in(node, path: str) -> list[ZarrImage]:
    """The images in an open zarr array or group, in the order in which it names them.

    Raises:
        VolumeError: there is none.
        Exception: whatever zarr raises for metadata that it cannot read.
    """
    found = _images(node, path, "", 0)
    if not found:
        raise VolumeError(f"{path}: expected an OME-Zarr image, got a zarr group without `multiscales` or arrays")
    return found


def _images(node, path: str, title: str, depth: int) -> list[ZarrImage]:
    if hasattr(node, "shape"):
        return [ZarrImage(node, _axes_of_array(node, path), None, title)]
    attributes = node.attrs.get("ome") or dict(node.attrs)
    multiscales = attributes.get("multiscales")
    if multiscales:
        version = str(attributes.get("version", multiscales[0].get("version", "")))
        return [_multiscale(node, image, version, title or str(image.get("name", ""))) for image in multiscales]
    if depth == _DEEPEST:
        return []
    below: list[ZarrImage] = []
    for name in _named_below(node, attributes):
        below += _images(node[name], path, f"{title}/{name}" if title else name, depth + 1)
        if len(below) > _MOST_IMAGES:
            raise VolumeError(f"{path}: holds more than {_MOST_IMAGES} images; name the folder of one")
    return below


def _named_below(node, attributes) -> list[str]:
    """The names of the groups or arrays that hold images."""
    if "plate" in attributes:
        return [str(well["path"]) for well in attributes["plate"]["wells"]]
    if "well" in attributes:
        return [str(field["path"]) for field in attributes["well"]["images"]]
    if "labels" in attributes:
        return [str(label) for label in attributes["labels"]]
    if "bioformats2raw.layout" in attributes:
        return [name for name in _series(node) if name in node]
    # Arrays that nothing describes: those that could be volumes. Labels are asked for by their own folder.
    arrays = [name for name, array in sorted(node.arrays()) if array.ndim >= 3]
    return arrays or sorted(name for name in node.group_keys() if name not in ("labels", "OME"))


def _series(node) -> list[str]:
    if "OME" in node:
        attributes = node["OME"].attrs.get("ome") or dict(node["OME"].attrs)
        if attributes.get("series"):
            return [str(name) for name in attributes["series"]]
    return sorted((name for name in node.group_keys() if name.isdigit()), key=int)


def _axes_of_array(array, path: str) -> str:
    """By the names that xarray or zarr 3 gives them; z y x, with c and t before, where there are none."""
    named = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    names = [str(name).lower()[:1] for name in named or ()]
    if len(names) == array.ndim and {"y", "x"} <= set(names):
        return "".join(names)
    refuse_channels_last(array.shape, path)
    return "tczyx"[-array.ndim :] if array.ndim <= 5 else ""


def _multiscale(node, image: dict, version: str, title: str) -> ZarrImage:
    datasets = image["datasets"]
    arrays = [node[datasets[0]["path"]]]
    for dataset in datasets[1:]:  # lower ones may be missing
        arrays.append(node[dataset["path"]] if dataset["path"] in node else arrays[0])
    # A resolution without voxels is a lie, which is refused where the image is read.
    best = max(range(len(arrays)), key=lambda i: (math.prod(arrays[i].shape) or math.inf, -i))
    array, dataset, notes = arrays[best], datasets[best], []
    if best:
        notes.append(f"resolution {dataset['path']!r} is read, which is higher than those named before it")
    axes, transformations = _described(image, dataset, array.ndim, version)
    scale = np.full(len(axes), math.nan)
    for transformation in transformations:
        given, note = _scale(transformation, axes)
        scale = given if np.isnan(scale).all() else scale * given
        notes += [note] if note else []
    names = "".join(str(axis["name"]).lower() for axis in axes)
    lengths = (
        {name: size * micrometres(axis.get("unit")) for name, size, axis in zip(names, scale, axes, strict=True)}
        if len(names) == len(axes)
        else {}
    )
    return ZarrImage(array, names, voxel_size_of(lengths.get(axis, math.nan) for axis in "zyx"), title, tuple(notes))


def _described(image: dict, dataset: dict, ndim: int, version: str) -> tuple[list[dict], list[dict]]:
    """The axes, and the scales that apply one after the other."""
    own = dataset.get("coordinateTransformations", [])
    if "coordinateSystems" in image:  # 0.6: axes belong to a named system, and scales may lie in a sequence
        systems = image["coordinateSystems"]
        outputs = [_named(one.get("output")) for one in own]
        system = next((one for one in systems if one["name"] in outputs), systems[0])
        flat = [part for one in own for part in one.get("transformations", [one])]
        return list(system["axes"]), [one for one in flat if one.get("type") not in ("translation", "identity")]
    axes = [{"name": one} if isinstance(one, str) else one for one in image.get("axes", "tczyx"[-ndim:])]
    both = [*own, *image.get("coordinateTransformations", ())]
    return axes, [one for one in both if one["type"] == "scale"]


def _named(system: Any) -> Any:
    return system.get("name") if isinstance(system, dict) else system


def _scale(transformation: dict, axes: list[dict]) -> tuple[np.ndarray, str]:
    """A length for each axis, NaN where it is not known, and what there is to tell of it."""
    unknown, given = np.full(len(axes), math.nan), transformation.get("scale")
    if transformation.get("type") != "scale" or not isinstance(given, list):
        return unknown, f"its voxels are placed by {str(transformation.get('type'))[:40]!r}: no voxel size is taken"
    numbers = np.array([number(one) for one in given])
    if len(numbers) == len(axes):
        return numbers, ""
    words = f"its scale has {len(numbers)} numbers for {len(axes)} axes"
    if 3 <= len(numbers) < len(axes):
        unknown[-len(numbers) :] = numbers
        return unknown, f"{words}: taken for those of the last axes"
    return unknown, f"{words}: no voxel size is taken"
