"""The slab-wise writer: what other readers see, bounded memory, and nothing left behind when it fails."""

import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuron_vit3d.volumes import SlabWriter, Volume, VolumeError, read_volume, write_volume
from neuron_vit3d.volumes.names import is_own_result


SIZES = (0.5, 0.11, 0.12)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("compress", [True, False])
def test_imagej_metadata_as_another_reader_sees_it(tmp_path, dtype, compress):
    array = (np.random.default_rng(0).random((2, 5, 6, 7)) * 200).astype(dtype)
    path = tmp_path / "a.tif"
    with SlabWriter(path, array.shape, dtype, SIZES, compress=compress) as writer:
        writer.write(array[:, :2])
        writer.write(array[:, 2:])
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_imagej and tiff.series[0].axes == "ZCYX"
        assert (tiff.imagej_metadata["spacing"], tiff.imagej_metadata["unit"]) == (0.5, "um")
        pixels, per = tiff.pages[0].tags["XResolution"].value
        assert per / pixels == pytest.approx(0.12, rel=1e-6)
        assert (tiff.pages[0].compression != 1) == compress
        if not compress:  # ImageJ expects uncompressed slices to follow one another
            assert tiff.series[0].dataoffset is not None
        np.testing.assert_array_equal(tiff.asarray(), array.swapaxes(0, 1))


def test_masks_are_0_and_255_and_small(tmp_path):
    mask = np.zeros((8, 64, 64), bool)
    mask[3, 10:20, 10:20] = True
    path = write_volume(tmp_path / "mask.tif", Volume(mask))
    volume = read_volume(path)
    assert volume.dtype == np.uint8
    np.testing.assert_array_equal(volume.array, mask * np.uint8(255))
    assert path.stat().st_size < mask.size / 4


