"""The command line on bad input: one line that names file, expectation and finding, status 2, and nothing left
behind."""

import json
import os
import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile

from neuron_vit3d import Volume, read_volume, write_volume
from neuron_vit3d.cli.input import parse_shard
from neuron_vit3d.inference import Segmenter
from neuron_vit3d.tracing.methods import METHODS
from neuron_vit3d.volumes.formats.zarr_writer import ImageLevel, create_image
from support.program import fail, names, run, save_checkpoint, succeed
from support.tiny_models import save_2d


def write_truncated(path, array):
    write_volume(path, Volume(array))
    path.write_bytes(path.read_bytes()[:-1000])


def write_lying_v3draw(path, array):
    write_volume(path, Volume(array))
    whole = path.read_bytes()
    path.write_bytes(whole[:27] + struct.pack("<4i", 60_000, 60_000, 60_000, 1) + whole[43:])


def write_not_finite(path, array):
    values = array.astype(np.float32)
    values[2, 3, 4], values[2, 3, 5:7] = np.nan, np.inf
    tifffile.imwrite(path, values)


BAD_IMAGES = {
    "truncated.tif": (write_truncated, r"plane 7 ends beyond the file's \d+ bytes \(truncated\?\)"),
    "truncated.v3draw": (write_truncated, "header says .*, expected 32811 bytes, found 31811"),
    "terabytes.v3draw": (write_lying_v3draw, "header says .*, expected 216000000000043 bytes, found 32811"),
    "times.tif": (
        lambda path, array: tifffile.imwrite(path, np.stack([array, array]), imagej=True, metadata={"axes": "TZYX"}),
        "expected one stack of slices, got 2 time points",
    ),
    "channels.tif": (
        lambda path, array: write_volume(path, Volume(np.stack([array, array]))),
        "has 2 channels: choose one",
    ),
    "axes.npy": (lambda path, array: np.save(path, array[None, None]), r"expected axes .* got shape \(1, 1, 8"),
    "not_finite.tif": (write_not_finite, "expected finite voxels, got 1 NaN and 2 infinite ones"),
    "empty.tif": (lambda path, array: tifffile.imwrite(path, array * 0), "expected an image, got the value 0 in"),
    "constant.tif": (lambda path, array: tifffile.imwrite(path, array * 0 + 9), "expected an image, got the value 9"),
    "complex.tif": (
        lambda path, array: tifffile.imwrite(path, array.astype(np.complex64)),
        "expected planes y x of bool, integer or real voxels, got .*complex64",
    ),
    "complex.npy": (lambda path, array: np.save(path, array.astype(complex)), "expected bool, .* got complex128"),
    "pickle.npy": (lambda path, array: np.save(path, np.array([{}])), r"expected a \.npy array, got .*objects"),
    "nothing.tif": (lambda path, array: path.write_bytes(b""), "expected a TIFF, .* got an empty file"),
    "text.tif": (lambda path, array: path.write_text("no image"), "expected a TIFF, .* begins with b'no image'"),
    "folder.tif": (lambda path, array: path.mkdir(), "expected a file, found a folder"),
    "missing.tif": (lambda path, array: None, "no such file"),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_segment_refuses_a_bad_image_and_leaves_nothing(name, neuron, model, files):
    write, complaint = BAD_IMAGES[name]
    write(files / name, neuron.volume.array)
    line = fail("segment", name, "-o", "out", "--model", model, "--quiet")
    assert re.fullmatch(rf"{re.escape(name)}: .*{complaint}.*", line)
    assert not (files / "out").exists() or not names(files / "out")


def other_checkpoints(folder: Path, model: Path) -> dict[str, str]:
    """Names for --model that are no checkpoint of this package -> what is said of them."""
    save_2d(folder / "vit")
    for name in ("damaged", "no_processor", "empty", "no_json"):
        (folder / name).mkdir()
    for path in model.iterdir():
        content = path.read_bytes()
        (folder / "damaged" / path.name).write_bytes(content[:5000])
        if path.name != "preprocessor_config.json":
            (folder / "no_processor" / path.name).write_bytes(content)
    (folder / "no_json" / "config.json").write_text("{")
    return {
        "vit": "expected a neuron_vit3d checkpoint, found a model of type 'vit'",
        "./nowhere": "no such folder here, and no name on the Hub can be spelled like this",
        str(folder / "nowhere"): "no such folder here, and no name on the Hub can be spelled like this",
        "no-such-organisation/no-such-model": "no such folder here, not in the cache, and the Hub cannot be reached",
        "damaged": "expected weights in a safetensors file, found a damaged one",
        "no_processor": "preprocessor_config.json",
        "empty": "expected a checkpoint, a folder or a name on the Hub",
        "no_json": "not a valid JSON file",
    }


def test_segment_refuses_other_checkpoints(files, model):
    for name, complaint in other_checkpoints(files, model).items():
        line = fail("segment", "image.tif", "-o", "out", "--model", name, "--quiet")
        assert name in line and complaint in line
    assert names(files / "out") == []


@pytest.mark.parametrize("folder", ["gold.swc", "gold.swc/below", "image.tif/a/b"])
def test_an_output_folder_that_cannot_be_is_refused(folder, files, model):
    before = names(files)
    for command in (
        ["segment", "image.tif", "--model", model, "-q", "-o", folder],
        ["trace", "drawn.tif", "-o", f"{folder}/a.swc"],
        ["convert", "image.tif", f"{folder}/a.v3draw"],
        ["view", "image.tif", "gold.swc", "-o", f"{folder}/a.png"],
    ):
        assert fail(*command).startswith(f"{folder}: expected a folder to write to: ")
    assert names(files) == before


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--threshold", "0"], "--threshold: expected a number above 0 and at most 1, got 0.0"),
        (["--threshold", "nan"], "--threshold: expected a number above 0 and at most 1, got nan"),
        (["--voxel-size", "1,2"], "--voxel-size: expected z,y,x in micrometres, got '1,2'"),
        (["--voxel-size", "1,b,2"], "--voxel-size: expected z,y,x in micrometres, got '1,b,2'"),
        (["--voxel-size", "1,0,1"], "--voxel-size: expected voxel_size z, y, x in micrometres, positive and finite"),
        (["--bridge-distance", "-1"], "--bridge-distance: expected a number at least 0, got -1.0"),
        (["--min-component-voxels", "-1"], "--min-component-voxels: expected a number at least 0, got -1"),
        (["--smoothing", "inf"], "--smoothing: expected a number at least 0, got inf"),
        (["--tile-size", "0"], "--tile-size: expected a number at least 1, got 0"),
        (["--tile-overlap", "32"], "expected a tile overlap from 0 to 31 (tile size - 1), got 32"),
        (["--batch-size", "0"], "--batch-size: expected a number at least 1, got 0"),
        (["--dtype", "int8"], "--dtype: expected float32 or bfloat16, got 'int8'"),
        (["--device", "abacus"], "--device: cannot use 'abacus' here: "),
    ],
)
def test_options_out_of_range_are_refused(options, complaint, files, model):
    assert fail("segment", "image.tif", "-o", "out", "--model", model, *options).startswith(complaint)
    assert not (files / "out").exists() or not names(files / "out")


