"""Formats that bioio reads, with a stand-in for bioio: it is not part of the test environment."""

import re
import sys
import tomllib
from collections import namedtuple
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from neuron_vit3d.volumes import VolumeError, open_volume, read_volume
from neuron_vit3d.volumes.formats.bioio import PLUGINS
from support.places import REPOSITORY


ARRAY = np.arange(2 * 3 * 4 * 5, dtype=">u2").reshape(2, 3, 4, 5)  # c z y x
Sizes = namedtuple("Sizes", "Z Y X")


class UnsupportedFileFormatError(Exception):
    pass


class Slices:
    """A dask array's part that is used."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, where):
        return Slices(self.array[where])

    def compute(self):
        return self.array


class BioImage:
    def __init__(self, path):
        name = path.name
        if "unsupported" in name:
            raise UnsupportedFileFormatError("no\nplugin")
        if "damaged" in name:
            raise RuntimeError("line 1\nline 2")
        times, self.channels = 5 if "times" in name else 1, 1 if "single" in name else 2
        self.samples = 2 if "colours" in name else 1
        self.channels = 1 if self.samples > 1 and "both" not in name else self.channels
        self.dims = SimpleNamespace(T=times, C=self.channels, Z=3, Y=4, X=5)
        if self.samples > 1:
            self.dims.S = self.samples
        self.physical_pixel_sizes = Sizes(None if "unknown" in name else 2.0, 0.5, 0.5)
        self.scenes = ("overview", "stack", "other") if "scenes" in name else ("only",)
        self.scene = 0
        self.set_scene(0)

    def set_scene(self, number):
        self.scene = number
        if len(self.scenes) > 1:
            self.dims.Z = 1 if number == 0 else 3

    def array(self, channel):
        array = ARRAY[channel] + np.array(100 * self.scene, ARRAY.dtype)
        return array[..., : self.dims.Z, :, :]

    def get_image_data(self, axes, T, **channel):
        assert T == 0 and axes in ("ZYX", f"{'S' if self.samples > 1 else 'C'}ZYX")
        return self.array(self.chosen(channel) if axes == "ZYX" else slice(None))

    def get_image_dask_data(self, axes, T, **channel):
        assert axes == "ZYX" and T == 0
        return Slices(self.array(self.chosen(channel)))

    def chosen(self, channel):
        """What is not named is 0, as in bioio."""
        return channel.get("S" if self.samples > 1 else "C", 0)


@pytest.fixture
def bioio(monkeypatch):
    module = ModuleType("bioio")
    module.BioImage = BioImage
    monkeypatch.setitem(sys.modules, "bioio", module)


def file(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"whatever its maker writes")
    return path


def test_channels_slices_and_voxel_sizes(bioio, tmp_path):
    path = file(tmp_path, "a.czi")
    volume = read_volume(path)
    assert volume.voxel_size == (2.0, 0.5, 0.5) and volume.dtype.isnative
    np.testing.assert_array_equal(volume.array, ARRAY)
    np.testing.assert_array_equal(read_volume(path, channel=1).array, ARRAY[1])
    assert read_volume(file(tmp_path, "single.nd2")).array.shape == (3, 4, 5)
    assert read_volume(file(tmp_path, "unknown.LIF")).voxel_size is None
    with open_volume(path, channel=1) as reader:
        np.testing.assert_array_equal(reader.read(1, 3), ARRAY[1, 1:3])
    with pytest.raises(VolumeError, match="choose one with channel=0"):
        open_volume(path)
    for read in (read_volume, open_volume):
        with pytest.raises(VolumeError, match="expected a channel from 0 to 1, got 2"):
            read(path, channel=2)


def test_of_several_scenes_the_largest_stack_is_read_and_told(bioio, tmp_path):
    path = file(tmp_path, "scenes.lif")
    with pytest.warns(UserWarning, match="holds 3 images .* 0 is 1 x 4 x 5 'overview', .*; image 1 is read"):
        np.testing.assert_array_equal(read_volume(path).array, ARRAY + 100)
    np.testing.assert_array_equal(read_volume(path, image=2, channel=1).array, ARRAY[1] + 200)
    with open_volume(path, channel=0, image=2) as reader:
        np.testing.assert_array_equal(reader.read(0, 3), ARRAY[0] + 200)
    with pytest.raises(VolumeError, match="expected an image from 0 to 2"):
        read_volume(path, image=3)
    with pytest.raises(VolumeError, match="holds one image"):
        read_volume(file(tmp_path, "single.lif"), image=1)


def test_colour_samples_are_channels(bioio, tmp_path):
    path = file(tmp_path, "colours.nd2")
    np.testing.assert_array_equal(read_volume(path).array, ARRAY)
    with open_volume(path, channel=1) as reader:
        np.testing.assert_array_equal(reader.read(0, 3), ARRAY[1])
    with pytest.raises(VolumeError, match="got 2 of 2 samples"):
        read_volume(file(tmp_path, "colours both.nd2"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "unsupported.czi",
            r'reads it: \.czi files can be .* bioio-czi \(GPL-3.0\): pip install "neuron_vit3d\[bioio\]" bioio-czi',
        ),
        ("unsupported.lif", r'with bioio-lif \(BSD\): pip install "neuron_vit3d\[bioio\]"; or the file is damaged'),
        ("unsupported.oib", r"with bioio-bioformats \(GPL, and needs Java\): pip install .* bioio-bioformats;"),
        ("damaged.nd2", "bioio cannot read it: RuntimeError: line 1 line 2"),
        ("times.lif", "5 time points"),
    ],
)
def test_what_is_refused(bioio, tmp_path, name, message):
    path = file(tmp_path, name)
    for read in (read_volume, open_volume):
        with pytest.raises(VolumeError, match=message) as error:
            read(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_without_bioio_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bioio", None)
    with pytest.raises(
        VolumeError, match=r'\.czi files can be read .* pip install "neuron_vit3d\[bioio\]" bioio-czi$'
    ):
        read_volume(file(tmp_path, "a.czi"))
    with pytest.raises(VolumeError, match=r'\.DV files can be read .* pip install "neuron_vit3d\[bioio\]"$'):
        read_volume(file(tmp_path, "a.DV"))
    with pytest.raises(VolumeError, match="begins with"):  # a suffix that no microscope has
        read_volume(file(tmp_path, "a.unknown"))


def test_the_extra_brings_the_plugins_that_the_messages_say_it_brings():
    extra = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]["bioio"]
    names = {re.match("[a-z0-9-]+", requirement)[0] for requirement in extra}
    named = {plugin.package for plugin in PLUGINS.values() if plugin.remark.startswith(("MIT", "BSD"))}
    assert names == {"bioio", *named}
