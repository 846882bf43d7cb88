"""The losses that a run can choose from, each a ratio of sums that many processes can add up.

Voxels: soft Dice with cross-entropy or with the focal loss. Centre lines, added by weight: soft clDice, and a loss on
the tree of each block. All compute in float32 and leave out the voxels that the labels leave out.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from torch.nn import functional as F

from ..evaluation.segmentation import centre_line
from ..model.loss import check_labels, cost_and_dice, voxel_sums
from ..morphology.graphs import sparse_graph


LOSSES = ("dice_cross_entropy", "dice_focal")
_ERODING_STEPS = 3  # of the soft skeleton: what is wider than 2 * 3 + 2 voxels (a soma) has none
_SHARPNESS = 4.0  # a centre line of n voxels costs at most log(n) / 4 less than its weakest voxel
_TOLERANCE = 2  # voxels that a predicted centre line may lie beside the labelled neuron


class SegmentationLoss:
    """Soft Dice with cross-entropy or focal loss, and by weight soft clDice and the skeleton loss.

    Args:
        name: one of LOSSES. "dice_focal" weighs the cross-entropy of a voxel by (1 - p of its label) ** `focal_gamma`
            (Lin et al. 2017, section 3); without their class weights, for Dice balances the classes.
        focal_gamma: 0 is cross-entropy.
        cldice_weight: of (1 - soft clDice), see `cldice_loss`; above 0 needs monai.
        skeleton_weight: of the node, edge, path and false path terms, see `skeleton_loss`.
        ignore_index: label of voxels left out.
        total: adds up a tensor of sums over all processes, on the way back their gradients; called once a batch. N
            processes whose gradients are averaged then have loss and gradients of their N batches together. None: one
            process.

    Raises:
        ValueError: the name is unknown, or a weight or `focal_gamma` is negative.
        ImportError: `cldice_weight` is above 0 and monai is not installed.
    """

    def __init__(
        self,
        name: str = "dice_cross_entropy",
        *,
        focal_gamma: float = 2.0,
        cldice_weight: float = 0.0,
        skeleton_weight: float = 0.0,
        ignore_index: int = 255,
        total: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ):
        if name not in LOSSES:
            raise ValueError(f"expected a loss of {', '.join(LOSSES)}; got {name!r}")
        numbers = {"focal_gamma": focal_gamma, "cldice_weight": cldice_weight, "skeleton_weight": skeleton_weight}
        for key, value in numbers.items():
            if not 0 <= value < float("inf"):
                raise ValueError(f"{key} must be at least 0 and finite; got {value}")
        self.focal_gamma = focal_gamma if name == "dice_focal" else None
        self.cldice_weight, self.skeleton_weight = cldice_weight, skeleton_weight
        self.ignore_index, self.total = ignore_index, total
        self.soft_skeleton = _soft_skeleton() if cldice_weight else None

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss of a batch, a float32 scalar.

        Args:
            logits: (batch, num_labels, num_output_slices, height, width).
            labels: (batch, num_output_slices, height, width), integers.

        Raises:
            ValueError: the labels do not have the logits' shape without its second axis.
        """
        check_labels(logits, labels)
        logits, labels = logits.float(), labels.long()
        cost = F.cross_entropy(logits, labels, ignore_index=self.ignore_index, reduction="none")
        if self.focal_gamma is not None:
            # 1 - p without the rounding of p; kept off 0, where a power below 1 has no finite slope.
            cost = cost * (-torch.expm1(-cost)).clamp(min=1e-6) ** self.focal_gamma
        parts = [(1.0, cost_and_dice, voxel_sums(cost.sum(), logits, labels, self.ignore_index))]
        valid = labels != self.ignore_index
        neuron = (labels > 0) & valid
        if self.cldice_weight:
            sums = cldice_sums(logits.softmax(1)[:, 1:].sum(1) * valid, neuron.float(), self.soft_skeleton)
            parts.append((self.cldice_weight, cldice_loss, sums))
        if self.skeleton_weight:
            parts.append((self.skeleton_weight, skeleton_loss, skeleton_sums(logits, neuron, valid)))
        sums = torch.cat([sums for _, _, sums in parts])
        if self.total is not None:
            sums = self.total(sums)
        pieces = sums.split([len(sums) for _, _, sums in parts])
        return sum(weight * loss(piece) for (weight, loss, _), piece in zip(parts, pieces, strict=True))


# -- soft clDice -----------------------------------------------------------------------------------------------------