def test_a_tree_drawn_by_hand_is_not_replaced_unasked(files, model, neuron):
    Path("gold.swc").rename("image.swc")
    Path("drawn.tif").rename("image.mask.tif")
    before = Path("image.swc").read_bytes()
    refusal = "image.swc: is there already and was not made by this program; choose another --output"
    assert fail("segment", "image.tif", "--model", model) == refusal.replace(".swc", ".mask.tif")
    assert fail("segment", "image.tif", "--model", model, "--zarr") == refusal
    assert fail("trace", "image.mask.tif") == refusal
    assert fail("segment", "image.mask.tif", "--model", model).startswith("image.mask.tif: expected another file")
    assert fail("trace", "image.mask.tif", "-o", "image.mask.tif").startswith("image.mask.tif: expected another file")
    assert Path("image.swc").read_bytes() == before
    succeed("trace", "image.mask.tif", "-o", "image.swc")  # asked for by name
    assert fail("trace", "image.swc") == "image.swc: expected a mask or scores to trace, found a tree"
    Path("image.mask.tif").rename("gold.tif")
    Path("image.png").write_bytes(b"a photograph")
    assert fail("segment", "image.tif", "--model", model) == refusal.replace(".swc", ".png")
    Path("image.png").unlink()
    for _ in range(2):  # its own results it replaces
        os.utime("image.tif")
        succeed("segment", "image.tif", "--model", model, "-q", "--threshold", "0.3")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (KeyboardInterrupt(), 130, "neuron-vit3d: interrupted\n"),
        (OSError("No space left on device"), 2, "neuron-vit3d: error: No space left on device\n"),
        (
            RuntimeError("CUDA out of memory.\nTried to allocate 2 GiB."),
            2,
            "neuron-vit3d: error: not enough memory, a smaller --tile-size or --batch-size needs less: "
            "CUDA out of memory. Tried to allocate 2 GiB.\n",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_fails_midway_leaves_earlier_results_as_they_were(error, status, told, files, model, monkeypatch):
    succeed("segment", "image.tif", "-o", "out", "--model", model, "-q", "--threshold", "0.3")
    before = {path.name: path.read_bytes() for path in (files / "out").iterdir()}
    scores = read_volume("out/image.scores.tif").array.copy()
    os.utime("image.tif")  # scores of an unchanged image would be used again

    whole = Segmenter.slabs

    def slabs(self, source, progress=False, first=0):
        for number, slab in enumerate(whole(self, source, first=first)):
            if number == 3:
                raise error
            yield slab

    with monkeypatch.context() as patch:
        patch.setattr(Segmenter, "slabs", slabs)
        result = run("segment", "image.tif", "-o", "out", "--model", model, "-q", "--threshold", "0.3")
    kept = "neuron-vit3d: 3 of 8 slices are kept: the same command continues\n"
    assert (result.exit_code, result.stdout, result.stderr) == (status, "", kept + told)
    seen = {path.name: path.read_bytes() for path in (files / "out").iterdir() if not path.name.startswith(".")}
    assert seen == before
    result = run("segment", "image.tif", "-o", "out", "--model", model, "-q", "--threshold", "0.3")
    assert "3 of 8 slices are there from an interrupted run" in result.stderr
    np.testing.assert_array_equal(read_volume("out/image.scores.tif").array, scores)
    for name in ("image.mask.tif", "image.png"):
        np.testing.assert_array_equal((files / "out" / name).read_bytes(), before[name])
    assert {path.name for path in (files / "out").iterdir()} == set(before)


def test_a_mistake_of_the_program_is_not_dressed_up_as_bad_input(files, model, monkeypatch):
    monkeypatch.setattr(Segmenter, "open", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("segment", "image.tif", "-o", "out", "--model", model, "-q", "--threshold", "0.3")


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("empty.tif", [], "mask is empty: nothing to trace"),
        ("not_finite.tif", [], "scores must lie in [0, 1], got nan"),
        ("channels.tif", [], "has 2 channels"),
        ("times.tif", [], "expected one stack of slices, got 2 time points"),
        ("truncated.tif", [], "(truncated?)"),
        ("drawn.tif", ["--threshold", "0"], "--threshold: expected a number above 0 and at most 1, got 0.0"),
        ("drawn.tif", ["--root", "1,2,3000"], "root must be a point (x, y, z) in the volume"),
        ("drawn.tif", ["--root", "1,2"], "--root: expected x,y,z in voxels, got '1,2'"),
        ("drawn.tif", ["--min-branch-length", "-2"], "--min-branch-length: expected a number at least 0, got -2.0"),
        ("drawn.tif", ["--method", "magic"], f"--method: expected {' or '.join(METHODS)}, got 'magic'"),
        ("drawn.tif", ["--output", "."], "expected a file to write, found a folder"),
    ],
)
def test_trace_refuses_in_one_line_and_writes_no_file(name, options, complaint, neuron, files):
    if name in BAD_IMAGES:
        BAD_IMAGES[name][0](files / name, neuron.volume.array)
    before = names(files)
    line = fail("trace", name, *options)
    assert complaint in line and (name in line or "--output" in options or line.startswith("--"))
    assert names(files) == before


