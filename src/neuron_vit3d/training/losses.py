"""The losses that a run can choose from, each a ratio of sums that many processes can add up.

On voxels: soft Dice with cross-entropy or with the focal loss. On center lines, added by weight: soft clDice, and a
loss on the tree of each block. All compute in float32 and leave out the voxels that the labels leave out. The tables
at the end list them; options, help texts and errors are made from the tables.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from scipy import ndimage
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from torch.nn import functional as F

from ..evaluation.segmentation import center_line
from ..model.loss import check_labels, cost_and_dice, voxel_sums
from ..morphology.graphs import sparse_graph
from .added_losses import ADDED


_ERODING_STEPS = 3  # of the soft skeleton: what is wider than 2 * 3 + 2 voxels (a soma) has none
_SHARPNESS = 4.0  # a center line of n voxels costs at most log(n) / 4 less than its weakest voxel
_TOLERANCE = 2  # voxels that a predicted center line may lie beside the labelled neuron

Sums: TypeAlias = torch.Tensor  # (n,), float32: sums over the voxels of a batch, which processes can add up


class Batch(NamedTuple):
    """The logits and labels of a batch, from which a loss is computed."""

    logits: torch.Tensor  # (batch, num_labels, num_output_slices, height, width), float32
    labels: torch.Tensor  # (batch, num_output_slices, height, width), int64
    ignore_index: int  # label of voxels left out
    focal_gamma: float  # of the focal loss

    @property
    def valid(self) -> torch.Tensor:
        """Voxels that are not left out, boolean, of the labels' shape."""
        return self.labels != self.ignore_index

    @property
    def neuron(self) -> torch.Tensor:
        """Voxels that are labelled as neuron, boolean, of the labels' shape."""
        return (self.labels > 0) & self.valid


class Term(NamedTuple):
    """A row of the tables: a loss, and what is said of it."""

    of: Callable[[Batch], tuple[Sums, Callable[[Sums], torch.Tensor]]]  # sums, and what makes a scalar of them
    help: str  # completes "--loss NAME (...)" or "weight of ..."
    check: Callable[[], object] | None = None  # raises ImportError where a library is missing


