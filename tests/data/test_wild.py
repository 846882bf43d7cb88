"""Wild neurons: reproducible, labelled where they are seen, and free of any ingredient on request."""

import time
from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from neuron_vit3d.data import wild_neuron
from neuron_vit3d.data.wild import INGREDIENTS
from neuron_vit3d.data.wild_background import honeycomb, real_background, soft_field
from neuron_vit3d.data.wild_dice import Dice
from neuron_vit3d.data.wild_tree import find_branches, wander_along
from neuron_vit3d.morphology import Tree, check_tree


SMALL = (8, 64, 64)


def a_real_stack(shape=(20, 90, 80), dtype=np.uint16):
    return np.random.default_rng(4).gamma(2.0, 300.0, size=shape).astype(dtype)


@given(
    seed=st.integers(0, 2**63),
    shape=st.tuples(st.integers(4, 20), st.integers(32, 80), st.integers(32, 80)),
    without=st.sets(st.sampled_from(INGREDIENTS), max_size=4),
    real=st.booleans(),
)
@example(seed=2659, shape=(17, 59, 51), without=set(), real=False)  # a thin branch between two slices
@settings(max_examples=20, deadline=None)
def test_truth_is_sound_for_any_arguments(seed, shape, without, real):
    neuron = wild_neuron(shape, seed=seed, without=without, backgrounds=[a_real_stack()] if real else ())
    tree, array, labels = neuron.tree, neuron.volume.array, neuron.labels
    assert array.shape == labels.shape == shape
    assert array.dtype in (np.uint8, np.uint16) and labels.dtype == np.uint8
    assert set(np.unique(labels)) <= {0, 1, 255} and (labels == 1).any()
    assert check_tree(tree) == []
    assert (tree.parent_index < np.arange(len(tree))).all()
    assert (tree.xyz >= 0).all() and (tree.xyz <= np.array(shape[::-1]) - 1).all()
    z, y, x = np.rint(tree.xyz[:, ::-1]).astype(int).T
    assert (labels[z, y, x] != 0).all(), "the center line is background"
    if "bright_things" not in without:  # what hides a neurite makes it unknown
        return
    assert (labels[z, y, x] == 1).all()


def test_same_seed_same_bytes():
    stack = a_real_stack()
    for seed in range(4):
        one, two = (wild_neuron(SMALL, seed=seed, backgrounds=[stack]) for _ in range(2))
        assert one.volume.array.tobytes() == two.volume.array.tobytes()
        assert one.labels.tobytes() == two.labels.tobytes() and one.tree.xyz.tobytes() == two.tree.xyz.tobytes()
        assert one.volume.voxel_size == two.volume.voxel_size


def test_other_seed_other_neuron():
    one, two = (wild_neuron(SMALL, seed=seed) for seed in (11, 12))
    assert not np.array_equal(one.volume.array, two.volume.array)
    assert not np.array_equal(one.tree.xyz, two.tree.xyz)


@cache
def a_full_neuron(seed):
    return wild_neuron(SMALL, seed=seed, backgrounds=[a_real_stack()])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in INGREDIENTS if name != "inversion"])  # one image in a hundred
def test_every_ingredient_can_be_left_out(name):
    """In one of many seeds at least it makes a difference, and to the tree only if it is about the tree."""
    for seed in range(60):
        full, less = a_full_neuron(seed), wild_neuron(SMALL, seed=seed, without=(name,), backgrounds=[a_real_stack()])
        if name not in ("thick", "thin", "anisotropy"):
            np.testing.assert_array_equal(full.tree.xyz, less.tree.xyz)
        if not np.array_equal(full.volume.array, less.volume.array):
            return
    pytest.fail("it never happens")


def test_without_everything_is_a_plain_picture():
    neuron = wild_neuron((12, 96, 96), seed=3, without=INGREDIENTS)
    assert neuron.volume.dtype == np.uint8
    inside = neuron.volume.array[neuron.labels == 1]
    assert np.median(inside) > np.percentile(neuron.volume.array[neuron.labels == 0], 90)


