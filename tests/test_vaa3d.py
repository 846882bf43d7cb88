"""Vaa3D files: real ones, an independent encoder and a byte-by-byte decoder as the truth, and headers that lie."""

import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d.volumes import Volume, VolumeError, open_volume, read_volume, write_volume


RAW, PBD = b"raw_image_stack_by_hpeng", b"v3d_volume_pkbitdf_encod"
QUICK = settings(max_examples=25, deadline=None)


def header(key, shape, itemsize, order="<", size_code="i"):
    """shape is (c, z, y, x)."""
    letter = b"L" if order == "<" else b"B"
    return key + letter + struct.pack(f"{order}h4{size_code}", itemsize, *shape[::-1])


def pack_differences(codes, width):
    """2-bit codes lowest bits first, 3-bit codes highest bits first; padded to whole bytes."""
    if width == 2:
        codes = np.pad(codes, (0, -len(codes) % 4)).reshape(-1, 4)
        return bytes((codes << np.array([0, 2, 4, 6])).sum(1).astype(np.uint8))
    return bytes(np.packbits((np.array(codes)[:, None] >> np.array([2, 1, 0])) & 1))


def encode_pbd(array, order="<"):
    """A small greedy v3dpbd encoder: repetitions from 3 voxels on, rows of small differences from 4 on, else literals."""
    values = array.astype(array.dtype.newbyteorder(order)).ravel()
    wide = array.dtype.itemsize == 2
    most_literal, most_repeat, most_changes = (32, 33, 48) if wide else (33, 128, 95)
    repeat_base, change_base = (222, 31) if wide else (127, 32)
    code_of = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, -1: 5, -2: 6, -3: 7} if wide else {0: 0, 1: 1, 2: 2, -1: 3}
    plain, change = values.astype(int), np.diff(values.astype(int), prepend=-(10**6))
    stream, literal, i = bytearray(), [], 0

    def flush():
        if literal:
            stream.append(len(literal) - 1)
            stream.extend(values[literal].tobytes())
            literal.clear()

    while i < len(values):
        run = 1
        while run < most_repeat and i + run < len(values) and plain[i + run] == plain[i]:
            run += 1
        changes = 0
        while changes < most_changes and i + changes < len(values) and change[i + changes] in code_of:
            changes += 1
        if run >= 3 and run >= changes:
            flush()
            stream.append(repeat_base + run)
            stream.extend(values[i : i + 1].tobytes())
            i += run
        elif changes >= 4:
            flush()
            stream.append(change_base + changes)
            stream.extend(pack_differences([code_of[c] for c in change[i : i + changes]], 3 if wide else 2))
            i += changes
        else:
            literal.append(i)
            i += 1
            if len(literal) == most_literal:
                flush()
    flush()
    return bytes(stream)


def decode_slowly(stream, wide):
    """One voxel at a time, straight from the table of codes; little-endian."""
    out, i, size = [], 0, 2 if wide else 1
    bottom, top = (79, 223) if wide else (127, 128)
    while i < len(stream):
        code, i = stream[i], i + 1
        if code < (32 if wide else 33):
            out += [int.from_bytes(stream[i + k * size : i + (k + 1) * size], "little") for k in range(code + 1)]
            i += (code + 1) * size
        elif code <= bottom:
            count, width = (code - 31, 3) if wide else (code - 32, 2)
            length = (count * width + 7) // 8
            for k in range(count):
                if wide:
                    bits = int.from_bytes(stream[i : i + length], "big") >> (8 * length - 3 * (k + 1)) & 7
                    step = bits if bits < 5 else 4 - bits
                else:
                    step = (0, 1, 2, -1)[stream[i + k // 4] >> 2 * (k % 4) & 3]
                out.append(((out[-1] if out else 0) + step) % (1 << 8 * size))
            i += length
        else:
            assert code >= top
            out += [int.from_bytes(stream[i : i + size], "little")] * (code - (222 if wide else 127))
            i += size
    return np.array(out, np.uint16 if wide else np.uint8)


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


def test_operations_are_decoded_across_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("neuron_vit3d.volumes.vaa3d._OPERATIONS_AT_ONCE", 3)
    array = smooth((1, 4, 16, 16), np.uint8, seed=1)
    path = tmp_path / "a.v3dpbd"
    path.write_bytes(header(PBD, array.shape, 1) + encode_pbd(array))
    np.testing.assert_array_equal(read_volume(path).array, array[0])


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


def test_damaged_files_are_refused_or_read_and_take_little_memory(tmp_path):
    """200 cuts and bit flips: VolumeError or a volume of the file's size, never another error, never more memory than bytes allow."""
    random = np.random.default_rng(0)
    array = smooth((2, 4, 12, 12), np.uint8)
    wide = array.astype(np.uint16)
    files = [
        header(RAW, array.shape, 1) + array.tobytes(),
        header(PBD, array.shape, 1) + encode_pbd(array),
        header(PBD, array.shape, 2) + encode_pbd(wide),
    ]
    path, refused, read = tmp_path / "a.v3dpbd", 0, 0
    for attempt in range(200):
        content = bytearray(files[attempt % 3])
        if attempt % 2:
            content = content[: random.integers(len(content))]
        else:
            where = random.integers(24, 43) if attempt % 4 else random.integers(24, len(content))
            content[where] ^= 1 << random.integers(8)
        path.write_bytes(content)
        tracemalloc.start()
        try:
            assert read_volume(path).array.size <= 64 * len(content)
            read += 1
        except VolumeError as error:
            assert "\n" not in str(error)
            refused += 1
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 3_000_000, (attempt, peak)
    assert refused > 100 and read > 0
