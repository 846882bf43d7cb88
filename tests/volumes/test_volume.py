"""Volume's checks and the doors: formats told by content, channels, slices, atomic writing."""

import struct
import tracemalloc
import warnings

import numpy as np
import pytest
import tifffile

from neuron_vit3d.volumes import (
    Volume,
    VolumeError,
    check_finite,
    check_signal,
    is_volume_folder,
    is_volume_name,
    open_volume,
    read_volume,
    single_channel,
    volume_stem,
    write_volume,
)


def image(shape, dtype=np.uint8):
    return (np.random.default_rng(0).random(shape) * 250).astype(dtype)


@pytest.mark.parametrize("dtype", "bool u1 u2 u4 u8 i1 i2 i4 i8 f2 f4 f8".split())
def test_a_volume_has_slices_channels_and_a_voxel_size(dtype):
    volume = Volume(image((3, 4, 5, 6), dtype), [2, 1, 1])
    assert (volume.shape, volume.num_channels, volume.dtype) == ((4, 5, 6), 3, np.dtype(dtype))
    assert volume.voxel_size == (2.0, 1.0, 1.0)
    channel = volume.channel(2)
    assert channel.array.shape == (4, 5, 6) and channel.num_channels == 1 and channel.voxel_size == volume.voxel_size
    assert np.shares_memory(channel.array, volume.array)
    assert channel.channel(0).shape == (4, 5, 6)


@pytest.mark.parametrize(
    ("array", "voxel_size", "message"),
    [
        ([[[1]]], None, "expected a numpy array, got list"),
        (np.zeros((2, 2, 2), complex), None, "complex128"),
        (np.zeros((2, 2, 2), object), None, "object"),
        (np.zeros((2, 2, 2), "U3"), None, "<U3"),
        (np.zeros((2, 2, 2), np.longdouble), None, "at most 64 bits"),
        (np.zeros((2, 2)), None, r"axes \(z, y, x\) or \(c, z, y, x\), got shape \(2, 2\)"),
        (np.zeros((1, 1, 2, 2, 2)), None, r"got shape \(1, 1, 2, 2, 2\)"),
        (np.zeros((0, 2, 2)), None, "at least one voxel"),
        (np.zeros((2, 2, 2)), (1, 1), "voxel_size z, y, x in micrometres"),
        (np.zeros((2, 2, 2)), (1, 0, 1), "positive and finite"),
        (np.zeros((2, 2, 2)), (1, float("nan"), 1), "positive and finite"),
        (np.zeros((2, 2, 2)), (1, "wide", 1), "got .*wide"),
        (np.zeros((2, 2, 2)), 1.0, "got 1.0"),
    ],
)
def test_what_is_no_volume_is_refused(array, voxel_size, message):
    with pytest.raises(VolumeError, match=message) as error:
        Volume(array, voxel_size, "neuron.tif")
    assert str(error.value).startswith("neuron.tif: ") and "\n" not in str(error.value)


def test_one_channel_must_be_chosen():
    volume = Volume(image((3, 2, 4, 4)), source="neuron.tif")
    with pytest.raises(VolumeError, match=r"neuron\.tif: has 3 channels: choose one with channel=0 \.\. 2"):
        single_channel(volume)
    with pytest.raises(VolumeError, match="here: has 3 channels"):
        single_channel(volume, None, "here")
    for wrong in (3, -1, True, 1.0):
        with pytest.raises(VolumeError, match="expected a channel from 0 to 2"):
            single_channel(volume, wrong)
    np.testing.assert_array_equal(single_channel(volume, 1).array, volume.array[1])
    assert single_channel(volume.channel(0)).shape == (2, 4, 4)


def test_voxels_that_are_not_finite_are_counted(monkeypatch):
    monkeypatch.setattr("neuron_vit3d.volumes.volume._SLAB_BYTES", 1)  # one slice at a time
    array = np.ones((4, 3, 3), np.float32)
    check_finite(Volume(array))
    array[0, 0, 0], array[3, 0, 0], array[2, 1, 1] = np.nan, np.nan, -np.inf
    with pytest.raises(VolumeError, match="volume: expected finite voxels, got 2 NaN and 1 infinite ones"):
        check_finite(Volume(array))
    with open_volume(Volume(array)) as reader, pytest.raises(VolumeError, match=r"a\.tif: .* 2 NaN and 1 infinite"):
        check_finite(reader, "a.tif")
    check_finite(Volume(np.ones((2, 2, 2), np.uint8)))


