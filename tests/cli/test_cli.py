"""The command line as users meet it: what it writes and prints. What it refuses is in test_bad_input.py."""

import csv
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
from dataclasses import fields
from importlib.metadata import entry_points, version
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from neuron_vit3d import (
    NeuronViT3DImageProcessor,
    SegmentOptions,
    TraceOptions,
    Volume,
    read_swc,
    read_volume,
    segment,
    segmentation_scores,
    threshold_from_noise,
    tree_distance,
    write_volume,
)
from neuron_vit3d.cli import main
from neuron_vit3d.data.pairs import DataError, find_pairs
from neuron_vit3d.evaluation import ranking_scores
from neuron_vit3d.evaluation.overlay import AGREES, GOLD, PREDICTED
from neuron_vit3d.evaluation.topology import topology_figures
from neuron_vit3d.inference import Segmenter
from neuron_vit3d.morphology import rasterize
from neuron_vit3d.option_fields import flags
from neuron_vit3d.tracing.noise import LogOdds
from support import processes
from support.places import REPOSITORY
from support.program import fail, in_a_process, names, run, succeed
from support.tiny_models import tiny_model


SHAPE = (8, 64, 64)


@pytest.fixture(scope="module")
def high(model, neuron) -> str:
    """A threshold, as it is typed, that a twentieth of the voxels reach with these random weights."""
    return f"{np.quantile(segment(neuron.volume, model).array, 0.95):.5f}"


def has_colour(path: Path, colour: tuple[int, int, int]) -> bool:
    return bool((np.asarray(Image.open(path)) == colour).all(-1).any())


def test_segment_writes_scores_mask_tree_and_picture(files, neuron, model, high):
    printed = succeed("segment", "image.tif", "-o", "out", "--model", model, "--threshold", high, "--quiet")
    assert names(files / "out") == [
        "image.branches.csv", "image.mask.tif", "image.png", "image.scores.tif", "image.swc",
    ]  # fmt: skip
    assert all(f"out/{name}" in printed for name in names(files / "out"))
    scores, mask = read_volume("out/image.scores.tif"), read_volume("out/image.mask.tif")
    assert scores.array.dtype == np.float32 and scores.shape == SHAPE
    assert scores.array.min() >= 0 and scores.array.max() <= 1
    np.testing.assert_array_equal(scores.array, segment(neuron.volume, model).array)
    assert mask.array.dtype == np.uint8 and 0 < np.count_nonzero(mask.array) < mask.array.size
    np.testing.assert_array_equal(mask.array, np.where(scores.array >= float(high), 255, 0))
    assert scores.voxel_size == mask.voxel_size == pytest.approx(neuron.volume.voxel_size)
    tree = read_swc("out/image.swc")
    assert tree.num_components == 1 and tree.comments[0] == "traced by neuron-vit3d from image.tif"
    inside = np.round(tree.xyz).astype(int)
    assert (inside >= 0).all() and (inside < SHAPE[::-1]).all()
    assert has_colour(files / "out" / "image.png", PREDICTED)


def test_segment_counts_its_scores_once(files, model, monkeypatch):
    counted = []
    monkeypatch.setattr(LogOdds, "_add", lambda self, scores, add=LogOdds._add: (counted.append(1), add(self, scores)))
    assert run("segment", "image.tif", "--model", model, "-o", "once", "--quiet").exit_code == 0
    assert len(counted) == 1  # it is so small that it is read in one box


def test_segment_cuts_off_what_is_not_sure_and_keeps_fragments(files, model, high):
    command = ["segment", "image.tif", "--model", model, "--quiet", "--threshold"]
    assert "image.branches.csv" in succeed(*command, high) and Path("image.branches.csv").exists()
    whole = len(read_swc("image.swc"))
    printed = run(*command, high, "--fragments", "--min-confidence", "0.9").stdout
    assert "(min_confidence)" in printed and "fragments as further roots" in printed
    assert len(read_swc("image.swc")) < whole
    assert "no score reaches the threshold 1; the highest is 0." in run(*command, "1").stderr
    assert not Path("image.branches.csv").exists() and not Path("image.swc").exists()


def test_segment_traces_as_trace_does_with_the_same_options(files, model, high):
    options = ["--threshold", high, "--min-branch-length", "6", "--smoothing", "0", "--min-component-voxels", "3"]
    assert run("segment", "image.tif", "-o", "out", "--model", model, "-q", *options).exit_code == 0
    assert run("trace", "out/image.scores.tif", "-o", "again.swc", *options).exit_code == 0
    np.testing.assert_array_equal(read_swc("out/image.swc").xyz, read_swc("again.swc").xyz)


