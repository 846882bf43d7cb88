"""Whatever is wrong becomes one line."""

from neuron_vit3d.apps.napari.telling import sentence_of
from neuron_vit3d.volumes import VolumeError


def test_errors_become_one_line_each():
    assert sentence_of("already one") == "already one"
    assert sentence_of(VolumeError("a.tif: is\n  no volume")) == "a.tif: is no volume"
    assert (
        sentence_of(FileNotFoundError(2, "No such file or directory", "a.tif")) == "a.tif: No such file or directory"
    )
    assert sentence_of(OSError(28, "No space left on device"), "a.swc") == "a.swc: No space left on device"
    assert "draw a box" in sentence_of(MemoryError(), "a.tif")
    assert sentence_of(KeyError()) == "KeyError"
