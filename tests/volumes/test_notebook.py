"""What a notebook shows of volumes: a small picture of any of them, and nothing of a name unescaped."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from neuron_vit3d.volumes import Volume, notebook


def picture(html: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", html)[1]))))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.uint64, np.float32, np.float64])
def test_any_volume_is_shown_with_its_projection(dtype):
    array = np.zeros((3, 20, 40), dtype)
    array[1, :10] = 1
    html = Volume(array, (2.0, 0.5, 0.5), "<b>.tif")._repr_html_()
    assert "3 x 20 x 40" in html and "2 x 0.5 x 0.5 µm" in html and "&lt;b&gt;.tif" in html and "<b>" not in html
    shown = picture(html)
    assert shown.shape == (160, 320) and (shown[:75] == 255).all() and (shown[85:] == 0).all()


def test_voxels_that_are_not_finite_and_channels_are_shown():
    array = np.full((2, 2, 8, 8), np.nan, np.float32)
    html = Volume(array)._repr_html_()
    assert "2, the first is shown" in html and "not known" in html and not picture(html).any()


def test_a_voxel_and_a_wide_slice_are_shown():
    assert picture(Volume(np.ones((1, 1, 1), np.uint8))._repr_html_()).shape == (320, 320)
    assert picture(Volume(np.ones((1, 3, 5000), np.uint8))._repr_html_()).shape == (1, 320)


def test_of_a_large_volume_some_slices_are_looked_at(monkeypatch):
    monkeypatch.setattr(notebook, "_MOST_BYTES", 1000)
    array = np.zeros((10, 20, 20), np.uint8)
    array[1] = 1
    html = Volume(array)._repr_html_()
    assert "every 4th slice" in html and not picture(html).any()
