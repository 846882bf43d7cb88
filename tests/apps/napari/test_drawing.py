"""A drawn branch follows the scores between two points, in a window of them, and hangs on the nodes it begins at."""

import numpy as np
import pytest

from neuron_vit3d.apps.napari.drawing import as_scores, draw_between, find_path, window_around
from neuron_vit3d.apps.napari.editing import EditError, apply, numbered
from neuron_vit3d.morphology import Tree, check_tree, rasterize, tree_distance


# A bow whose ends are near each other, and a straight stub before it.
ANGLES = np.linspace(0, 1.5 * np.pi, 60)
BOW = Tree.from_parents(
    np.stack([40 + 20 * np.cos(ANGLES), 40 + 20 * np.sin(ANGLES), np.full(60, 10.0)], axis=1),
    np.full(60, 2.0),
    np.arange(-1, 59),
)
SHAPE = (20, 80, 80)
SCORES = rasterize(BOW, SHAPE).astype(np.float32)


def test_the_path_follows_the_scores_and_not_the_straight_line():
    path = find_path(SCORES, BOW.xyz[0], BOW.xyz[-1])
    drawn = Tree.from_parents(path.points, path.radii, np.arange(-1, len(path.points) - 1))
    assert tree_distance(drawn, BOW)["f1"] > 0.99
    assert np.median(path.radii) == pytest.approx(2.0, abs=0.75)


def test_a_gap_is_crossed():
    scores = SCORES.copy()
    scores[:, 55:65, 35:45] = 0
    path = find_path(scores, BOW.xyz[0], BOW.xyz[-1])
    drawn = Tree.from_parents(path.points, path.radii, np.arange(-1, len(path.points) - 1))
    assert tree_distance(drawn, BOW)["f1"] > 0.9 and (path.radii >= 1).all()


def test_thick_slices_count_as_far():
    path = find_path(np.zeros((5, 40, 40), np.float32), [0, 0, 0], [39, 0, 4], (10.0, 1, 1))
    assert len(path.points) == 40


def test_only_a_window_is_read():
    tree, asked = numbered(Tree.from_parents(BOW.xyz[:30], BOW.radii[:30], np.arange(-1, 29))), []

    def read(box):
        asked.append([(one.start, one.stop) for one in box])
        return np.pad(SCORES, ((0, 0), (0, 400), (0, 400)))[box]

    edit = draw_between(tree, BOW.xyz[29] + 0.5, BOW.xyz[59], read, (20, 480, 480))
    assert edit.start == 30 and edit.end is None
    ((z, y, x),) = asked
    assert z == (0, 20) and y[1] - y[0] < 80 and x[1] - x[0] < 80
    after = apply(tree, edit)
    assert check_tree(after) == [] and after.num_components == 1
    assert tree_distance(after, BOW)["f1"] > 0.99


def test_two_pieces_become_one_and_one_piece_no_loop():
    parents = np.arange(-1, 59)
    parents[30] = -1
    keep = np.r_[:20, 30:60]
    rows = np.cumsum(np.isin(np.arange(60), keep)) - 1
    apart = numbered(
        Tree.from_parents(BOW.xyz[keep], BOW.radii[keep], [-1 if p < 0 else rows[p] for p in parents[keep]])
    )
    edit = draw_between(apart, BOW.xyz[19], BOW.xyz[30], SCORES.__getitem__, SHAPE)
    assert None not in (edit.start, edit.end)
    assert apply(apart, edit).num_components == 1
    with pytest.raises(EditError, match="loop"):
        apply(apart, draw_between(apart, BOW.xyz[0], BOW.xyz[19], SCORES.__getitem__, SHAPE))


def test_an_image_stands_for_scores_by_its_bright_voxels():
    image = (100 + 900 * SCORES).astype(np.uint16)
    assert np.array_equal(as_scores(SCORES), SCORES)
    np.testing.assert_allclose(as_scores(image), SCORES)
    assert as_scores(np.full((3, 3, 3), 7, np.uint8)).max() == 0
    assert as_scores(np.array([[[np.nan, 1.0]]], np.float32)).tolist() == [[[0, 1]]]


@pytest.mark.parametrize(
    ("start", "end", "sentence"),
    [
        ([-5, 0, 0], [5, 5, 5], "outside"),
        ([0, 0, 0], [79, 79, 20], "outside"),
        ([float("nan"), 0, 0], [5, 5, 5], "outside"),
    ],
)
def test_points_outside_are_refused(start, end, sentence):
    with pytest.raises(EditError, match=sentence):
        window_around(np.array(start), np.array(end), SHAPE)


def test_points_too_far_apart_or_the_same_are_refused():
    with pytest.raises(EditError, match="in pieces"):
        window_around(np.zeros(3), np.full(3, 1999.0), (2000, 2000, 2000))
    tree = numbered(BOW)
    with pytest.raises(EditError, match="same place"):
        draw_between(tree, np.array([1.0, 1, 1]), np.array([1.1, 1, 1]), SCORES.__getitem__, SHAPE)
