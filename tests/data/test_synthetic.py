"""Synthetic neurons: reproducible, with a truth that is sound and an image that shows it."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d.data import synthetic_neuron, write_synthetic_pairs
from neuron_vit3d.data.synthetic_clutter import smooth_field
from neuron_vit3d.data.synthetic_image import along_edges
from neuron_vit3d.morphology import Tree, check_tree, rasterize, read_swc
from neuron_vit3d.volumes import read_volume


SMALL = (8, 64, 64)


@given(
    seed=st.integers(0, 2**63),
    shape=st.tuples(st.integers(4, 20), st.integers(32, 80), st.integers(32, 80)),
    quality=st.sampled_from([None, "clean", "noisy"]),
    kind=st.sampled_from([None, "arbor", "dendrite", "axon"]),
    anisotropy=st.sampled_from([None, 1.0, 4.0]),
)
@settings(max_examples=25, deadline=None)
def test_truth_is_sound_for_any_arguments(seed, shape, quality, kind, anisotropy):
    neuron = synthetic_neuron(shape, seed=seed, quality=quality, kind=kind, anisotropy=anisotropy)
    tree, array = neuron.tree, neuron.volume.array
    assert array.shape == shape and array.dtype == np.uint8
    assert neuron.mask.shape == shape and neuron.mask.dtype == bool and neuron.mask.any()
    np.testing.assert_array_equal(neuron.mask, rasterize(tree, shape))
    assert check_tree(tree) == []
    assert tree.num_components == 1 and tree.roots.tolist() == [0]
    assert (tree.parent_index < np.arange(len(tree))).all()
    assert (tree.xyz >= 0).all() and (tree.xyz <= np.array(shape[::-1]) - 1).all()
    assert (tree.radii >= 0.87).all(), "a thinner tube may leave gaps in the mask"
    z, y, x = neuron.volume.voxel_size
    assert y == x > 0
    if anisotropy is not None:
        assert z == pytest.approx(anisotropy * x, abs=1e-3)


def test_same_seed_same_bytes():
    one, two = (synthetic_neuron(SMALL, seed=11) for _ in range(2))
    np.testing.assert_array_equal(one.volume.array, two.volume.array)
    assert one.volume.voxel_size == two.volume.voxel_size
    for field in ("xyz", "radii", "parents", "types"):
        np.testing.assert_array_equal(getattr(one.tree, field), getattr(two.tree, field))


def test_other_seed_other_neuron():
    one, two = (synthetic_neuron(SMALL, seed=seed) for seed in (11, 12))
    assert (one.volume.array != two.volume.array).mean() > 0.2
    assert not np.array_equal(one.tree.xyz, two.tree.xyz)


def test_quality_changes_the_picture_but_not_the_tree():
    clean, noisy = (synthetic_neuron((16, 96, 96), seed=5, quality=quality) for quality in ("clean", "noisy"))
    np.testing.assert_array_equal(clean.tree.xyz, noisy.tree.xyz)
    assert clean.volume.array[~clean.mask].std() < noisy.volume.array[~noisy.mask].std()


@pytest.mark.parametrize("quality", ["clean", "noisy"])
def test_neurite_can_be_seen(quality):
    """The median voxel on the tree is brighter than most of its slice's background, in each of ten images."""
    for seed in range(10):
        neuron = synthetic_neuron((24, 128, 128), seed=seed, quality=quality)
        array = neuron.volume.array
        z, y, x = np.rint(neuron.tree.xyz[:, ::-1]).astype(int).T
        rank = (array[~neuron.mask] < np.median(array[z, y, x])).mean()
        assert rank > (0.97 if quality == "clean" else 0.8), (seed, rank)


def test_soma_is_marked_and_drawn():
    neurons = [synthetic_neuron((24, 128, 128), seed=seed, kind="dendrite") for seed in range(12)]
    with_soma = [n for n in neurons if (n.tree.types == 1).any()]
    assert with_soma and len(with_soma) < len(neurons)
    for neuron in with_soma:
        tree = neuron.tree
        assert np.flatnonzero(tree.types == 1).tolist() == [0] and tree.radii[0] == tree.radii.max()
        x, y, z = np.rint(tree.xyz[0]).astype(int)
        assert neuron.mask[z, y, x]


