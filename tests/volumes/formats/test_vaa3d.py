"""Vaa3D files: real ones, an independent encoder and a byte-by-byte decoder as the truth, and headers that lie."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d.volumes import Volume, VolumeError, open_volume, read_volume, write_volume
from support.pbd_files import PBD, RAW, decode_slowly, encode_pbd, header


QUICK = settings(max_examples=25, deadline=None)


@st.composite
def streams(draw, wide):
    """Any valid sequence of operations."""
    codes = [*range(80), *range(223, 256)] if wide else range(256)
    size, stream = 2 if wide else 1, b""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    for code in draw(st.lists(st.sampled_from(codes), min_size=1, max_size=40)):
        if code < (32 if wide else 33):
            length = (code + 1) * size
        elif code < (80 if wide else 128):
            length = ((code - 31) * 3 + 7) // 8 if wide else ((code - 32) * 2 + 7) // 8
        else:
            length = size
        stream += bytes([code]) + random.bytes(length)
    return stream


def smooth(shape, dtype, seed=0):
    """An image with flat parts, slopes and noise, so that every kind of operation occurs."""
    random = np.random.default_rng(seed)
    steps = random.choice([0, 0, 0, 0, 1, -1, 2, 0, 0, 50, -49], size=shape)
    return np.cumsum(steps).reshape(shape).astype(dtype)


@pytest.mark.real_data
@pytest.mark.parametrize("stack", ["123stack16", "testSliceDiffBoundary"])
def test_a_stack_reads_alike_from_every_format(shared, stack):
    raw = read_volume(shared / f"data/formats/{stack}.v3draw")
    packed = read_volume(shared / f"data/formats/{stack}.v3dpbd")
    assert raw.dtype == packed.dtype == np.uint16
    np.testing.assert_array_equal(raw.array, packed.array)
    if stack == "123stack16":  # saved by ImageJ too: no axis is flipped between the three
        tiff = read_volume(shared / f"data/formats/{stack}.tif")
        assert tiff.array.shape == (3, 5, 3)
        assert not np.array_equal(tiff.array, tiff.array[:, ::-1])
        np.testing.assert_array_equal(tiff.array, packed.array)
    else:
        assert raw.array.shape == (4, 16, 16, 16)
        np.testing.assert_array_equal(
            read_volume(shared / f"data/formats/{stack}.v3dpbd", channel=2).array, raw.array[2]
        )


@pytest.mark.real_data
def test_v3draw_written_by_another_program(shared):
    volume = read_volume(shared / "data/formats/nat_L1DS1_crop_straight_crop.v3draw")
    assert (volume.num_channels, volume.shape, volume.dtype) == (2, (6, 61, 51), np.uint8)
    assert volume.array[0, 0, 0, :4].tolist() == [0x10, 0x11, 0x12, 0x11]
    assert volume.array.std() > 1


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_encoded_volume_is_decoded(tmp_path, dtype, order):
    array = smooth((2, 5, 9, 11), dtype)
    path = tmp_path / "a.v3dpbd"
    path.write_bytes(header(PBD, array.shape, array.itemsize, order) + encode_pbd(array, order))
    assert path.stat().st_size < array.nbytes
    volume = read_volume(path)
    assert volume.dtype == dtype and volume.dtype.isnative
    np.testing.assert_array_equal(volume.array, array)
    with open_volume(path, channel=1) as reader:
        np.testing.assert_array_equal(reader.read(1, 4), array[1, 1:4])


@pytest.mark.parametrize("wide", [False, True])
def test_every_sequence_of_operations_is_decoded(tmp_path, wide):
    @QUICK
    @given(stream=streams(wide))
    def check(stream):
        expected = decode_slowly(stream, wide)
        path = tmp_path / "a.v3dpbd"
        path.write_bytes(header(PBD, (1, 1, 1, len(expected)), 1 + wide) + stream)
        np.testing.assert_array_equal(read_volume(path).array.ravel(), expected)

    check()


@pytest.mark.parametrize("window", [1, 50, 333])
@pytest.mark.parametrize("wide", [False, True])
def test_operations_are_decoded_across_windows_and_pieces(tmp_path, monkeypatch, wide, window):
    monkeypatch.setattr("neuron_vit3d.volumes.formats.pbd._WINDOW", window)
    monkeypatch.setattr("neuron_vit3d.volumes.formats.pbd._PIECE", 7)

    @QUICK
    @given(stream=streams(wide), order=st.sampled_from(["little", "big"]))
    def check(stream, order):
        expected = decode_slowly(stream, wide, order)
        path = tmp_path / "a.v3dpbd"
        path.write_bytes(header(PBD, (1, 1, 1, len(expected)), 1 + wide, "<" if order == "little" else ">") + stream)
        np.testing.assert_array_equal(read_volume(path).array.ravel(), expected)

    check()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_decoding_takes_little_more_memory_than_the_array(tmp_path, dtype):
    array = np.random.default_rng(0).normal(100, 3, (1, 4, 64, 64)).astype(dtype)
    times = 512
    path = tmp_path / "a.v3dpbd"
    path.write_bytes(header(PBD, (1, 4 * times, 64, 64), array.itemsize) + encode_pbd(array) * times)
    tracemalloc.start()
    volume = read_volume(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(
        volume.array.reshape(times, 4, 64, 64), np.broadcast_to(array[0], (times, 4, 64, 64))
    )
    assert peak < volume.array.nbytes + 10_000_000


def test_only_the_channel_asked_for_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("neuron_vit3d.volumes.formats.pbd._PIECE", 50)
    array = smooth((3, 2, 7, 11), np.uint8, seed=3)
    path = tmp_path / "a.v3dpbd"
    content = header(PBD, array.shape, 1) + encode_pbd(array)
    path.write_bytes(content)
    for channel in range(3):
        one = read_volume(path, channel=channel).array
        np.testing.assert_array_equal(one, array[channel])
        assert one.base is None or one.base.nbytes == one.nbytes
        with open_volume(path, channel=channel) as reader:
            np.testing.assert_array_equal(reader.read(0, 2), array[channel])
    with pytest.raises(VolumeError, match="expected a channel from 0 to 2, got 3"):
        read_volume(path, channel=3)
    path.write_bytes(content[:-1])  # what comes after the channel is checked all the same
    with pytest.raises(VolumeError, match="ends 1 bytes before its last operation"):
        read_volume(path, channel=0)


@QUICK
@given(
    shape=st.lists(st.integers(1, 6), min_size=3, max_size=4),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
    seed=st.integers(0, 99),
)
def test_v3draw_written_is_v3draw_read(tmp_path_factory, shape, dtype, seed):
    array = (np.random.default_rng(seed).random(shape) * 1000).astype(dtype)
    path = tmp_path_factory.mktemp("raw") / "a.v3draw"
    write_volume(path, Volume(array))
    expected = array[0] if array.ndim == 4 and len(array) == 1 else array
    for memory_map in (True, False):
        volume = read_volume(path, memory_map=memory_map)
        assert volume.dtype == dtype
        np.testing.assert_array_equal(volume.array, expected)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("size_code", ["i", "h"])
def test_v3draw_variants(tmp_path, order, size_code):
    array = np.arange(2 * 3 * 4 * 5, dtype=np.uint16).reshape(2, 3, 4, 5)
    path = tmp_path / "a.raw"
    path.write_bytes(header(RAW, array.shape, 2, order, size_code) + array.astype(f"{order}u2").tobytes())
    volume = read_volume(path)
    assert volume.dtype.isnative
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_array_equal(read_volume(path, channel=1).array, array[1])


def test_writing_masks_and_dtypes_that_do_not_fit(tmp_path):
    mask = np.array([[[True, False, True]]])
    write_volume(tmp_path / "mask.v3draw", Volume(mask))
    assert read_volume(tmp_path / "mask.v3draw").array.tolist() == [[[255, 0, 255]]]
    with pytest.raises(VolumeError, match="v3draw holds uint8, uint16 or float32 voxels, got float64"):
        write_volume(tmp_path / "b.v3draw", Volume(np.zeros((1, 1, 1))))
    with pytest.raises(VolumeError, match=r"read but not written; use \.v3draw"):
        write_volume(tmp_path / "b.v3dpbd", Volume(mask))
    assert [path.name for path in tmp_path.iterdir()] == ["mask.v3draw"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (RAW + b"L", "expected a Vaa3D header of 43 bytes, found 25 bytes"),
        (RAW + b"X" + bytes(18), "expected byte order"),
        (header(RAW, (1, 1, 1, 1), 3) + b"abc", "1, 2 or 4 bytes per voxel in the Vaa3D header, found 3"),
        (header(PBD, (1, 1, 1, 1), 4) + b"abcde", "expected 1 or 2 bytes per voxel"),
        (header(RAW, (1, 2, 3, 4), 1) + bytes(23), r"\(1, 2, 3, 4\) of 1 bytes, expected 67 bytes, found 66"),
        (header(RAW, (1, 2, 3, 4), 1) + bytes(25), "expected 67 bytes, found 68"),
        (header(RAW, (2**31 - 1,) * 4, 4) + bytes(9), "expected .* bytes, found 52"),
        (header(RAW, (-1, -1, 2, 2), 1) + bytes(4), "found 47"),
        (header(PBD, (2**31 - 1,) * 4, 1) + b"\xff\0", "but 2 bytes can hold at most 128"),
        (header(PBD, (1, 1, 0, 1), 1) + b"\xff\0", "0 voxels"),
        (header(PBD, (1, 1, 1, 100), 1) + b"\xff\0", "100 voxels .*, but the stream holds more"),
        (header(PBD, (1, 1, 1, 100), 1) + b"\x80\0\x80\0", "expected 100 voxels .*, but the stream ends after 2"),
        (header(PBD, (1, 1, 1, 10), 1) + b"\x09abc", "ends 7 bytes before its last operation"),
        (header(PBD, (1, 1, 1, 10), 2) + b"\x50abc", "4- or 5-bit differences"),
    ],
)
def test_damage_is_named(tmp_path, content, message):
    path = tmp_path / "a.v3draw"
    path.write_bytes(content)
    with pytest.raises(VolumeError, match=message) as error:
        read_volume(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
