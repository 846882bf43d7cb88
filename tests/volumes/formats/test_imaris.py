"""Imaris files, written by h5py as their description says: padding, channels, voxel sizes, and what is refused."""

import sys
import tracemalloc

import numpy as np
import pytest

from neuron_vit3d.volumes import VolumeError, is_volume_name, open_volume, read_volume


h5py = pytest.importorskip("h5py")

SHAPE, STORED = (5, 12, 18), (8, 16, 32)  # z, y, x of the image, and padded to whole chunks
ARRAY = np.random.default_rng(0).integers(1, 999, (2, *SHAPE)).astype(np.uint16)


def characters(value):
    """Imaris writes text as an array of single characters."""
    return np.frombuffer(str(value).encode(), "S1")


def write(path, array=ARRAY, times=1, unit="um", sizes=SHAPE, pad=7, text=characters, **options):
    """A file with two resolutions. The padding is no zeros here, so that it would be seen."""
    options = {"compression": "gzip", "compression_opts": 2, "chunks": (4, 8, 16), **options}
    with h5py.File(path, "w") as file:
        for key, value in {"DataSetDirectoryName": "DataSet", "ImarisDataSet": "ImarisDataSet"}.items():
            file.attrs[key] = text(value)
        info = file.create_group("DataSetInfo/Image").attrs
        for axis, low, high in ((0, -4.5, 4.5), (1, 10, 13), (2, 0, 10)):  # x y z
            info[f"ExtMin{axis}"], info[f"ExtMax{axis}"] = text(low), text(high)
        if unit:
            info["Unit"] = text(unit)
        for level, step in ((0, 1), (1, 2)):
            for time in range(times):
                for number, one in enumerate(array):
                    place = f"DataSet/ResolutionLevel {level}/TimePoint {time}/Channel {number}"
                    group = file.create_group(place)
                    for axis, size in zip("ZYX", sizes, strict=True):
                        group.attrs[f"ImageSize{axis}"] = text(size // step)
                    stored = np.full(STORED, pad, one.dtype)
                    stored[: SHAPE[0], : SHAPE[1], : SHAPE[2]] = one
                    group.create_dataset("Data", data=stored[::step, ::step, ::step], **options)
    return path


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "u4", "f4"])
@pytest.mark.parametrize("text", [characters, str, lambda value: np.bytes_(str(value))])
def test_the_image_without_its_padding(tmp_path, dtype, text):
    array = ARRAY.astype(dtype)
    path = write(tmp_path / "a.ims", array, text=text)
    assert is_volume_name(path.name)
    volume = read_volume(path)
    assert volume.dtype == np.dtype(dtype).newbyteorder("=") and volume.dtype.isnative
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.voxel_size, (2, 0.25, 0.5))
    np.testing.assert_array_equal(read_volume(path, channel=1).array, array[1])
    path.rename(tmp_path / "a.unknown")
    assert read_volume(tmp_path / "a.unknown").num_channels == 2


def test_slices_and_boxes_as_they_are_asked_for(tmp_path):
    path = write(tmp_path / "a.ims")
    with open_volume(path, channel=1) as reader:
        assert (reader.shape, reader.piece, reader.num_channels) == (SHAPE, (4, 8, 16), 2)
        np.testing.assert_array_equal(reader.read(3, 5), ARRAY[1, 3:5])
        box = (slice(1, 5), slice(7, 12), slice(3, 18))
        np.testing.assert_array_equal(reader.read_box(box), ARRAY[1][box])
        np.testing.assert_array_equal(np.concatenate([reader.read(z, z + 1) for z in range(5)]), ARRAY[1])
    for read in (read_volume, open_volume):
        with pytest.raises(VolumeError, match="expected a channel from 0 to 1, got 2"):
            read(path, channel=2)
    with pytest.raises(VolumeError, match="choose one with channel=0"):
        open_volume(path)
    single = write(tmp_path / "b.ims", ARRAY[:1], chunks=None, compression=None, compression_opts=None)
    np.testing.assert_array_equal(read_volume(single).array, ARRAY[0])


def test_channels_are_in_the_order_of_their_numbers(tmp_path):
    array = np.arange(11, dtype=np.uint8)[:, None, None, None] * np.ones((1, *SHAPE), np.uint8)
    assert read_volume(write(tmp_path / "a.ims", array)).array[:, 0, 0, 0].tolist() == list(range(11))


