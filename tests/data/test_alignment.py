"""The alignment check: made mistakes are found and repaired, chance is not, inputs stay as they are, memory is
bounded."""

import dataclasses
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d import rasterize, synthetic_neuron
from neuron_vit3d.data import alignment
from neuron_vit3d.data.alignment import AS_IS, HYPOTHESES, SCALED, SWAPPED, Y_FLIPPED, Alignment, check_alignment
from neuron_vit3d.morphology import Tree, read_swc
from neuron_vit3d.volumes import read_volume


VOXEL_SIZE = (2.0, 0.5, 0.4)  # z y x


def zigzag(shape=(12, 160, 200), seed=0, num_nodes=60) -> Tree:
    """One path through the upper left part of a volume (x > y: neither flips nor swaps map it onto itself)."""
    rng = np.random.default_rng(seed)
    x = np.linspace(0.1, 0.9, num_nodes) * shape[2]
    y = 0.25 * shape[1] + np.cumsum(rng.normal(0, 2.5, num_nodes))
    z = (shape[0] - 1) * (0.5 + 0.3 * np.sin(np.linspace(0, 6, num_nodes)))
    return Tree.from_parents(np.stack([x, y, z], 1), np.full(num_nodes, 1.5), np.arange(-1, num_nodes - 1))