BAD_TREES = {
    "cycle.swc": ("1 0 1 1 1 1 2\n2 0 2 2 2 1 1\n", ":1: node 1 is its own ancestor (a cycle of 2 nodes)"),
    "missing.swc": ("1 0 1 1 1 1 -1\n2 0 2 2 2 1 9\n", ":2: node 2: its parent 9 is not in the tree"),
    "duplicate.swc": ("1 0 1 1 1 1 -1\n1 0 2 2 2 1 1\n", ":2: id 1 is used before"),
    "empty.swc": ("# a tree\n", ": no node in the file"),
    "short.swc": ("1 0 1 1 1 1 -1\n2 0 2 2 2\n", ":2: expected 7 columns (id type x y z radius parent), got 5"),
    "word.swc": ("1 0 1 one 1 1 -1\n", ":1: y must be a number, got 'one'"),
}


@pytest.mark.parametrize("name", BAD_TREES)
def test_bad_trees_are_refused_with_their_line_and_nothing_is_left(name, files):
    content, complaint = BAD_TREES[name]
    Path(name).write_text(content)
    before = names(files)
    for command in (
        ["evaluate", name, "gold.swc"],
        ["convert", name, "new.tif", "--like", "image.tif"],
        ["view", "image.tif", name, "-o", "new.png"],
    ):
        assert fail(*command).startswith(name + complaint)
    if name != "missing.swc":  # which is mended in a gold tree, and by what repairs trees
        assert fail("convert", name, "new.swc").startswith(name + complaint)
        assert fail("evaluate", "gold.swc", name).startswith(name + complaint)
        assert fail("view", "image.tif", "gold.swc", "--gold", name, "-o", "new.png").startswith(name + complaint)
    assert names(files) == before