def test_scores_are_mapped_and_memory_stays_bounded(tmp_path):
    path, shape = tmp_path / "scores.tif", (64, 128, 128)
    tracemalloc.start()
    try:
        with SlabWriter(path, shape, np.float32, SIZES) as writer:
            for z in range(0, 64, 4):
                writer.write(np.full((4, 128, 128), z, np.float32))
        assert tracemalloc.get_traced_memory()[1] < 3_000_000  # the volume has 4.2 MB
    finally:
        tracemalloc.stop()
    volume = read_volume(path)
    assert isinstance(volume.array, np.memmap)
    assert volume.array[:, 5, 5].tolist() == [float(z // 4 * 4) for z in range(64)]
    volume.array[0] = -1  # a private copy: the file stays
    assert read_volume(path).array[0].max() == 0


def test_bigtiff_beyond_4_gb(tmp_path, monkeypatch):
    monkeypatch.setattr("neuron_vit3d.volumes.formats.tiff_writer._BIG_BYTES", 1000)
    for dtype in (np.uint16, np.float32):
        array = (np.random.default_rng(0).random((5, 16, 16)) * 200).astype(dtype)
        path = write_volume(tmp_path / "a.tif", Volume(array, SIZES))
        assert path.read_bytes()[:4] == b"II+\0"
        volume = read_volume(path)
        np.testing.assert_array_equal(volume.array, array)
        np.testing.assert_allclose(volume.voxel_size, SIZES, rtol=1e-6)


@pytest.mark.parametrize("compress", [True, False])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, compress):
    path = tmp_path / "a.tif"
    path.write_bytes(b"old")
    slab = np.zeros((2, 5, 6), np.uint8)

    def attempt(*slabs, error=None):
        with SlabWriter(path, (4, 5, 6), np.uint8, compress=compress) as writer:
            for each in slabs:
                writer.write(each)
            if error:
                raise error

    for slabs, error, expected, message in [
        ([slab], None, VolumeError, "expected 4 slices, got 2"),
        ([slab, slab, slab], None, VolumeError, "remaining slices"),
        ([slab[:, 1:]], None, VolumeError, "got a slab"),
        ([slab.astype(float)], None, VolumeError, "expected slabs of uint8, got float64"),
        ([slab], RuntimeError("stopped"), RuntimeError, "stopped"),
        ([slab], KeyboardInterrupt("key"), KeyboardInterrupt, "key"),
    ]:
        with pytest.raises(expected, match=message):
            attempt(*slabs, error=error)
        assert [file.name for file in tmp_path.iterdir()] == ["a.tif"]
        assert path.read_bytes() == b"old"
    attempt(slab, slab)
    assert read_volume(path).shape == (4, 5, 6)


def test_bad_arguments_are_refused(tmp_path):
    for arguments, message in [
        (((5, 6), np.uint8), "expected a shape"),
        (((0, 5, 6), np.uint8), "expected a shape"),
        (((4, 5, 6), np.complex64), "complex64"),
        (((4, 5, 6), np.uint8, (1, 2)), "voxel_size"),
    ]:
        with pytest.raises(VolumeError, match=message):
            SlabWriter(tmp_path / "a.tif", *arguments)
    with pytest.raises(OSError), SlabWriter(tmp_path / "absent" / "a.tif", (1, 2, 3), np.uint8):
        pass


def test_an_unfinished_file_is_continued(tmp_path):
    array = np.random.default_rng(0).random((7, 6, 5)).astype(np.float32)
    path = tmp_path / "scores.tif"

    def write(key: str, upto: int, fail: bool = False) -> int:
        writer = SlabWriter(path, array.shape, np.float32, SIZES, resume_key=key)
        with writer:
            began = writer.slices_written
            np.testing.assert_array_equal(writer.read_written(0, began), array[:began])
            for z in range(began, upto):
                writer.write(array[z : z + 1])
            if fail:
                raise KeyboardInterrupt
        return began

    for upto in (0, 3, 5):
        with pytest.raises(KeyboardInterrupt):
            write("a", upto, fail=True)
        assert len(list(tmp_path.iterdir())) == (2 if upto else 0)  # the slices, and how many; nothing for none
    offset = json.loads((tmp_path / ".scores.tif.unfinished.json").read_text())["offset"]
    with open(tmp_path / ".scores.tif.unfinished", "r+b") as file:  # killed while it wrote slice 5
        file.seek(offset + 5 * array[0].nbytes)
        file.write(b"torn")
    assert write("a", 7) == 5
    np.testing.assert_array_equal(read_volume(path).array, array)
    assert [file.name for file in tmp_path.iterdir()] == ["scores.tif"]
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_imagej and len(tiff.pages) == 7


def interrupt(path, shape, key, slices):
    with pytest.raises(KeyboardInterrupt), SlabWriter(path, shape, np.float32, resume_key=key) as writer:
        for _ in range(slices):
            writer.write(np.zeros((1, *shape[1:]), np.float32))
        raise KeyboardInterrupt


@pytest.mark.parametrize("key", ["a", "b"])
@pytest.mark.parametrize("damage", ["note", "size", "removed"])
def test_an_unfinished_file_that_is_damaged_is_begun_again(damage, key, tmp_path):
    path, shape = tmp_path / "scores.tif", (4, 6, 5)
    interrupt(path, shape, "a", 2)
    if damage == "note":
        (tmp_path / ".scores.tif.unfinished.json").write_text("{}")
    if damage == "size":
        (tmp_path / ".scores.tif.unfinished").write_bytes(b"")
    if damage == "removed":
        (tmp_path / ".scores.tif.unfinished").unlink()
    with SlabWriter(path, shape, np.float32, resume_key=key) as writer:
        assert writer.slices_written == 0
        writer.write(np.ones(shape, np.float32))
    assert read_volume(path).array.min() == 1
    assert [file.name for file in tmp_path.iterdir()] == ["scores.tif"]


@pytest.mark.parametrize(("shape", "key"), [((4, 6, 5), "b"), ((4, 5, 6), "a")])
def test_slices_of_something_else_are_not_thrown_away(shape, key, tmp_path):
    path, hidden = tmp_path / "scores.tif", tmp_path / ".scores.tif.unfinished"
    interrupt(path, (4, 6, 5), "a", 2)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    refusal = (
        f"{path}: 2 slice.s. of .* with another model, other options, another image or another version of this "
        f"program .* in {hidden}; remove that file"
    )
    with pytest.raises(VolumeError, match=refusal), SlabWriter(path, shape, np.float32, resume_key=key):
        pass
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    with SlabWriter(path, (4, 6, 5), np.float32, resume_key="a") as writer:
        assert writer.slices_written == 2
        writer.write(np.zeros((2, 6, 5), np.float32))


def test_a_file_without_slices_is_begun_again(tmp_path):
    """One that a killed run laid out may have another header."""
    path, shape = tmp_path / "scores.tif", (4, 6, 5)
    killed = SlabWriter(path, shape, np.float32, (9, 9, 9), resume_key="a")
    killed.__enter__()
    killed._file.close()
    killed._lock.close()
    with SlabWriter(path, shape, np.float32, SIZES, resume_key="a") as writer:
        writer.write(np.ones(shape, np.float32))
    assert read_volume(path).voxel_size == pytest.approx(SIZES)
    assert [file.name for file in tmp_path.iterdir()] == ["scores.tif"]


@pytest.mark.parametrize("seconds", [0, 3600])
def test_slices_are_on_disk_before_they_are_noted(seconds, tmp_path, monkeypatch):
    """A crash of the machine may lose what was not synced, so nothing may tell of it."""
    path, shape = tmp_path / "scores.tif", (3, 6, 5)
    synced, notes = {}, []
    sync, replace = os.fsync, os.replace

    def fsync(number):
        sync(number)
        synced[os.fstat(number).st_ino] = os.fstat(number).st_mtime_ns

    def rename(old, new):
        notes.append(Path(new).name)
        state = os.stat(old)
        assert synced[state.st_ino] == state.st_mtime_ns
        if Path(new).suffix == ".json":
            state = os.stat(tmp_path / ".scores.tif.unfinished")
            assert synced[state.st_ino] == state.st_mtime_ns
        replace(old, new)

    monkeypatch.setattr("neuron_vit3d.volumes.formats.tiff_writer._SECONDS_BETWEEN_NOTES", seconds)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)
    interrupt(path, shape, "a", 2)
    assert json.loads((tmp_path / ".scores.tif.unfinished.json").read_text())["slices"] == 2
    assert notes == [".scores.tif.unfinished.json"] * (1 if seconds else 3)
    with SlabWriter(path, shape, np.float32, resume_key="a") as writer:
        writer.write(np.ones((1, 6, 5), np.float32))
    for compress in (True, False):
        write_volume(tmp_path / "b.tif", Volume(np.ones(shape, np.uint8 if compress else np.float32)))
    assert notes[-3:] == ["scores.tif", "b.tif", "b.tif"]


