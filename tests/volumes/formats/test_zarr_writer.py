"""OME-Zarr written shard by shard, and the boxes that are read of it."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d.volumes import VolumeError, open_volume, read_volume
from neuron_vit3d.volumes.formats.zarr_writer import ImageLevel, create_image, lower_resolution, resolutions


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> tuple:
    path = tmp_path_factory.mktemp("zarr") / "image.ome.zarr"
    array = np.random.default_rng(0).integers(0, 999, (13, 50, 41), np.uint16)
    create_image(path, array.shape, array.dtype, (2.0, 0.5, 0.5), shard=(8, 32, 32), chunk=(4, 16, 16))
    level = ImageLevel(path)
    for index in range(len(level)):
        level.write(level.box(index), array[level.box(index)])
    return path, array


def test_what_is_written_is_read(image):
    path, array = image
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, array)
    assert volume.voxel_size == (2.0, 0.5, 0.5) and volume.array.dtype == array.dtype


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_box_and_any_slices_are_read(image, data):
    path, array = image
    box = []
    for side in array.shape:
        start = data.draw(st.integers(0, side - 1))
        box.append(slice(start, data.draw(st.integers(start + 1, side))))
    with open_volume(path) as reader:
        assert reader.piece == (4, 16, 16)
        np.testing.assert_array_equal(reader.read_box(tuple(box)), array[tuple(box)])
        for _ in range(3):  # the last chunks are kept
            start = data.draw(st.integers(0, 12))
            stop = data.draw(st.integers(start + 1, 13))
            np.testing.assert_array_equal(reader.read(start, stop), array[start:stop])


def test_boxes_outside_the_volume_are_refused(image):
    with open_volume(image[0]) as reader, pytest.raises(VolumeError, match="expected a box in the volume"):
        reader.read_box((slice(0, 14), slice(0, 1), slice(0, 1)))


def test_empty_shards_are_not_stored(tmp_path):
    path = tmp_path / "image.ome.zarr"
    create_image(path, (16, 64, 600), np.uint8, None, shard=(8, 32, 32), chunk=(8, 16, 16))
    level = ImageLevel(path)
    box = level.box(1)
    level.write(box, np.ones([one.stop - one.start for one in box], np.uint8))
    level.write(level.box(5), np.zeros([one.stop - one.start for one in level.box(5)], np.uint8))
    for number in range(1, len(resolutions(level.shape))):
        for index in range(len(ImageLevel(path, number))):
            lower_resolution(path, number, index)
    files = sorted(str(file.relative_to(path)) for file in path.rglob("c/**/*") if file.is_file())
    assert files == ["0/c/0/0/1", "1/c/0/0/0", "2/c/0/0/0"]
    with pytest.raises(VolumeError, match="is there already"):
        create_image(path, (16, 64, 600), np.uint8, None, shard=(8, 32, 32), chunk=(8, 16, 16))


def test_shards_are_on_disk_when_they_are_written(tmp_path, monkeypatch):
    """Whoever notes a shard as done does so after `write`; a crash of the machine may lose what was not synced."""
    synced, sync = set(), os.fsync

    def fsync(number):
        sync(number)
        synced.add(os.fstat(number).st_ino)

    monkeypatch.setattr(os, "fsync", fsync)
    path = tmp_path / "image.ome.zarr"
    create_image(path, (16, 64, 600), np.uint8, None, shard=(8, 32, 32), chunk=(8, 16, 16))
    level = ImageLevel(path)
    level.write((slice(0, 16), slice(0, 32), slice(0, 64)), np.ones((16, 32, 64), np.uint8))
    level.write(level.box(5), np.zeros([one.stop - one.start for one in level.box(5)], np.uint8))
    lower_resolution(path, 1, 0)
    files = [file for file in path.rglob("*") if file.is_file()]
    assert len(files) == 9  # 4 of metadata, 5 shards
    assert synced >= {file.stat().st_ino for file in files}
