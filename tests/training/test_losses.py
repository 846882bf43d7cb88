"""The losses: sums that processes can add up, voxels that are left out, and what each term asks of a prediction."""

import dataclasses
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from neuron_vit3d.model.loss import dice_cross_entropy_loss
from neuron_vit3d.training import losses
from neuron_vit3d.training.config import TrainingConfig, choices, help_words
from neuron_vit3d.training.losses import ADDED_LOSSES, LOSSES, SegmentationLoss, divide_center_lines


SIDE = 20
EVERY_LOSS = [
    *({"name": name} for name in LOSSES),
    *({f"{name}_weight": 0.6} for name in ADDED_LOSSES),
    {"name": "dice_focal", "cldice_weight": 0.5, "skeleton_weight": 0.7},
]


@pytest.fixture(autouse=True)
def one_thread():
    """Blocks this small are slower on many threads, by far where other programs use the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_loss(**options) -> SegmentationLoss:
    if options.get("cldice_weight"):
        pytest.importorskip("monai")
    return SegmentationLoss(**options)


def trees(batch=2, slices=1, num_labels=2) -> torch.Tensor:
    """Labels with a cross of tubes, three voxels wide, in every block; each block's lies elsewhere."""
    labels = torch.zeros(batch, slices, SIDE, SIDE, dtype=torch.long)
    for block in range(batch):
        labels[block, :, 2:18, 5 + 2 * block : 8 + 2 * block] = 1
        labels[block, :, 9:12, 2 : 18 - block] = num_labels - 1
    return labels


def logits_of(labels: torch.Tensor, scale: float, num_labels=2) -> torch.Tensor:
    return scale * (2 * torch.nn.functional.one_hot(labels, num_labels).movedim(-1, 1).float() - 1)


def noise(labels: torch.Tensor, num_labels=2, seed=0) -> torch.Tensor:
    shape = (labels.shape[0], num_labels, *labels.shape[1:])
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gradient(loss, logits, labels) -> torch.Tensor:
    logits = logits.clone().requires_grad_()
    return torch.autograd.grad(loss(logits, labels), logits)[0]


# -- all losses ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("options", EVERY_LOSS, ids=str)
@pytest.mark.parametrize(("slices", "num_labels"), [(1, 2), (3, 3)])
def test_two_processes_compute_the_loss_and_the_gradients_of_one(options, slices, num_labels):
    labels = trees(4, slices, num_labels)
    logits = noise(labels, num_labels)
    labels[0, :, :8], labels[2:] = (
        255,
        labels[2:].where(torch.rand(2, slices, SIDE, SIDE) > 0.3, 255),
    )  # unequal halves
    whole = make_loss(**options)
    parts, calls = list(zip(logits.split([1, 3]), labels.split([1, 3]), strict=True)), []
    for part in parts:
        make_loss(**options, total=lambda sums: calls.append(sums) or sums)(*part)
    assert len(calls) == 2  # one addition a batch
    gradients = []
    for part, other in zip(parts, reversed(calls), strict=True):
        # all_reduce adds the gradients of both processes, which are equal, on the way back; DDP then halves them.
        loss = make_loss(**options, total=lambda sums, other=other: 2 * sums - sums.detach() + other)
        torch.testing.assert_close(loss(*part), whole(logits, labels))
        gradients.append(gradient(loss, *part) / 2)
    torch.testing.assert_close(torch.cat(gradients), gradient(whole, logits, labels), atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("options", EVERY_LOSS, ids=str)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), share=st.floats(0.05, 1), ignore_index=st.sampled_from([255, -100]))
def test_voxels_that_are_left_out_have_no_influence(options, seed, share, ignore_index):
    labels = trees(slices=3)
    logits = noise(labels, seed=seed)
    ignored = torch.rand(labels.shape, generator=torch.Generator().manual_seed(seed)) < share
    labels[ignored] = ignore_index
    changed = torch.where(ignored.unsqueeze(1), noise(labels, seed=seed + 1), logits)
    loss = make_loss(**options, ignore_index=ignore_index)
    torch.testing.assert_close(loss(changed, labels), loss(logits, labels))
    slope = gradient(loss, logits, labels)
    assert slope.isfinite().all() and not slope.movedim(1, 0)[:, ignored].any()