def test_neurites_can_be_seen():
    """In most images the labelled voxels are brighter than most others."""
    ranks = []
    for seed in range(16):
        neuron = wild_neuron((12, 80, 80), seed=seed, without=("bright_things", "inversion"))
        array, labels = neuron.volume.array.astype(float), neuron.labels
        z, y, x = np.rint(neuron.tree.xyz[:, ::-1]).astype(int).T
        ranks.append((array[labels == 0] < np.median(array[z, y, x])).mean())
    assert np.median(ranks) > 0.95 and np.percentile(ranks, 10) > 0.6, np.round(ranks, 2)


def test_real_backgrounds_of_any_kind():
    rng = np.random.default_rng(0)
    for stack in (
        np.zeros((2, 2, 2)),
        a_real_stack((3, 300, 20), np.float32),
        np.ones((9, 30, 40), bool),
        a_real_stack() > 300,
    ):
        crop = real_background([stack], SMALL, rng)
        assert crop.shape == SMALL and crop.dtype == np.float32 and np.isfinite(crop).all()
        assert crop.min() >= 0 and crop.max() <= 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (2, 64, 64)}, "shape must be"),
        ({"seed": -1}, "seed must not be negative"),
        ({"without": ("bead",)}, "unknown ingredients bead; known are thick"),
        ({"without": "beads"}, "single string"),
        ({"backgrounds": [np.zeros((4, 4))]}, r"a background must be an array \(z, y, x\)"),
        ({"backgrounds": [np.zeros((1, 4, 4))]}, "two or more"),
        ({"backgrounds": [np.zeros((4, 4, 4), complex)]}, "of numbers"),
    ],
)
def test_bad_arguments_are_told(arguments, message):
    with pytest.raises(ValueError, match=message):
        wild_neuron(**({"shape": SMALL, "seed": 0} | arguments))


def test_streams_do_not_disturb_each_other():
    one, two = Dice(5), Dice(5, without=("beads",))
    one.rng("beads").random(100)
    assert one.rng("specks").random() == two.rng("specks").random()
    assert not any(two.happens("beads", 1.0) for _ in range(5))
    assert Dice(5).rng("tree").random() != Dice(6).rng("tree").random()


def test_fields_along_a_tree_forget_with_distance():
    n = 4000
    tree = Tree.from_parents(
        np.stack([2.0 * np.arange(n), np.zeros(n), np.zeros(n)], axis=1), np.ones(n), np.arange(n) - 1
    )
    branches = find_branches(tree)
    assert branches.branch.max() == 0
    values = wander_along(tree, branches, 10.0, np.random.default_rng(0))
    assert values.std() == pytest.approx(1.0, abs=0.15)
    assert np.corrcoef(values[:-1], values[1:])[0, 1] == pytest.approx(np.exp(-0.2), abs=0.05)
    assert abs(np.corrcoef(values[:-50], values[50:])[0, 1]) < 0.15


def test_branches_end_where_the_tree_forks():
    #  0 - 1 - 2 - 3
    #       \- 4 - 5
    tree = Tree.from_parents(np.random.default_rng(0).random((6, 3)), np.ones(6), np.array([-1, 0, 1, 2, 1, 4]))
    branch = find_branches(tree).branch
    assert branch[0] == branch[1] and branch[2] == branch[3] and branch[4] == branch[5]
    assert len({branch[0], branch[2], branch[4]}) == 3


def test_honeycomb_and_soft_fields_are_finite_and_bounded():
    for seed in range(6):
        rng = np.random.default_rng(seed)
        cells = honeycomb((9, 70, 50), rng)
        assert cells.shape == (9, 70, 50) and np.isfinite(cells).all() and -0.01 <= cells.min() <= cells.max() <= 1.01
        field = soft_field(rng, (9, 70, 50), (5, 20, 20))
        assert field.shape == (9, 70, 50) and 0.4 < field.std() < 2.5


@pytest.mark.slow
def test_a_training_volume_takes_a_moment():
    wild_neuron(SMALL, seed=0)  # imports
    begin = time.process_time()
    for seed in range(3):
        wild_neuron(seed=seed)
    assert (time.process_time() - begin) / 3 < 1.5  # 0.3 s where nothing else runs