def test_an_image_without_signal_is_refused(monkeypatch):
    monkeypatch.setattr("neuron_vit3d.volumes.volume._SLAB_BYTES", 1)
    array = np.full((3, 4, 4), 7, np.uint8)
    with pytest.raises(VolumeError, match=r"dark\.tif: expected an image, got the value 7 in every voxel"):
        check_signal(Volume(array, source="dark.tif"))
    array[2, 3, 3] = 8
    check_signal(Volume(array))
    check_signal(Volume(np.stack([np.zeros((2, 2, 2)), np.ones((2, 2, 2))])))


def test_the_content_decides_the_format(tmp_path):
    array = image((3, 4, 5))
    for suffix in (".tif", ".tiff", ".btf", ".TIF", ".v3draw", ".raw", ".npy"):
        written = write_volume(tmp_path / f"a{suffix}", Volume(array))
        renamed = written.rename(tmp_path / "a.unknown")
        volume = read_volume(str(renamed))
        np.testing.assert_array_equal(volume.array, array)
        assert volume.source == str(renamed)
        with open_volume(renamed) as reader:
            np.testing.assert_array_equal(reader.read(1, 3), array[1:3])


@pytest.mark.parametrize(
    "name",
    [
        *"a.tif a.TIFF a.ome.tif a.v3draw a.v3dpbd a.npy a.nrrd a.nhdr".split(),
        *"a.nii a.NII.gz a.zarr a.ome.zarr a.czi a.lsm".split(),
    ],
)
def test_names_of_volumes(tmp_path, name):
    assert is_volume_name(name) and volume_stem(name) == "a"
    assert is_volume_folder(tmp_path / name) == name.endswith(".zarr")
    assert volume_stem(f"x.swc_{name}.v3dpbd") == f"x.swc_{name}"


def test_names_of_other_files():
    assert not any(map(is_volume_name, ["a", "a.swc", "a.png", "a.gz", "a.tif.ano", "nrrd", "a.nii.bz2"]))
    assert volume_stem("a.swc") == "a.swc"


def test_files_that_are_no_volumes_are_refused(tmp_path):
    path = tmp_path / "a.png"
    for content, message in [(b"", "got an empty file"), (b"\x89PNG....", "begins with")]:
        path.write_bytes(content)
        with pytest.raises(VolumeError, match=f"expected a TIFF, Vaa3D v3draw or v3dpbd, or .npy file, .*{message}"):
            read_volume(path)
    path.write_bytes(b"\x1f\x8b and nothing that gzip made")
    with pytest.raises(VolumeError, match="begins with"):
        read_volume(path)
    with pytest.raises(VolumeError, match="an OME-Zarr folder or a folder of numbered slices, got a folder"):
        read_volume(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_volume(tmp_path / "absent.tif")


def test_npy_is_mapped_and_never_unpickled(tmp_path):
    array, path = image((2, 3, 4, 5), np.uint16), tmp_path / "a.npy"
    write_volume(path, Volume(array))
    assert isinstance(read_volume(path).array, np.memmap)
    assert not isinstance(read_volume(path, memory_map=False).array, np.memmap)
    np.testing.assert_array_equal(read_volume(path, channel=1).array, array[1])
    np.save(path, array.astype(">u2"))
    assert read_volume(path).dtype.isnative
    np.testing.assert_array_equal(read_volume(path).array, array)
    header = "{'descr': '<u2', 'fortran_order': False, 'shape': (2L, 3L, 4L, 5L), }".ljust(117) + "\n"
    path.write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode() + array.tobytes())
    with warnings.catch_warnings(action="error"):  # numpy warns of what Python 2 wrote, and does not say of which file
        np.testing.assert_array_equal(read_volume(path).array, array)
    np.save(path, np.array([[[{}]]], dtype=object))
    with pytest.raises(VolumeError, match=r"expected a \.npy array"):
        read_volume(path)
    np.save(path, array)
    content = path.read_bytes()
    for damaged in (content[:-1], content[:50], content.replace(b"(2, 3, 4, 5)", b"(2, 3, 4, 10**9)"), content[:7]):
        path.write_bytes(damaged)
        with pytest.raises(VolumeError, match=r"expected a \.npy array"):
            read_volume(path, memory_map=False)
    np.save(path, array[0, 0, 0])
    with pytest.raises(VolumeError, match=r"got shape \(5,\)"):
        read_volume(path)


