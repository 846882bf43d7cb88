"""The slab-wise writer: what other readers see, bounded memory, and nothing left behind when it fails."""

import json
import tracemalloc

import numpy as np
import pytest
import tifffile

from neuron_vit3d.volumes import SlabWriter, Volume, VolumeError, read_volume, write_volume


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
    monkeypatch.setattr("neuron_vit3d.volumes.tiff_writer._BIG_BYTES", 1000)
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


@pytest.mark.parametrize("damage", ["key", "shape", "note", "size"])
def test_an_unfinished_file_of_something_else_is_begun_again(damage, tmp_path):
    path, shape = tmp_path / "scores.tif", (4, 6, 5)
    with pytest.raises(KeyboardInterrupt), SlabWriter(path, shape, np.float32, resume_key="a") as writer:
        writer.write(np.zeros((2, 6, 5), np.float32))
        raise KeyboardInterrupt
    shape = (4, 5, 6) if damage == "shape" else shape
    if damage == "note":
        (tmp_path / ".scores.tif.unfinished.json").write_text("{}")
    if damage == "size":
        (tmp_path / ".scores.tif.unfinished").write_bytes(b"")
    with SlabWriter(path, shape, np.float32, resume_key="b" if damage == "key" else "a") as writer:
        assert writer.slices_written == 0
        writer.write(np.ones(shape, np.float32))
    assert read_volume(path).array.min() == 1
    assert [file.name for file in tmp_path.iterdir()] == ["scores.tif"]


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
