"""What the plugin opens becomes layers, pyramids stay on disk, and bad files are one sentence."""

import numpy as np
import pytest


pytest.importorskip("napari", reason="needs napari (make test-apps)")

from napari.components import ViewerModel
from napari.utils.notifications import notification_manager

from neuron_vit3d import Volume, write_volume
from neuron_vit3d.apps.napari.layers import tree_of
from neuron_vit3d.apps.napari.reader import get_reader
from neuron_vit3d.apps.napari.sample import SHAPE
from neuron_vit3d.morphology import read_swc
from neuron_vit3d.morphology.branches import branches_text
from support.napari_plugin import registered
from support.trees import FORKED


IMAGE = np.arange(4 * 6 * 8, dtype=np.uint16).reshape(4, 6, 8)


@pytest.fixture
def plugin():
    with registered() as manager:
        yield manager


@pytest.fixture
def told():
    """The sentences of napari's notifications."""
    notification_manager.records.clear()
    return lambda: [record.message for record in notification_manager.records]


def open_in(viewer: ViewerModel, path) -> list:
    read = get_reader(str(path))
    assert read is not None
    return [layer for one in read(str(path)) if one[0] is not None for layer in viewer._add_layer_from_data(*one)]


def test_the_manifest_names_what_there_is(plugin):
    manifest = plugin.get_manifest("neuron_vit3d")
    for command in manifest.contributions.commands:
        assert callable(plugin.commands.get(command.id)), command.id
    named = {one.command for one in manifest.contributions.readers + manifest.contributions.sample_data}
    assert named <= {command.id for command in manifest.contributions.commands}
    assert [one.command for one in plugin.iter_compatible_readers("x.v3dpbd")] == ["neuron_vit3d.read"]


def test_napari_opens_a_tree_by_its_name(plugin, tmp_path):
    viewer = ViewerModel()
    (layer,) = viewer.open(str(FORKED.write(tmp_path / "one.swc")), plugin="neuron_vit3d")
    assert len(tree_of(layer)) == 6


def test_vaa3d_images_open_with_a_layer_for_each_channel(tmp_path):
    write_volume(tmp_path / "one.v3draw", Volume(IMAGE))
    write_volume(tmp_path / "two.v3draw", Volume(np.stack([IMAGE, IMAGE + 1])))
    viewer = ViewerModel()
    (layer,) = open_in(viewer, tmp_path / "one.v3draw")
    assert layer.name == "one" and isinstance(layer.data, np.memmap)
    np.testing.assert_array_equal(layer.data, IMAGE)
    both = open_in(viewer, tmp_path / "two.v3draw")
    assert [layer.name for layer in both] == ["two channel 0", "two channel 1"]
    np.testing.assert_array_equal(both[1].data, IMAGE + 1)


def test_a_tree_opens_with_the_confidences_beside_it(tmp_path):
    path = FORKED.write(tmp_path / "one.swc")
    (layer,) = open_in(ViewerModel(), path)
    assert np.array_equal(tree_of(layer).xyz, FORKED.xyz) and set(layer.features["confidence"]) == {0.5}
    branches = read_swc(path).branches
    branches.confidence = [0.1, 0.2, 0.3, 0.4, 0.5]
    (tmp_path / "one.branches.csv").write_text(branches_text(branches))
    (layer,) = open_in(ViewerModel(), path)
    np.testing.assert_allclose(tree_of(layer).branches.confidence, [0.1, 0.2, 0.3, 0.4, 0.5])
    branches.end = branches.end[::-1].copy()
    (tmp_path / "one.branches.csv").write_text(branches_text(branches))
    (layer,) = open_in(ViewerModel(), path)
    assert tree_of(layer).scores is None, "a table of another tree was believed"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("bad.swc", "1 0 0 0 0 1 -1\n2 0 1 0 0 1 7\n", "bad.swc:2: node 2: its parent 7 is not in the tree"),
        ("bad.swc", "", "no node in the file"),
        ("bad.v3dpbd", "nonsense", "bad.v3dpbd"),
        ("bad.zarr", "nonsense", "bad.zarr"),
        ("gone.swc", None, "gone.swc: No such file or directory"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, told, name, content, sentence):
    if content is not None:
        (tmp_path / name).write_text(content)
    viewer = ViewerModel()
    assert open_in(viewer, tmp_path / name) == [] and len(viewer.layers) == 0
    (said,) = told()
    assert sentence in said and "\n" not in said and "Traceback" not in said


def test_others_may_open_what_is_not_ours():
    assert get_reader("image.png") is None and get_reader(["a.swc", "b.swc"]) is None


def test_a_pyramid_opens_without_being_read(tmp_path):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(tmp_path / "large.ome.zarr", mode="w", zarr_format=2)
    for level, side in enumerate((4096, 2048, 1024)):
        group.create_array(str(level), shape=(2, side, side, side), chunks=(1, 64, 64, 64), dtype="uint16")
    group["0"][1, :64, :64, :64] = 7
    axes = [{"name": "c", "type": "channel"}, *({"name": n, "type": "space", "unit": "micrometer"} for n in "zyx")]
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {"type": "scale", "scale": [1.0, 2.0 * 2**level, 0.5 * 2**level, 0.5 * 2**level]}
            ],
        }
        for level in range(3)
    ]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    layers = open_in(ViewerModel(), tmp_path / "large.ome.zarr")
    assert [layer.name for layer in layers] == ["large channel 0", "large channel 1"]
    layer = layers[1]
    assert layer.multiscale and [level.shape for level in layer.data] == [(n,) * 3 for n in (4096, 2048, 1024)]
    assert layer.scale.tolist() == [2, 0.5, 0.5]
    assert np.asarray(layer.data[0][10:12, 10:12, 60:68])[0, 0].tolist() == [7] * 4 + [0] * 4


def test_a_sample_opens(plugin):
    for name in ("synthetic", "synthetic_with_tree", "dendrites", "dendrites_with_tree"):
        layers = plugin.commands.execute(f"neuron_vit3d.{name}")
        assert layers[0][0].shape == (SHAPE if name.startswith("synthetic") else (28, 240, 240))
        viewer = ViewerModel()
        for one in layers:
            viewer._add_layer_from_data(*one)
        assert [layer.scale.tolist() for layer in viewer.layers] == [list(layers[0][1]["scale"])] * len(layers)