def test_convert_repairs_a_tree_says_so_and_writes_parents_first(files):
    Path("cut.swc").write_text("3 2 2 0 0 1 2\n2 2 1 0 0 0 1\n1 2 0 0 0 2 9\n\x1a\r\n")
    told = run("convert", "cut.swc", "new.swc")
    assert told.exit_code == 0
    assert "1 node(s) whose parent is missing became roots" in told.stderr
    assert "1 of 3 radii were not positive and became their parents'" in told.stderr
    assert Path("new.swc").read_text() == "1 2 0.0 0.0 0.0 2.0 -1\n2 2 1.0 0.0 0.0 2.0 1\n3 2 2.0 0.0 0.0 1.0 2\n"


def test_evaluate_refuses_what_cannot_be_compared(files, neuron):
    write_volume(files / "small.tif", Volume(neuron.mask[:, :50]))
    write_not_finite(files / "nan.tif", neuron.volume.array)
    assert fail("evaluate", "drawn.tif", "small.tif").startswith("small.tif: expected the shape of drawn.tif")
    assert fail("evaluate", "gold.swc", "drawn.tif").startswith("drawn.tif: expected a gold SWC file")
    assert fail("evaluate", "nan.tif", "drawn.tif").startswith("nan.tif: expected finite voxels")
    assert fail("evaluate", "drawn.tif", "nan.tif").startswith("nan.tif: expected finite voxels")
    assert fail("evaluate", "gold.swc", "gold.swc", "--threshold", "0") == "threshold must be positive, got 0.0"
    for gold in ("drawn.tif", "gold.swc"):
        complaint = "--threshold: is the distance within which trees agree, but drawn.tif is no tree"
        assert fail("evaluate", "drawn.tif", gold, "--threshold", "2") == complaint


