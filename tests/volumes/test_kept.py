"""Slices that are kept after they were decoded: right, bounded, and decoded once where there is room."""

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d.volumes import kept as module
from neuron_vit3d.volumes import open_volume
from neuron_vit3d.volumes.kept import KeptSlices


ARRAY = np.arange(40 * 6 * 8, dtype=np.uint16).reshape(40, 6, 8)
SLICE_BYTES = ARRAY[0].nbytes


@pytest.fixture
def room(monkeypatch):
    def slices(at_once, kept):
        monkeypatch.setattr(module, "_MOST_READ", at_once * SLICE_BYTES)
        monkeypatch.setattr(module, "_MOST_KEPT", kept * SLICE_BYTES)

    return slices


def counting(array=ARRAY):
    reads = []

    def read(z0, z1):
        assert 0 <= z0 < z1 <= len(array)
        reads.append((z0, z1))
        return array[z0:z1]

    return read, reads


@settings(max_examples=60, deadline=None)
@given(
    requests=st.lists(st.tuples(st.integers(0, 39), st.integers(1, 40)), min_size=1, max_size=12),
    layer=st.integers(1, 50),
    at_once=st.integers(0, 12),
    kept=st.integers(0, 20),
)
def test_what_is_read_is_right_and_what_is_kept_is_bounded(requests, layer, at_once, kept):
    read, reads = counting()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MOST_READ", at_once * SLICE_BYTES)
        patch.setattr(module, "_MOST_KEPT", kept * SLICE_BYTES)
        slices = KeptSlices(read, ARRAY.shape, ARRAY.dtype, layer)
    for z0, count in requests:
        z1 = min(z0 + count, len(ARRAY))
        np.testing.assert_array_equal(slices.read(z0, z1), ARRAY[z0:z1])
        np.testing.assert_array_equal(list(slices.slices(z0, z1)), ARRAY[z0:z1])
        assert len(slices._kept) <= kept
    assert all(z1 - z0 <= max(at_once, 1) or (z0, z1 - z0) in requests or z1 == len(ARRAY) for z0, z1 in reads)


def zarr_of(path, array=ARRAY, layer=16, **options):
    zarr = pytest.importorskip("zarr")
    zarr.create_array(path, data=array, chunks=(layer, 4, 4), **options)
    return path


@pytest.mark.parametrize("options", [{}, {"shards": (32, 8, 8)}])
def test_a_layer_of_chunks_is_decoded_once_for_slices_one_by_one(tmp_path, monkeypatch, room, options):
    """A window of 4 slices that moves on by one; a layer fills all that is read at a time."""
    room(16, 32)
    path = zarr_of(tmp_path / "a.zarr", **options)
    with open_volume(path) as reader:
        reads = count_reads(monkeypatch)
        for z in range(len(ARRAY) - 3):
            np.testing.assert_array_equal(reader.read(z, z + 4), ARRAY[z : z + 4])
    assert reads == [(0, 16), (16, 32), (32, 40)]


def test_of_a_layer_too_large_to_keep_as_many_slices_are_read_as_fit(tmp_path, monkeypatch, room):
    room(6, 12)
    path = zarr_of(tmp_path / "a.zarr")
    with open_volume(path) as reader:
        reads = count_reads(monkeypatch)
        for z in range(len(ARRAY)):
            np.testing.assert_array_equal(reader.read(z, z + 1), ARRAY[z : z + 1])
        assert reads == [(0, 6), (6, 12), (12, 16), (16, 22), (22, 28), (28, 32), (32, 38), (38, 40)]
        reads.clear()
        reader.read(3, 33)  # the caller takes more than is read at a time: nothing is read around it
        assert reads == [(3, 33)]


def count_reads(monkeypatch) -> list[tuple[int, int]]:
    from neuron_vit3d.volumes.formats.zarr import _Image

    reads, read = [], _Image.read

    def counted(self, channel, z, *rest):
        reads.append((z.start, z.stop))
        return read(self, channel, z, *rest)

    monkeypatch.setattr(_Image, "read", counted)
    return reads


def boxes(depth, around=0):
    """In the order of the voxels, as regions are."""
    for z in range(0, len(ARRAY), depth):
        for y in range(0, 6, 3):
            for x in range(0, 8, 4):
                yield slice(max(0, z - around), min(z + depth + around, 40)), slice(y, y + 3), slice(x, x + 4)


@pytest.mark.parametrize("around", [0, 2])
def test_boxes_side_by_side_decode_a_slice_of_a_compressed_tiff_once(tmp_path, monkeypatch, room, around):
    room(8, 16)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, ARRAY, compression="zlib", photometric="minisblack")
    decoded = count_decoded(monkeypatch)
    with open_volume(path) as reader:
        for box in boxes(8, around):
            np.testing.assert_array_equal(reader.read_box(box), ARRAY[box])
    assert decoded == list(range(len(ARRAY)))


def test_of_boxes_deeper_than_what_is_kept_the_first_slices_are_decoded_once(tmp_path, monkeypatch, room):
    room(2, 6)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, ARRAY, compression="zlib", photometric="minisblack")
    decoded = count_decoded(monkeypatch)
    with open_volume(path) as reader:
        for box in boxes(10):
            np.testing.assert_array_equal(reader.read_box(box), ARRAY[box])
    assert len(decoded) == 4 * (6 + 4 * 4)


def count_decoded(monkeypatch) -> list[int]:
    from neuron_vit3d.volumes.formats.tiff_reader import _Stack

    decoded, decode = [], _Stack._decode

    def counted(self, plane):
        decoded.append(plane)
        return decode(self, plane)

    monkeypatch.setattr(_Stack, "_decode", counted)
    return decoded