def test_npy_of_one_slice_surplus_bytes_and_channels_last(tmp_path):
    array, path = image((2, 3, 40, 50), np.uint16), tmp_path / "a.npy"
    np.save(path, array[0, 0])
    with pytest.warns(UserWarning, match="is one 2D image 40 x 50, read as a volume of one slice"):
        np.testing.assert_array_equal(read_volume(path).array, array[0, :1])
    with path.open("wb") as file:
        np.save(file, array)
        np.save(file, array[0])
    with pytest.warns(UserWarning, match="and 12128 more follow, which are left out"):
        np.testing.assert_array_equal(read_volume(path).array, array)
    for last in (np.moveaxis(array, 0, -1), np.moveaxis(array[:, 0], 0, -1)):
        np.save(path, last)
        with pytest.raises(VolumeError, match=r"looks like channels: save numpy\.moveaxis\(array, -1, 0\)"):
            read_volume(path)
    np.save(path, array[..., :6])
    assert read_volume(path).array.shape == (2, 3, 40, 6)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", [".tif", ".v3draw", ".npy", ".nrrd", ".nii"])
def test_plain_files_are_mapped_in_either_byte_order(tmp_path, suffix, order):
    """A slice and a box take no memory for the others."""
    array = image((64, 128, 128), np.uint16)
    path, stored = tmp_path / f"a{suffix}", array.astype(f"{order}u2")
    if suffix == ".tif":
        tifffile.imwrite(path, array, byteorder=order, photometric="minisblack")
    elif suffix == ".v3draw":
        header = b"raw_image_stack_by_hpeng" + (b"L" if order == "<" else b"B")
        path.write_bytes(header + struct.pack(f"{order}h4i", 2, 128, 128, 64, 1) + stored.tobytes())
    elif suffix == ".npy":
        np.save(path, stored)
    elif suffix == ".nrrd":
        nrrd = pytest.importorskip("nrrd")
        nrrd.write(str(path), np.asfortranarray(stored.transpose()), {"encoding": "raw"})
    else:
        nibabel = pytest.importorskip("nibabel")
        header = nibabel.Nifti1Header(endianness=order)
        header.set_data_dtype(stored.dtype)
        nibabel.Nifti1Image(array.transpose(), np.eye(4), header).to_filename(path)
    for memory_map in (True, False):
        volume = read_volume(path, memory_map=memory_map)
        assert volume.dtype == np.uint16 and volume.dtype.isnative
        np.testing.assert_array_equal(volume.array, array)
        assert isinstance(volume.array, np.memmap) == (memory_map and stored.dtype.isnative)
    box = slice(3, 5), slice(7, 99), slice(1, 128)
    tracemalloc.start()
    try:
        with open_volume(path) as reader:
            slices, part = reader.read(9, 11), reader.read_box(box)
            assert reader.dtype.isnative and slices.dtype.isnative and part.dtype.isnative
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(slices, array[9:11])
    np.testing.assert_array_equal(part, array[box])
    assert peak < array.nbytes / 2


def test_slices_are_read_as_copies_and_only_inside():
    volume = Volume(image((5, 4, 4), ">u2"))
    with open_volume(volume) as reader:
        slices = reader.read(1, 3)
        assert slices.dtype == np.uint16 and slices.dtype.isnative and slices.flags.c_contiguous
        slices[:] = 0
        assert volume.array[1:3].any()
        assert open_volume(reader) is reader
        for z0, z1 in [(-1, 2), (2, 2), (3, 6)]:
            with pytest.raises(VolumeError, match="expected 0 <= z0 < z1 <= 5"):
                reader.read(z0, z1)
    with pytest.raises(VolumeError, match="has 2 channels"):
        open_volume(Volume(image((2, 3, 4, 5))))
    with open_volume(Volume(image((2, 3, 4, 5))), channel=1) as reader:
        assert reader.shape == (3, 4, 5)


def test_writing_needs_a_volume_and_a_known_suffix(tmp_path):
    with pytest.raises(VolumeError, match=r"cannot tell the format to write from '\.png'"):
        write_volume(tmp_path / "a.png", Volume(image((2, 2, 2))))
    with pytest.raises(VolumeError, match="no suffix"):
        write_volume(tmp_path / "a", Volume(image((2, 2, 2))))
    with pytest.raises(VolumeError, match="expected a Volume to write, got ndarray"):
        write_volume(tmp_path / "a.tif", image((2, 2, 2)))
    assert not list(tmp_path.iterdir())


def test_a_file_appears_complete_or_not_at_all(tmp_path, monkeypatch):
    path = write_volume(tmp_path / "a.npy", Volume(image((2, 3, 4))))
    before = path.read_bytes()

    def fails(file, *arguments, **options):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "save", fails)
    with pytest.raises(OSError, match="disk full"):
        write_volume(path, Volume(image((3, 3, 3))))
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["a.npy"]
