"""From a release, a zip or any folder to a dataset: every pair found, nothing guessed, and nothing done twice."""

import csv
import os
import signal
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neuron_vit3d import NeuronViT3DImageProcessor, Tree, load_bigneuron, rasterize
from neuron_vit3d.data.bigneuron import DataError, PreparationOptions, prepare
from neuron_vit3d.data.block_rows import choose_blocks, intensity_range
from neuron_vit3d.data.labels import LabelPolicy
from support import processes
from support.places import REPOSITORY
from support.release import NAMES, neuron, vaa3d, write_bad_samples, write_release, write_sample, write_zip


ALL_TRAIN = PreparationOptions(fractions=(1, 0, 0), block_shape=(5, 40, 40))


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    return write_release(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def prepared(release, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("prepared") / "out"
    prepare(release, output, options=ALL_TRAIN)
    return output


def arrow_files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.arrow")}


def voxels(row) -> np.ndarray:
    return np.frombuffer(b"".join(row["image"]), row["dtype"]).reshape(row["shape"])


def tree_of(row) -> Tree:
    return Tree.from_text(row["swc"], row["neuron_id"])


def test_every_sample_is_found_with_its_gold_tree(prepared, tmp_path):
    volumes = load_bigneuron(prepared)["train"]
    assert len(volumes) == len(NAMES)
    by_id = {row["neuron_id"]: row for row in volumes}
    for seed, (group, sample, image, _) in enumerate(NAMES):
        row = by_id[f"{group}/{sample}/{image.rsplit('.', 1)[0]}"] if not image.startswith("c") else None
        row = row or next(row for row in volumes if row["source"].endswith(image))
        made = neuron(seed % 4)
        assert row["source"] == f"gold166/{group}/{sample}/{image}"
        assert np.array_equal(voxels(row), made.volume.array)
        assert np.allclose(tree_of(row).xyz, made.tree.xyz)
        assert row["species"] and row["lab"] and row["microscopy"]


def test_the_archive_gives_the_same_files(release, prepared, tmp_path):
    archive = write_zip(tmp_path / "gold166.zip", release)
    (tmp_path / "scratch").mkdir()
    reports = prepare(archive, tmp_path / "out", options=ALL_TRAIN, scratch=tmp_path / "scratch")
    assert arrow_files(tmp_path / "out") == arrow_files(prepared)
    assert {report.status for report in reports} == {"used"} and not list((tmp_path / "scratch").iterdir())


def test_blocks_are_pieces_of_the_volumes(prepared, tmp_path):
    volumes = {row["neuron_id"]: row for row in load_bigneuron(prepared)["train"]}
    blocks = load_bigneuron(prepared, "blocks")["train"]
    assert set(blocks["neuron_id"]) == set(volumes)
    for name, row in volumes.items():
        image, mask = voxels(row), rasterize(tree_of(row), row["shape"])
        covered = np.zeros_like(mask)
        for block in (block for block in blocks if block["neuron_id"] == name):
            piece = np.frombuffer(block["image"], block["dtype"]).reshape(block["shape"])
            labels = np.frombuffer(block["mask"], np.uint8).reshape(block["shape"])
            window = tuple(
                slice(start, start + side) for start, side in zip(block["origin"], block["shape"], strict=True)
            )
            assert np.array_equal(piece, image[window]) and np.array_equal(labels, mask[window])
            assert (block["black"], block["white"]) == intensity_range(image)
            covered[window] = True
        assert (mask & covered).sum() > 0.95 * mask.sum()
    with_neuron = np.mean([1 in block["mask"] for block in blocks])
    assert 0.6 <= with_neuron <= 1


def test_volumes_smaller_than_a_block_are_mirrored_and_ignored(tmp_path):
    write_sample(tmp_path / "in", "a.v3draw", "a.swc")
    blocks = load_bigneuron(
        tmp_path / "in", "blocks", output=tmp_path / "out", options=PreparationOptions(fractions=(0, 1, 0))
    )
    (block,) = blocks["validation"]
    piece = np.frombuffer(block["image"], block["dtype"]).reshape(block["shape"])
    labels = np.frombuffer(block["mask"], np.uint8).reshape(block["shape"])
    image = neuron(0).volume.array
    assert block["shape"] == [9, 288, 288] and np.array_equal(piece[:8, :96, :96], image)
    assert np.array_equal(piece[8, :96, :96], image[-1]) and np.array_equal(piece[0, 96:192, :96], image[0, ::-1])
    inside = np.zeros(labels.shape, bool)
    inside[:8, :96, :96] = True
    assert ((labels == 255) == ~inside).all()


def test_black_and_white_are_those_of_the_image_processor():
    for seed, dtype in ((0, np.uint8), (1, np.uint16), (2, np.float32)):
        image = neuron(seed).volume.array.astype(dtype)
        black, white = NeuronViT3DImageProcessor().intensity_range(image[None])
        assert intensity_range(image) == (black[0], white[0])
    assert intensity_range(np.full((2, 3, 4), 7)) == (7.0, 8.0)


def test_all_that_can_be_wrong(tmp_path):
    root = write_release(tmp_path / "in", NAMES[:2])
    write_sample(root / "gold166" / "p_checked8_mars" / "x", "x.v3dpbd", "x.v3dpbd.swc", 2)
    reasons = write_bad_samples(root)
    reports = prepare(root, tmp_path / "out", options=ALL_TRAIN)
    left_out = {report.image or report.swc: report.note for report in reports if report.status == "left out"}
    for path, reason in reasons.items():
        assert reason in left_out.pop(path), path
    assert set(left_out.values()) == {"the image has 2 neurons with a tree each, expected one: "
                                      "two.v3dpbd.neuron1.ano_stamp_2015_06_16_17_57.swc, "
                                      "two.v3dpbd.neuron2.ano_stamp_2015_06_16_17_57.swc"}  # fmt: skip
    assert [report.status for report in reports].count("used") == 3
    (mars,) = [report for report in reports if "mars" in report.neuron_id]
    assert mars.note == "unknown group p_checked8_mars: its species and microscopy are not known"
    assert len(load_bigneuron(tmp_path / "out")["train"]) == 3
    with (tmp_path / "out" / "report.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == len(reports) and {row["status"] for row in rows} == {"used", "left out"}
    assert list((tmp_path / "out").glob("report-*.png"))
    with pytest.raises(DataError, match="and strict was asked for"):
        prepare(root, tmp_path / "strict", options=ALL_TRAIN, strict=True)


def test_strict_stops_at_a_damaged_image(tmp_path):
    write_sample(tmp_path / "in" / "a", "a.v3dpbd", "a.v3dpbd.swc")
    whole = (tmp_path / "in" / "a" / "a.v3dpbd").read_bytes()
    (tmp_path / "in" / "a" / "a.v3dpbd").write_bytes(whole[:-100])
    with pytest.raises(DataError, match=r"a/a\.v3dpbd: .* strict"):
        prepare(tmp_path / "in", tmp_path / "out", strict=True)
    with pytest.raises(DataError, match="holds no neuron"):
        load_bigneuron(tmp_path / "in", output=tmp_path / "out")


def test_a_tree_that_cannot_be_read_gives_way_to_the_next(tmp_path):
    write_sample(tmp_path / "in", "a.v3dpbd", "a.v3dpbd.ano_stamp_2015_06_17_11_23.swc", worse=False)
    (tmp_path / "in" / "a.v3dpbd.ano_stamp_2015_06_17_11_23.swc_sorted.swc").write_text("1 2 3\n")
    (report,) = prepare(tmp_path / "in", tmp_path / "out")
    assert report.status == "used" and report.swc.endswith("11_23.swc")
    assert "passed over: a.v3dpbd.ano_stamp_2015_06_17_11_23.swc_sorted.swc:1: expected 7 columns" in report.note


def test_flipped_and_scaled_trees_are_repaired_and_told(tmp_path):
    made = neuron(0)
    write_sample(tmp_path / "in" / "a", "a.v3draw", "a.swc")
    height = made.volume.shape[1]
    replace(made.tree, xyz=made.tree.xyz * [1, -1, 1] + [0, height - 1, 0]).write(tmp_path / "in" / "a" / "a.swc")
    write_sample(tmp_path / "in" / "b", "b.v3draw", "b.swc")
    replace(made.tree, xyz=made.tree.xyz * [0.5, 0.5, 2.0]).write(tmp_path / "in" / "b" / "b.swc")
    (tmp_path / "in" / "b" / "b.pixelsize.txt").write_text("0.5 0.5 2.0")
    reports = prepare(tmp_path / "in", tmp_path / "out", options=ALL_TRAIN)
    assert [(report.status, report.fit) for report in reports] == [
        ("repaired", "y flipped"),
        ("repaired", "scaled by voxel size"),
    ]
    for row in load_bigneuron(tmp_path / "out")["train"]:
        assert np.allclose(tree_of(row).xyz, made.tree.xyz)
    assert load_bigneuron(tmp_path / "out")["train"]["voxel_size"] == [None, [2.0, 0.5, 0.5]]


def test_what_is_done_is_kept_and_what_changed_is_made_anew(tmp_path):
    root = write_release(tmp_path / "in", NAMES[:3])
    output = tmp_path / "out"

    def times() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in output.glob("volumes/*/*.arrow")}

    first = prepare(root, output, options=ALL_TRAIN)
    before = times()
    assert prepare(root, output, options=ALL_TRAIN) == first and times() == before
    tree = root / "gold166" / NAMES[0][0] / NAMES[0][1] / NAMES[0][3]
    tree.write_text(tree.read_text() + "\n")
    prepare(root, output, options=ALL_TRAIN)
    assert len(before.items() - times().items()) == 1
    write_sample(root / "more", "more.v3draw", "more.swc")
    assert len(prepare(root, output, options=ALL_TRAIN)) == 4 and len(times()) == 4
    before = times()
    prepare(root, output, options=PreparationOptions(fractions=(0, 0, 1), block_shape=(5, 40, 40)))  # moved, not made
    assert times() == before and list(load_bigneuron(output)) == ["test"]
    for path in (root / "more").iterdir():
        path.unlink()
    prepare(root, output, options=ALL_TRAIN)
    assert len(load_bigneuron(output)["train"]) == 3
    with pytest.raises(DataError, match="neurons of another collection"):
        prepare(write_release(tmp_path / "other", NAMES[3:5]), output)
    assert len(load_bigneuron(output)["train"]) == 3


def test_shares_for_many_machines_make_the_whole(release, prepared, tmp_path):
    for index in (1, 0):
        prepare(release, tmp_path / "out", options=ALL_TRAIN, shard=(index, 2))
    before = arrow_files(tmp_path / "out")
    assert len(prepare(release, tmp_path / "out", options=ALL_TRAIN)) == len(NAMES)
    assert arrow_files(tmp_path / "out") == before == arrow_files(prepared)


def test_labels_with_a_band_are_in_the_blocks(tmp_path):
    write_sample(tmp_path / "in", "a.v3draw", "a.swc")
    options = PreparationOptions(labels=LabelPolicy(edge_band=1.0), fractions=(1, 0, 0), block_shape=(8, 96, 96))
    (block,) = load_bigneuron(tmp_path / "in", "blocks", output=tmp_path / "out", options=options)["train"]
    assert set(block["mask"]) == {0, 1, 255}


def test_blocks_that_are_chosen():
    tree = neuron(0).tree
    rng = np.random.default_rng(0)
    shape, block = (8, 96, 96), (5, 40, 40)
    all_of_them = choose_blocks(tree, shape, block, 0.99, rng)
    assert len(np.unique(all_of_them, axis=0)) == len(all_of_them) == 2 * 3 * 3
    assert all_of_them.min(0).tolist() == [0, 0, 0] and all_of_them.max(0).tolist() == [3, 56, 56]
    some = choose_blocks(tree, shape, block, 0.0, rng)
    assert {tuple(origin) for origin in some} < {tuple(origin) for origin in all_of_them}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"block_shape": (1, 2)}, "block_shape"),
        ({"background": 1.0}, "background"),
        ({"split_by": "day"}, "split_by must be one of neuron, lab"),
        ({"fractions": (0.5, 0.4, 0.2)}, "fractions"),
        ({"fractions": (float("nan"),) * 3}, "fractions"),
        ({"block_shape": (9.5, 20, 20)}, "block_shape"),
        ({"block_shape": (100_000,) * 3}, "block_shape must have at most"),
        ({"channel": -1}, "channel must be a whole number, at least 0"),
        ({"seed": None}, "seed must be a whole number"),
        ({"labels": None}, "labels must be a LabelPolicy"),
    ],
)
def test_wrong_options(options, match):
    with pytest.raises(ValueError, match=match):
        PreparationOptions(**options)