@pytest.mark.parametrize(
    ("source", "target", "complaint"),
    [
        ("image.tif", "new.swc --like image.tif", "new.swc: an image becomes a tree by"),
        (
            "image.tif",
            "new.tif --like drawn.tif",
            "--like: is for drawing an SWC file into a mask, not for image.tif to",
        ),
        (
            "gold.swc",
            "new.swc --like image.tif",
            "--like: is for drawing an SWC file into a mask, not for gold.swc to",
        ),
        ("gold.swc", "new.swc --channel 1", "--channel: is for images, but gold.swc is a tree"),
        ("image.tif", "new.swc", "new.swc: an image becomes a tree by"),
        ("image.tif", "new.jpg", "new.jpg: cannot tell the format to write from '.jpg'"),
        ("image.tif", "new.v3dpbd", "new.v3dpbd: v3dpbd files can be read but not written"),
        ("gold.swc", "new.tif", "new.tif: --like IMAGE is needed"),
        ("image.tif", "image.tif", "image.tif: expected another file to write than the one that is read"),
        ("not_finite.tif", "not_finite.tif", "not_finite.tif: expected another file"),
        ("truncated.tif", "new.v3draw", "truncated.tif: "),
        ("terabytes.v3draw", "new.tif", "terabytes.v3draw: header says"),
        ("complex.tif", "new.tif", "complex.tif: expected planes"),
        ("times.tif", "new.v3draw", "times.tif: expected one stack of slices"),
        ("missing.tif", "new.tif", "missing.tif: no such file"),
    ],
)
def test_convert_refuses_in_one_line_and_writes_no_file(source, target, complaint, neuron, files):
    if source in BAD_IMAGES:
        BAD_IMAGES[source][0](files / source, neuron.volume.array)
    before = {path.name: path.read_bytes() for path in files.iterdir()}
    assert fail("convert", source, *target.split()).startswith(complaint)
    assert {path.name: path.read_bytes() for path in files.iterdir()} == before


def test_view_refuses_what_it_cannot_draw(files, neuron):
    for name in ("not_finite.tif", "channels.tif", "truncated.tif"):
        BAD_IMAGES[name][0](files / name, neuron.volume.array)
        assert fail("view", name, "gold.swc", "-o", "new.png").startswith(f"{name}: ")
    assert fail("view", "image.tif", "nowhere.swc", "-o", "new.png") == "nowhere.swc: no such file"
    assert not Path("new.png").exists()
    succeed("view", "channels.tif", "gold.swc", "-o", "new.png", "--channel", "1")


# -- OME-Zarr --------------------------------------------------------------------------------------------------------


@pytest.fixture
def large(files, neuron) -> Path:
    """image.ome.zarr, of eight chunks."""
    create_image(Path("image.ome.zarr"), neuron.volume.shape, np.uint8, None, shard=(8, 32, 32), chunk=(4, 32, 32))
    level = ImageLevel(Path("image.ome.zarr"))
    for index in range(len(level)):
        level.write(level.box(index), neuron.volume.array[level.box(index)])
    return Path("image.ome.zarr")


def test_a_damaged_chunk_is_named_and_what_is_done_is_kept(large, model):
    chunk = large / "0" / "c" / "0" / "1" / "1"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[: len(whole) // 2])
    assert "image.ome.zarr: damaged OME-Zarr chunks" in fail(
        "segment", large, "-o", "out", "--model", model, "-q", "--threshold", "0.3"
    )
    assert names(Path("out")) == [".image.scores.ome.zarr.unfinished"]
    chunk.write_bytes(whole)
    # Another image now, as far as one can tell: what was done of the damaged one is not mixed with it.
    assert "was begun with image image.ome.zarr" in fail(
        "segment", large, "-o", "out", "--model", model, "-q", "--threshold", "0.3"
    )
    shutil.rmtree("out")
    succeed("segment", large, "-o", "out", "--model", model, "-q", "--threshold", "0.3")
    assert names(Path("out")) == [
        "image.branches.csv", "image.mask.ome.zarr", "image.png", "image.scores.ome.zarr", "image.swc",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--shard", "2/2"), "--shard: expected i/n with i from 0 to n - 1, got '2/2'"),
        (("--shard", "one"), "--shard: expected i/n with i from 0 to n - 1, got 'one'"),
        (("--workers", "0"), "--workers: expected a number at least 1, got 0"),
        (("--workers", "2", "--shard", "0/2"), "--workers: cannot be used with --shard"),
        (("--tiff", "--shard", "0/2"), "expected an OME-Zarr image, or --zarr"),
    ],
)
def test_ways_to_share_the_work_that_make_no_sense(words, complaint, large, model):
    assert complaint in fail("segment", large, "-o", "out", "--model", model, "-q", "--threshold", "0.3", *words)
    assert not Path("out").exists()