class SegmentationLoss:
    """One of LOSSES, plus the ADDED_LOSSES, each by its weight.

    Args:
        name: one of LOSSES.
        focal_gamma: of "dice_focal": the cross-entropy of a voxel is weighed by (1 - p of its label) ** `focal_gamma`;
            0 is cross-entropy.
        ignore_index: label of voxels left out.
        total: adds up a tensor of sums over all processes, on the way back their gradients; called once a batch. N
            processes whose gradients are averaged then have loss and gradients of their N batches together. None: one
            process.
        weights: `cldice_weight`, `skeleton_weight`: of those of ADDED_LOSSES, by their names.

    Raises:
        ValueError: the name is unknown, or a weight or `focal_gamma` is negative.
        ImportError: a loss needs a library that is not installed.
    """

    def __init__(
        self,
        name: str = "dice_cross_entropy",
        *,
        focal_gamma: float = 2.0,
        ignore_index: int = 255,
        total: Callable[[torch.Tensor], torch.Tensor] | None = None,
        **weights: float,
    ):
        if name not in LOSSES:
            raise ValueError(f"expected a loss of {', '.join(LOSSES)}; got {name!r}")
        for key, value in {"focal_gamma": focal_gamma, **weights}.items():
            if not 0 <= value < float("inf"):
                raise ValueError(f"{key} must be at least 0 and finite; got {value}")
        self.focal_gamma, self.ignore_index, self.total = focal_gamma, ignore_index, total
        self.terms = {f"loss {name}": (1.0, LOSSES[name])}
        added = {f"{name}_weight": term for name, term in ADDED_LOSSES.items()}
        if unknown := weights.keys() - added.keys():
            raise TypeError(f"expected weights of {', '.join(added)}; got {min(unknown)!r}")
        self.terms |= {option: (weights[option], term) for option, term in added.items() if weights.get(option)}
        for option, (_, term) in self.terms.items():
            try:
                _ = term.check and term.check()
            except ImportError as error:
                raise ImportError(f"{option}: {error}") from error

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss of a batch, a float32 scalar.

        Args:
            logits: (batch, num_labels, num_output_slices, height, width).
            labels: (batch, num_output_slices, height, width), integers.

        Raises:
            ValueError: the labels do not have the logits' shape without its second axis.
        """
        check_labels(logits, labels)
        batch = Batch(logits.float(), labels.long(), self.ignore_index, self.focal_gamma)
        weights, terms = zip(*self.terms.values(), strict=True)
        parts, losses = zip(*(term.of(batch) for term in terms), strict=True)
        sums = torch.cat(parts)
        if self.total is not None:
            sums = self.total(sums)
        pieces = sums.split([len(part) for part in parts])
        return sum(weight * loss(piece) for weight, loss, piece in zip(weights, losses, pieces, strict=True))


# -- on voxels -------------------------------------------------------------------------------------------------------


def dice_cross_entropy(batch: Batch) -> tuple[Sums, Callable[[Sums], torch.Tensor]]:
    """Soft Dice and cross-entropy, as the model itself computes them."""
    return _with_dice(batch, _cross_entropy(batch))


def dice_focal(batch: Batch) -> tuple[Sums, Callable[[Sums], torch.Tensor]]:
    """Soft Dice and the focal loss (Lin et al. 2017, section 3).

    Without the class weights of the paper, because Dice balances the classes.
    """
    cost = _cross_entropy(batch)
    # 1 - p without the rounding of p; kept off 0, where a power below 1 has no finite slope.
    return _with_dice(batch, cost * (-torch.expm1(-cost)).clamp(min=1e-6) ** batch.focal_gamma)


def _cross_entropy(batch: Batch) -> torch.Tensor:
    """Computes the cross-entropy of every voxel, in the labels' shape; 0 where labels leave voxels out."""
    return F.cross_entropy(batch.logits, batch.labels, ignore_index=batch.ignore_index, reduction="none")


def _with_dice(batch: Batch, cost: torch.Tensor) -> tuple[Sums, Callable[[Sums], torch.Tensor]]:
    return voxel_sums(cost.sum(), batch.logits, batch.labels, batch.ignore_index), cost_and_dice


# -- soft clDice -----------------------------------------------------------------------------------------------------


def cldice(batch: Batch) -> tuple[Sums, Callable[[Sums], torch.Tensor]]:
    """Soft clDice (Shit et al. 2021)."""
    foreground = batch.logits.softmax(1)[:, 1:].sum(1) * batch.valid
    return cldice_sums(foreground, batch.neuron.float(), _soft_skeleton()), cldice_loss


def cldice_sums(foreground: torch.Tensor, neuron: torch.Tensor, soft_skeleton: Callable) -> torch.Tensor:
    """Computes the sums that `cldice_loss` needs, (4,).

    They are two lengths of the predicted center line, inside the labelled neuron and in total, and two lengths of the
    labelled center line, inside the prediction and in total.

    Args:
        foreground: probability of being neuron, (batch, slices, height, width), 0 where labels leave voxels out.
        neuron: 0 or 1, float, of the same shape.
        soft_skeleton: one that takes (batch, channels, height, width) in 2D and five axes in 3D.
    """
    if foreground.shape[1] > 1:  # one slice is the channel of a 2D image, several are a volume
        foreground, neuron = foreground.unsqueeze(1), neuron.unsqueeze(1)
    line = soft_skeleton(foreground, _ERODING_STEPS)
    with torch.no_grad():
        labelled_line = soft_skeleton(neuron, _ERODING_STEPS)
    return torch.stack([(line * neuron).sum(), line.sum(), (labelled_line * foreground).sum(), labelled_line.sum()])


