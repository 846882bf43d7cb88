"""Compares predicted files with gold files, one pair or two folders of them: as figures, tables and pictures."""

from __future__ import annotations

import csv
import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..files import replacing
from ..morphology import Tree, rasterize, read_tree, tree_distance
from ..morphology.formats.registry import is_tree_name
from ..morphology.units import expecting_micrometres, says_micrometres, to_voxels, voxel_size_of
from ..volumes import (
    Volume,
    as_mask_or_scores,
    check_finite,
    is_volume_folder,
    is_volume_name,
    labels_of,
    open_volume,
    read_volume,
    single_channel,
    volume_stem,
)
from .fit import read_fitted
from .overlay import Projections, write_mask_difference, write_tree_difference
from .ranking import ranking_scores
from .segmentation import segmentation_scores
from .topology import topology_figures, without_lone_nodes


_LARGEST_SIDE = 20_000  # largest side of a picture's background, in voxels
# Parts of a file name that tell what the file is, not which neuron it shows.
_ROLES = (".scores", ".mask", ".labels", ".gold", ".compared")


class Comparison:
    """A predicted tree or mask and the gold one, both read.

    Args:
        predicted: SWC file; or a mask, or scores (their mask is where they are at least 0.5).
        gold: SWC file; or a mask. A mask is compared with the tubes of a gold tree.
        threshold: distance in voxels up to which trees agree.
        lone_nodes: whether nodes without an edge count. Vaa3D's `neuron_distance` leaves them out.
        label, scale: how to read a mask or scores given as other numbers, see `as_mask_or_scores`; the label applies
            to a gold mask only if that has several.
        voxel_size: z, y, x in micrometres, for trees in micrometres; None: as a tree's header or the mask says.
        units: of the gold tree, voxels or um; None: as its header says, or else voxels.

    Raises:
        ValueError: a file cannot be read as what it is, a tree is to be compared with a mask, or masks differ in
            shape.
    """

    def __init__(
        self,
        predicted: Path,
        gold: Path,
        threshold: float = 2.0,
        *,
        lone_nodes: bool = True,
        label: int | None = None,
        scale: float | None = None,
        voxel_size: tuple[float, float, float] | None = None,
        units: str | None = None,
    ):
        self.threshold, self.is_tree = threshold, is_tree(predicted)
        self.background: Projections | None = None  # projections of the picture's image
        self.predicted: Any  # a Tree, or a mask (z, y, x)
        self.gold: Any
        if self.is_tree:
            if not is_tree(gold):
                raise ValueError(
                    f"{gold}: expected a gold SWC file to compare the tree {predicted} with, found an image"
                )
            trees = zip((predicted, gold), _read_trees(predicted, gold, voxel_size, units), strict=True)
            self.predicted, self.gold = (tree if lone_nodes else _with_edges(path, tree) for path, tree in trees)
            return
        volume = read_voxels(predicted, label=label, scale=scale)
        self.scores = volume.array if volume.dtype.kind == "f" else None
        self.predicted = _as_mask(volume.array)
        self.gold_tree = None
        if is_tree(gold):
            sides = voxel_size or volume.voxel_size
            self.gold_tree = read_fitted(gold, self.predicted.shape, sides, units=units, mend_structure=True)
        self.gold = (
            read_mask(gold, label=label) if self.gold_tree is None else rasterize(self.gold_tree, self.predicted.shape)
        )
        if self.gold.shape != self.predicted.shape:
            raise ValueError(
                f"{gold}: expected the shape of {predicted}, {self.predicted.shape} (z, y, x), found {self.gold.shape}"
            )

    def figures(self) -> dict[str, float]:
        """Returns the figures of `tree_distance` and `topology_figures` for trees, of `segmentation_scores` for masks.

        For scores those of `ranking_scores` are added, which leaves out voxels about which a gold tree is not sure.
        """
        if self.is_tree:
            figures = tree_distance(self.predicted, self.gold, threshold=self.threshold)
            return figures | topology_figures(self.predicted, self.gold, threshold=self.threshold)
        figures = segmentation_scores(self.predicted, self.gold)
        if self.scores is not None:
            figures |= ranking_scores(self.scores, self.gold if self.gold_tree is None else self.gold_tree)
        return figures

    def write_picture(self, path: Path, image: Path | None = None, number: int | None = None) -> Path:
        """Writes a PNG of what agrees, what was missed and what is extra, each in its colour.

        It is drawn over the image, or over black; `number` selects an image of a file that holds several.

        Raises:
            ValueError: the image does not have the masks' shape, or has several channels.
        """
        if not self.is_tree:
            background = Projections(self.gold.shape) if image is None else read_projections(image, image=number)
            if background.shape != self.gold.shape:
                raise ValueError(f"{image}: expected the masks' shape {self.gold.shape}, found {background.shape}")
            self.background = None if image is None else background
            return write_mask_difference(path, background, self.predicted, self.gold)
        trees = [self.predicted, self.gold]
        if image is None:
            trees, shape = _side_by_side(trees)
        known = voxel_size_of(self.gold) or voxel_size_of(self.predicted)
        background = Projections(shape, known) if image is None else read_projections(image, image=number)
        self.background = None if image is None else background
        return write_tree_difference(path, background, *trees, threshold=self.threshold)


