"""Damaged files: refused in one line, or read as the naive reference reads them; no crash, no memory that the bytes do
not justify."""

import logging
import struct
import tracemalloc
import warnings

import numpy as np
import pytest

from neuron_vit3d.volumes import VolumeError, open_volume, read_volume
from support.pbd_files import PBD, RAW, encode_pbd, header, read_slowly


# Bytes of memory that a byte of the file can stand for: what its code can become at most, twice (the array and a
# working copy).
# v3dpbd: 64 voxels of 1 byte or 11 of 2; deflate (here of 4 KB at most): 1032.
MOST = {"v3draw": 2, "v3dpbd": 2 * 64, "tif": 2 * 1032, "npy": 2}
WORKING_MEMORY = 4_000_000  # of a reader, whatever the file: parsed metadata, buffers, the operations at hand
RUNS = 200


@pytest.fixture(autouse=True)
def quiet():
    """tifffile logs what it finds odd in a damaged file, at length."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def image(shape, dtype, seed=0):
    """Flat parts, slopes and noise, so that every kind of operation of v3dpbd occurs."""
    steps = np.random.default_rng(seed).choice([0, 0, 0, 0, 1, -1, 2, 0, 0, 50, -49], size=shape)
    return np.cumsum(steps).reshape(shape).astype(dtype)


def vaa3d_files():
    shape = (2, 3, 7, 11)
    yield "v3draw", header(RAW, shape, 1) + image(shape, np.uint8).tobytes()
    yield "v3draw", header(RAW, shape, 2, ">", "h") + image(shape, ">u2").tobytes()
    yield "v3draw", header(RAW, shape, 4) + image(shape, "<f4").tobytes()
    for order in "<>":
        for dtype in (np.uint8, np.uint16):
            array = image(shape, dtype)
            yield "v3dpbd", header(PBD, shape, array.itemsize, order) + encode_pbd(array, order)


def other_files(folder):
    import tifffile

    array = image((3, 9, 10), np.uint8)
    for number, options in enumerate(
        [
            {"photometric": "minisblack"},
            {"compression": "zlib"},
            {"imagej": True},
            {"bigtiff": True, "compression": "zlib"},
            {"byteorder": ">", "rowsperstrip": 4},
            {"tile": (16, 16), "compression": "zlib"},
            {"ome": True},
        ]
    ):
        path = folder / f"{number}.tif"
        tifffile.imwrite(path, array, metadata={"axes": "ZYX"}, **{"photometric": "minisblack", **options})
        yield "tif", path.read_bytes()
    for dtype in (np.uint8, ">u2", np.float32):
        path = folder / "a.npy"
        np.save(path, array.astype(dtype))
        yield "npy", path.read_bytes()


def damaged(content, header_bytes, random):
    """The file cut, with bits flipped, with a header field that lies, with bytes inserted or removed."""
    content = bytearray(content)
    kind = random.integers(6)
    if kind == 0:
        return bytes(content[: random.integers(len(content))])
    if kind == 1:  # bits of the header
        for _ in range(random.integers(1, 4)):
            content[random.integers(header_bytes)] ^= 1 << random.integers(8)
    elif kind == 2:  # bits anywhere
        for _ in range(random.integers(1, 4)):
            content[random.integers(len(content))] ^= 1 << random.integers(8)
    elif kind == 3:  # a number somewhere in the header
        value = int(random.choice([0, 1, 2, 3, 7, 11, -1, 2**31 - 1, -(2**31), 65536, 40000]))
        at = int(random.integers(header_bytes - 4))
        content[at : at + 4] = struct.pack(random.choice(["<i", ">i"]), value)
    elif kind == 4:
        at = random.integers(len(content))
        content[at:at] = random.bytes(random.integers(1, 50))
    else:
        at = random.integers(len(content))
        del content[at : at + random.integers(1, 50)]
    return bytes(content)


def read_within(path, suffix):
    """The array, or None if the file was refused; fails on any other error, a message of several lines, or too much
    memory."""
    size = path.stat().st_size
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array = np.array(read_volume(path).array)
    except VolumeError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        array = None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < WORKING_MEMORY + MOST[suffix] * size, (peak, size)
    return array


def test_damaged_vaa3d_files_are_refused_or_read_as_the_reference_reads_them(tmp_path):
    random, files = np.random.default_rng(4), list(vaa3d_files())
    read = refused = 0
    for run in range(RUNS):
        suffix, content = files[run % len(files)]
        content = damaged(content, 43, random)
        path = tmp_path / f"a.{suffix}"
        path.write_bytes(content)
        array, expected = read_within(path, suffix), read_slowly(content)
        assert (array is None) == (expected is None), (run, path.read_bytes()[:43])
        if expected is None:
            refused += 1
        else:
            read += 1
            np.testing.assert_array_equal(array, expected[0] if len(expected) == 1 else expected)
    assert refused > 80 and read > 10, (refused, read)


def test_damaged_tiff_and_npy_files_are_refused_or_read(tmp_path):
    random, files = np.random.default_rng(5), list(other_files(tmp_path))
    read = refused = 0
    for run in range(RUNS):
        suffix, content = files[run % len(files)]
        content = damaged(content, 128 if suffix == "npy" else min(400, len(content)), random)
        path = tmp_path / f"a.{suffix}"
        path.write_bytes(content)
        array = read_within(path, suffix)
        if array is None:
            refused += 1
            continue
        read += 1
        if suffix == "npy":
            np.testing.assert_array_equal(array, np.load(path))
        else:
            assert array.nbytes <= 1032 * len(content)
            assert_planes_are_those_of_tifffile(path, array)
    assert refused > 60 and read > 30, (refused, read)


def assert_planes_are_those_of_tifffile(path, array):
    """Each slice read is a page as tifffile decodes it; which, and in which order, the damaged description may say."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        if len(tiff.pages) == 1:  # the only page of a stack in one piece, as ImageJ and tifffile write it
            data = path.read_bytes()
            assert array.tobytes() in data or array.shape[0] == 1
            return
        pages = [page.asarray() for page in tiff.pages if page.shape == array.shape[-2:]]
    known = {page.astype(array.dtype).tobytes() for page in pages}
    assert {plane.tobytes() for plane in array.reshape(-1, *array.shape[-2:])} <= known