def test_every_option_of_the_records_is_a_flag():
    for command, records in (("segment", (SegmentOptions, TraceOptions)), ("trace", (TraceOptions,))):
        text = " ".join(succeed(command, "-h").split())
        assert all(flag in text for record in records for one in fields(record) for flag in flags(one))


def test_json_tells_what_the_lines_tell(files, model, high):
    command = ["segment", "image.tif", "-o", "out", "--model", model, "-q", "--threshold", high]
    told = json.loads(succeed(*command, "--json"))
    lines = run(*command).stdout
    assert all(told[name] in lines for name in ("scores", "mask", "picture"))
    assert told["threshold"] == float(high) and f"{told['neuron_share']:.3%} of the voxels" in lines
    tree = told["tree"]
    assert f"{tree['swc']}  {tree['branches_csv']}  {tree['nodes']} nodes, {tree['length']:.0f} voxels long" in lines
    assert tree["nodes"] == len(read_swc("out/image.swc")) and tree["branches"] > 0
    assert all(line in lines for line in tree["left_out"])
    without = json.loads(succeed(*command, "--json", "--no-trace", "-o", "other"))
    assert without["tree"] is None and without["picture"] == "other/image.png"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("convert", "image.tif", "new.npy"), {"written": "new.npy"}),
        (("view", "image.tif", "gold.swc", "-o", "a.png"), {"picture": "a.png"}),
    ],
)
def test_json_of_what_writes_one_file(words, told, files):
    assert json.loads(succeed(*words, "--json")) == told


def test_json_of_traced_neurons(files):
    broken(files)
    told = json.loads(succeed("trace", "broken.scores.npy", "-o", "n.swc", "--neurons", "2", "--json"))
    assert [tree["swc"] for tree in told["trees"]] == ["n_1.swc", "n_2.swc"]
    assert [tree["nodes"] for tree in told["trees"]] == [len(read_swc(f"n_{i}.swc")) for i in (1, 2)]


def test_what_it_made_is_not_taken_for_gold(files, model, high):
    succeed("segment", "image.tif", "--model", model, "-q", "--threshold", high)
    Path("gold.swc").rename("hand.swc")  # not the image's name
    Path("drawn.tif").unlink()
    with pytest.raises(DataError, match="found no pair"):
        find_pairs(".")
    corrected = Path("image.swc").read_text().split("\n", 1)[1]
    Path("image.swc").write_text(corrected)
    assert [pair.annotation.name for pair in find_pairs(".")] == ["image.swc"]


def test_segment_again_replaces_its_own_results(files, model, high):
    command = ["segment", "image.tif", "--model", model, "--quiet", "--threshold", high]
    first = succeed(*command)
    before = Path("image.swc").read_bytes()
    os.utime("image.tif")
    assert succeed(*command) == first and Path("image.swc").read_bytes() == before