@pytest.mark.parametrize("options", EVERY_LOSS, ids=str)
@pytest.mark.parametrize(("slices", "num_labels"), [(1, 2), (3, 3)])
def test_a_perfect_prediction_costs_nothing_and_its_opposite_much(options, slices, num_labels):
    labels, loss = trees(2, slices, num_labels), make_loss(**options)
    for scale in (10, 100):
        assert loss(logits_of(labels, scale, num_labels), labels) < 1e-3
        worst = loss(logits_of(labels, -scale, num_labels), labels)
        assert worst > 0.5 and worst.isfinite()
        assert gradient(loss, logits_of(labels, scale, num_labels), labels).isfinite().all()
        assert gradient(loss, logits_of(labels, -scale, num_labels), labels).isfinite().all()


@pytest.mark.parametrize("options", EVERY_LOSS, ids=str)
@pytest.mark.parametrize("label", [0, 1, 255])
def test_labels_of_one_kind_have_finite_losses_and_gradients(options, label):
    labels = torch.full((1, 1, SIDE, SIDE), label)
    loss = make_loss(**options)
    assert loss(noise(labels), labels).isfinite() and gradient(loss, noise(labels), labels).isfinite().all()
    assert label != 255 or loss(noise(labels), labels) == 0


@pytest.mark.parametrize("options", EVERY_LOSS, ids=str)
def test_losses_are_computed_in_float32_wherever_they_are_called(options):
    labels, loss = trees(), make_loss(**options)
    logits = noise(labels).bfloat16()
    expected = loss(logits.float(), labels)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(logits, labels), expected) and expected.dtype == torch.float32
        assert torch.equal(loss(logits.float(), labels.to(torch.uint8)), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "dice"}, f"expected a loss of {', '.join(LOSSES)}; got 'dice'"),
        ({"focal_gamma": -1}, "focal_gamma must be at least 0 and finite; got -1"),
        ({"cldice_weight": -0.1}, "cldice_weight must be at least 0 and finite; got -0.1"),
        ({"skeleton_weight": float("nan")}, "skeleton_weight must be at least 0 and finite; got nan"),
    ],
)
def test_options_that_make_no_loss_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SegmentationLoss(**options)


def test_a_weight_of_no_loss_is_refused():
    known = ", ".join(f"{name}_weight" for name in ADDED_LOSSES)
    with pytest.raises(TypeError, match=f"expected weights of {known}; got 'clDice_weight'"):
        SegmentationLoss(clDice_weight=1)


def test_options_and_their_help_are_made_from_the_tables():
    assert choices()["loss"] == tuple(LOSSES)
    assert help_words("loss") == [f"{name} ({term.help})" for name, term in LOSSES.items()]
    for name, term in ADDED_LOSSES.items():
        (option,) = (field for field in dataclasses.fields(TrainingConfig) if field.name == f"{name}_weight")
        assert "{}" in option.metadata["help"] and help_words(option.name) == [term.help]
    with pytest.raises(ValueError, match=f"loss must be one of {', '.join(LOSSES)}; got 'dice'"):
        TrainingConfig("", loss="dice")


@pytest.mark.parametrize("name", LOSSES)
def test_labels_of_another_shape_are_refused(name):
    with pytest.raises(ValueError, match=r"expected labels of shape \(2, 1, 20, 20\) .*, got \(2, 20, 20\)"):
        SegmentationLoss(name)(noise(trees()), trees()[:, 0])


# -- voxels ----------------------------------------------------------------------------------------------------------


def test_the_plain_loss_is_the_models_own():
    labels = trees()
    torch.testing.assert_close(
        SegmentationLoss()(noise(labels), labels), dice_cross_entropy_loss(noise(labels), labels)
    )


def test_focal_loss_weighs_the_cross_entropy_of_a_voxel_by_what_is_missing():
    labels = trees()
    logits = noise(labels)
    plain = SegmentationLoss()(logits, labels)
    torch.testing.assert_close(SegmentationLoss("dice_focal", focal_gamma=0)(logits, labels), plain)
    p = logits.softmax(1).gather(1, labels.unsqueeze(1))
    weighed = -((1 - p) ** 3 - 1) * p.log()  # what the weights add
    torch.testing.assert_close(SegmentationLoss("dice_focal", focal_gamma=3)(logits, labels), plain + weighed.mean())


@pytest.mark.parametrize("gamma", [0.5, 1, 2])
def test_focal_loss_has_finite_gradients_where_nothing_is_missing(gamma):
    labels = trees()
    loss = SegmentationLoss("dice_focal", focal_gamma=gamma)
    assert gradient(loss, logits_of(labels, 100), labels).isfinite().all()