def test_shards_are_counted_from_0():
    assert parse_shard("0/1") == (0, 1) and parse_shard("3/16") == (3, 16)
    for text in ("", "1", "/", "1/", "/2", "0/0", "2/2", "-1/2", "1/2/3", "1.0/2", "\u00b2/3"):
        with pytest.raises(ValueError, match=r"^--shard: expected i/n with i from 0 to n - 1, got '"):
            parse_shard(text)


def test_a_shard_says_what_is_left_to_do(large, model):
    result = run("segment", large, "-o", "out", "--model", model, "-q", "--threshold", "0.3", "--shard", "0/2")
    assert result.exit_code == 0 and "the same command without --shard ends the work" in result.stderr
    succeed("segment", large, "-o", "out", "--model", model, "-q", "--threshold", "0.3")


@pytest.mark.slow
def test_a_result_of_another_model_or_of_other_options_is_kept(large, model, tmp_path):
    succeed("segment", large, "-o", "out", "--model", model, "-q", "--threshold", "0.3")
    other = save_checkpoint(tmp_path / "other", seed=5)
    assert "image.scores.ome.zarr: was begun with model " in fail(
        "segment", large, "-o", "out", "--model", other, "-q", "--threshold", "0.3"
    )
    options = ("-o", "out", "--model", model, "-q", "--threshold", "0.3", "--tile-overlap", "3")
    assert "was begun with tile_overlap" in fail("segment", large, *options)
    Path("out/image.mask.ome.zarr/zarr.json").write_text("{}")
    assert "image.mask.ome.zarr: is there already and was not made by this program" in fail(
        "segment", large, "-o", "out", "--model", model, "-q", "--threshold", "0.3"
    )


def test_a_zarr_group_without_multiscales_is_no_image(large, model):
    metadata = json.loads((large / "zarr.json").read_text())
    metadata["attributes"] = {}
    (large / "zarr.json").write_text(json.dumps(metadata))
    for level in [path for path in large.iterdir() if path.is_dir()]:  # a lone array would be an image
        shutil.rmtree(level)
    words = "segment", large, "-o", "out", "--model", model, "-q", "--threshold", "0.3"
    assert "without `multiscales` or arrays" in fail(*words)


@pytest.mark.parametrize(
    "words",
    [
        ("convert", "gold.swc", "image.tif", "--like", "image.tif"),
        ("evaluate", "own.swc", "gold.swc", "--csv", "gold.swc"),
        ("evaluate", "own.swc", "gold.swc", "--image", "image.tif", "--picture", "image.tif"),
        ("view", "image.tif", "own.swc", "-o", "own.swc"),
        ("view", "image.tif", "own.swc", "--gold", "gold.swc", "-o", "gold.swc"),
    ],
)
def test_nothing_that_is_read_is_written_over(words, files):
    shutil.copy("gold.swc", "own.swc")
    before = {name: Path(name).read_bytes() for name in names(files)}
    assert "expected another file to write than the one that is read" in fail(*words)
    assert {name: Path(name).read_bytes() for name in names(files)} == before


@pytest.mark.slow
def test_a_machine_that_cannot_compile_says_so_in_one_line(files, model, monkeypatch):
    from torch._inductor.exc import InvalidCxxCompiler

    def cannot(*_):
        raise InvalidCxxCompiler()

    monkeypatch.setattr(Segmenter, "_begin", cannot)
    line = fail("segment", "image.tif", "-o", "out", "--model", model, "-q", "--compile")
    assert line.startswith("--compile: cannot compile here: ")