@pytest.mark.slow
def test_segment_uses_finished_scores_again(files, neuron, model, high, monkeypatch):
    """As after an interrupt while it traced, or for another threshold."""
    command = ["segment", "image.tif", "--model", model, "--quiet", "--threshold"]
    assert run(*command, "1").exit_code == 0  # nothing to trace
    assert "image.swc" not in names(files)
    before = {name: Path(name).read_bytes() for name in ("image.scores.tif", "image.png")}
    told = (
        "neuron-vit3d: image.scores.tif: is there from an earlier run on this image with this model and options, and"
    )
    with monkeypatch.context() as patch:
        patch.setattr(Segmenter, "slabs", lambda *arguments, **options: 1 / 0)
        result = run(*command, high)
        assert (result.exit_code, result.stderr) == (0, f"{told} is used again\n")
        for changed in (["--flips"], ["--voxel-size", "1,2,3"]):
            with pytest.raises(ZeroDivisionError):
                run(*command, high, *changed)
    scores = read_volume("image.scores.tif").array
    np.testing.assert_array_equal(read_volume("image.mask.tif").array, np.where(scores >= float(high), 255, 0))
    assert len(read_swc("image.swc")) and Path("image.scores.tif").read_bytes() == before["image.scores.tif"]
    without_tree, with_tree = (Image.open(io.BytesIO(before["image.png"])), Image.open("image.png"))
    half = (0, 0, with_tree.width // 2 - 8, without_tree.height)  # the image alone, without the legend below
    np.testing.assert_array_equal(np.asarray(without_tree.crop(half)), np.asarray(with_tree.crop(half)))
    Path("image.scores.tif").write_bytes(before["image.scores.tif"][:-99])
    succeed(*command, high)  # damaged ones are made anew
    assert Path("image.scores.tif").read_bytes() == before["image.scores.tif"]


def test_scores_of_another_image_are_not_used_again(files, model, neuron):
    """Images of one name, size and time, as after unpacking an archive."""
    scores = []
    for folder, shift in (("n1", 0), ("n2", 5)):
        Path(folder).mkdir()
        write_volume(Path(folder, "image.npy"), Volume(np.roll(neuron.volume.array, shift, 2)))
        os.utime(Path(folder, "image.npy"), (1e9, 1e9))
        succeed("segment", f"{folder}/image.npy", "-o", "out", "--model", model, "-q", "--no-trace")
        scores.append(read_volume("out/image.scores.tif").array.copy())
    assert not np.array_equal(*scores)


def test_voxels_that_lie_in_a_second_file_are_looked_at_again(files, model, neuron):
    header = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: {2} {1} {0}\nencoding: raw\ndata file: image.raw\n"
    Path("image.nhdr").write_text(header.format(*neuron.volume.array.shape))
    command = ["segment", "image.nhdr", "-o", "out", "--model", model, "-q", "--no-trace"]
    scores = []
    for shift in (0, 5):
        Path("image.raw").write_bytes(np.roll(neuron.volume.array, shift, 2).astype(np.uint8).tobytes())
        succeed(*command)
        scores.append(read_volume("out/image.scores.tif").array.copy())
    assert not np.array_equal(*scores)


def test_segment_does_not_throw_away_what_other_options_began(files, model, monkeypatch):
    def interrupted(self, source, progress=False, first=0):
        yield 0, np.zeros((1, *SHAPE[1:]), np.float32)
        raise KeyboardInterrupt

    command = ["segment", "image.tif", "--model", model, "--quiet", "--no-trace"]
    with monkeypatch.context() as patch:
        patch.setattr(Segmenter, "slabs", interrupted)
        assert run(*command).exit_code == 130
    complaint = fail(*command, "--flips")
    assert complaint.startswith(
        "image.scores.tif: 1 slice(s) of an unfinished run with another model, other options, "
    )
    assert complaint.endswith(
        " are in .image.scores.tif.unfinished; remove that file to begin anew, or choose another folder"
    )
    Path(".image.scores.tif.unfinished").unlink()
    succeed(*command, "--flips")
    assert not list(Path().glob(".image*"))


@pytest.mark.parametrize("kind", ["--tiff", "--zarr"])
def test_without_tracing_a_tree_of_an_earlier_run_stays_and_is_told_of(kind, files, model):
    command = ["segment", "image.tif", "--model", model, "-q", "--no-trace", kind]
    for first, is_told in (("# traced by neuron-vit3d from image.tif\n", True), ("", False)):
        Path("image.swc").write_text(first + "1 1 5 5 5 1 -1\n")
        result = run(*command)
        assert result.exit_code == 0 and ("image.swc: is of an earlier run" in result.stderr) == is_told
        assert Path("image.swc").read_text() == first + "1 1 5 5 5 1 -1\n"


def test_segment_options(files, model, high):
    options = ["--voxel-size", "2,0.5,0.25", "--batch-size", "3", "--dtype", "bfloat16", "--device", "cpu"]
    tiles = ["--tile-size", "24", "--tile-overlap", "4", "--threshold", high]
    said = succeed("segment", "image.tif", "-o", "out", "--model", model, "--no-trace", "-q", *options, *tiles)
    share = np.mean(read_volume("out/image.mask.tif").array > 0)
    assert f"{share:.3%} of the voxels are neuron (scores of at least {float(high):.3g})" in said
    assert names(files / "out") == ["image.mask.tif", "image.png", "image.scores.tif"]
    assert read_volume("out/image.mask.tif").voxel_size == pytest.approx((2, 0.5, 0.25))


def test_without_a_threshold_it_follows_the_noise_of_the_scores(files, model):
    said = succeed("segment", "image.tif", "-o", "out", "--model", model, "--no-trace", "-q")
    scores = read_volume("out/image.scores.tif")
    np.testing.assert_array_equal(
        read_volume("out/image.mask.tif").array > 0, scores.array >= threshold_from_noise(scores)
    )
    assert "more than neurons fill" not in said
    said = run("segment", "image.tif", "-o", "out", "--model", model, "--no-trace", "-q", "--threshold", "1e-6").stdout
    assert "100.000% of the voxels are neuron" in said and "more than neurons fill" in said


def test_segment_takes_the_channel_it_is_told(files, neuron, model):
    array = np.stack([neuron.volume.array[::-1], neuron.volume.array])
    write_volume(files / "two.tif", Volume(array))
    succeed("segment", "two.tif", "-o", "out", "--model", model, "--channel", "1", "--no-trace", "-q")
    np.testing.assert_array_equal(
        read_volume("out/two.scores.tif").array, segment(Volume(neuron.volume.array), model).array
    )
    assert "expected a channel from 0 to 1, got 2" in fail("segment", "two.tif", "--model", model, "--channel", "2")


def test_segment_says_that_there_is_nothing_to_trace(files, model):
    result = run("segment", "image.tif", "-o", "out", "--model", model, "--threshold", "1", "-q")
    assert result.exit_code == 0
    assert re.fullmatch(r"neuron-vit3d: no tree was written: mask is empty: [^\n]+\n", result.stderr)
    assert names(files / "out") == ["image.mask.tif", "image.png", "image.scores.tif"]


@pytest.mark.parametrize("anew", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["here", "in a process"])
def test_the_embedded_default_traces_a_neuron(anew, files, neuron):
    """The checkpoint that the package brings: all of the main job, offline, also as a shell runs it."""
    words = "segment", "image.tif", "-o", "out", "--quiet"
    if anew:
        done = in_a_process(*words)
        assert (done.returncode, done.stderr) == (0, "")
    else:
        succeed(*words)
    assert names(files / "out") == [
        "image.branches.csv", "image.mask.tif", "image.png", "image.scores.tif", "image.swc",
    ]  # fmt: skip
    tree = read_swc("out/image.swc")
    assert tree.num_components == 1 and len(tree) > 10
    assert tree_distance(tree, neuron.tree)["f1"] > 0.5


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.int64, np.float16, np.float64])
def test_segment_takes_any_real_type(dtype, neuron, model, files):
    np.save("image.npy", neuron.mask.astype(dtype))
    succeed("segment", "image.npy", "-o", "out", "--model", model, "-q", "--no-trace")
    assert read_volume("out/image.scores.tif").array.dtype == np.float32