# -- soft clDice -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slices", [1, 3])
def test_soft_cldice_is_monais_over_the_batch(slices):
    monai = pytest.importorskip("monai.losses")
    labels = trees(3, slices)
    logits = noise(labels)
    foreground, neuron = logits.softmax(1)[:, 1], labels.float()
    if slices == 1:
        foreground, neuron = foreground.squeeze(1), neuron.squeeze(1)
    # monai's ratios are of one block's channels: the blocks are its channels.
    expected = monai.SoftclDiceLoss(smooth=1e-7)(foreground.unsqueeze(0), neuron.unsqueeze(0))
    added = SegmentationLoss(cldice_weight=0.5)(logits, labels) - SegmentationLoss()(logits, labels)
    torch.testing.assert_close(added, 0.5 * expected, atol=1e-5, rtol=0)


def test_without_monai_cldice_says_what_to_install_and_the_others_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "monai.losses.cldice", None)
    with pytest.raises(ImportError, match=r'soft clDice needs monai: pip install "neuron_vit3d\[losses\]"'):
        SegmentationLoss(cldice_weight=1)
    assert SegmentationLoss("dice_focal", skeleton_weight=1)(noise(trees()), trees()).isfinite()


# -- the skeleton loss -----------------------------------------------------------------------------------------------


def drawn(*rows: str) -> np.ndarray:
    return np.array([[character == "#" for character in row] for row in rows])[None, None]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (drawn("..........", ".########.", ".........."), (2, 1, 1)),
        (drawn("#....#", ".#..#.", "..##.."), (2, 1, 1)),
        (drawn("#...#", ".#.#.", "..#..", "..#..", "..#.."), (4, 3, 1)),
        (drawn("...#...", "...#...", "...#...", "#######", "...#...", "...#...", "...#..."), (5, 4, 1)),
        (drawn("..#..", "..#..", "#####", "..#..", "..#.."), (5, 0, 1)),  # arms as long as the branch point
        (drawn(".##.", "#..#", "#..#", ".##."), (0, 1, 1)),
        (drawn("###.#", ".....", "##..."), (5, 1, 3)),
        (drawn("....", "...."), (0, 0, 0)),
    ],
)
def test_a_center_line_is_divided_at_tips_and_branch_points(line, expected):
    assert tuple(len(parts.size) for parts in divide_center_lines(line)) == expected


def test_a_center_line_goes_on_through_slices_by_corners_and_not_into_the_next_block():
    line = np.zeros((2, 4, 4, 4), bool)
    line[:, range(4), range(4), range(4)] = True
    nodes, edges, paths = divide_center_lines(line)
    assert nodes.size.tolist() == [1] * 4 and edges.size.tolist() == [2, 2] and paths.size.tolist() == [4, 4]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), share=st.floats(0, 0.4), slices=st.integers(1, 3))
def test_every_voxel_is_in_one_path_and_in_one_node_or_edge(seed, share, slices):
    line = np.random.default_rng(seed).random((2, slices, 7, 6)) < share
    nodes, edges, paths = divide_center_lines(line)
    assert sorted([*nodes.voxels, *edges.voxels]) == list(range(line.sum())) == list(paths.voxels)
    for parts in (nodes, edges, paths):
        assert np.array_equal(np.bincount(parts.part, minlength=len(parts.size)), parts.size)
        assert (parts.size > 0).all()
    connected = [ndimage.label(block, np.ones((3, 3, 3)))[0] for block in line]
    for path in range(len(paths.size)):
        assert len(set(np.nonzero(line)[0][paths.voxels[paths.part == path]])) == 1  # within one block
    assert len(paths.size) == sum(block.max() for block in connected)


@settings(max_examples=50, deadline=None)
@given(costs=st.lists(st.floats(0, 200, width=32), min_size=1, max_size=30), cut=st.integers(0, 30))
def test_the_weakest_link_lies_between_mean_and_maximum(costs, cut):
    part = (np.arange(len(costs)) >= min(cut, len(costs) - 1)).astype(int)
    part -= part.min()
    parts = losses.Parts(np.arange(len(costs)), part, np.bincount(part))
    by_part = [np.array(costs)[part == k] for k in range(len(parts.size))]
    value = losses._sum_of_soft_maxima(torch.tensor(costs), parts).item()
    assert losses._sum_of_means(torch.tensor(costs), parts).item() == pytest.approx(sum(map(np.mean, by_part)), 1e-4)
    slack = 1e-3 + 1e-5 * sum(map(max, by_part))
    assert sum(map(np.mean, by_part)) - slack <= value <= sum(map(max, by_part)) + slack
    assert value >= sum(max(c) - np.log(len(c)) / losses._SHARPNESS for c in by_part) - slack