def picture(tree: Tree, shape=(12, 160, 200), seed=1, noise=20.0) -> np.ndarray:
    """uint8 image of a tree: tubes of 60 above a noisy ramp from 40 to 120."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(40, 120, shape[1])[None, :, None]
    image = ramp + 60 * rasterize(tree, shape, min_radius=1.0) + rng.normal(0, noise, shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def at(tree: Tree, x, y, z) -> Tree:
    return dataclasses.replace(tree, xyz=np.stack([x, y, z], axis=1))


def with_mistake(tree: Tree, mistake: str, shape=(12, 160, 200)) -> Tree:
    x, y, z = tree.xyz.T
    if mistake == Y_FLIPPED:
        return at(tree, x, shape[1] - 1 - y, z)
    if mistake == SWAPPED:
        return at(tree, y, x, z)
    if mistake == SCALED:
        size_z, size_y, size_x = VOXEL_SIZE
        scaled = at(tree, x * size_x, y * size_y, z * size_z)
        return dataclasses.replace(scaled, radii=tree.radii * np.sqrt(size_x * size_y))
    return tree


@pytest.fixture(scope="module")
def tree() -> Tree:
    return zigzag()


@pytest.fixture(scope="module")
def image(tree) -> np.ndarray:
    return picture(tree)


@pytest.mark.parametrize("mistake", HYPOTHESES)
def test_a_mistake_is_found_and_repaired(tree, image, mistake):
    found = check_alignment(with_mistake(tree, mistake), image, VOXEL_SIZE)
    assert found.fit == mistake
    assert list(found.figures) == list(HYPOTHESES)
    np.testing.assert_allclose(found.tree.xyz, tree.xyz, atol=1e-9)
    np.testing.assert_allclose(found.tree.radii, tree.radii, atol=1e-9)
    np.testing.assert_array_equal(found.tree.parents, tree.parents)
    assert found.figure == max(found.figures.values()) > 0.9
    assert not found.is_dark
    assert mistake in str(found)


@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 1000), mistake=st.sampled_from(HYPOTHESES), flat=st.booleans())
def test_mistakes_are_found_for_any_path(seed, mistake, flat):
    shape = (1 if flat else 12, 160, 200)
    drawn = zigzag(shape, seed)
    image = picture(drawn, shape, seed)
    found = check_alignment(with_mistake(drawn, mistake), image, VOXEL_SIZE, seed=seed)
    assert found.fit == mistake
    np.testing.assert_allclose(found.tree.xyz, drawn.xyz, atol=1e-9)


def test_a_tree_that_fits_is_given_back_itself(tree, image):
    assert check_alignment(tree, image).tree is tree


def test_the_figure_is_a_probability_and_chance_is_a_half(tree):
    figures = []
    for seed in range(20):
        noise = np.random.default_rng(seed).integers(0, 256, (12, 160, 200), dtype=np.uint8)
        found = check_alignment(tree, noise, VOXEL_SIZE, seed=seed)
        assert found.fit is None and "no way" in str(found)
        figures.append(list(found.figures.values()))
    assert np.abs(np.mean(figures, axis=0) - 0.5).max() < 0.03
    constant = check_alignment(tree, np.full((12, 160, 200), 7, np.uint8))
    assert set(constant.figures.values()) == {0.5}
    binary = rasterize(tree, (12, 160, 200), min_radius=2.0)
    assert check_alignment(tree, binary).figure > 0.98


def test_a_bright_middle_alone_is_no_fit(tree):
    """The image is brightest where trees lie, but no neurite is there."""
    z, y, x = np.ogrid[:12, :160, :200]
    haze = 200 * np.exp(-(((y - 75) / 60) ** 2) - ((x - 100) / 100) ** 2) + 0 * z
    image = haze + np.random.default_rng(0).normal(0, 10, haze.shape)
    assert check_alignment(tree, image, VOXEL_SIZE).fit is None


def test_another_neurons_image_fits_in_no_way(tree):
    for seed in range(5):
        x, y, z = zigzag(seed=seed + 50).xyz.T
        other = at(tree, x, y + 25, z)
        assert check_alignment(other, picture(tree), VOXEL_SIZE).fit is None


def test_symmetric_images_are_not_repaired():
    """A tree whose mirror image is also drawn in the picture, or that lies on the axis, stays as it is."""
    tree = zigzag()
    mirrored = with_mistake(tree, Y_FLIPPED)
    both = np.maximum(picture(tree), picture(mirrored))
    for one in (tree, mirrored):
        found = check_alignment(one, both)
        assert found.fit == AS_IS and found.tree is one
        assert found.figures[Y_FLIPPED] > 0.8
    x, y, z = tree.xyz.T
    on_axis = at(tree, x, np.full_like(y, 79.5), z)
    assert check_alignment(on_axis, picture(on_axis)).fit == AS_IS


def test_lines_two_voxels_off_still_fit(tree, image):
    shifted = at(tree, *np.add(tree.xyz, (1, 2, 0)).T)
    assert check_alignment(shifted, image, VOXEL_SIZE).fit == AS_IS


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", ">u2", "int32", "float32", "float64"])
def test_dtypes(tree, image, dtype):
    converted = image > 130 if dtype == "bool" else image.astype(dtype) * np.array(3).astype(dtype)
    assert check_alignment(with_mistake(tree, Y_FLIPPED), converted).fit == Y_FLIPPED


def test_voxels_that_are_not_finite_do_no_harm(tree, image):
    holes = image.astype(np.float32)
    holes[np.random.default_rng(0).random(image.shape) < 0.01] = np.nan
    holes[0, 0] = np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_alignment(tree, holes).fit == AS_IS


def test_a_dark_neuron_is_told(tree, image):
    found = check_alignment(with_mistake(tree, SWAPPED), 255 - image)
    assert found.fit == SWAPPED and found.is_dark and found.figure < 0.1
    assert "darker" in str(found)


def test_the_channel_of_the_tree_is_chosen(tree, image):
    noise = np.random.default_rng(0).integers(0, 256, image.shape, dtype=np.uint8)
    for channel in range(3):
        stack = np.stack([image if c == channel else np.roll(noise, c, axis=2) for c in range(3)])
        found = check_alignment(with_mistake(tree, Y_FLIPPED), stack)
        assert (found.fit, found.channel) == (Y_FLIPPED, channel)
    assert check_alignment(tree, np.stack([image, image])).channel == 0


def test_a_projection_takes_z_to_be_zero(tree, image):
    flat = image.max(axis=0, keepdims=True)
    found = check_alignment(with_mistake(tree, Y_FLIPPED), flat)
    assert found.fit == Y_FLIPPED
    np.testing.assert_allclose(found.tree.xyz[:, :2], tree.xyz[:, :2])
    assert not found.tree.xyz[:, 2].any() and tree.xyz[:, 2].any()


def test_scaling_is_tried_only_where_the_voxel_size_says_something(tree, image):
    for voxel_size in (None, (1, 1, 1), (1.0, 1.0000001, 1.0)):
        assert list(check_alignment(tree, image, voxel_size).figures) == [AS_IS, Y_FLIPPED, SWAPPED]
    assert SCALED in check_alignment(tree, image, (2, 1, 1)).figures


def test_a_tree_outside_of_the_volume_does_not_fit(tree, image):
    outside = at(tree, *np.add(tree.xyz, (0, 0, 500)).T)
    found = check_alignment(outside, image)
    assert found.fit is None and found.figure == 0.5 and found.tree is outside
    far = at(tree, *(tree.xyz * 1e12).T)
    assert check_alignment(far, image).fit is None
    x, y, z = tree.xyz.T
    partly = check_alignment(at(tree, x - 50, y, z), image[:, :, 50:])  # a quarter is cut off
    assert partly.fit == AS_IS
    assert 0.75 < partly.figure < 0.95


def test_one_node_and_short_trees_are_never_changed(image, tree):
    node = Tree.from_parents(tree.xyz[30:31], [1.0], [-1])
    assert check_alignment(node, image, VOXEL_SIZE).fit == AS_IS
    flipped = with_mistake(node, Y_FLIPPED)
    assert check_alignment(flipped, image, VOXEL_SIZE).fit in (AS_IS, None)
    short = Tree.from_parents(tree.xyz[:15], tree.radii[:15], np.arange(-1, 14))
    assert 20 < short.length < alignment.SHORTEST
    assert check_alignment(with_mistake(short, Y_FLIPPED), image).fit in (AS_IS, None)


def test_lone_nodes_count(tree, image):
    """Traces by hand come in fragments; without any edge there are still places to look at."""
    lone = Tree.from_parents(tree.xyz, tree.radii, np.full(len(tree), -1))
    assert check_alignment(lone, image).fit == AS_IS


def test_tiny_images_work():
    tree = Tree.from_parents([[0, 0, 0], [3, 2, 0]], [1, 1], [-1, 0])
    for shape in ((1, 1, 1), (1, 3, 4), (2, 5, 5), (5, 1, 9)):
        found = check_alignment(tree, np.arange(np.prod(shape), dtype=np.uint8).reshape(shape), (0.1, 0.1, 0.1))
        assert all(0 <= figure <= 1 for figure in found.figures.values())


def test_the_same_seed_gives_the_same_and_inputs_stay(tree, image):
    kept = image.copy(), tree.xyz.copy(), tree.radii.copy()
    image.flags.writeable = False
    wrong = with_mistake(tree, SCALED)
    one, two = (check_alignment(wrong, image, VOXEL_SIZE, seed=3) for _ in range(2))
    assert one.figures == two.figures
    assert check_alignment(wrong, image, VOXEL_SIZE, seed=4).figures != one.figures
    for before, now in zip(kept, (image, tree.xyz, tree.radii), strict=True):
        np.testing.assert_array_equal(before, now)
    one.tree.xyz[:] = -1
    np.testing.assert_array_equal(wrong.xyz, with_mistake(tree, SCALED).xyz)


def test_memory_does_not_grow_with_the_image():
    """An image of 64 GB that takes no memory, and a tree of 100,000 nodes."""
    image = np.broadcast_to(np.arange(4000, dtype=np.uint8), (4000, 4000, 4000))
    rng = np.random.default_rng(0)
    nodes = np.clip(np.cumsum(rng.normal(0, 8, (100_000, 3)), axis=0) + 2000, 0, 3999)
    tree = Tree.from_parents(nodes, np.ones(len(nodes)), np.arange(-1, len(nodes) - 1))
    tracemalloc.start()
    found = check_alignment(tree, image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
    assert found.fit is None


def test_a_mapped_file_is_read_and_left_as_it_is(tree, image, tmp_path):
    path = tmp_path / "image.npy"
    np.save(path, image)
    before = path.read_bytes()
    found = check_alignment(with_mistake(tree, Y_FLIPPED), read_volume(path).array)
    assert found.fit == Y_FLIPPED
    assert path.read_bytes() == before


def test_synthetic_neurons_fit():
    for seed in range(3):
        neuron = synthetic_neuron((16, 160, 200), seed=seed)
        found = check_alignment(neuron.tree, neuron.volume.array, VOXEL_SIZE)
        assert found.fit == AS_IS


def test_the_rule():
    long, short = dict.fromkeys(HYPOTHESES, 500.0), dict.fromkeys(HYPOTHESES, 50.0)

    def fit(as_is, flipped, lengths=long):
        return alignment._choose({AS_IS: as_is, Y_FLIPPED: flipped}, lengths)

    assert fit(0.99, 0.99) == AS_IS
    assert fit(0.7, 0.79) == AS_IS  # better, but not clearly
    assert fit(0.7, 0.81) == Y_FLIPPED
    assert fit(0.7, 0.81, short) == AS_IS
    assert fit(0.5, 0.99, short) is None
    assert fit(0.67, 0.67) is None
    assert fit(0.65, 0.72) is None  # either might be it
    assert fit(0.5, 0.2) == Y_FLIPPED  # dark
    assert fit(0.5, 0.3) is None
    assert fit(0.1, 0.5) == AS_IS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tree": Tree(*(np.empty(0, int),) * 2, np.empty((0, 3)), np.empty(0), np.empty(0, int))}, "no node"),
        ({"tree": Tree([1], [0], [[np.nan, 0, 0]], [1.0], [-1])}, "NaN"),
        ({"image": np.zeros((4, 4))}, r"\(z, y, x\)"),
        ({"image": np.zeros((0, 4, 4))}, r"\(z, y, x\)"),
        ({"image": np.zeros((4, 4, 4), complex)}, "complex"),
        ({"voxel_size": (1, 1)}, "voxel_size"),
        ({"voxel_size": (1, 0, 1)}, "voxel_size"),
        ({"voxel_size": (1, float("nan"), 1)}, "voxel_size"),
    ],
)
def test_bad_input_is_refused(tree, image, change, message):
    arguments = {"tree": tree, "image": image, "voxel_size": None} | change
    with pytest.raises(ValueError, match=message):
        check_alignment(**arguments)


def test_alignment_says_its_figure(tree):
    figures = {AS_IS: 0.4, Y_FLIPPED: 0.45}
    assert Alignment(None, figures, tree, 0).figure == 0.4
    assert not Alignment(None, figures, tree, 0).is_dark


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["rivulet_test", "spotspine", "tuff_mn1", "tuff_intra_in44_tail", "rr30a_tp0"])
@pytest.mark.parametrize("mistake", HYPOTHESES)
def test_mistakes_in_real_pairs(shared, name, mistake):
    folder = shared / "data" / "neurons" / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what was mended is no matter here
        tree = read_swc(folder / "trace.swc", mend_structure=True)
    image = read_volume(folder / "image.tif").array
    found = check_alignment(with_mistake(tree, mistake, image.shape), image, VOXEL_SIZE)
    assert found.fit == mistake
    np.testing.assert_allclose(found.tree.xyz, tree.xyz, atol=1e-9)


@pytest.mark.real_data
def test_gold_trees_on_their_projections(shared):
    import tifffile

    folders = sorted(path.parent for path in (shared / "data" / "gold166_mip").glob("*/gold.swc"))
    unfit = []
    for folder in folders:
        found = check_alignment(read_swc(folder / "gold.swc"), tifffile.imread(folder / "mip.tif")[None])
        unfit += [] if found.fit == AS_IS else [folder.name]
    assert len(folders) == 70
    assert unfit == ["267"]