def test_wrong_roots_and_outputs(release, tmp_path):
    with pytest.raises(DataError, match="found nothing there"):
        load_bigneuron(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="found no pair"):
        load_bigneuron(tmp_path / "empty", output=tmp_path / "out")
    with pytest.raises(ValueError, match="config must be one of volumes, blocks"):
        load_bigneuron(release, "images")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(DataError, match="holds something else"):
        prepare(release, tmp_path / "mine")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="expected a folder to write to"):
        prepare(release, tmp_path / "file")


def test_a_preparation_that_was_interrupted_does_not_pass_for_whole(release, tmp_path):
    def interrupt(report, done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(release, tmp_path / "out", options=ALL_TRAIN, progress=interrupt)
    with pytest.raises(DataError, match="its preparation was interrupted"):
        load_bigneuron(tmp_path / "out")
    prepare(release, tmp_path / "out", options=ALL_TRAIN)
    assert len(load_bigneuron(tmp_path / "out")["train"]) == len(NAMES)


def test_options_for_what_is_prepared_already(prepared):
    with pytest.raises(ValueError, match="is prepared already, so options, strict would change nothing"):
        load_bigneuron(prepared, options=ALL_TRAIN, strict=True)


def test_what_was_left_out_is_not_tried_again(tmp_path, monkeypatch):
    root = write_release(tmp_path / "in", NAMES[:1])
    write_bad_samples(root)
    first = prepare(root, tmp_path / "out", options=ALL_TRAIN)
    monkeypatch.setattr("neuron_vit3d.data.bigneuron.prepare_neuron", None)  # nothing is left to prepare
    assert prepare(root, tmp_path / "out", options=ALL_TRAIN) == first


def test_a_damaged_annotation_file_stops_nothing(tmp_path):
    root = write_release(tmp_path / "in", NAMES[:1])
    raw = bytearray(write_zip(tmp_path / "a.zip", root).read_bytes())
    at = raw.find(b".ano", raw.find(b"done_a/a.v3dpbd.ano\0") if b"done_a/a.v3dpbd.ano\0" in raw else 0)
    raw[at + 10] ^= 0xFF  # in its packed bytes
    (tmp_path / "a.zip").write_bytes(raw)
    (report,) = prepare(tmp_path / "a.zip", tmp_path / "out", options=ALL_TRAIN)
    assert report.status == "used"


def test_a_stray_node_far_away_costs_nothing(tmp_path):
    write_sample(tmp_path / "in", "a.v3draw", "a.swc")
    with (tmp_path / "in" / "a.swc").open("a") as file:
        file.write("9999 0 3e8 3e8 3e8 1 1\n")
    tracemalloc.start()
    (report,) = prepare(tmp_path / "in", tmp_path / "out", options=ALL_TRAIN)
    assert report.status == "left out" and "fits in no way" in report.note  # nearly all of it is elsewhere
    (report,) = prepare(tmp_path / "in", tmp_path / "out", options=replace(ALL_TRAIN, check_alignment=False))
    assert report.status == "used" and tracemalloc.get_traced_memory()[1] < 200e6
    tracemalloc.stop()


def test_untraced_signal_of_dark_neurons_is_not_ignored_and_told(tmp_path):
    write_sample(tmp_path / "in", "a.v3draw", "a.swc")
    (tmp_path / "in" / "a.v3draw").write_bytes(vaa3d(255 - neuron(0).volume.array, False))
    options = replace(ALL_TRAIN, labels=LabelPolicy(ignore_untraced=True))
    (report,) = prepare(tmp_path / "in", tmp_path / "out", options=options)
    assert report.status == "used" and "untraced signal is not ignored" in report.note
    assert load_bigneuron(tmp_path / "out")["train"]["ignore_untraced"] == [False]


SCRIPT = REPOSITORY / "scripts" / "prepare_bigneuron.py"
WITHOUT_THE_PACKAGE = """
import sys
sys.modules["neuron_vit3d"] = None  # importing it fails
import numpy as np
from datasets import load_dataset
volumes = load_dataset(sys.argv[1], "volumes", split="train", cache_dir=sys.argv[2])
blocks = load_dataset(sys.argv[1], "blocks", split="train", streaming=True)
print(sum(int(np.frombuffer(b"".join(row["image"]), row["dtype"]).reshape(row["shape"]).sum()) for row in volumes))
print(sum(row["mask"].count(1) for row in blocks) > 0)
"""


@pytest.mark.slow
def test_read_without_this_package(prepared, tmp_path):
    words = ["-c", WITHOUT_THE_PACKAGE, prepared, tmp_path]
    done = processes.run(words, check=True)
    expected = sum(int(neuron(seed % 4).volume.array.sum()) for seed in range(len(NAMES)))
    assert done.stdout.split() == [str(expected), "True"]


@pytest.mark.slow
def test_the_script_in_two_processes(release, prepared, tmp_path):
    words = [SCRIPT, release, tmp_path / "out", "--num-proc", "2"]
    words += ["--fractions", "1", "0", "0", "--block-shape", "5", "40", "40"]
    done = processes.run(words)
    assert (done.returncode, done.stdout) == (
        0,
        f"6 used, 0 repaired, 0 left out: {tmp_path / 'out' / 'report.csv'}\ntrain 6, validation 0, test 0\n",
    ), done.stderr
    assert arrow_files(tmp_path / "out") == arrow_files(prepared)
    bad = tmp_path / "bad"
    write_sample(bad, "a.v3draw", "a.swc")
    (bad / "a.swc").write_text("")
    nothing = processes.run([SCRIPT, bad, tmp_path / "none"])
    assert nothing.returncode == 2 and "prepare_bigneuron.py: no pair could be used: " in nothing.stderr
    done = processes.run([*words, "--shard", "2/2"])
    assert (
        done.returncode == 2
        and done.stderr == "prepare_bigneuron.py: --shard: expected i/n with i from 0 to n - 1, got '2/2'\n"
    )


@pytest.mark.slow
def test_killed_and_run_again(release, prepared, tmp_path):
    """Killed by SIGKILL after the first neurons: what is there is whole, is kept, and the rest follows."""
    words = [SCRIPT, release, tmp_path / "out", "--fractions", "1", "0", "0", "--block-shape", "5", "40", "40"]
    process = processes.start(words)
    while process.poll() is None and len(list(tmp_path.glob("out/.prepared/*.json"))) < 2:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/.prepared/*.json")}
    processes.run(words, check=True)
    assert arrow_files(tmp_path / "out") == arrow_files(prepared)
    assert all(path.stat().st_mtime_ns == when for path, when in done.items())
    assert not list(tmp_path.glob("out/**/.*.tmp"))


def test_the_cache_is_used_again(release, tmp_path, monkeypatch):
    from datasets import config

    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path)
    first = load_bigneuron(release, options=ALL_TRAIN)
    assert len(first["train"]) == len(NAMES) and Path(first["train"].cache_files[0]["filename"]).is_relative_to(
        tmp_path
    )
    monkeypatch.setattr("neuron_vit3d.data.bigneuron.prepare_neuron", None)  # nothing is left to prepare
    assert load_bigneuron(release, options=ALL_TRAIN)["train"][:] == first["train"][:]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_that_cannot_be_written(release, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="Permission"):
        prepare(release, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.real_data
def test_the_whole_release_under_its_real_names(shared, tmp_path):
    """163 samples with generated images, from the folder and from an archive; the gold tree is one of up to three."""
    names = []
    with (shared / "data" / "gold166_layout.csv").open() as table:
        for line in csv.DictReader(table):
            sample, image = line["checked3_path"].split("/")[-2:]
            group = line["release_group_dir"] or "p_checked7_not_stated"
            names.append((group, sample, image, line["gold_swc"].split("_sorted_", 1)[1]))
    root = write_release(tmp_path / "release", names)
    gold = {f"gold166/{group}/{sample}/{image}": tree for group, sample, image, tree in names}
    table = shared / "data" / "gold166_layout.csv"
    for source, output in ((root, "out"), (write_zip(tmp_path / "gold166.zip", root), "zipped")):
        reports = prepare(source, tmp_path / output, options=ALL_TRAIN, table=table)
        assert len(reports) == 163 and {report.status for report in reports} == {"used"}
        assert {report.image: Path(report.swc).name for report in reports} == gold
    assert arrow_files(tmp_path / "out") == arrow_files(tmp_path / "zipped")
    volumes = load_bigneuron(tmp_path / "out")["train"]
    assert len(volumes) == 163 and None not in volumes["voxel_size"]
