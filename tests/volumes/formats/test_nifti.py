"""NIfTI files, written by nibabel: axes, voxel sizes, scaling, and headers that lie."""

import gzip
import struct
import sys
import tracemalloc

import numpy as np
import pytest

from neuron_vit3d.volumes import VolumeError, open_volume, read_volume


nibabel = pytest.importorskip("nibabel")

ARRAY = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)  # z y x


def write(path, array=ARRAY, kind="Nifti1Image", zooms=None, unit=None, **fields):
    """nibabel takes arrays x first."""
    image = getattr(nibabel, kind)(array.transpose(), np.eye(4), dtype=array.dtype)
    if zooms:
        image.header.set_zooms(zooms)
    if unit:
        image.header.set_xyzt_units(unit)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", ["Nifti1Image", "Nifti2Image"])
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">i2", "f4", "f8", "u8"])
def test_what_nibabel_writes_is_read(tmp_path, dtype, kind, suffix):
    array = ARRAY.astype(dtype)
    path = write(tmp_path / f"a{suffix}", array, kind)
    for memory_map in (True, False):
        volume = read_volume(path, memory_map=memory_map)
        assert volume.dtype == np.dtype(dtype).newbyteorder("=") and volume.dtype.isnative
        np.testing.assert_array_equal(volume.array, array)
    with open_volume(path) as reader:
        np.testing.assert_array_equal(reader.read(1, 3), array[1:3])
    path.rename(tmp_path / "a.unknown")  # the content decides
    np.testing.assert_array_equal(read_volume(tmp_path / "a.unknown", channel=0).array, array)


def test_byte_orders(tmp_path):
    image = nibabel.Nifti1Image(ARRAY.transpose(), np.eye(4), header=nibabel.Nifti1Header(endianness=">"))
    nibabel.save(image, tmp_path / "a.nii")
    assert (tmp_path / "a.nii").read_bytes()[:4] == b"\0\0\x01\x5c"
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii").array, ARRAY)


@pytest.mark.parametrize(
    ("unit", "expected"),
    [("mm", (2000, 500, 250)), ("micron", (2, 0.5, 0.25)), ("meter", (2e6, 5e5, 2.5e5)), (None, None)],
)
def test_voxel_sizes(tmp_path, unit, expected):
    volume = read_volume(write(tmp_path / "a.nii", zooms=(0.25, 0.5, 2), unit=unit))
    assert volume.voxel_size == (None if expected is None else pytest.approx(expected))


def test_channels_time_points_and_colours(tmp_path):
    stored = np.arange(2 * 1 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 1, 3, 4, 5)  # c t z y x
    path = write(tmp_path / "a.nii", stored)
    np.testing.assert_array_equal(read_volume(path).array, stored[:, 0])
    np.testing.assert_array_equal(read_volume(path, channel=1).array, stored[1, 0])
    np.testing.assert_array_equal(read_volume(write(tmp_path / "a.nii", stored[:1])).array, stored[0, 0])
    with pytest.raises(VolumeError, match="one time point"):
        read_volume(write(tmp_path / "a.nii", stored[:, 0]))
    with pytest.warns(UserWarning, match="is one 2D image 4 x 5, read as a volume of one slice"):
        flat = read_volume(write(tmp_path / "a.nii", stored[0, 0, 0]))
    np.testing.assert_array_equal(flat.array, stored[:1, 0, 0].reshape(1, 4, 5))
    assert flat.voxel_size is None
    colours = np.zeros((5, 4, 3), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    for number, name in enumerate("RGB"):
        colours[name] = ARRAY.transpose() + number
    nibabel.save(nibabel.Nifti1Image(colours, np.eye(4)), tmp_path / "b.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "b.nii").array, [ARRAY, ARRAY + 1, ARRAY + 2])
    write(tmp_path / "c.nii", ARRAY.astype(np.complex64))
    with pytest.raises(VolumeError, match="complex64"):
        read_volume(tmp_path / "c.nii")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_surplus_bytes_are_told(tmp_path, suffix):
    content = write(tmp_path / "a.nii").read_bytes() + bytes(5)
    path = tmp_path / f"b{suffix}"
    path.write_bytes(content if suffix == ".nii" else gzip.compress(content))
    with pytest.warns(UserWarning, match="and 5 more follow, which are left out"):
        np.testing.assert_array_equal(read_volume(path).array, ARRAY)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_scaling_is_applied(tmp_path, suffix):
    image = nibabel.Nifti1Image(ARRAY.transpose(), np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    image.to_filename(tmp_path / f"a{suffix}")
    volume = read_volume(tmp_path / f"a{suffix}")
    assert volume.dtype == np.float32
    np.testing.assert_allclose(volume.array, nibabel.load(tmp_path / f"a{suffix}").get_fdata().transpose(), atol=1e-4)


@pytest.mark.parametrize(
    ("place", "code", "value", "message"),
    [
        (42, "<3h", (32767, 32767, 32767), "bytes in all, but"),
        (42, "<3h", (5, -4, 3), "expected sizes"),
        (42, "<3h", (5, 0, 3), "expected sizes"),
        (40, "<h", 9, "expected sizes"),
        (40, "<h", -1, "NIfTI header|expected"),
        (70, "<h", 9999, "not a readable NIfTI header"),
        (70, "<h", 1, "expected integer or real voxels"),
        (108, "<f", 1e30, "bytes in all, but"),
        (108, "<f", -8.0, "expected voxels behind the header"),
        (108, "<f", float("nan"), "not a readable NIfTI header"),
        (108, "<f", 353.0, "bytes in all, but"),
        (344, "<4s", b"ni1\0", "expected header and voxels in one file"),
    ],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_lies_are_refused_before_memory_is_taken(tmp_path, place, code, value, message, suffix):
    write(tmp_path / "a.nii")
    read_volume(tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    struct.pack_into(code, content, place, *(value if isinstance(value, tuple) else (value,)))
    path = tmp_path / f"b{suffix}"
    path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    if suffix == ".nii.gz" and value == 353.0:
        message = r"of gzip hold .* \(truncated\?\)"
    tracemalloc.start()
    try:
        with pytest.raises(VolumeError, match=message.replace("in all, but", "(in all, but|of gzip)")) as error:
            read_volume(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert peak < 3_000_000


def test_a_bomb_is_unpacked_only_as_far_as_the_header_says(tmp_path):
    content = write(tmp_path / "a.nii").read_bytes()
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(content + bytes(100_000_000)))
    tracemalloc.start()
    np.testing.assert_array_equal(read_volume(path).array, ARRAY)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000


def test_damaged_files_are_refused_or_read(tmp_path):
    random = np.random.default_rng(0)
    files = [write(tmp_path / f"a{suffix}").read_bytes() for suffix in (".nii", ".nii.gz")]
    path = tmp_path / "b.nii"
    for run in range(200):
        content = bytearray(files[run % 2])
        if run % 3:
            content[random.integers(min(len(content), 400))] ^= 1 << random.integers(8)
        else:
            del content[random.integers(len(content)) :]
        path.write_bytes(content)
        try:
            assert read_volume(path).array.nbytes <= 8 * 1032 * len(content)
        except VolumeError as error:
            assert "\n" not in str(error)


def test_without_the_library_the_error_says_what_to_install(tmp_path, monkeypatch):
    path = write(tmp_path / "a.nii")
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(VolumeError, match=r'pip install "neuron_vit3d\[nifti\]"'):
        read_volume(path)