def test_far_slices_flatten_the_tree():
    def depth(anisotropy):
        trees = [synthetic_neuron((40, 64, 64), seed=s, anisotropy=anisotropy).tree for s in range(8)]
        return np.mean([np.abs(np.diff(t.xyz[:, 2][t.edges], axis=1)).mean() for t in trees])

    assert depth(4.0) < 0.5 * depth(1.0)


@pytest.mark.slow
def test_a_training_volume_takes_a_moment():
    synthetic_neuron(SMALL, seed=0)  # imports
    seconds = []
    for seed in range(3):
        begin = time.process_time()
        neuron = synthetic_neuron(seed=seed)
        seconds.append(time.process_time() - begin)
    assert neuron.volume.shape == (48, 256, 256)
    assert min(seconds) < 1.5


def test_pairs_are_written_and_a_second_run_goes_on(tmp_path):
    folder = tmp_path / "new" / "pairs"
    first = write_synthetic_pairs(folder, 2, seed=3, shape=SMALL, quality="clean")
    assert [path.name for path in first] == ["neuron_0000.tif", "neuron_0001.tif"]
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    lost = folder / "neuron_0001.swc"
    content = lost.read_bytes()
    lost.unlink()  # as if the run had been cut short here
    images = write_synthetic_pairs(folder, 3, seed=3, shape=SMALL, quality="clean")
    assert sorted(path.name for path in folder.iterdir()) == [
        f"neuron_000{i}.{ending}" for i in range(3) for ending in ("swc", "tif")
    ]
    assert lost.read_bytes() == content
    assert images[0].stat().st_mtime_ns == before[images[0]]
    for image in images:
        volume, tree = read_volume(image), read_swc(image.with_suffix(".swc"))
        assert volume.shape == SMALL and volume.array.dtype == np.uint8
        assert rasterize(tree, volume.shape).any()
    assert not np.array_equal(read_volume(images[0]).array, read_volume(images[1]).array)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"shape": (3, 64, 64)}, "shape"),
        ({"shape": (64, 64)}, "shape"),
        ({"quality": "good"}, "quality"),
        ({"kind": "glia"}, "kind"),
        ({"anisotropy": 0.0}, "anisotropy"),
        ({"anisotropy": float("nan")}, "anisotropy"),
    ],
)
def test_bad_arguments_are_named(arguments, word):
    with pytest.raises(ValueError, match=word):
        synthetic_neuron(**{"shape": SMALL, "seed": 0, **arguments})


def test_negative_count_is_refused(tmp_path):
    with pytest.raises(ValueError, match="count"):
        write_synthetic_pairs(tmp_path, -1, seed=0)


@pytest.mark.parametrize("scale", [(3, 4, 4), (20, 32, 32)])
def test_smooth_field_has_unit_variance_and_is_smooth(scale):
    field = smooth_field(np.random.default_rng(0), (48, 160, 160), scale)
    assert field.std() == pytest.approx(1, abs=0.25)
    neighbours = np.corrcoef(field[:, :, 1:].ravel(), field[:, :, :-1].ravel())[0, 1]
    assert neighbours > 0.8


def test_points_along_edges_are_dense_and_interpolate():
    tree = Tree.from_parents([[0, 0, 0], [10, 0, 0], [10, 4, 0]], [1, 3, 2], [-1, 0, 1])
    points, values = along_edges(tree, tree.radii[:, None])
    along_first = points[points[:, 1] == 0]
    assert np.diff(np.sort(along_first[:, 0])).max() <= 0.7
    on_first = (points[:, 1] == 0) & (points[:, 0] < 10)
    np.testing.assert_allclose(values[on_first, 0], 1 + 0.2 * points[on_first, 0])
    assert len(np.unique(points, axis=0)) == len(points)