@pytest.mark.parametrize(
    ("unit", "factor"), [("um", 1), ("nm", 0.001), ("mm", 1000), ("m", 1e6), ("", None), ("furlong", None)]
)
def test_voxel_sizes(tmp_path, unit, factor):
    size = read_volume(write(tmp_path / "a.ims", unit=unit)).voxel_size
    assert size == (None if factor is None else pytest.approx((2 * factor, 0.25 * factor, 0.5 * factor)))


def test_sizes_that_are_not_given_are_those_stored(tmp_path):
    path = write(tmp_path / "a.ims")
    with h5py.File(path, "r+") as file:
        for number in (0, 1):
            for axis in "ZYX":
                del file[f"DataSet/ResolutionLevel 0/TimePoint 0/Channel {number}"].attrs[f"ImageSize{axis}"]
        del file["DataSetInfo"]
    volume = read_volume(path)
    assert (volume.shape, volume.voxel_size) == (STORED, None)


def other_dtype(file):
    place = "DataSet/ResolutionLevel 0/TimePoint 0/Channel 1/Data"
    del file[place]
    file.create_dataset(place, shape=STORED, dtype="u1")


def other_data(make):
    def change(file):
        for number in (0, 1):
            group = file[f"DataSet/ResolutionLevel 0/TimePoint 0/Channel {number}"]
            del group["Data"]
            make(group)

    return change


def external(group):
    group.create_dataset("Data", shape=STORED, dtype="u2", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def link(group):
    group["Data"] = h5py.ExternalLink("b.ims", "x")


def lz4(group):
    group.create_dataset(
        "Data", STORED, "u2", chunks=(4, 8, 16), compression=32999, allow_unknown_filter=True
    )  # as LZ4 is where it is not installed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.move("DataSet", "Other"), "an HDF5 file without 'DataSet/ResolutionLevel 0'"),
        (other_dtype, "expected channels alike, got 2 sizes or types"),
        (other_data(lambda group: None), "expected channels with voxels"),
        (other_data(external), "expected its voxels in this file, got them in others"),
        (other_data(link), "expected 'Data' in this file, got a link"),
        (other_data(lz4), "filter 32999 .* pip install hdf5plugin"),
        (other_data(lambda group: group.create_dataset("Data", STORED, "c8")), "of at most 64 bits, got complex64"),
        (other_data(lambda group: group.create_dataset("Data", STORED[1:], "u2")), "not a readable Imaris file"),
        (other_data(lambda group: group.create_dataset("Data", (5, 12, 17), "u2")), "z, y, x within what is stored"),
    ],
)
def test_what_is_refused(tmp_path, change, message):
    path = write(tmp_path / "a.ims")
    with h5py.File(path, "r+") as file:
        change(file)
    for read in (read_volume, lambda path: open_volume(path, channel=0)):
        with pytest.raises(VolumeError, match=message) as error:
            read(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_time_points_sizes_that_lie_and_damage(tmp_path):
    with pytest.raises(VolumeError, match="got 2 time points"):
        read_volume(write(tmp_path / "a.ims", times=2))
    for sizes in ((0, 12, 18), (5, -12, 18), (5, 17, 18)):
        with pytest.raises(VolumeError, match="z, y, x within what is stored"):
            read_volume(write(tmp_path / "a.ims", sizes=sizes))
    content = write(tmp_path / "a.ims").read_bytes()
    for cut in (9, 100, len(content) // 2):
        path = tmp_path / "b.ims"
        path.write_bytes(content[:cut])
        with pytest.raises(VolumeError, match="not a readable Imaris file"):
            read_volume(path)


def test_voxels_that_the_file_cannot_hold_are_refused_before_memory_is_taken(tmp_path):
    path = tmp_path / "a.ims"
    with h5py.File(path, "w") as file:  # chunks that are not there hold the fill value
        group = file.create_group("DataSet/ResolutionLevel 0/TimePoint 0/Channel 0")
        group.create_dataset("Data", (4000, 4000, 4000), "u2", chunks=(8, 64, 64), compression="gzip")
    tracemalloc.start()
    with pytest.raises(VolumeError, match=r"which its \d+ bytes cannot hold"):
        read_volume(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000
    with open_volume(path) as reader:
        assert not reader.read_box((slice(9, 17), slice(60, 70), slice(3990, 4000))).any()


def test_without_the_library_the_error_says_what_to_install(tmp_path, monkeypatch):
    path = write(tmp_path / "a.ims")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(VolumeError, match=r'pip install "neuron_vit3d\[imaris\]"'):
        read_volume(path)
