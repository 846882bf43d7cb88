"""Predicted files against gold files: read as what they are, matched by name, drawn so that one sees what differs."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuron_vit3d import Volume, segmentation_scores, synthetic_neuron, tree_distance, write_volume
from neuron_vit3d.cli.input import find_images
from neuron_vit3d.evaluation import ranking_scores
from neuron_vit3d.evaluation.axes import LEGEND_HEIGHT
from neuron_vit3d.evaluation.comparison import (
    Comparison,
    as_json,
    as_table,
    find_comparisons,
    means,
    neuron_name,
    write_csv,
)
from neuron_vit3d.evaluation.overlay import AGREES, EXTRA, MISSED
from neuron_vit3d.evaluation.topology import topology_figures
from neuron_vit3d.morphology import Tree


@pytest.fixture(scope="module")
def neuron():
    return synthetic_neuron((8, 48, 64), seed=0, quality="clean")


def line(*points) -> Tree:
    return Tree.from_parents(np.array(points, float), np.ones(len(points)), np.arange(len(points)) - 1)


def coloured(path: Path, colour) -> int:
    """How many pixels of a picture have exactly this colour, below its legend left out."""
    return int((np.asarray(Image.open(path))[:-LEGEND_HEIGHT] == colour).all(-1).sum())


def test_trees_and_masks_are_compared_as_what_they_are(neuron, tmp_path):
    moved = replace(neuron.tree, xyz=neuron.tree.xyz + np.array([3, 0, 0]))
    neuron.tree.write(tmp_path / "gold.swc")
    moved.write(tmp_path / "moved.swc")
    write_volume(tmp_path / "gold.tif", Volume(neuron.mask))
    write_volume(tmp_path / "a.mask.tif", Volume(np.roll(neuron.mask, 1, 2)))
    trees = Comparison(tmp_path / "moved.swc", tmp_path / "gold.swc", threshold=1.5).figures()
    expected = tree_distance(moved, neuron.tree, threshold=1.5) | topology_figures(moved, neuron.tree, threshold=1.5)
    assert trees == pytest.approx(expected, abs=1e-3, nan_ok=True)
    masks = Comparison(tmp_path / "a.mask.tif", tmp_path / "gold.tif").figures()
    assert masks == segmentation_scores(np.roll(neuron.mask, 1, 2), neuron.mask)
    scores = np.where(neuron.mask, 0.9, 0.2).astype(np.float32)
    write_volume(tmp_path / "a.scores.tif", Volume(scores))
    for gold, truth in (("gold.tif", neuron.mask), ("gold.swc", neuron.tree)):
        figures = Comparison(tmp_path / "a.scores.tif", tmp_path / gold).figures()
        expected = segmentation_scores(neuron.mask, neuron.mask) | ranking_scores(scores, truth)
        assert figures == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"gold\.tif: expected a gold SWC file"):
        Comparison(tmp_path / "moved.swc", tmp_path / "gold.tif")


def test_what_was_missed_and_what_is_extra_have_their_colours(tmp_path):
    """Gold goes on to the right, the prediction down; both begin together."""
    line((5, 5, 1), (25, 5, 1), (55, 5, 1)).write(tmp_path / "gold.swc")
    line((5, 5, 1), (25, 5, 1), (25, 35, 1)).write(tmp_path / "predicted.swc")
    comparison = Comparison(tmp_path / "predicted.swc", tmp_path / "gold.swc")
    picture = comparison.write_picture(tmp_path / "a.png")
    assert not list(tmp_path.glob(".*"))
    counts = [coloured(picture, colour) for colour in (AGREES, MISSED, EXTRA)]
    assert all(count > 100 for count in counts)
    same = Comparison(tmp_path / "gold.swc", tmp_path / "gold.swc").write_picture(tmp_path / "b.png")
    assert coloured(same, AGREES) > 100 and not coloured(same, MISSED) and not coloured(same, EXTRA)
    image = np.zeros((4, 40, 60), np.uint8)
    image[1, 5, 5:55] = 200
    write_volume(tmp_path / "image.tif", Volume(image))
    over = comparison.write_picture(tmp_path / "c.png", tmp_path / "image.tif")
    assert Image.open(over).width > 1.9 * Image.open(picture).width  # the image alone lies beside it


def test_masks_in_colours(tmp_path):
    gold, predicted = np.zeros((2, 3, 20, 30), bool)
    gold[1, 5, 3:20] = predicted[1, 5, 10:28] = True
    for name, mask in (("gold", gold), ("predicted", predicted), ("small", gold[:, :10])):
        write_volume(tmp_path / f"{name}.tif", Volume(mask))
    comparison = Comparison(tmp_path / "predicted.tif", tmp_path / "gold.tif")
    picture = comparison.write_picture(tmp_path / "a.png")
    areas = [coloured(picture, colour) for colour in (AGREES, MISSED, EXTRA)]
    assert areas[0] * 7 > areas[1] * 9 and areas[1] * 8 == pytest.approx(areas[2] * 7, rel=0.3)
    with pytest.raises(ValueError, match=r"small\.tif: expected the masks' shape \(3, 20, 30\), found \(3, 10, 30\)"):
        comparison.write_picture(tmp_path / "a.png", tmp_path / "small.tif")


def test_a_tree_that_spans_too_much_for_a_picture_is_refused(tmp_path):
    line((0, 0, 0), (3e4, 0, 0)).write(tmp_path / "long.swc")
    with pytest.raises(ValueError, match="the trees span 30001 x 1 x 1"):
        Comparison(tmp_path / "long.swc", tmp_path / "long.swc").write_picture(tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.swc", "a"), ("a.gold.swc", "a"), ("a.mask.ome.tif", "a"), ("a.b.tif", "a.b"), ("x.scores.tif", "x")],
)
def test_the_neuron_of_a_file(name, expected):
    assert neuron_name(Path(name)) == expected


def test_files_of_two_folders_are_matched_by_name(tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder, names in ((ours, ["a.swc", "b.swc", "c.swc", "a.mask.tif"]), (theirs, ["a.gold.swc", "b.swc"])):
        folder.mkdir()
        for name in names:
            (folder / name).touch()
    found = find_comparisons(ours, theirs)
    assert found == [("a", ours / "a.swc", theirs / "a.gold.swc"), ("b", ours / "b.swc", theirs / "b.swc")]
    (theirs / "d.swc").touch()
    with pytest.raises(ValueError, match=r"d\.swc: expected a prediction named d in .*ours, found none"):
        find_comparisons(ours, theirs)
    (theirs / "d.swc").rename(theirs / "a.swc")
    with pytest.raises(ValueError, match=r"a\.swc: expected one file of a, found a\.gold\.swc as well"):
        find_comparisons(ours, theirs)
    (theirs / "a.swc").unlink()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: expected SWC files or masks, found none"):
        find_comparisons(tmp_path / "empty", theirs)


def test_of_masks_beside_their_scores_the_masks_are_taken(tmp_path):
    for name in ("a.scores.tif", "a.mask.tif", "b.mask.tif"):
        (tmp_path / name).touch()
    gold = tmp_path / "gold"
    gold.mkdir()
    for name in ("a.tif", "b.tif"):
        (gold / name).touch()
    assert [path.name for _, path, _ in find_comparisons(tmp_path, gold)] == ["a.mask.tif", "b.mask.tif"]
    (tmp_path / "b.mask.tif").unlink()
    for name in ("b.mask.ome.zarr", "b.scores.ome.zarr"):  # as `segment --zarr` leaves them
        (tmp_path / name).mkdir()
    assert [path.name for _, path, _ in find_comparisons(tmp_path, gold)] == ["a.mask.tif", "b.mask.ome.zarr"]


def folder_of(path: Path, *names: str) -> Path:
    """A folder of empty files."""
    path.mkdir()
    for name in names:
        (path / name).touch()
    return path


RESULTS = [f"{neuron}.{suffix}" for neuron in "ab" for suffix in ("scores.tif", "mask.tif", "swc", "png")]


@pytest.mark.parametrize(
    ("ours", "gold", "expected"),
    [
        (RESULTS, ["a.tif", "b.gold.tif"], ["a.mask.tif", "b.mask.tif"]),
        (RESULTS, ["a.gold.swc", "b.swc"], ["a.swc", "b.swc"]),
        (RESULTS, ["a.swc", "b.swc", "a.tif", "b.tif"], ["a.swc", "b.swc"]),  # trees beside their images
        (["a.mask.tif", "a.scores.tif"], ["a.swc"], ["a.mask.tif"]),
        (["a.masked.tif", "a.tif", "a.swc"], ["a.tif"], ["a.tif"]),
    ],
)
def test_the_gold_say_whether_trees_or_masks_are_compared(ours, gold, expected, tmp_path):
    found = find_comparisons(folder_of(tmp_path / "ours", *ours), folder_of(tmp_path / "gold", *gold))
    assert [path.name for _, path, _ in found] == expected


def test_trees_alone_are_not_compared_with_gold_masks(tmp_path):
    ours, gold = folder_of(tmp_path / "ours", "a.swc"), folder_of(tmp_path / "gold", "a.tif")
    with pytest.raises(ValueError, match=r"ours: expected masks to compare with those in .*gold, found none"):
        find_comparisons(ours, gold)


def test_a_neurons_image_is_not_its_mask_or_scores(tmp_path):
    folder = folder_of(
        tmp_path / "images", *RESULTS, "a.labels.npy", "a.npy", "b.ome.tif", "c.tif", "c.npy", "d.mask.tif"
    )
    assert find_images(folder, ["a", "b"]) == {"a": folder / "a.npy", "b": folder / "b.ome.tif"}
    with pytest.raises(ValueError, match=r"c\.tif: expected one image of c, found c\.npy as well"):
        find_images(folder, ["a", "c"])
    with pytest.raises(ValueError, match="images: expected an image named d, found none"):
        find_images(folder, ["d"])


def test_tables(tmp_path):
    figures = {"one": {"dice": 0.5, "hd95": 3.0}, "another": {"dice": 1.0, "hd95": math.inf}}
    assert means(figures) == {"dice": 0.75, "hd95": math.inf}
    rows = [line.split() for line in as_table(figures).splitlines()]
    assert rows[0] == ["dice", "hd95"] and rows[-1] == ["mean", "0.7500", "inf"]
    mixed = {"mask": {"dice": 0.5}, "scores": {"dice": 1.0, "branch_points_precision": 0.25}}
    assert means(mixed) == {"dice": 0.75} and "branch" not in as_table(mixed)
    long = as_table({"one": mixed["scores"]}).splitlines()
    assert len({len(row) for row in long}) == 1 and "branch_points_precision" in long[0]
    assert json.loads(as_json({"neurons": figures}))["neurons"]["another"] == {"dice": 1.0, "hd95": None}
    write_csv(tmp_path / "a.csv", figures)
    with open(tmp_path / "a.csv", newline="") as file:
        assert next(csv.DictReader(file)) == {"neuron": "one", "dice": "0.5", "hd95": "3.0"}
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
