"""What the Space does with a stack: its header tells its size, it is segmented once, traced as often as asked."""

import struct
import zipfile

import numpy as np
import pytest
import tifffile

from neuron_vit3d import (
    Volume,
    read_swc,
    read_volume,
    segment,
    synthetic_neuron,
    threshold_from_noise,
    trace,
    write_volume,
)
from neuron_vit3d.apps.space import work
from neuron_vit3d.apps.space.work import Limits, SpaceError, check_stack, segment_stack, trace_kept, write_files
from neuron_vit3d.data.sample import SAMPLE_IMAGE
from neuron_vit3d.inference import Segmenter
from support.tiny_models import tiny_model


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(tiny_model(), tile_size=32, tile_overlap=8)


@pytest.fixture
def stack(tmp_path):
    path = tmp_path / "upload" / "a.tif"
    path.parent.mkdir()
    write_volume(path, Volume(synthetic_neuron((6, 40, 40), seed=3).volume.array, (2.0, 0.5, 0.5)))
    return path


@pytest.fixture
def kept(stack, segmenter, tmp_path):
    """A stack whose scores are a fork that nobody doubts."""
    kept = segment_stack(stack, tmp_path / "session", segmenter, Limits())
    kept.scores[:] = 0
    kept.scores[3, 20, 2:38] = 1
    kept.scores[3, 20:32, 20] = 0.7
    return kept


def test_an_image_within_the_limits_is_taken(stack):
    check_stack(stack, Limits())
    check_stack(stack, Limits(voxels=6 * 40 * 40))
    with pytest.raises(SpaceError, match=r"0.0 million voxels \(1 x 6 x 40 x 40\); at most"):
        check_stack(stack, Limits(voxels=6 * 40 * 40 - 1))
    with pytest.raises(SpaceError, match=r"The file has 0 MB; at most 0\.001 MB"):
        check_stack(stack, Limits(megabytes=0.001))


def test_what_is_no_image_is_said_without_the_place(tmp_path):
    for name, content in (
        ("a.tif", b""),
        ("b.png", b"\x89PNG\r\n\x1a\n123"),
        ("c.txt", b"hello"),
        ("d.tif", b"II*\0abc"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SpaceError) as told:
            check_stack(tmp_path / name, Limits())
        assert str(told.value).startswith("This file cannot be read as an image stack") and "/" not in str(told.value)
        assert "\n" not in str(told.value)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a", bytes(1 << 20))
    with pytest.raises(SpaceError, match="cannot be read as an image stack"):
        check_stack(tmp_path / "bomb.zip", Limits())


def test_bombs_are_refused_before_a_voxel_is_decoded(tmp_path, monkeypatch):
    limits = Limits(voxels=10_000)
    pbd = tmp_path / "a.v3dpbd"  # a run of 33 voxels a byte
    pbd.write_bytes(b"v3d_volume_pkbitdf_encodL" + struct.pack("<h4i", 1, 200, 200, 50, 1) + bytes([255, 0]) * 100_000)
    zipped = tmp_path / "a.tif"
    tifffile.imwrite(zipped, np.zeros((50, 200, 200), np.uint8), compression="zlib")
    assert zipped.stat().st_size < 20_000
    flat = tmp_path / "a.npy"
    np.save(flat, np.zeros((50, 200, 200), np.uint8))
    monkeypatch.setattr(work.vaa3d, "open_reader", None)  # it would decode
    for path in (pbd, zipped, flat):
        with pytest.raises(SpaceError, match=r"2\.0 million voxels"):
            check_stack(path, limits)


def test_formats_whose_headers_do_not_say_are_not_taken(tmp_path):
    nrrd = pytest.importorskip("nrrd")
    nrrd.write(str(tmp_path / "a.nrrd"), np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(SpaceError, match="This is NRRD; TIFF"):
        check_stack(tmp_path / "a.nrrd", Limits())


def test_a_stack_that_takes_too_long_is_given_up(stack, segmenter, tmp_path):
    with pytest.raises(SpaceError, match="takes longer than 0 minutes"):
        segment_stack(stack, tmp_path / "session", segmenter, Limits(seconds=0))
    assert not (tmp_path / "session").exists()


def test_channels_and_voxels_that_cannot_be_are_said(segmenter, tmp_path):
    write_volume(tmp_path / "two.npy", Volume(np.zeros((2, 4, 8, 8), np.uint8)))
    write_volume(tmp_path / "nan.npy", Volume(np.full((4, 8, 8), np.nan, np.float32)))
    for name, said in (("two.npy", "has 2 channels"), ("nan.npy", "finite")):
        with pytest.raises(SpaceError, match=said) as told:
            segment_stack(tmp_path / name, tmp_path / "session", segmenter, Limits())
        assert str(tmp_path) not in str(told.value)


def test_scores_are_traced_anew_without_the_model(kept, monkeypatch):
    monkeypatch.setattr(Segmenter, "slabs", None)
    fork = trace_kept(kept, threshold=0.5, min_branch_length=3, min_confidence=0)
    assert "µm long, 3 branches" in fork.said and fork.picture.exists()
    kept_before = fork.picture.read_bytes()
    stem = trace_kept(kept, threshold=0.9, min_branch_length=3, min_confidence=0)
    assert len(stem.tree.branches) < 3 and stem.tree.length < fork.tree.length
    assert stem.picture != fork.picture and stem.picture.read_bytes() != kept_before == fork.picture.read_bytes()
    assert trace_kept(kept, threshold=0.5, min_branch_length=30, min_confidence=0).tree.length < fork.tree.length
    assert fork.figure["data"][0]["type"] == "surface"
    kept.scores[:] = 0
    nothing = trace_kept(kept, threshold=0.5, min_branch_length=3, min_confidence=0)
    assert len(list(kept.folder.iterdir())) <= 3 and nothing.picture.exists()
    assert nothing.tree is None and nothing.figure is None and nothing.said.startswith("There is no tree: ")


def test_what_can_be_downloaded_is_of_the_last_trace(kept):
    pytest.importorskip("plotly", reason="plotly is not installed (extra app)")
    traced = trace_kept(kept, threshold=0.9, min_branch_length=3, min_confidence=0)
    files = {path.name: path for path in write_files(kept, traced)}
    assert sorted(files) == ["a.branches.csv", "a.mask.tif", "a.png", "a.report.html", "a.swc"]
    assert len(read_swc(files["a.swc"])) == len(traced.tree)
    mask = read_volume(files["a.mask.tif"])
    assert np.array_equal(mask.array == 255, kept.scores >= 0.9) and mask.voxel_size == (2.0, 0.5, 0.5)
    assert "Left out, and why" in files["a.report.html"].read_text() or traced.said.count("\n") == 0
    kept.forget()
    assert not kept.folder.exists()


def test_the_tree_is_that_of_the_command_line(tmp_path):
    kept = segment_stack(SAMPLE_IMAGE, tmp_path / "session", Segmenter(), Limits())
    scores = segment(SAMPLE_IMAGE)
    assert kept.threshold == pytest.approx(threshold_from_noise(scores))
    traced = trace_kept(kept, threshold=kept.threshold, min_branch_length=3, min_confidence=0)
    assert len(traced.tree) == len(trace(scores, threshold=kept.threshold, min_branch_length=3))
