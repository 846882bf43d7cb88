"""Many inputs of one command: names, the summary, errors that stop nobody else, and going on after a kill."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_vit3d import Volume, read_swc, read_volume, segment, synthetic_neuron, write_volume
from neuron_vit3d.cli.many import find_images, find_scores, is_one, names_of
from neuron_vit3d.cli.summary import read_summary
from neuron_vit3d.inference import Segmenter
from support.program import fail, names, run, succeed


SHAPE = (8, 64, 64)


@pytest.fixture(scope="module")
def neurons():
    return [synthetic_neuron(SHAPE, seed=seed, quality="clean").volume for seed in range(3)]


@pytest.fixture(scope="module")
def high(model, neurons) -> str:
    """A threshold, as it is typed, at which all three have something to trace."""
    return f"{min(np.quantile(segment(volume, model).array, 0.95) for volume in neurons):.5f}"


@pytest.fixture
def batch(neurons, model, high, tmp_path, monkeypatch):
    """a.tif, b.tif and c.tif, and the command that segments what follows it."""
    monkeypatch.chdir(tmp_path)
    for name, volume in zip("abc", neurons, strict=True):
        write_volume(f"{name}.tif", volume)
    return ("segment", "-o", "out", "--model", model, "--threshold", high, "--quiet")


def rows(folder: str = "out") -> list[dict[str, str]]:
    with Path(folder, "summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def damage(path: str) -> None:
    Path(path).write_bytes(Path(path).read_bytes()[:5000])


def test_each_is_done_as_it_would_be_alone(batch, high):
    printed = succeed(*batch, "a.tif", "b.tif", "--min-branch-length", "5", "--neurons", "2")
    assert printed.splitlines()[-1] == "2 of 2 done, 0 failed; out/summary.csv"
    alone = [word if word != "out" else "alone" for word in batch]
    told = json.loads(succeed(*alone, "b.tif", "--min-branch-length", "5", "--neurons", "2", "--json"))
    for name in names(Path("alone")):
        assert (Path("out", name).read_bytes() == Path("alone", name).read_bytes()) or name == "b.scores.tif"
    np.testing.assert_array_equal(read_volume("out/b.scores.tif").array, read_volume("alone/b.scores.tif").array)
    row = rows()[1]
    assert (row["file"], row["name"], row["status"]) == ("b.tif", "b", "done")
    assert int(row["trees"]) == len(told["trees"]) and int(row["nodes"]) == sum(t["nodes"] for t in told["trees"])
    assert float(row["length"]) == pytest.approx(sum(tree["length"] for tree in told["trees"]))
    assert float(row["threshold"]) == float(high)
    assert float(row["neuron_share"]) == pytest.approx(told["neuron_share"], abs=1e-8)
    tree = read_swc("out/a_1.swc")
    sides = read_volume("a.tif").voxel_size[::-1]
    steps = np.linalg.norm((tree.xyz[tree.edges[:, 0]] - tree.xyz[tree.edges[:, 1]]) * sides, axis=1)
    figures = json.loads(succeed(*alone, "a.tif", "--min-branch-length", "5", "--neurons", "2", "--json"))["trees"]
    assert figures[0]["length_um"] == pytest.approx(steps.sum(), abs=1e-2)


def test_names_do_not_collide_and_the_summary_is_of_all(batch, neurons):
    write_volume("a.npy", neurons[1])
    for folder in ("f", "g"):
        Path(folder).mkdir()
        Path(folder, "x.tif").write_bytes(Path("c.tif").read_bytes())
    succeed(*batch, "a.tif", "a.npy", "b.tif", "f", "g/*.tif", "--no-trace")
    assert [row["name"] for row in rows()] == ["a.tif", "a.npy", "b", "f_x", "g_x"]
    scores = [read_volume(f"out/{row['name']}.scores.tif").array for row in rows()]
    np.testing.assert_array_equal(scores[1], scores[2])
    np.testing.assert_array_equal(scores[3], scores[4])
    assert not np.array_equal(scores[0], scores[1])


def test_the_model_is_loaded_once(batch, monkeypatch):
    made, init = [], Segmenter.__init__
    monkeypatch.setattr(Segmenter, "__init__", lambda self, *a, **k: (made.append(self), init(self, *a, **k))[1])
    succeed(*batch, ".", "--no-trace")
    assert len(made) == 1 and len(rows()) == 3


def test_what_fails_stops_nobody_else_and_is_done_when_it_is_mended(batch):
    whole = Path("b.tif").read_bytes()
    damage("b.tif")
    result = run(*batch, "*.tif", "missing.tif")
    assert result.exit_code == 1 and "Traceback" not in result.stderr
    errors = [line for line in result.stderr.splitlines() if "error: " in line]
    assert errors[0].startswith("neuron-vit3d: error: b.tif: expected a TIFF directory")
    assert errors[1] == "neuron-vit3d: error: missing.tif: no such file" and len(errors) == 2
    assert result.stdout.splitlines()[-1] == "2 of 4 done, 2 failed; out/summary.csv"
    assert [row["status"] for row in rows()] == ["done", "failed", "done", "failed"]
    assert rows()[3]["error"] == "missing.tif: no such file" and not list(Path("out").glob("*b.*"))
    before = {path: path.stat().st_mtime_ns for path in Path("out").glob("[ac]*")}
    Path("b.tif").write_bytes(whole)
    result = run(*batch, "*.tif")
    assert result.exit_code == 0 and "2 of 3 are done by an earlier run" in result.stderr
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert [row["status"] for row in rows()] == ["done"] * 3 and int(rows()[1]["nodes"]) > 0


def test_strict_stops_at_the_first(batch):
    damage("b.tif")
    result = run(*batch, "*.tif", "--strict")
    assert result.exit_code == 1 and result.stdout.splitlines()[-1].startswith("1 of 3 done, 1 failed, 1 not begun")
    assert [row["status"] for row in rows()] == ["done", "failed", "not begun"]


def test_json_is_an_object_for_each(batch):
    damage("b.tif")
    result = run(*batch, "*.tif", "--json")
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert [one["status"] for one in told] == ["done", "failed", "done"] and result.exit_code == 1
    assert told[0]["scores"] == "out/a.scores.tif" and told[0]["tree"]["nodes"] == told[0]["nodes"]
    assert "out/a.swc" in told[0]["written"] and told[1]["error"].startswith("b.tif: expected a TIFF")
    again = [json.loads(line) for line in run(*batch, "*.tif", "--json").stdout.splitlines()]
    assert again[0]["from_earlier_run"] and again[0].items() >= {n: told[0][n] for n in ("nodes", "written")}.items()


@pytest.mark.slow
@pytest.mark.parametrize("change", ["options", "input", "result", "removed", "summary"])
def test_what_was_made_otherwise_is_made_anew(change, batch, neurons):
    succeed(*batch, "a.tif", "b.tif")
    before = Path("out/a.swc").read_bytes()
    more = []
    if change == "options":
        more = ["--min-branch-length", "9"]
    elif change == "input":
        write_volume("a.tif", neurons[2])
    elif change == "result":
        assert run(*batch, "a.tif", "--smoothing", "0").exit_code == 0
    elif change == "removed":
        Path("out/a.swc").unlink()
    else:
        Path("out/summary.csv").write_text(Path("out/summary.csv").read_text().replace(",done,", ",failed,", 1))
    result = run(*batch, "a.tif", "b.tif", *more)
    assert result.exit_code == 0
    told = [line for line in result.stderr.splitlines() if "are done by an earlier run" in line]
    assert told == (
        [] if change == "options" else ["neuron-vit3d: 1 of 2 are done by an earlier run, and stay as they are"]
    )
    alone = [word if word != "out" else "alone" for word in batch]
    run(*alone, "a.tif", *more)
    assert Path("out/a.swc").read_bytes() == Path("alone/a.swc").read_bytes()
    assert (Path("out/a.swc").read_bytes() == before) == (change in ("result", "removed", "summary"))


def test_its_own_scores_and_masks_are_no_images(batch):
    here = [word if word != "out" else "." for word in batch]
    succeed(*here, ".", "--no-trace")
    for words in (["*.tif"], ["."], sorted(str(path) for path in Path().glob("*.tif"))):
        assert "3 of 3 are done by an earlier run" in run(*here, *words, "--no-trace").stderr
    assert fail(*here, "a.scores.tif", "a.mask.tif").startswith(
        "a.scores.tif: expected images, found scores and masks"
    )
    assert [row["name"] for row in rows(".")] == ["a", "b", "c"]


def test_an_image_named_as_scores_would_be_is_not_written_over(batch, neurons):
    Path("n").mkdir()
    write_volume("n/a.scores.tif", neurons[1])  # somebody's image
    before = Path("n/a.scores.tif").read_bytes()
    in_n = [word if word != "out" else "n" for word in batch]
    assert run(*in_n, "a.tif", "b.tif", "n/a.scores.tif", "--no-trace").exit_code == 0
    assert Path("n/a.scores.tif").read_bytes() == before
    assert [row["name"] for row in rows("n")] == [f"{Path.cwd().name}_a", "b", "n_a"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["*.czi"], "*.czi: expected a pattern that fits some files, found none"),
        (["a.tif", "x[0-9].tif"], "x[0-9].tif: expected a pattern that fits some files, found none"),
        (["empty"], "empty: expected a file, found a folder without volumes"),
        (["a.tif", "b.tif", "--shard", "0/2"], "--shard: is for one image"),
        (["a.tif", "b.tif", "--root", "1,2,3"], "--root: is a place in one image, and cannot be used for many"),
        (["a.tif", "--root", "1,2"], "--root: expected x,y,z in voxels, got '1,2'"),
        (["a.tif", "--root", "1,2,70"], "a.tif: --root: expected a place x,y,z in its 64 x 64 x 8 voxels, got 1,2,70"),
        (["a.tif", "--neurons", "0"], "--neurons: expected a number at least 1, got 0"),
        (["a.tif", "--neurons", "2", "--fragments"], "--fragments: cannot be used for several neurons"),
        (["a.tif", "--neurons", "2", "--no-trace"], "--no-trace: cannot be used with --root or --neurons"),
        (["a.tif", "b.tif", "--model", "./nowhere"], "./nowhere: no such folder here"),
        (["a.tif", "b.tif", "-o", "c.tif"], "c.tif: expected a folder to write to"),
        (["a.tif", "b.tif", "-o", "theirs"], "theirs/summary.csv: is there already and was not made by this program"),
    ],
)
def test_what_makes_no_sense_is_one_line(words, complaint, batch):
    Path("empty").mkdir()
    Path("theirs").mkdir()
    Path("theirs/summary.csv").write_text("what,how many\nmice,3\n")
    assert fail(*batch, *words).startswith(complaint)
    assert not Path("out").exists() or not names(Path("out"))
    assert names(Path("theirs")) == ["summary.csv"]


def test_twice_the_same_is_told_of_and_done_once(batch):
    result = run(*batch, "a.tif", "./a.tif", "[ab].tif", "--no-trace")
    assert result.stderr.count("neuron-vit3d: a.tif: is given twice, and taken once\n") == 2
    assert [row["file"] for row in rows()] == ["a.tif", "b.tif"] and result.exit_code == 0


def test_trace_takes_many(batch, high):
    damage("b.tif")
    run(*batch, "*.tif")
    words = ["trace", "out", "-o", "trees", "--threshold", high, "--quiet"]
    printed = succeed(*words)
    assert printed.splitlines()[-1] == "2 of 2 done, 0 failed; trees/summary.csv"
    assert names(Path("trees")) == ["a.branches.csv", "a.swc", "c.branches.csv", "c.swc", "summary.csv"]
    np.testing.assert_array_equal(read_swc("trees/a.swc").xyz, read_swc("out/a.swc").xyz)
    assert rows("trees")[0]["nodes"] == rows()[0]["nodes"]
    assert "2 of 2 are done by an earlier run" in run(*words).stderr
    result = run(*words, "out/a.swc")
    assert result.exit_code == 1 and "out/a.swc: expected a mask or scores to trace, found a tree" in result.stderr
    assert fail("trace", "out", "-o", "a.swc") == "--output: expected a folder for the trees of many, got a.swc"
    assert fail("trace", "out", "--root", "1,2,3").startswith("--root: is a place in one volume")
    succeed("trace", "out/*.mask.tif", "--neurons", "2", "--quiet")
    assert Path("a_1.swc").exists() and not Path("a.swc").exists()


def test_a_mistake_of_the_program_is_told_as_one_and_the_others_are_done(batch, monkeypatch):
    opened = Segmenter.open

    def opens(self, image, channel=None, number=None):
        return opened(self, image, channel, number) if str(image) != "b.tif" else 1 / 0

    monkeypatch.setattr(Segmenter, "open", opens)
    result = run(*batch, "*.tif", "--no-trace")
    assert result.exit_code == 1 and "Traceback" in result.stderr
    assert "b.tif: a mistake of this program: ZeroDivisionError: division by zero" in result.stderr
    assert [row["status"] for row in rows()] == ["done", "failed", "done"]


def test_an_interrupted_batch_says_that_it_can_go_on(batch, monkeypatch):
    def opens(self, image, channel=None, number=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(Segmenter, "open", opens)
    result = run(*batch, "a.tif", "b.tif")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "neuron-vit3d: interrupted at a.tif; the same command goes on\n"
    assert [row["status"] for row in rows()] == ["not begun"] * 2 and names(Path("out")) == ["summary.csv"]


def test_warnings_are_in_the_summary(batch, neurons):
    write_volume("dark.tif", Volume(255 - neurons[0].array))
    result = run(*batch, "dark.tif", "a.tif", "--no-trace")
    assert "looks dark on bright" in rows()[0]["warnings"] and "looks dark on bright" in result.stderr
    assert "dark on bright" not in rows()[1]["warnings"]
    result = run(*batch, "dark.tif", "a.tif", "--no-trace", "--threshold", "0.01")
    assert all("more than neurons fill" in row["warnings"] for row in rows())
    alone = run(*batch, "dark.tif", "--no-trace", "-o", "alone")
    assert alone.stderr.startswith("neuron-vit3d: dark.tif: looks dark on bright") and alone.stderr.count("\n") == 1


def test_two_runs_do_not_write_one_summary(batch):
    from neuron_vit3d.files import locked

    Path("out").mkdir()
    with locked(Path("out/.summary.csv.lock")):
        assert fail(*batch, "a.tif", "b.tif").startswith("out/summary.csv: another run is writing it")
    succeed(*batch, "a.tif", "b.tif", "--no-trace")
    assert not Path("out/.summary.csv.lock").exists()


@pytest.mark.slow
def test_it_goes_on_after_a_kill(batch):
    """SIGKILL as soon as the first is done."""
    for number in range(6):
        Path(f"n{number}.tif").write_bytes(Path("abc"[number % 3] + ".tif").read_bytes())
    words = [*batch, "n*.tif"]
    process = subprocess.Popen(
        [sys.executable, "-m", "neuron_vit3d.cli", *map(str, words)], stdout=subprocess.PIPE, text=True
    )
    while "done" not in [row.status for row in read_summary(Path("out/summary.csv")).values()]:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    done = [row["name"] for row in rows() if row["status"] == "done"]
    times = {name: Path(f"out/{name}.swc").stat().st_mtime_ns for name in done}
    assert 1 <= len(done) < 6
    result = run(*words)
    assert result.exit_code == 0 and f"{len(done)} of 6 are done by an earlier run" in result.stderr
    assert times == {name: Path(f"out/{name}.swc").stat().st_mtime_ns for name in done}
    assert [row["status"] for row in rows()] == ["done"] * 6
    assert rows()[3]["nodes"] == rows()[0]["nodes"]
    assert not [name for name in names(Path("out")) if name.startswith(".")]


def test_one_volume_is_no_batch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("odd[1].tif").touch()
    (tmp_path / "a.ome.zarr").mkdir()
    assert all(is_one([word]) for word in ("a.tif", "odd[1].tif", "a.ome.zarr"))
    assert not any(is_one(words) for words in (["folder"], ["*.tif"], ["a.tif", "b.tif"]))


def test_which_volumes_of_a_folder_are_meant(tmp_path):
    for name in ("a.tif", "a.gold.tif", "a.labels.tif", "b.scores.tif", "c.mask.tif", "._d.tif", "e.txt", "f.swc"):
        (tmp_path / name).touch()
    (tmp_path / "g.ome.zarr").mkdir()
    (tmp_path / "deeper").mkdir()
    assert [one.name for one in find_images([str(tmp_path)])] == ["a", "g"]
    assert [one.name for one in find_scores([str(tmp_path)])] == ["b"]
    (tmp_path / "b.scores.tif").unlink()
    assert [one.name for one in find_scores([str(tmp_path)])] == ["c"]
    (tmp_path / "c.mask.tif").unlink()
    assert [one.path.name for one in find_scores([str(tmp_path)])] == [
        "a.gold.tif", "a.labels.tif", "a.tif", "g.ome.zarr"
    ]  # fmt: skip


parts = st.sampled_from(["a", "A", "b", "a_b", "a_b_2", "b_2", "é", "é"])
paths = st.builds(
    lambda folders, name, suffix: Path("/", *folders, name + suffix),
    st.lists(parts, max_size=3),
    parts,
    st.sampled_from([".tif", ".nii", ".ome.tif", ".scores.tif", ""]),
)


@given(st.lists(paths, min_size=1, max_size=8, unique=True))
def test_no_two_names_are_one_file_on_any_disk(paths):
    found = names_of(paths)
    assert len({name.casefold() for name in found}) == len(paths)
    assert all("/" not in name for name in found)
    assert names_of(paths[:1]) == [names_of([Path(paths[0].name)])[0]]