def finished(path, key) -> Path:
    with SlabWriter(path, (4, 6, 5), np.float32, SIZES, resume_key=key) as writer:
        writer.write(np.ones((4 - writer.slices_written, 6, 5), np.float32))
    return path


def test_a_finished_file_tells_its_key(tmp_path):
    path = tmp_path / "scores.tif"
    assert not SlabWriter.is_finished(path, "a")
    interrupt(path, (4, 6, 5), "a", 3)
    assert not SlabWriter.is_finished(path, "a")
    finished(path, "a")
    assert SlabWriter.is_finished(path, "a") and SlabWriter.is_finished(str(path), "a")
    assert not SlabWriter.is_finished(path, "b") and not SlabWriter.is_finished(tmp_path, "a")
    assert not is_own_result(path)  # scores are no gold standard, and nobody takes them for one
    write_volume(path, read_volume(path))
    assert not SlabWriter.is_finished(path, "a")


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_is_not_finished(tmp_path, data):
    whole = finished(tmp_path / "scores.tif", "a").read_bytes()
    path = tmp_path / "damaged.tif"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    if SlabWriter.is_finished(path, "a"):  # the last bytes of the tables behind the voxels say nothing
        np.testing.assert_array_equal(read_volume(path).array, np.ones((4, 6, 5)))
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    assert SlabWriter.is_finished(path, "a") in (True, False)  # and never an error


def test_two_runs_do_not_write_one_unfinished_file(tmp_path):
    path, ones = tmp_path / "scores.tif", np.ones((2, 6, 5), np.float32)
    with SlabWriter(path, (4, 6, 5), np.float32, resume_key="a") as writer:
        writer.write(ones)
        for key in "ab":
            with (
                pytest.raises(VolumeError, match="another run is writing this file"),
                SlabWriter(path, (4, 6, 5), np.float32, resume_key=key),
            ):
                pass
        writer.write(ones)
    assert read_volume(path).array.min() == 1
    assert [file.name for file in tmp_path.iterdir()] == ["scores.tif"]
    with SlabWriter(path, (2, 6, 5), np.float32, resume_key="a") as writer:  # and the next one may
        writer.write(ones)


def test_a_compressed_file_cannot_be_continued(tmp_path):
    with pytest.raises(ValueError, match="compressed"):
        SlabWriter(tmp_path / "mask.tif", (4, 6, 5), np.uint8, resume_key="a")