@pytest.mark.slow
def test_segment_and_evaluate_take_ome_zarr(files, neuron, model):
    zarr = pytest.importorskip("zarr")
    for name, array in (("image", neuron.volume.array), ("gold", neuron.mask.astype(np.uint8))):
        group = zarr.open_group(f"{name}.ome.zarr", mode="w", zarr_format=3)
        group.create_array("0", shape=array.shape, chunks=(4, 32, 32), dtype=array.dtype)[:] = array
        axes = [{"name": axis, "type": "space"} for axis in "zyx"]
        group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}]}
    for image, *words in (("image.ome.zarr", "--tiff"), ("image.tif",), ("image.ome.zarr",)):
        command = (
            "segment",
            image,
            "-o",
            "out" + "".join(words),
            "--model",
            model,
            "-q",
            "--threshold",
            "0.3",
            *words,
        )
        assert succeed(*command) == run(*command).stdout
    scores = [read_volume(f"{folder}/image.scores.tif").array for folder in ("out", "out--tiff")]
    np.testing.assert_array_equal(*scores)
    large = read_volume("out/image.scores.ome.zarr")
    np.testing.assert_allclose(large.array, scores[0], atol=1e-3)
    mask = read_volume("out/image.mask.ome.zarr").array
    assert np.array_equal(mask, 255 * (large.array >= 0.3)) and mask.any()
    assert len(read_swc("out/image.swc")) and Path("out/image.png").exists()
    masks = succeed("evaluate", "drawn.tif", "gold.ome.zarr", "--json")
    assert json.loads(masks)["dice"] == 1


def test_evaluate_folders(files, neuron):
    for folder, suffix in (("ours", ".swc"), ("gold", ".gold.swc")):
        Path(folder).mkdir()
        for name in "ab":
            neuron.tree.write(Path(folder, name + suffix))
    Path("images").mkdir()
    for name in "ab":
        write_volume(Path("images", f"{name}.tif"), neuron.volume)
    table = succeed("evaluate", "ours", "gold", "--csv", "all.csv", "--picture", "pictures", "--image", "images")
    assert [line.split()[0] for line in table.splitlines()] == ["esa", "a", "b", "mean"]
    assert len(Path("all.csv").read_text().splitlines()) == 3
    assert names(Path("pictures")) == ["a.png", "b.png"] and has_colour(Path("pictures/a.png"), AGREES)
    result = json.loads(succeed("evaluate", "ours", "gold", "--json"))
    assert result["neurons"]["b"] == result["neurons"]["a"] and result["mean"]["f1"] == 1
    assert fail("evaluate", "ours", "gold.swc").startswith("gold.swc: expected a folder as ours is")
    assert fail("evaluate", "ours", "gold", "--image", "images").startswith("--image: is for --picture")
    Path("images/b.tif").unlink()
    complaint = fail("evaluate", "ours", "gold", "--picture", "more", "--image", "images")
    assert complaint == "images: expected an image named b, found none"
    Path("ours/b.swc").unlink()
    assert "b.gold.swc: expected a prediction named b in ours" in fail("evaluate", "ours", "gold")