def cldice_loss(sums: torch.Tensor, smooth: float = 1.0) -> torch.Tensor:
    """1 - soft clDice over the batch, from `cldice_sums` (Shit et al. 2021, clDice, algorithm 2)."""
    inside, length, found, labelled_length = sums
    precision = (inside + smooth) / (length + smooth)
    sensitivity = (found + smooth) / (labelled_length + smooth)
    return 1 - 2 * precision * sensitivity / (precision + sensitivity)


def _soft_skeleton() -> Callable[[torch.Tensor, int], torch.Tensor]:
    try:
        from monai.losses.cldice import soft_skel
    except ImportError as error:
        raise ImportError('soft clDice needs monai: pip install "neuron_vit3d[losses]"') from error
    return soft_skel


# -- the skeleton loss -----------------------------------------------------------------------------------------------


def skeleton(batch: Batch) -> tuple[Sums, Callable[[Sums], torch.Tensor]]:
    """Compares nodes, edges and paths with the labelled tree, and counts false paths; see `skeleton_loss`."""
    return skeleton_sums(batch.logits, batch.neuron, batch.valid), skeleton_loss


class Parts(NamedTuple):
    """The voxels of a center line, and the part of the line that each of them belongs to."""

    voxels: np.ndarray  # (n,) numbers of the center line's voxels, counted as np.flatnonzero has them
    part: np.ndarray  # (n,) from 0
    size: np.ndarray  # (parts,) voxels