def find_comparisons(predicted: Path, gold: Path) -> list[tuple[str, Path, Path]]:
    """Lists (name, predicted file, gold file) of all neurons in two folders, sorted by name.

    Files belong together if their names are equal without the suffix and words such as `.mask` before it. Subfolders
    are not searched. If a gold folder holds trees, its masks are ignored. Gold trees are compared with the predicted
    trees, or with masks if there are none; gold masks are compared with masks only.

    Raises:
        ValueError: a folder holds nothing to compare, a gold file has no prediction (it would be missing from the
            mean), or one name has several files of a kind.
    """
    gold_trees, gold_masks = _trees_and_masks(gold)
    trees, masks = _trees_and_masks(predicted)
    theirs = _by_name(gold_trees or gold_masks)
    ours = _by_name(trees or masks if gold_trees else masks)
    if not theirs:
        raise ValueError(f"{gold}: expected SWC files or masks, found none")
    if not ours:
        expected = "SWC files or masks" if gold_trees else f"masks to compare with those in {gold}"
        raise ValueError(f"{predicted}: expected {expected}, found none")
    for name, path in theirs.items():
        if name not in ours:
            raise ValueError(f"{path}: expected a prediction named {name} in {predicted}, found none")
    return [(name, ours[name], path) for name, path in sorted(theirs.items())]


def _trees_and_masks(folder: Path) -> tuple[list[Path], list[Path]]:
    files = [
        path
        for path in sorted(folder.iterdir())
        if (path.is_file() or is_volume_folder(path)) and not path.name.startswith(".")
    ]
    volumes = [path for path in files if is_volume_name(path.name)]
    named_so = [path for path in volumes if volume_stem(path.name).endswith(".mask")]  # their scores lie beside them
    return [path for path in files if is_tree(path)], named_so or volumes