def test_trace_writes_beside_the_mask_or_where_it_is_told(files, neuron):
    assert succeed("trace", "drawn.tif").startswith("drawn.swc  ")
    tree = read_swc("drawn.swc")
    assert tree.num_components == 1 and tree_distance(tree, neuron.tree)["f1"] > 0.9
    succeed("trace", "drawn.tif")  # its own tree may be replaced
    write_volume(files / "a.scores.tif", Volume(neuron.mask.astype(np.float32) * np.float32(0.4)))
    succeed("trace", "a.scores.tif", "--threshold", "0.3", "-o", "new/folder/a.swc", "--voxel-size", "1,1,1")
    assert len(read_swc("new/folder/a.swc")) > 10
    x, y, z = neuron.tree.xyz[-1]
    succeed("trace", "drawn.tif", "-o", "rooted.swc", "--root", f"{x},{y},{z}")
    rooted = read_swc("rooted.swc")
    assert np.linalg.norm(rooted.xyz[rooted.roots[0]] - neuron.tree.xyz[-1]) < 3


def broken(folder: Path) -> np.ndarray:
    """Writes broken.scores.npy: a sure line with a faint stretch, and another line too far away to be joined."""
    scores = np.zeros((20, 20, 120), np.float32)
    scores[9:12, 9:12, 5:60] = 0.9
    scores[9:12, 9:12, 30:40] = 0.15
    scores[9:12, 9:12, 90:115] = 0.8
    np.save(folder / "broken.scores.npy", scores)
    return scores


def test_fragments_become_further_roots_where_asked(files):
    broken(files)
    assert "dropped 1 components" in succeed("trace", "broken.scores.npy")
    assert read_swc("broken.swc").num_components == 1
    assert "kept 1 fragments as further roots" in succeed("trace", "broken.scores.npy", "--fragments")
    forest = read_swc("broken.swc")
    assert forest.num_components == 2 and (forest.xyz[:, 0].min() < 10) and (forest.xyz[:, 0].max() > 108)
    assert json.loads(succeed("evaluate", "broken.swc", "broken.swc", "--json"))["f1"] == 1
    succeed("view", "broken.scores.npy", "broken.swc", "-o", "forest.png")
    assert has_colour(files / "forest.png", PREDICTED)
    assert fail("trace", "broken.scores.npy", "--fragments", "--neurons", "2").startswith(
        "--fragments: cannot be used"
    )


def test_branches_have_a_table_beside_the_tree_and_doubtful_ones_go_where_asked(files):
    broken(files)
    succeed("trace", "broken.scores.npy", "-o", "a.swc")
    tree, rows = read_swc("a.swc"), list(csv.DictReader(Path("a.branches.csv").open()))
    assert {int(row["end"]) for row in rows} == set(tree.branches.end.tolist())
    assert [float(row["length"]) for row in rows] == pytest.approx(tree.branches.length, abs=1e-3)
    assert sum(float(row["bridged_voxels"]) for row in rows) == pytest.approx(10, abs=3)
    lowest = min(float(row["confidence"]) for row in rows)
    assert 0.3 < lowest < 0.9
    printed = succeed("trace", "broken.scores.npy", "-o", "b.swc", "--min-confidence", lowest + 0.01)
    assert "(min_confidence)" in printed and len(read_swc("b.swc")) < len(tree)
    complaint = fail("trace", "broken.scores.npy", "--min-confidence", "1.5")
    assert complaint == "--min-confidence: expected a number at least 0 and at most 1, got 1.5"


def test_tables_of_branches_are_replaced_and_removed_with_their_trees(files):
    broken(files)
    Path("broken.branches.csv").write_text("mine")
    refusal = "broken.branches.csv: is there already and was not made by this program; choose another --output"
    assert fail("trace", "broken.scores.npy") == refusal
    Path("broken.branches.csv").unlink()
    for _ in range(2):  # its own it replaces
        succeed("trace", "broken.scores.npy")
    result = run("trace", "broken.scores.npy", "--neurons", "2")
    assert "broken.swc: removed" in result.stderr and not Path("broken.branches.csv").exists()
    assert Path("broken_1.branches.csv").exists() and Path("broken_2.branches.csv").exists()
    assert run("trace", "broken.scores.npy", "--neurons", "3").exit_code == 0
    assert not Path("broken_3.branches.csv").exists()
    run("trace", "broken.scores.npy")
    assert [name for name in names(files) if name.endswith(".csv")] == ["broken.branches.csv"]


def test_a_gold_tree_drawn_in_fragments_is_mended_and_told(files):
    Path("fragments.swc").write_text("1 0 1 1 1 1 -1\n2 0 2 2 2 1 9\n")
    note = "neuron-vit3d: fragments.swc: 1 node(s) whose parent is missing became roots\n"
    for command in (
        ["evaluate", "gold.swc", "fragments.swc"],
        ["evaluate", "drawn.tif", "fragments.swc"],
        ["view", "image.tif", "gold.swc", "--gold", "fragments.swc", "-o", "new.png"],
    ):
        result = run(*command)
        assert (result.exit_code, result.stderr) == (0, note)