def skeleton_sums(logits: torch.Tensor, neuron: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Computes the sums that `skeleton_loss` needs, (8,).

    They are the cost and the number of nodes, of edges and of paths; the cost of the false center lines; and the
    length of the labelled and the false center lines together.

    The center lines of the labels and of the prediction (p >= 0.5) are thinned on the host.

    Args:
        logits: (batch, num_labels, slices, height, width), float32.
        neuron, valid: boolean, (batch, slices, height, width).
    """
    with torch.no_grad():
        predicted = ((logits.softmax(1)[:, 0] <= 0.5) & valid).cpu().numpy()
    labelled = neuron.cpu().numpy()
    line, false = _center_lines(labelled), _false_center_lines(predicted, labelled)
    # log(p(neuron)) from the classes' own: finite where 1 - p(background) is rounded to 0.
    missing = -_log_probabilities(logits, np.flatnonzero(line))[:, 1:].logsumexp(1)
    false_cost = -_log_probabilities(logits, np.flatnonzero(false))[:, 0].sum()
    nodes, edges, paths = divide_center_lines(line)
    costs = [_sum_of_means(missing, nodes), _sum_of_means(missing, edges), _sum_of_soft_maxima(missing, paths)]
    counts = [len(nodes.size), len(edges.size), len(paths.size), line.sum() + false.sum()]
    return torch.stack([torch.stack([*costs, false_cost]), logits.new_tensor(counts)], 1).flatten()


def skeleton_loss(sums: torch.Tensor) -> torch.Tensor:
    """Adds up what is missing on the labelled trees and what is predicted away from them, from `skeleton_sums`.

    The idea is that of NeurINO (arXiv 2603.23104), which compares the trees of label and prediction by nodes, edges
    and paths. Counts of a thresholded tree have no gradient. Here the prediction pays on the labelled tree, in nats:

    - node (a tip or a branch point): mean of -log p.
    - edge (a run between nodes): mean of -log p. The -log of the mean p would be content with half an edge, and it
      has next to no slope in a gap, where p is near 0. A short edge counts as much as a long one.
    - path (a connected piece of the center line): its weakest link, a soft maximum of -log p.
    - false path: -log (1 - p) on the predicted center line more than 2 voxels away from the labelled neuron, by length
      (precision of a traced tree is one of length), over the length of labelled and false center lines.

    The loss is the mean of the first three plus the last.
    """
    costs, counts = sums.reshape(4, 2).T
    node, edge, path, false_path = costs / counts.clamp(min=1)
    return (node + edge + path) / 3 + false_path


def divide_center_lines(line: np.ndarray) -> tuple[Parts, Parts, Parts]:
    """Divides center lines, a boolean mask (batch, slices, height, width), into nodes, edges and paths.

    Voxels that touch by a face, an edge or a corner are neighbours. A node is a voxel with fewer than
    two neighbours (a tip), or a group of touching voxels with more than two (a branch point). An edge is a connected
    group of voxels with two neighbours. A path is a connected group of any voxels.
    """
    points = np.argwhere(line)
    apart = np.array([2, 1, 1, 1])  # blocks of a batch do not touch
    pairs = cKDTree(points * apart).query_pairs(1.8, output_type="ndarray")  # below the 2 to the voxel after the next
    neighbours = np.bincount(pairs.ravel(), minlength=len(points))
    return (
        _connected(pairs[(neighbours[pairs] > 2).all(1)], neighbours != 2),
        _connected(pairs[(neighbours[pairs] == 2).all(1)], neighbours == 2),
        _connected(pairs, np.ones(len(points), bool)),
    )


def _connected(links: np.ndarray, member: np.ndarray) -> Parts:
    """Finds the connected components of the voxels that are members; links (n, 2) join members only."""
    graph = sparse_graph(links.T, len(member))
    component = connected_components(graph, directed=False)[1][member]
    _, part, size = np.unique(component, return_inverse=True, return_counts=True)
    return Parts(np.flatnonzero(member), part, size)


def _center_lines(masks: np.ndarray) -> np.ndarray:
    """Thins masks (batch, slices, height, width) to center lines, in 2D where there is one slice."""
    return np.stack([center_line(mask) for mask in masks])


def _false_center_lines(predicted: np.ndarray, neuron: np.ndarray) -> np.ndarray:
    """Finds the predicted center lines, without the voxels near the labelled neuron."""
    near = ndimage.maximum_filter(neuron, (1, *3 * [2 * _TOLERANCE + 1]))
    return _center_lines(predicted) & ~near


def _log_probabilities(logits: torch.Tensor, voxels: np.ndarray) -> torch.Tensor:
    """Returns log probabilities (n, num_labels) of the voxels at flat indices into (batch, slices, height, width)."""
    logits = logits.flatten(2)
    block, voxel = (torch.from_numpy(index).to(logits.device) for index in np.divmod(voxels, logits.shape[2]))
    return logits[block, :, voxel].log_softmax(1)


def _sum_of_means(cost: torch.Tensor, parts: Parts) -> torch.Tensor:
    weights = (1 / parts.size)[parts.part]
    # No matrix product: autocast would round it.
    return (cost[torch.from_numpy(parts.voxels).to(cost.device)] * torch.from_numpy(weights).to(cost)).sum()


def _sum_of_soft_maxima(cost: torch.Tensor, parts: Parts) -> torch.Tensor:
    """Adds up log(mean(exp(s * cost))) / s over parts: at least the mean of a part's costs, at most their maximum."""
    part = torch.from_numpy(parts.part).to(cost.device)
    scaled = _SHARPNESS * cost[torch.from_numpy(parts.voxels).to(cost.device)]
    peak = scaled.new_zeros(len(parts.size)).scatter_reduce(0, part, scaled.detach(), "amax")
    powers = torch.zeros_like(peak).index_add(0, part, (scaled - peak[part]).exp())
    return (peak + (powers / torch.from_numpy(parts.size).to(powers)).log()).sum() / _SHARPNESS


# -- the tables ------------------------------------------------------------------------------------------------------

# What `--loss` may be. A loss is added by its function and a row here.
LOSSES = {
    "dice_cross_entropy": Term(dice_cross_entropy, "soft Dice and cross-entropy"),
    "dice_focal": Term(dice_focal, "soft Dice and the focal loss"),
}
_CHECKS = {"cldice": _soft_skeleton}  # of those that need a library
# What is added to it, by the weight that TrainingConfig calls NAME_weight: the functions that ADDED names.
ADDED_LOSSES = {name: Term(globals()[name], words, _CHECKS.get(name)) for name, words in ADDED.items()}
