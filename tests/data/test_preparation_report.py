"""The report of a preparation: a table that spreadsheets read, and pages of pictures that show what is told."""

import csv
import dataclasses
import json
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from neuron_vit3d import synthetic_neuron
from neuron_vit3d.data.preparation_report import (
    COLOURS,
    COLUMNS,
    THUMBNAIL,
    PairReport,
    thumbnail,
    write_csv,
    write_pages,
)
from neuron_vit3d.morphology import Tree


def row(name="a", status="used", **more) -> PairReport:
    return PairReport(name, f"{name}.tif", f"{name}.swc", status, **more)


FULL = row(
    "b",
    "repaired",
    fit="y flipped",
    figures={"as is": 0.512345, "y flipped": 0.98},
    channel=1,
    shape=(8, 64, 32),
    dtype="uint8",
    voxel_size=(1.0, 0.5, 0.25),
    nodes=12,
    neuron_voxels=345,
    note="a, comma",
)


def read(path) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def count(picture: Image.Image, colour) -> int:
    """Pixels of about this hue (lines are drawn half transparent)."""
    pixels = np.asarray(picture).reshape(-1, 3).astype(float)
    wanted = np.array(colour, float)
    chroma, want = pixels - pixels.mean(1, keepdims=True), wanted - wanted.mean()
    size = np.linalg.norm(chroma, axis=1)
    return int(((size > 30) & (chroma @ want > 0.97 * size * np.linalg.norm(want))).sum())


def test_the_table_has_a_row_a_pair_and_the_same_columns_always(tmp_path):
    path = write_csv(tmp_path / "report.csv", [row(), FULL])
    plain, full = read(path)
    assert list(plain) == list(full) == list(COLUMNS)
    assert full["figure as is"] == "0.5123" and full["figure y flipped"] == "0.98"
    assert full["figure scaled by voxel size"] == ""
    assert [full[name] for name in ("slices", "height", "width", "voxel_z_um", "voxel_x_um")] == [
        *("8", "64", "32", "1.0", "0.25")
    ]
    assert full["note"] == "a, comma" and full["fit"] == "y flipped" and full["channel"] == "1"
    assert plain["nodes"] == plain["fit"] == plain["slices"] == ""
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.csv"]


def test_the_table_is_safe_in_a_spreadsheet(tmp_path):
    bad = ["=cmd()", "+1", "-1", "@x", "\t=1", "\r=1", ' "quoted", and\nbroken\r\nlines', "grün \udcff"]
    rows = [dataclasses.replace(row(), neuron_id=text, note=text) for text in bad]
    path = write_csv(tmp_path / "report.csv", rows)
    found = read(path)
    assert len(found) == len(bad) == len(path.read_text(encoding="utf-8").splitlines()) - 1
    for cells in found:
        for name in ("neuron_id", "note"):
            assert not cells[name].startswith(("=", "+", "-", "@", "\t", "\r"))
    assert found[0]["note"] == "'=cmd()"
    assert found[6]["note"] == '"quoted", and broken lines'
    assert "grün" in found[7]["note"]


def test_an_interrupted_table_leaves_the_old_one(tmp_path):
    path = write_csv(tmp_path / "report.csv", [row()])
    before = path.read_bytes()

    def rows():
        yield row()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_csv(path, rows())
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.csv"]


def test_a_row_survives_json():
    again = PairReport(**json.loads(json.dumps(dataclasses.asdict(FULL))))
    assert dataclasses.asdict(again) == dataclasses.asdict(FULL) | {
        "shape": [8, 64, 32],
        "voxel_size": [1.0, 0.5, 0.25],
    }


def test_an_unknown_status_is_refused():
    with pytest.raises(ValueError, match="used, repaired, left out"):
        row(status="fine")


@pytest.mark.parametrize("status", COLOURS)
def test_a_thumbnail_shows_the_tree_in_the_colour_of_its_status(status):
    neuron = synthetic_neuron((8, 64, 96), seed=1)
    picture = thumbnail(neuron.volume.array, neuron.tree, status)
    assert picture.mode == "RGB" and picture.size == (THUMBNAIL, round(THUMBNAIL * 64 / 96))
    assert count(picture, COLOURS[status]) > 100
    assert all(count(picture, colour) < 20 for other, colour in COLOURS.items() if other != status)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "float32"])