def parse(text: str) -> dict[str, float]:
    return {key: float(value) for key, value in (line.split() for line in text.splitlines())}


def test_evaluate_trees(files, neuron):
    succeed("trace", "drawn.tif")
    drawn = read_swc("drawn.swc")
    expected = tree_distance(drawn, neuron.tree) | topology_figures(drawn, neuron.tree)
    assert json.loads(succeed("evaluate", "drawn.swc", "gold.swc", "--json")) == expected
    assert parse(succeed("evaluate", "drawn.swc", "gold.swc")) == pytest.approx(expected, abs=1e-4)
    stricter = json.loads(succeed("evaluate", "drawn.swc", "gold.swc", "--json", "--threshold", "0.2"))
    assert stricter["threshold"] == 0.2 and stricter["f1"] < expected["f1"]


def test_evaluate_masks(files, neuron):
    predicted = np.roll(neuron.mask, 1, 2)
    expected = segmentation_scores(predicted, neuron.mask)
    write_volume(files / "scores.tif", Volume(np.where(predicted, 0.5, 0.49).astype(np.float32)))
    write_volume(files / "mask.v3draw", Volume(predicted))
    assert json.loads(succeed("evaluate", "mask.v3draw", "drawn.tif", "--json")) == expected
    scores = read_volume("scores.tif")
    for gold, truth in (("drawn.tif", neuron.mask), ("gold.swc", read_swc("gold.swc"))):
        ranking = ranking_scores(scores, truth)
        assert json.loads(succeed("evaluate", "scores.tif", gold, "--json")) == expected | ranking
    assert parse(succeed("evaluate", "mask.v3draw", "drawn.tif")) == pytest.approx(expected, abs=1e-4)
    with_tree = json.loads(succeed("evaluate", "mask.v3draw", "gold.swc", "--json"))
    assert with_tree == segmentation_scores(predicted, rasterize(neuron.tree, SHAPE))


def test_evaluate_prints_json_that_others_can_read(files, neuron):
    write_volume(files / "empty.tif", Volume(np.zeros(SHAPE, bool)))

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    result = json.loads(succeed("evaluate", "empty.tif", "drawn.tif", "--json"), parse_constant=refuse)
    assert result["hd95"] is None and result["dice"] == 0


def test_convert_there_and_back(files, neuron):
    assert succeed("convert", "image.tif", "new/image.v3draw") == "new/image.v3draw\n"
    succeed("convert", "new/image.v3draw", "back.tif")
    np.testing.assert_array_equal(read_volume("back.tif").array, neuron.volume.array)
    succeed("convert", "image.tif", "image.npy")
    np.testing.assert_array_equal(np.load("image.npy"), neuron.volume.array)
    succeed("convert", "image.tif", "again.tif")
    assert read_volume("again.tif").voxel_size == pytest.approx(neuron.volume.voxel_size)


def test_convert_one_channel(files, neuron):
    write_volume(files / "two.tif", Volume(np.stack([neuron.volume.array, neuron.volume.array[::-1]])))
    succeed("convert", "two.tif", "one.tif", "--channel", "1")
    np.testing.assert_array_equal(read_volume("one.tif").array, neuron.volume.array[::-1])


def test_convert_a_tree_to_a_mask_like_an_image(files, neuron):
    succeed("convert", "gold.swc", "mask.tif", "--like", "image.tif")
    mask = read_volume("mask.tif")
    np.testing.assert_array_equal(mask.array != 0, rasterize(neuron.tree, SHAPE))
    assert mask.voxel_size == pytest.approx(neuron.volume.voxel_size)


def test_convert_repairs_what_is_no_matter_of_structure(files):
    Path("thin.swc").write_text("1 0 1 1 1 2 0\n2 0 2 2 2 0 1\n")
    result = run("convert", "thin.swc", "new.swc")
    assert result.exit_code == 0 and result.stderr.startswith("neuron-vit3d: thin.swc: ")
    tree = read_swc("new.swc")
    assert (tree.radii > 0).all() and tree.parents[0] == -1


def test_view_draws_the_trees(files):
    assert succeed("view", "image.tif", "gold.swc", "-o", "new/a.png") == "new/a.png\n"
    assert has_colour(files / "new" / "a.png", PREDICTED) and not has_colour(files / "new" / "a.png", GOLD)
    Path("short.swc").write_text("1 0 1 1 1 1 -1\n2 0 9 1 1 1 1\n")
    succeed("view", "image.tif", "short.swc", "--gold", "gold.swc", "-o", "b.png")
    assert has_colour(files / "b.png", PREDICTED) and has_colour(files / "b.png", GOLD)