def _by_name(files: list[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in files:
        name = neuron_name(path)
        if name in found:
            raise ValueError(f"{path}: expected one file of {name}, found {found[name].name} as well")
        found[name] = path
    return found


def neuron_name(path: Path) -> str:
    """Returns a file's name without its format and its role: `a.mask.ome.tif` and `a.gold.swc` are `a`."""
    name = path.stem if is_tree(path) else volume_stem(path.name)
    for role in _ROLES:
        name = name.removesuffix(role)
    return name


def means(figures: dict[str, dict[str, float]]) -> dict[str, float]:
    """Averages each figure that all neurons have; a mean is not finite if one of its figures is not."""
    return {key: float(np.mean([one[key] for one in figures.values()])) for key in _common_keys(figures)}


def _common_keys(figures: dict[str, dict[str, float]]) -> list[str]:
    """Lists the keys that all neurons have, in order: masks lack the keys that only scores have."""
    first, *others = figures.values()
    return [key for key in first if all(key in other for other in others)]


def as_table(figures: dict[str, dict[str, float]]) -> str:
    """Makes a text table: a row for each neuron and one for the mean."""
    rows = {**figures, "mean": means(figures)}
    keys = list(rows["mean"])
    width = max(map(len, rows))
    columns = {key: max(len(key), 16) for key in keys}
    lines = [" " * width + "".join(f"  {key:>{size}}" for key, size in columns.items())]
    lines += [
        f"{name:{width}}" + "".join(f"  {row[key]:{size}.4f}" for key, size in columns.items())
        for name, row in rows.items()
    ]
    return "\n".join(lines)


def as_json(figures: dict) -> str:
    """Makes JSON; infinite distances (to an empty mask or tree) become null, since JSON knows no infinity."""
    return json.dumps(_without_infinity(figures))


def _without_infinity(value):
    if isinstance(value, dict):
        return {key: _without_infinity(one) for key, one in value.items()}
    return value if math.isfinite(value) else None


def write_csv(path: Path, figures: dict[str, dict[str, float]]) -> None:
    """Writes a CSV file, a row for each neuron; whole or not at all."""
    with replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        keys = _common_keys(figures)
        writer.writerow(["neuron", *keys])
        writer.writerows([name, *(row[key] for key in keys)] for name, row in figures.items())


def is_tree(path: Path) -> bool:
    """Tells by its name whether a file is a tree."""
    return is_tree_name(path)


def _with_edges(path: Path, tree: Tree) -> Tree:
    """Returns the tree without nodes that have no edge. Raises ValueError, with the file's name, if no node is
    left."""
    try:
        return without_lone_nodes(tree)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read_trees(
    predicted: Path, gold: Path, voxel_size: tuple[float, float, float] | None, units: str | None
) -> list[Tree]:
    """Reads two trees in the same units: voxels, or micrometres if there is no voxel size for either.

    Raises:
        SWCError: one tree is in micrometres, and no voxel size is known.
    """
    with expecting_micrometres():
        # Gold trees are drawn in pieces by hand: what cutting and pasting left behind is repaired, with a warning.
        trees = [read_tree(predicted), read_tree(gold, mend_structure=True)]
    sides = voxel_size or voxel_size_of(trees[1]) or voxel_size_of(trees[0])
    if sides is None and units is None and all(map(says_micrometres, trees)):
        warnings.warn(f"{gold}: compared in micrometres, as both headers say, and so is the threshold", stacklevel=3)
        return trees
    return [to_voxels(trees[0], predicted, sides), to_voxels(trees[1], gold, sides, units)]


def read_mask(path: Path, *, label: int | None = None) -> np.ndarray:
    """Reads a mask (z, y, x): voxels that are not 0, or scores of at least 0.5.

    label: the value that the neuron has, if the file holds labels; a mask, which has one value beside 0, stays as it
    is.
    """
    return _as_mask(read_voxels(path, label=label, only_of_several=True).array)


def read_voxels(
    path: Path, *, label: int | None = None, scale: float | None = None, only_of_several: bool = False
) -> Volume:
    """Reads the voxels (z, y, x) of a mask or of scores; `as_mask_or_scores` interprets other numbers.

    Raises:
        VolumeError: some voxels are not finite, their meaning is not known, or the file has several channels.
    """
    volume: Volume = single_channel(read_volume(path))
    check_finite(volume)
    if only_of_several and label is not None and (volume.dtype.kind == "f" or len(labels_of(volume)) < 2):
        label = None
    return as_mask_or_scores(volume, label=label, scale=scale)


def _as_mask(voxels: np.ndarray) -> np.ndarray:
    return voxels >= 0.5 if voxels.dtype.kind == "f" else voxels != 0


def read_projections(path: Path, channel: int | None = None, image: int | None = None) -> Projections:
    """Makes the projections of an image, which is read piece by piece.

    Raises:
        VolumeError: the image has voxels that are not finite, or several channels and `channel` is None.
    """
    with open_volume(path, channel, image) as reader:
        check_finite(reader)
        projections = Projections(reader.shape, reader.voxel_size)
        for box in reader.boxes():
            projections.add_box(box, reader.read_box(box))
    return projections


def _side_by_side(trees: Sequence[Tree]) -> tuple[list[Tree], tuple[int, int, int]]:
    """Moves the trees together to the origin, and returns them with the shape (z, y, x) of a volume that holds them.

    Raises:
        ValueError: the trees are too large for a picture.
    """
    points = np.concatenate([tree.xyz for tree in trees])
    lowest = np.floor(points.min(axis=0))
    width, height, depth = (np.ceil(points.max(axis=0) - lowest) + 1).tolist()
    if max(width, height, depth) > _LARGEST_SIDE:
        raise ValueError(
            f"the trees span {width:.0f} x {height:.0f} x {depth:.0f} (x y z): too much for a picture, "
            f"whose sides are at most {_LARGEST_SIDE} voxels"
        )
    return [replace(tree, xyz=tree.xyz - lowest) for tree in trees], (int(depth), int(height), int(width))
