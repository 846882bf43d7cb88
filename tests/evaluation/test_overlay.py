"""The picture of a tracing: written whole, with the trees where they belong, whatever the volume's shape."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from neuron_vit3d.evaluation.axes import LEFT, LEGEND_HEIGHT, TOP, round_step, ticks
from neuron_vit3d.evaluation.overlay import (
    AGREES,
    DOUBTFUL,
    FOUND,
    GOLD,
    MISSED,
    PREDICTED,
    Projections,
    write_overlay,
    write_tree_difference,
)
from neuron_vit3d.morphology import Tree


def projections_of(volume: np.ndarray, step: int = 2) -> Projections:
    projections = Projections(volume.shape)
    for z in range(0, len(volume), step):
        projections.add(z, volume[z : z + step])
    return projections


def line(*points) -> Tree:
    """A tree along points (x, y, z)."""
    return Tree.from_parents(np.array(points, float), np.ones(len(points)), np.arange(len(points)) - 1)


def coloured(path, colour) -> np.ndarray:
    """Which pixels of a picture have exactly this colour, the legend left out."""
    return (np.asarray(Image.open(path))[:-LEGEND_HEIGHT] == colour).all(-1)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize("step", [1, 3, 5])
def test_projections_are_maxima_however_the_slabs_come(dtype, step):
    volume = np.random.default_rng(0).integers(0, 100, (5, 6, 7)).astype(dtype)
    volume = volume - dtype(50) if dtype != np.uint8 else volume  # negative voxels, too
    projections = projections_of(volume, step)
    assert np.array_equal(projections.xy, volume.max(0))
    assert np.array_equal(projections.xz, volume.max(1))
    assert np.array_equal(projections.zy, volume.max(2).T)


def test_the_left_half_is_plain_and_the_right_half_has_the_trees(tmp_path):
    volume = np.random.default_rng(0).integers(0, 200, (10, 40, 60), dtype=np.uint8)
    predicted, gold = line((5, 5, 2), (50, 5, 2)), line((5, 30, 8), (50, 30, 8))
    path = write_overlay(tmp_path / "a.png", projections_of(volume), [predicted], gold=gold)
    assert path == tmp_path / "a.png" and [file.name for file in tmp_path.iterdir()] == ["a.png"]
    with Image.open(path) as picture:
        assert (picture.format, picture.mode) == ("PNG", "RGB")
        half = (picture.width - 8) // 2
    for colour in (PREDICTED, GOLD):
        pixels = coloured(path, colour)
        assert not pixels[:, :half].any() and pixels[:, half:].sum() > 100


def test_trees_lie_on_what_they_trace(tmp_path):
    """A bright line is drawn over in all three views: its bright pixels on the left are the tree's on the right."""
    volume = np.zeros((12, 40, 60), np.uint8)
    volume[9, 7, 10:50] = 255
    path = write_overlay(tmp_path / "a.png", projections_of(volume), [line((10, 7, 9), (49, 7, 9))])
    picture = np.asarray(Image.open(path))
    half = (picture.shape[1] - 8) // 2
    bright, tree = picture[:, :half].min(-1) > 200, coloured(path, PREDICTED)[:, half + 8 :]
    scale = 8  # small stacks are enlarged so much at most
    center = scale // 2
    # Where each view begins, and the line in it: along x in the upper two, a point at the right.
    for top, left, row, columns in (
        (TOP, LEFT, 7, (10, 49)),
        (TOP + 40 * scale + 4, LEFT, 9, (10, 49)),
        (TOP, LEFT + 60 * scale + 4, 7, (9, 9)),
    ):
        middle = top + row * scale + center
        across = slice(left + columns[0] * scale + center, left + columns[1] * scale + center + 1)
        assert bright[middle, across].all()
        assert tree[middle - 3 : middle + 4, across].any(0).all()  # a root is a ring of 3 pixels around it


def test_the_gold_tree_lies_beneath_and_both_are_seen(tmp_path):
    tree = line((5, 20, 2), (50, 20, 2))
    projections = projections_of(np.zeros((5, 40, 60), np.uint8))
    path = write_overlay(tmp_path / "a.png", projections, [tree], gold=tree)
    gold, traced = coloured(path, GOLD), coloured(path, PREDICTED)
    column = LEFT + 25 * 8  # within the first panel of the second half
    half = (gold.shape[1] - 8) // 2 + 8
    across = slice(TOP + 15 * 8, TOP + 26 * 8)
    assert traced[across, half + column].sum() == 2 and gold[across, half + column].sum() == 4
    path = write_tree_difference(tmp_path / "b.png", projections, tree, line((5, 20, 2), (50, 20, 2), (50, 35, 2)))
    assert all(coloured(path, colour).sum() > 500 for colour in (FOUND, MISSED, AGREES))