HUGE = 2**31 - 1
LIES = [
    (HUGE, HUGE, HUGE, HUGE),
    (1, HUGE, 1, 1),
    (65536, 65536, 65536, 65536),  # the product is 2 ** 64, which is 0 in 64 bits
    (1, 65536, 65536, 1),  # 2 ** 32, 0 in 32 bits
    (1, 4, 65536, 16385),
    (-1, -1, 3, 7),
    (-2, 3, -7, 11),
    (0, 3, 7, 11),
    (2, 3, 7, 0),
    (-(2**31), 2, 2, 2),
]


@pytest.mark.parametrize("shape", LIES, ids=str)
@pytest.mark.parametrize("itemsize", [1, 2, 4])
@pytest.mark.parametrize("key", [RAW, PBD])
def test_vaa3d_sizes_that_lie_are_refused(tmp_path, key, itemsize, shape):
    suffix = "v3draw" if key == RAW else "v3dpbd"
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(header(key, shape, itemsize) + bytes(range(128, 256)) * 8)
    assert read_within(path, suffix) is None
    with pytest.raises(VolumeError):
        open_volume(path)


@pytest.mark.parametrize("shape", LIES, ids=str)
def test_npy_and_tiff_sizes_that_lie_are_refused(tmp_path, shape):
    path = tmp_path / "a.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        file.write(bytes(1000))
    assert read_within(path, "npy") is None

    import tifffile

    _, _, height, width = shape
    path = tmp_path / "a.tif"
    for compression in (None, "zlib"):
        tifffile.imwrite(path, image((3, 8, 8), np.uint8), photometric="minisblack", compression=compression)
        with tifffile.TiffFile(path, mode="r+b") as tiff:
            for page in tiff.pages:
                page.tags["ImageLength"].overwrite(height % 2**32, dtype="I")
                page.tags["ImageWidth"].overwrite(width % 2**32, dtype="I")
        array = read_within(path, "tif")
        assert array is None or array.shape[-2:] == (height, width)