def cldice_sums(foreground: torch.Tensor, neuron: torch.Tensor, soft_skeleton: Callable) -> torch.Tensor:
    """Sums that `cldice_loss` needs, (4,): length of the predicted centre line inside the labelled neuron and in all,
    length of the labelled one inside the prediction and in all.

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


class Parts(NamedTuple):
    """Voxels of a centre line, each in one of the parts that the line is divided into."""

    voxels: np.ndarray  # (n,) numbers of the centre line's voxels, counted as np.flatnonzero has them
    part: np.ndarray  # (n,) from 0
    size: np.ndarray  # (parts,) voxels


def skeleton_sums(logits: torch.Tensor, neuron: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Sums that `skeleton_loss` needs, (8,): cost and number of nodes, of edges, of paths; cost of the false centre
    lines, and length of the labelled and the false ones together.

    Centre lines are thinned on the host, those of the labels and those of what is predicted (p >= 0.5).

    Args:
        logits: (batch, num_labels, slices, height, width), float32.
        neuron, valid: boolean, (batch, slices, height, width).
    """
    with torch.no_grad():
        predicted = ((logits.softmax(1)[:, 0] <= 0.5) & valid).cpu().numpy()
    labelled = neuron.cpu().numpy()
    line, false = _centre_lines(labelled), _false_centre_lines(predicted, labelled)
    # log(p(neuron)) from the classes' own: finite where 1 - p(background) is rounded to 0.
    missing = -_log_probabilities(logits, np.flatnonzero(line))[:, 1:].logsumexp(1)
    false_cost = -_log_probabilities(logits, np.flatnonzero(false))[:, 0].sum()
    nodes, edges, paths = divide_centre_lines(line)
    costs = [_sum_of_means(missing, nodes), _sum_of_means(missing, edges), _sum_of_soft_maxima(missing, paths)]
    counts = [len(nodes.size), len(edges.size), len(paths.size), line.sum() + false.sum()]
    return torch.stack([torch.stack([*costs, false_cost]), logits.new_tensor(counts)], 1).flatten()


def skeleton_loss(sums: torch.Tensor) -> torch.Tensor:
    """What is missing on the labelled trees, plus what is predicted away from them, from `skeleton_sums`.

    After NeurINO (arXiv 2603.23104), which compares the trees of label and prediction by nodes, edges and paths.
    Counts of a thresholded tree have no gradient; here the prediction pays, in nats, on the tree of the labels:

    - node (a tip or a branch point): mean of -log p.
    - edge (a run between nodes): mean of -log p, not -log of the mean p: that is content with half an edge and has
      next to no slope in a gap, where p is near 0. A short edge counts as much as a long one.
    - path (a connected piece of the centre line): its weakest link, a soft maximum of -log p.
    - false path: -log (1 - p) on the predicted centre line more than 2 voxels away from the labelled neuron, by length
      (precision of a traced tree is one of length), over the length of labelled and false centre lines.

    The loss is the mean of the first three plus the last.
    """
    costs, counts = sums.reshape(4, 2).T
    node, edge, path, false_path = costs / counts.clamp(min=1)
    return (node + edge + path) / 3 + false_path


def divide_centre_lines(line: np.ndarray) -> tuple[Parts, Parts, Parts]:
    """Nodes, edges and paths of centre lines, a boolean mask (batch, slices, height, width).

    Voxels that touch by a face, an edge or a corner are neighbours. Nodes: each voxel with fewer than two neighbours
    (a tip), and voxels with more than two, those that touch together (a branch point). Edges: what is connected of the
    voxels with two neighbours. Paths: what is connected of all.
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
    """Connected components of the voxels that are members; links (n, 2) join members only."""
    graph = sparse_graph(links.T, len(member))
    component = connected_components(graph, directed=False)[1][member]
    _, part, size = np.unique(component, return_inverse=True, return_counts=True)
    return Parts(np.flatnonzero(member), part, size)


def _centre_lines(masks: np.ndarray) -> np.ndarray:
    """Centre lines of masks (batch, slices, height, width), in 2D where there is one slice."""
    return np.stack([centre_line(mask) for mask in masks])


def _false_centre_lines(predicted: np.ndarray, neuron: np.ndarray) -> np.ndarray:
    """Centre lines of what is predicted, without the voxels near the labelled neuron."""
    near = ndimage.maximum_filter(neuron, (1, *3 * [2 * _TOLERANCE + 1]))
    return _centre_lines(predicted) & ~near


def _log_probabilities(logits: torch.Tensor, voxels: np.ndarray) -> torch.Tensor:
    """Of some voxels, flat indices into (batch, slices, height, width): (n, num_labels)."""
    logits = logits.flatten(2)
    block, voxel = (torch.from_numpy(index).to(logits.device) for index in np.divmod(voxels, logits.shape[2]))
    return logits[block, :, voxel].log_softmax(1)


def _sum_of_means(cost: torch.Tensor, parts: Parts) -> torch.Tensor:
    weights = (1 / parts.size)[parts.part]
    # No matrix product: autocast would round it.
    return (cost[torch.from_numpy(parts.voxels).to(cost.device)] * torch.from_numpy(weights).to(cost)).sum()


def _sum_of_soft_maxima(cost: torch.Tensor, parts: Parts) -> torch.Tensor:
    """Sum over parts of log(mean(exp(s * cost))) / s, at least the mean and at most the maximum of their costs."""
    part = torch.from_numpy(parts.part).to(cost.device)
    scaled = _SHARPNESS * cost[torch.from_numpy(parts.voxels).to(cost.device)]
    peak = scaled.new_zeros(len(parts.size)).scatter_reduce(0, part, scaled.detach(), "amax")
    powers = torch.zeros_like(peak).index_add(0, part, (scaled - peak[part]).exp())
    return (peak + (powers / torch.from_numpy(parts.size).to(powers)).log()).sum() / _SHARPNESS
