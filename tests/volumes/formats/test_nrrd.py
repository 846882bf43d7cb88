"""NRRD files, written by pynrrd and by hand: axes, voxel sizes, encodings, and headers that lie."""

import bz2
import gzip
import tracemalloc

import numpy as np
import pytest

from neuron_vit3d.volumes import VolumeError, open_volume, read_volume


nrrd = pytest.importorskip("nrrd")

ARRAY = np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5)  # z y x


def write(path, array=ARRAY, header=None, **options):
    """pynrrd takes arrays x first."""
    nrrd.write(str(path), np.ascontiguousarray(array.transpose()), header or {}, **options)
    return path


def text(path, *lines, data=b""):
    path.write_bytes("\n".join(["NRRD0005", *lines, "", ""]).encode() + data)
    return path


def plain(sizes, *lines, kind="uint8", encoding="raw"):
    return (f"type: {kind}", f"dimension: {len(sizes.split())}", f"sizes: {sizes}", f"encoding: {encoding}", *lines)


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "i4", "f4", "f8", "u8"])
def test_what_pynrrd_writes_is_read(tmp_path, dtype, encoding):
    array = ARRAY.astype(dtype)
    path = write(tmp_path / "a.nrrd", array, {"encoding": encoding})
    for memory_map in (True, False):
        volume = read_volume(path, memory_map=memory_map)
        assert volume.dtype.isnative and volume.dtype == np.dtype(dtype).newbyteorder("=")
        np.testing.assert_array_equal(volume.array, array)
        assert isinstance(volume.array, np.memmap) == (encoding == "raw" and memory_map and np.dtype(dtype).isnative)
    with open_volume(path) as reader:
        np.testing.assert_array_equal(reader.read(1, 3), array[1:3])
    path.rename(tmp_path / "a.unknown")
    assert read_volume(tmp_path / "a.unknown").shape == (3, 4, 5)


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_a_second_file_holds_the_voxels(tmp_path, encoding):
    path = write(tmp_path / "a.nhdr", header={"encoding": encoding})
    np.testing.assert_array_equal(read_volume(path).array, ARRAY)


def test_a_second_file_is_looked_for_in_the_folder_of_the_header_only(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    secret = tmp_path / "secret.raw"
    secret.write_bytes(bytes(8))
    (folder / "link.raw").symlink_to(secret)
    for name in ("../secret.raw", str(secret), "link.raw"):
        path = text(folder / "a.nhdr", *plain("2 2 2", f"data file: {name}"))
        with pytest.raises(VolumeError, match="expected its data file in its own folder"):
            read_volume(path)
    for name, message in [
        ("absent.raw", "its data file 'absent.raw' is not there"),
        ("LIST", "in one file"),
        ("a%03d.raw 1 3 1", "in one file"),
    ]:
        path = text(folder / "a.nhdr", *plain("2 2 2", f"data file: {name}"))
        with pytest.raises(VolumeError, match=message):
            read_volume(path)
    (folder / "sub").mkdir()
    (folder / "sub" / "b.raw").write_bytes(b"12345678")
    assert read_volume(text(folder / "a.nhdr", *plain("2 2 2", "data file: sub/b.raw"))).array[1, 1, 1] == ord("8")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["spacings: 0.1 0.2 0.5", 'units: "mm" "um" "nm"'], (0.0005, 0.2, 100.0)),
        (["spacings: 0.1 0.2 0.5", 'units: "microns" "microns" "microns"'], (0.5, 0.2, 0.1)),
        (["spacings: 0.1 0.2 0.5"], None),
        (["spacings: 0.1 0.2 nan", 'units: "um" "um" "um"'], None),
        (
            ["space dimension: 3", "space directions: (0.3,0,0.4) (0,-2,0) (0,0,1)", 'space units: "um" "um" "um"'],
            (1, 2, 0.5),
        ),
        (["space: left-posterior-superior", "space directions: (0.3,0,0.4) (0,2,0) (0,0,1)"], None),
        (
            ["space dimension: 3", "space directions: (1,0,0) (0,1,0) (0,0,1)", 'space units: "furlong" "um" "um"'],
            None,
        ),
    ],
)
def test_voxel_sizes(tmp_path, lines, expected):
    volume = read_volume(text(tmp_path / "a.nrrd", *plain("2 2 2", *lines), data=bytes(8)))
    assert volume.voxel_size == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("lines", "order"),
    [
        (("kinds: ??? ??? ??? vector",), (0, 1, 2, 3)),
        (('labels: "x" "y" "z" "channels"',), (0, 1, 2, 3)),
        (('labels: "c" "z" "y" "x"',), (3, 2, 1, 0)),
        (("kinds: domain domain domain list",), (0, 1, 2, 3)),
        (("kinds: RGB-color domain domain domain",), (3, 0, 1, 2)),
        (("space dimension: 3", "space directions: none (1,0,0) (0,1,0) (0,0,1)"), (3, 0, 1, 2)),
        (("kinds: domain vector domain domain",), (2, 0, 1, 3)),
    ],
)
def test_axes(tmp_path, lines, order):
    """`order`: which numpy axis of the file c, z, y and x are."""
    stored = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    path = text(tmp_path / "a.nrrd", *plain("5 4 3 2", *lines), data=stored.tobytes())
    np.testing.assert_array_equal(read_volume(path).array, stored.transpose(order))
    np.testing.assert_array_equal(read_volume(path, channel=1).array, stored.transpose(order)[1])
    with pytest.raises(VolumeError, match="choose one with channel=0"):
        open_volume(path)