@pytest.mark.slow
def test_the_program_in_a_process_of_its_own(files, neuron):
    specks = neuron.mask.copy()
    specks[0, :4, :4] = True  # too small a component, far away, and another one
    specks[7, 60:, 60:] = True
    specks[7, 60, 60] = False
    write_volume(files / "specks.tif", Volume(specks))
    command = [Path(sys.executable).with_name("neuron-vit3d"), "trace", "specks.tif", "-o", "new.swc"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("new.swc  ") and "; dropped " in done.stdout


@pytest.mark.slow
def test_libraries_log_nothing_of_their_own(files, neuron):
    """tifffile logs a line on a tag of an unknown type; the image can be read all the same."""
    tifffile.imwrite("odd.tif", neuron.volume.array, software="a microscope")
    with tifffile.TiffFile("odd.tif") as tiff:
        place = tiff.pages[0].tags["Software"].offset
    content = bytearray(Path("odd.tif").read_bytes())
    struct.pack_into("<H", content, place + 2, 99)
    Path("odd.tif").write_bytes(content)
    done = in_a_process("convert", "odd.tif", "new.tif")
    assert (done.returncode, done.stdout, done.stderr) == (0, "new.tif\n", "")
    np.testing.assert_array_equal(read_volume("new.tif").array, neuron.volume.array)


def test_the_console_script_is_this_program():
    (script,) = entry_points(group="console_scripts", name="neuron-vit3d")
    assert script.load() is main


def test_help_names_the_commands_and_wrong_usage_is_status_2():
    text = succeed("--help")
    assert all(
        command in text for command in ("segment", "evaluate", "convert", "view", "train", "prepare", "publish")
    )
    for wrong in (
        ["segment"],
        ["segment", "a.tif", "--no-such-option"],
        ["no-such-command"],
        ["convert", "a.tif", "b.tif", "--channel", "one"],
    ):
        result = run(*wrong)
        assert result.exit_code == 2 and result.stdout == "" and "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["segment", "trace", "evaluate", "convert", "view", "prepare", "publish"])
def test_help_of_every_command_has_an_example(command):
    assert succeed(command, "-h") == succeed(command, "--help")
    assert f"Example: neuron-vit3d {command} " in " ".join(succeed(command, "-h").split())


def test_help_and_wrong_usage_import_no_library_that_is_slow():
    program = (
        "import sys; from neuron_vit3d.cli import main; sys.argv[1:] = ['segment', 'a.tif', '--flip']\n"
        "try:\n    main()\nexcept SystemExit as end:\n"
        "    print(end.code, [name for name in ('torch', 'transformers', 'numpy', 'scipy') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "2 []\n" and "the nearest is --flips" in done.stderr


def test_options_of_segment_stand_in_groups():
    text = succeed("segment", "-h")
    assert [title in text for title in ("─ Tracing ─", "─ Segmenting ─", "─ Large volumes ─")] == [True] * 3


def test_a_shell_completes_commands_and_options():
    environment = {**os.environ, "_NEURON_VIT3D_COMPLETE": "complete_bash"}
    program = "import sys; sys.argv = ['neuron-vit3d']; from neuron_vit3d.cli import main; main()"
    for words, completed in (("neuron-vit3d seg", "segment"), ("neuron-vit3d trace --bri", "--bridge-distance")):
        environment |= {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
        )
        assert done.stdout.split() == [completed]


def test_the_version_is_the_packages():
    assert succeed("--version") == f"neuron-vit3d {version('neuron_vit3d')}\n"


def test_wrong_usage_is_one_line_that_names_the_nearest():
    assert fail("segment", "a.tif", "--no-tarce") == (
        "no such option: --no-tarce; the nearest is --no-trace (neuron-vit3d segment -h lists the options)"
    )
    assert fail("--verison").startswith("no such option: --verison; the nearest is --version (")
    assert fail("segmnt", "a.tif").startswith("No such command 'segmnt'. Did you mean 'segment'?")
    assert fail("view").startswith("Missing argument")


def test_the_module_is_the_program():
    done = subprocess.run(
        [sys.executable, "-m", "neuron_vit3d", "segment", "--no-such"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("neuron-vit3d: error: no such option: --no-such") and done.stderr.count("\n") == 1


def test_trace_several_neurons(files):
    mask = np.zeros((20, 40, 60), np.uint8)
    mask[9:14, 8:13, 5:55] = mask[9:12, 30:33, 5:55] = 255
    write_volume("two.tif", Volume(mask))
    out = succeed("trace", "two.tif", "--neurons", "3", "--bridge-distance", "4", "-o", "out/n.swc")
    assert [line.split()[0] for line in out.splitlines()] == ["out/n_1.swc", "out/n_2.swc"]
    assert [round(read_swc(f"out/n_{i}.swc").xyz[:, 1].mean()) for i in (1, 2)] == [10, 31]
    succeed("trace", "two.tif", "--root", "6,31,10", "--root", "50,10,10", "--bridge-distance", "4")
    assert read_swc("two_1.swc").xyz[0, 0] < 10 and read_swc("two_2.swc").xyz[0, 0] > 45


def test_trace_takes_the_channel_it_is_told(files, neuron):
    write_volume(
        "both.tif", Volume(np.stack([np.zeros(neuron.mask.shape, np.uint8), 255 * neuron.mask.astype(np.uint8)]))
    )
    succeed("trace", "both.tif", "--channel", "1", "-o", "of_one.swc")
    succeed("trace", "drawn.tif", "-o", "alone.swc")
    np.testing.assert_array_equal(read_swc("of_one.swc").xyz, read_swc("alone.swc").xyz)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are UTF-8")
def test_trace_a_file_whose_name_is_not_utf_8(files):
    name = os.fsdecode(b"m_10\xb5m.tif")
    shutil.copy("drawn.tif", name)
    succeed("trace", name, "-o", "ok.swc")
    assert "m_10\\udcb5m.tif" in Path("ok.swc").read_text()


def test_segment_of_several_channels_into_ome_zarr(files, neuron, tmp_path):
    model = tiny_model(num_channels=2)
    model.save_pretrained(tmp_path / "two")
    NeuronViT3DImageProcessor.for_model(model.config, tile_size=32, tile_overlap=8).save_pretrained(tmp_path / "two")
    write_volume("both.tif", Volume(np.stack([neuron.volume.array, neuron.volume.array[::-1]])))
    succeed("segment", "both.tif", "-o", "out", "--model", tmp_path / "two", "-q", "--zarr", "--no-trace")
    assert read_volume("out/both.scores.ome.zarr").array.shape == neuron.volume.shape and Path("out/both.png").exists()


def test_trees_of_an_earlier_run_do_not_stay_beside_fewer(files):
    mask = np.zeros((20, 40, 60), np.uint8)
    mask[9:14, 8:13, 5:55] = mask[9:12, 30:33, 5:55] = 255
    write_volume("two.tif", Volume(mask))
    words = ("--neurons", "3", "--bridge-distance", "4", "-o", "n.swc")
    succeed("trace", "two.tif", *words)
    Path("n_3.swc").write_text("1 1 5 5 5 1 -1\n")  # drawn by hand
    mask[9:12, 30:33] = 0
    write_volume("two.tif", Volume(mask))
    succeed("trace", "two.tif", *words)
    assert sorted(path.name for path in Path().glob("n_*.swc")) == ["n_1.swc", "n_3.swc"]


def test_trees_of_another_number_of_neurons_do_not_stay(files):
    mask = np.zeros((20, 60, 60), np.uint8)
    mask[9:14, 8:13, 5:55] = mask[9:12, 30:33, 5:55] = mask[9:11, 50:52, 5:55] = 255
    write_volume("three.tif", Volume(mask))
    Path("three_5.swc").write_text("# traced by neuron-vit3d from three_5.tif\n1 1 5 5 5 1 -1\n")  # of another image
    Path("three_6.swc").write_text("1 1 5 5 5 1 -1\n")  # drawn by hand
    for name in ("three_4.swc", "three_7.swc", "three_9.swc"):
        Path(name).write_text("# traced by neuron-vit3d from three.tif\n1 1 5 5 5 1 -1\n")
    for count, made in ((3, ["_1", "_2", "_3"]), (2, ["_1", "_2"]), (1, [""]), (3, ["_1", "_2", "_3"])):
        result = run("trace", "three.tif", "--neurons", str(count), "--bridge-distance", "4")
        assert result.exit_code == 0 and "removed, it was traced from three.tif with another number" in result.stderr
        found = sorted(path.stem.removeprefix("three") for path in Path().glob("three*.swc"))
        assert found == [*made, "_5", "_6", "_9"]
    for name in ("mine_1.swc", "mine_2.swc", "mine.swc"):  # asked for by name, these stay
        assert run("trace", "three.tif", "-o", name).exit_code == 0
    assert len(list(Path().glob("mine*.swc"))) == 3


@pytest.mark.slow
def test_the_script_evaluates_as_the_program_does(files, neuron):
    script = REPOSITORY / "scripts" / "evaluate.py"
    done = processes.run([script, "gold.swc", "gold.swc", "--json"], check=True)
    assert json.loads(done.stdout)["f1"] == 1