def test_axes_and_scale_bar_are_in_micrometres_where_the_voxel_size_is_known(tmp_path):
    """Slices five times as thick as voxels are wide make views five times as deep."""
    volume = np.zeros((5, 40, 60), np.uint8)
    plain = write_overlay(tmp_path / "a.png", projections_of(volume), [line((5, 5, 2), (50, 5, 2))])
    projections = projections_of(volume)
    projections.voxel_size = (1.0, 0.2, 0.2)
    stretched = write_overlay(tmp_path / "b.png", projections, [line((5, 5, 2), (50, 5, 2))])
    with Image.open(plain) as one, Image.open(stretched) as two:
        assert two.height - one.height == 4 * 5 * 8
    for path in (plain, stretched):  # a bar of 10 voxels, or of 2 um, in each of the two panels
        row = coloured(path, (255, 255, 255))[TOP + 40 * 8 - 10]
        assert 0 <= row.sum() // 2 - 10 * 8 <= 1
    projections.voxel_size = (1000.0, 0.2, 0.2)  # a slip, which is not drawn
    assert (
        write_overlay(tmp_path / "c.png", projections, [line((5, 5, 2), (50, 5, 2))]).read_bytes()
        == plain.read_bytes()
    )


@pytest.mark.parametrize(("span", "most", "step"), [(10, 5, 2), (10, 4, 5), (0.3, 3, 0.1), (9e6, 10, 1e6), (0, 5, 1)])
def test_ticks_are_round(span, most, step):
    assert round_step(span, most) == pytest.approx(step)
    if span:
        assert ticks(0, span, most)[:2] == pytest.approx([0, step]) and ticks(0, span, most)[-1] <= span * (1 + 1e-9)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 40, 60), (3, 30, 2000), (1, 1, 4000), (3, 2000, 1), (300, 5, 5), (2, 900, 900)]
)
def test_odd_shapes(shape, tmp_path):
    tree = line((0, 0, 0), tuple(side - 1 for side in shape[::-1]))
    path = write_overlay(tmp_path / "a.png", projections_of(np.ones(shape, np.float32)), [tree])
    with Image.open(path) as picture:
        assert 10 < picture.width < 3400 and 4 < picture.height < 1700
    assert coloured(path, PREDICTED).any()


@pytest.mark.parametrize("value", [0, 7, -3.5, 1e30])
def test_a_volume_of_one_value(value, tmp_path):
    path = write_overlay(tmp_path / "a.png", projections_of(np.full((3, 20, 20), value, np.float32)))
    assert not coloured(path, PREDICTED).any()


def test_a_tree_without_edges_and_one_outside_the_image(tmp_path):
    projections = projections_of(np.zeros((5, 40, 60), np.uint8))
    assert coloured(write_overlay(tmp_path / "a.png", projections, [line((20, 20, 2))]), PREDICTED).any()
    outside = line((1e6, 1e6, 1e6), (1e6 + 5, 1e6, 1e6))
    assert not coloured(write_overlay(tmp_path / "b.png", projections, [outside]), PREDICTED).any()


def test_doubtful_branches_have_another_colour_and_a_legend(tmp_path):
    """A line forks into one that is sure and one that is not; without doubt the picture is as it is without scores."""
    points = [(5, 20, 2), (20, 20, 2), (50, 20, 2), (35, 5, 2)]
    fork = line(*points)
    fork = dataclasses.replace(fork, parents=np.array([-1, 1, 2, 2]))
    projections = projections_of(np.zeros((5, 40, 60), np.uint8))
    plain = write_overlay(tmp_path / "a.png", projections, [fork])
    sure = write_overlay(tmp_path / "b.png", projections, [dataclasses.replace(fork, scores=[1, 1, 0.75, 0.75])])
    assert plain.read_bytes() == sure.read_bytes()
    mixed = write_overlay(tmp_path / "c.png", projections, [dataclasses.replace(fork, scores=[1, 1, 0.9, 0.4])])
    assert coloured(mixed, DOUBTFUL).sum() > 50 and coloured(mixed, PREDICTED).sum() > 50
    with Image.open(plain) as before, Image.open(mixed) as after:
        assert after.size == before.size


def test_a_tree_of_many_roots_has_a_ring_for_each(tmp_path):
    projections = projections_of(np.zeros((5, 40, 60), np.uint8))
    forest = Tree.from_parents(np.array([[5, 5, 2], [30, 20, 2], [50, 30, 2]], float), np.ones(3), np.full(3, -1))
    three = coloured(write_overlay(tmp_path / "a.png", projections, [forest]), PREDICTED).sum()
    assert three == 3 * coloured(write_overlay(tmp_path / "b.png", projections, [line((5, 5, 2))]), PREDICTED).sum()


def test_nothing_half_written_is_left_and_the_old_picture_stays(tmp_path, monkeypatch):
    projections = projections_of(np.zeros((5, 40, 60), np.uint8))
    path = write_overlay(tmp_path / "a.png", projections)
    before = path.read_bytes()

    def fails(self, file, **how):
        file.write_bytes(b"half a picture")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fails)
    with pytest.raises(OSError, match="disk full"):
        write_overlay(path, projections, [line((1, 1, 1), (30, 30, 3))])
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["a.png"]