def test_a_thumbnail_keeps_thin_neurites_of_large_images(dtype):
    image = np.zeros((3, 1000, 2000), dtype)
    image[1, 500, 100:1900] = 1
    lone = Tree.from_parents([[-50.0, -50.0, 0.0]], [1.0], [-1])
    picture = np.asarray(thumbnail(image, lone, "used"))
    assert picture.shape == (128, 256, 3)
    assert (picture.max(axis=(0, 2))[16:240] > 150).all()


def test_thumbnails_of_odd_images():
    far = Tree.from_parents([[0, 0, 0], [1e12, 5, 0], [-1e12, -1e12, 0]], [1, 1, 1], [-1, 0, 1])
    for image in (
        *(np.zeros((1, 1, 1), np.uint8), np.full((2, 3, 700), np.nan, np.float32), np.full((2, 9, 9), 7, np.uint16)),
        np.full((1, 5, 2), np.inf),
    ):
        assert max(thumbnail(image, far, "left out").size) == THUMBNAIL


def test_a_dark_neuron_is_seen():
    image = np.full((4, 64, 64), 200, np.uint8)
    image[1, 30:34, 5:60] = 10
    tree = Tree.from_parents([[-9.0, -9.0, 0.0]], [1.0], [-1])
    dark, bright = (np.asarray(thumbnail(image, tree, "used", dark=dark))[128, 128, 0] for dark in (True, False))
    assert dark < 30 and np.ptp(np.asarray(thumbnail(image, tree, "used"))) == 0
    assert bright == np.asarray(thumbnail(image, tree, "used"))[0, 0, 0]


def test_a_thumbnail_takes_the_memory_of_a_slice():
    image = np.broadcast_to(np.arange(2000, dtype=np.uint8), (50, 1000, 2000))
    tree = Tree.from_parents([[0.0, 0.0, 0.0], [1999.0, 999.0, 0.0]], [1.0, 1.0], [-1, 0])
    tracemalloc.start()
    thumbnail(image, tree, "used")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6


def test_pages_hold_all_pairs_worst_first_and_old_ones_go(tmp_path):
    neuron = synthetic_neuron((8, 64, 64), seed=1)
    rows, pictures = [], {}
    for i in range(10):
        status = ("used", "used", "used", "repaired", "left out")[i % 5]
        rows.append(row(f"n{i}", status, fit="as is" if status == "used" else None, figures={"as is": 0.9}))
        pictures[f"n{i}"] = tmp_path / f"thumb{i}.png"
        thumbnail(neuron.volume.array, neuron.tree, status).save(pictures[f"n{i}"])
    pages = write_pages(tmp_path, rows, pictures, per_page=4)
    assert [page.name for page in pages] == ["report-01.png", "report-02.png", "report-03.png"]
    first, last = (Image.open(page).crop((0, 48, 4 * 272, 48 + 272)) for page in (pages[0], pages[-1]))
    assert count(first, COLOURS["left out"]) > 100 and count(first, COLOURS["repaired"]) > 100
    assert count(first, COLOURS["used"]) < 50
    assert count(last, COLOURS["used"]) > 100 and count(last, COLOURS["left out"]) < 50
    (tmp_path / "report-notes.png").write_bytes(b"mine")
    assert [page.name for page in write_pages(tmp_path, rows[:2], pictures)] == ["report-01.png"]
    left = {path.name for path in tmp_path.glob("report*")}
    assert left == {"report-01.png", "report-notes.png"}
    assert write_pages(tmp_path, [], {}) == []


def test_pages_do_without_pictures_and_with_any_text(tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    rows = [
        row("no picture", "left out", note="no SWC beside it"),
        row("broken", "left out", note="word " * 500),
        row("gone", shape=(1, 2, 3), dtype="uint8", fit="as is", figures={"as is": 1.0}),
        row("long/" * 400 + "\nend", "left out", figures={"as is": 0.4}, note="x" * 5000),
        row("神経 \udcff ü", "repaired", fit="x and y swapped", figures={}),
        PairReport("", "lonely.tif", "", "left out"),
    ]
    pages = write_pages(tmp_path, rows, {"broken": broken, "gone": tmp_path / "gone.png"})
    assert len(pages) == 1
    with Image.open(pages[0]) as page:
        assert page.width == 6 * 272 + 16
