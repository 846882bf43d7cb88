"""Codecs of TIFF files that Pillow has and tifffile lacks."""

import struct
import warnings
import zlib
from importlib.util import find_spec

import numpy as np
import pytest
import tifffile
from PIL import Image

from neuron_vit3d.volumes import VolumeError, read_volume
from support.tiff_files import packbits, tiff_of, with_predictor


def jpeg_stack(path):
    planes = [np.full((16, 24), value, np.uint8) for value in (3, 90, 200)]
    first, *others = [Image.fromarray(plane) for plane in planes]
    first.save(path, save_all=True, append_images=others, compression="jpeg")
    return np.stack(planes)


def test_a_plane_whose_tags_are_odd_is_read_or_refused(tmp_path):
    """Pillow gives zeros for it, with a warning that does not name the file."""
    path = tmp_path / "a.tif"
    array = jpeg_stack(path)
    np.testing.assert_array_equal(read_volume(path).array, array)
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        entry = tiff.pages[1].tags["PlanarConfiguration"].offset
    content[entry + 4 : entry + 8] = struct.pack("<I", 26)  # values, of which there may be one
    path.write_bytes(content)
    with warnings.catch_warnings(action="error"):
        if find_spec("imagecodecs"):  # tifffile takes the tags of the first plane for those of all
            np.testing.assert_array_equal(read_volume(path).array, array)
        else:
            with pytest.raises(VolumeError, match="tag 284 of plane 1 is unlike that of the first") as error:
                read_volume(path)
            assert str(path) in str(error.value)


@pytest.mark.parametrize(("compression", "predictor", "told"), [(32773, 2, 1), (32773, 1, 0), (8, 2, 0)])
def test_a_predictor_that_libtiff_knows_none_of_is_told(tmp_path, compression, predictor, told):
    plane = np.arange(60, dtype=np.uint8).reshape(5, 12, 1)
    pack = packbits if compression == 32773 else zlib.compress
    path = tmp_path / "a.tif"
    packed = [pack(with_predictor(one, predictor)) for one in (plane, plane)]
    path.write_bytes(tiff_of(packed, (5, 12), np.uint8, compression, predictor))
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        np.testing.assert_array_equal(read_volume(path).array, [plane[..., 0]] * 2)
    assert ["predictor with PACKBITS compression" in str(one.message) for one in found] == [True] * told


def test_channels_in_the_last_axis_are_not_taken_for_x(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((3, 64, 60, 2), np.uint8), photometric="minisblack")
    with pytest.raises(VolumeError, match=r"got shape \(3, 64, 60, 2\), whose last axis looks like channels"):
        read_volume(path)