def skeleton_terms(logits, labels) -> list[float]:
    """Node, edge, path and false path."""
    valid = labels != 255
    costs, counts = losses.skeleton_sums(logits, (labels > 0) & valid, valid).reshape(4, 2).T
    return (costs / counts.clamp(min=1)).tolist()


def tube(length=16, gap=()) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that miss the columns of the gap, and labels, of a straight tube three voxels wide."""
    labels = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.long)
    labels[..., 9:12, 2 : 2 + length] = 1
    logits = logits_of(labels, 4)
    for column in gap:
        logits[..., 9:12, column] *= -1
    return logits, labels


def test_what_is_missing_counts_as_much_as_what_is_false():
    """Costs 3, 6, 9 of one node, two edges and three paths; 8 over 4 voxels of center lines."""
    assert losses.skeleton_loss(torch.tensor([3.0, 1, 12, 2, 27, 3, 8, 4])) == (3 + 6 + 9) / 3 + 2


def test_a_gap_costs_its_edge_its_share_and_its_path_nearly_all():
    node, edge, path, false_path = skeleton_terms(*tube(gap=[9]))
    assert node < 0.01 and false_path == 0
    assert edge == pytest.approx(8 / 12, rel=0.2)
    assert 8 - np.log(16) / 4 <= path <= 8
    node, *_ = skeleton_terms(*tube(gap=[2, 3]))
    assert node == pytest.approx(4, rel=0.01)  # one tip of two


def test_a_short_edge_counts_as_much_as_a_long_one():
    labels = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.long)
    labels[..., 3, 1:19] = 1
    labels[..., 15, 1:6] = 1
    logits = logits_of(labels, 4)
    logits[..., 15, 1:6] *= -1
    node, edge, path, _ = skeleton_terms(logits, labels)
    assert [node, edge, path] == pytest.approx([4, 4, 4], rel=0.01)


def test_the_gradient_points_at_a_gap_in_the_center_line():
    logits, labels = tube(gap=[9])
    slope = gradient(SegmentationLoss(skeleton_weight=1), logits, labels) - gradient(
        SegmentationLoss(), logits, labels
    )
    slope = -slope[0, 1, 0]  # what raising the logit of neuron takes off the loss
    gap = slope[10, 9].item()
    assert gap > 0.3
    slope[10, 9] = 0
    assert slope.min() >= -1e-6 and slope.max() < gap / 10


@pytest.mark.parametrize(("row", "costs"), [(13, False), (14, True), (17, True)])
def test_a_false_path_costs_where_it_lies_more_than_two_voxels_away(row, costs):
    logits, labels = tube()
    logits[0, 0, 0, row, 2:18], logits[0, 1, 0, row, 2:18] = -3, 3
    logits[0, :, 0, 12:row] = torch.tensor([3.0, -3.0])[:, None, None]
    *_, false_path = skeleton_terms(logits, labels)
    assert false_path == pytest.approx(6 * 16 / (16 + 14) if costs else 0, rel=0.1)
    labels[..., row, :] = 255
    assert skeleton_terms(logits, labels)[-1] == 0


def test_a_false_path_is_pushed_down_and_no_other_voxel_away_from_the_tube():
    logits, labels = tube()
    logits[0, 0, 0, 16, 2:18], logits[0, 1, 0, 16, 2:18] = -3, 3
    slope = gradient(SegmentationLoss(skeleton_weight=1), logits, labels) - gradient(
        SegmentationLoss(), logits, labels
    )
    pushed = slope[0, 1, 0] > 0.01
    assert pushed[16, 3:17].all() and pushed.sum() <= 16


def test_trees_of_several_slices_are_thinned_as_volumes():
    labels = torch.zeros(1, 5, SIDE, SIDE, dtype=torch.long)
    labels[:, :, 9:12, 9:12] = 1  # a tube along z
    nodes, edges, paths = divide_center_lines(losses._center_lines(labels.numpy() > 0))
    assert len(paths.size) == 1 and paths.size[0] <= 5 and len(nodes.size) <= 2 and len(edges.size) <= 1