@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("kinds: domain domain domain domain",),
        ("kinds: domain domain domain ???",),
        ('labels: "a" "b" "c" "d"',),
        ('labels: "x" "y" "z" "intensity"',),
    ],
)
def test_which_of_four_axes_are_channels_is_not_guessed(tmp_path, lines):
    path = text(tmp_path / "a.nrrd", *plain("5 4 3 2", *lines), data=bytes(120))
    with pytest.raises(VolumeError, match="such as kinds: domain domain domain list") as error:
        read_volume(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    one = text(tmp_path / "a.nrrd", *plain("5 4 3 1", *lines), data=bytes(60))
    assert read_volume(one).array.shape == (3, 4, 5)


def test_a_2d_image_is_one_slice_and_told(tmp_path):
    stored = np.arange(60, dtype=np.uint8)
    with pytest.warns(UserWarning, match="is one 2D image 6 x 10, read as a volume of one slice"):
        volume = read_volume(text(tmp_path / "a.nrrd", *plain("10 6"), data=stored.tobytes()))
    np.testing.assert_array_equal(volume.array, stored.reshape(1, 6, 10))
    assert volume.voxel_size is None
    lines = plain("3 5 4", "kinds: RGB-color domain domain")
    with pytest.warns(UserWarning, match="2D image 4 x 5 with 3 channels"):
        volume = read_volume(text(tmp_path / "a.nrrd", *lines, data=stored.tobytes()))
    np.testing.assert_array_equal(volume.array[:, 0], stored.reshape(4, 5, 3).transpose(2, 0, 1))


@pytest.mark.parametrize(("encoding", "pack"), [("raw", bytes), ("gzip", gzip.compress), ("bzip2", bz2.compress)])
def test_surplus_bytes_are_told(tmp_path, encoding, pack):
    data = bytes(range(11))
    path = text(tmp_path / "a.nrrd", *plain("2 2 2", encoding=encoding), data=pack(data))
    for read in (read_volume, open_volume):
        with pytest.warns(UserWarning, match="8 bytes in all, and 3 more follow, which are left out") as told:
            read(path)
        assert str(path) in str(told[0].message)
    np.testing.assert_array_equal(read_volume(path).array.ravel(), np.arange(8))
    damaged = bytearray(pack(bytes(8)))
    if encoding == "gzip":  # the checksum behind the voxels is looked at, too
        damaged[-6] ^= 1
        with pytest.raises(VolumeError, match="damaged compressed voxels: CRC"):
            read_volume(text(tmp_path / "a.nrrd", *plain("2 2 2", encoding=encoding), data=damaged))


def test_skips_and_axes_of_length_one(tmp_path):
    data = bytes(range(8))
    expected = np.arange(8).reshape(2, 2, 2)
    for lines, content in [
        (("byte skip: 3",), b"abc" + data),
        (("byte skip: -1",), b"abcde" + data),
        (("line skip: 2",), b"a\nbc\n" + data),
        (("line skip: 1", "byte skip: 2"), b"a\nbc" + data),
    ]:
        path = text(tmp_path / "a.nrrd", *plain("2 2 2", *lines), data=content)
        np.testing.assert_array_equal(read_volume(path).array, expected)
    gz = text(
        tmp_path / "a.nrrd", *plain("2 2 2", "byte skip: 2", encoding="gz"), data=gzip.compress(b"ab" + data, mtime=0)
    )
    np.testing.assert_array_equal(read_volume(gz).array, expected)
    one = text(tmp_path / "a.nrrd", *plain("1 2 2 2 1", "kinds: list domain domain domain time"), data=data)
    np.testing.assert_array_equal(read_volume(one).array, expected)


HUGE = 2**40
BOMB = bz2.compress(bytes(50_000_000))


@pytest.mark.parametrize(
    ("lines", "data", "message"),
    [
        (plain("2 2 2"), bytes(7), "8 bytes in all, but 7 bytes follow"),
        (plain(f"{HUGE} {HUGE} {HUGE}"), bytes(99), "but 99 bytes follow"),
        (plain("4294967296 4294967296 1"), bytes(99), "but 99 bytes follow"),
        (plain("2 -2 2"), bytes(8), "2 or more positive sizes"),
        (plain("2 0 2"), bytes(8), "positive sizes"),
        (plain("2"), bytes(2), "2 or more"),
        (plain("2 2 2 2 2", "kinds: domain domain domain list list"), bytes(32), "at most one of channels"),
        (plain("2 2 2 2", "kinds: domain domain domain time"), bytes(16), "several time points"),
        (plain("2 2 2", "kinds: domain domain"), bytes(8), "not a readable NRRD header"),
        (plain("2 2 2", kind="block"), bytes(8), "not a readable NRRD header"),
        (plain("2 2 2", kind="uint16"), bytes(16), "not a readable NRRD header: KeyError: 'endian'"),
        (
            plain("2 2 2", encoding="ascii"),
            b"1 2 3 4 5 6 7 8",
            "expected NRRD encoding raw, gzip or bzip2, got 'ascii'",
        ),
        (plain("2 2 two"), bytes(8), "not a readable NRRD header"),
        (("type: uint8",), bytes(8), "not a readable NRRD header"),
        (("nonsense",), bytes(8), "not a readable NRRD header"),
        (plain("2 2 2", "byte skip: -7"), bytes(8), "byte skip from 0 on, or -1 with encoding raw, got -7 with raw"),
        (plain("2 2 2", "byte skip: -1", encoding="gzip"), gzip.compress(bytes(8)), "or -1 .* got -1 with gzip"),
        (plain("2 2 2", "byte skip: -1"), bytes(7), "but 7 bytes follow"),
        (plain("2 2 2", f"byte skip: {HUGE}"), bytes(8), "bytes in all, but 8 bytes follow"),
        (plain("2 2 2", f"line skip: {HUGE}"), bytes(8), "but 0 bytes follow"),
        (plain("2000 2000 2000", encoding="gzip"), gzip.compress(bytes(99), mtime=0), "of gzip can hold at most"),
        (
            plain("20 20 20", encoding="gzip"),
            gzip.compress(bytes(7999), mtime=0),
            r"of gzip hold 7999 \(truncated\?\)",
        ),
        (plain("20 20 20", encoding="gzip"), gzip.compress(bytes(8000), mtime=0)[:-20], "of gzip hold"),
        (plain("2 2 2", encoding="gzip"), b"no gzip", "damaged compressed voxels"),
        (plain("2000 2000 2000", encoding="bzip2"), BOMB, "of bzip2 hold 50000000"),
        (plain("2 2 2", encoding="bzip2"), b"no bzip2", "damaged compressed voxels"),
    ],
)
def test_lies_are_refused_before_memory_is_taken(tmp_path, lines, data, message):
    path = text(tmp_path / "a.nrrd", *lines, data=data)
    read_volume(text(tmp_path / "b.nrrd", *plain("1 1 1"), data=b"1"))  # imports
    tracemalloc.start()
    try:
        with pytest.raises(VolumeError, match=message) as error:
            read_volume(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert peak < 12_000_000


def test_a_bomb_is_unpacked_only_as_far_as_the_header_says(tmp_path):
    for encoding, packed in (("gzip", gzip.compress(bytes(50_000_000), mtime=0)), ("bzip2", BOMB)):
        path = text(tmp_path / "a.nrrd", *plain("2 2 2", encoding=encoding), data=packed)
        tracemalloc.start()
        assert read_volume(path).array.shape == (2, 2, 2)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 12_000_000


def test_damaged_files_are_refused_or_read(tmp_path):
    random, path = np.random.default_rng(0), tmp_path / "a.nrrd"
    files = [write(path, header={"encoding": encoding}).read_bytes() for encoding in ("raw", "gzip", "bzip2")]
    for run in range(150):
        content = bytearray(files[run % 3])
        if run % 2:
            del content[random.integers(len(content)) :]
        else:
            content[random.integers(len(content))] ^= 1 << random.integers(8)
        path.write_bytes(content)
        try:
            assert read_volume(path).array.nbytes <= 1032 * len(content)
        except VolumeError as error:
            assert "\n" not in str(error)


def test_without_the_library_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nrrd", None)
    path = text(tmp_path / "a.nrrd", *plain("2 2 2"), data=bytes(8))
    with pytest.raises(VolumeError, match=r'pip install "neuron_vit3d\[nrrd\]"'):
        read_volume(path)
