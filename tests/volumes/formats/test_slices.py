"""A folder of slices: their order, what is missing or beside them, and what is no such folder."""

import numpy as np
import pytest
import tifffile

from neuron_vit3d.volumes import VolumeError, is_slice_folder, open_volume, read_volume


ARRAY = np.arange(12 * 5 * 6, dtype=np.uint16).reshape(12, 5, 6)


def write(folder, name="{}.tif", array=ARRAY, numbers=None):
    folder.mkdir(exist_ok=True)
    for number, plane in zip(numbers or range(1, len(array) + 1), array, strict=False):
        tifffile.imwrite(folder / name.format(number), plane)
    return folder


def told(folder, message):
    with pytest.warns(UserWarning, match=message), open_volume(folder, 0) as reader:
        assert reader.voxel_size is None
        read = reader.read(0, reader.shape[0])
        np.testing.assert_array_equal(reader.read_box((slice(1, 3), slice(1, 4), slice(0, 2))), read[1:3, 1:4, :2])
    with pytest.warns(UserWarning, match=message):
        np.testing.assert_array_equal(read_volume(folder, channel=0).array, read)
    return read


@pytest.mark.parametrize("name", ["{}.tif", "{:04}.tif", "neuron 2_z{:03}_c1.TIFF", "a{}b.tiff"])
def test_slices_are_read_in_the_order_of_their_numbers(tmp_path, name):
    folder = write(tmp_path / "a", name)
    assert is_slice_folder(folder)
    np.testing.assert_array_equal(told(folder, "one volume of 12 slices"), ARRAY)


def test_colours_are_channels(tmp_path):
    colours = np.arange(4 * 5 * 6 * 3, dtype=np.uint8).reshape(4, 5, 6, 3)
    folder = write(tmp_path / "a", array=colours)
    with pytest.warns(UserWarning, match="4 slices"):
        np.testing.assert_array_equal(read_volume(folder).array, np.moveaxis(colours, -1, 0))
    with pytest.warns(UserWarning, match="4 slices"), pytest.raises(VolumeError, match="has 3 channels"):
        open_volume(folder)


def test_missing_numbers_and_other_files_are_told_of(tmp_path):
    folder = write(tmp_path / "a", numbers=[1, 2, 4, 5, 6, 9, 10, 11, 12, 13, 14, 15])
    np.testing.assert_array_equal(told(folder, "slices are missing after number 2, 6,"), ARRAY)
    folder = write(tmp_path / "b", numbers=range(0, 120, 10))
    (folder / "notes.txt").write_text("")
    tifffile.imwrite(folder / "overview.tif", ARRAY[0])
    (folder / ".hidden").write_text("")
    np.testing.assert_array_equal(told(folder, "2 other files are left out: notes.txt, overview.tif$"), ARRAY)


def test_slices_that_differ_are_refused(tmp_path):
    folder = write(tmp_path / "a")
    tifffile.imwrite(folder / "3.tif", ARRAY[0, :4])
    assert is_slice_folder(folder)
    with pytest.raises(VolumeError, match=r"1\.tif is 5 x 6 of uint16, 3\.tif is 4 x 6 of uint16"):
        read_volume(folder)
    (folder / "3.tif").write_bytes(b"II*\0")
    with pytest.raises(VolumeError, match=r"3\.tif is no 2D image"):
        open_volume(folder)


def test_what_is_no_folder_of_slices(tmp_path):
    assert not is_slice_folder(tmp_path / "none")
    assert not is_slice_folder(tmp_path)
    assert not is_slice_folder(write(tmp_path / "one", array=ARRAY[:1]))
    assert not is_slice_folder(write(tmp_path / "stacks", array=[ARRAY, ARRAY]))
    sizes = write(tmp_path / "sizes", array=[ARRAY[0], ARRAY[1, :3]])
    assert not is_slice_folder(sizes)
    two = write(write(tmp_path / "two", "a{}.tif"), "b{}.tif")
    assert not is_slice_folder(two)
    for folder in (tmp_path, sizes, two):
        with pytest.raises(VolumeError, match="got a folder without its metadata"):
            read_volume(folder)
