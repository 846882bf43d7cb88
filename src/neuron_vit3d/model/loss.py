"""The loss that the model computes when it is given labels."""

from collections.abc import Callable

import torch
from torch.nn import functional as F


def dice_cross_entropy_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    ignore_index: int = 255,
    smooth: float = 1.0,
    total: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """Cross-entropy plus (1 - soft Dice) of the foreground classes over the batch (Milletari et al. 2016, V-Net).

    Dice is computed over the whole batch, not block by block, since most blocks hold little foreground or none.

    Args:
        logits: (batch, num_labels, num_output_slices, height, width).
        labels: (batch, num_output_slices, height, width), integers.
        ignore_index: label of voxels that are left out.
        smooth: number of voxels added to numerator and denominator of Dice.
        total: function that adds up a tensor of sums over all processes and, in the backward pass, their gradients; N
            processes then compute the loss of their N batches together. None: there is one process.

    Raises:
        ValueError: the labels do not have the logits' shape without its second axis.
    """
    check_labels(logits, labels)
    logits, labels = logits.float(), labels.long()
    cost = F.cross_entropy(logits, labels, ignore_index=ignore_index, reduction="sum")
    sums = voxel_sums(cost, logits, labels, ignore_index)
    return cost_and_dice(sums if total is None else total(sums), smooth)


def check_labels(logits: torch.Tensor, labels: torch.Tensor) -> None:
    """Raises ValueError unless there is one label for every voxel of the logits."""
    if labels.shape != (logits.shape[0], *logits.shape[2:]):
        raise ValueError(
            f"expected labels of shape {(logits.shape[0], *logits.shape[2:])} (batch, slices, height, width), "
            f"got {tuple(labels.shape)}"
        )


def voxel_sums(cost: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor, ignore_index: int) -> torch.Tensor:
    """Computes all sums over voxels that `cost_and_dice` needs, in one tensor that can be added up over processes.

    Args:
        cost: scalar, summed over all voxels that are not left out.
        logits: (batch, num_labels, num_output_slices, height, width), float32.
        labels: (batch, num_output_slices, height, width), int64.
        ignore_index: label of voxels that are left out.

    Returns:
        (2 + 3 * (num_labels - 1),) float32: cost and number of voxels that are not left out; then the overlap of each
        foreground class, the predicted size of each, and the true size of each.
    """
    valid = labels != ignore_index
    probabilities = logits.softmax(1)[:, 1:] * valid.unsqueeze(1)
    target = F.one_hot(labels.where(valid, 0), logits.shape[1]).movedim(-1, 1)[:, 1:] * valid.unsqueeze(1)
    axes = (0, *range(2, logits.ndim))
    of_voxels = torch.stack([cost, valid.sum()])
    return torch.cat([of_voxels, (probabilities * target).sum(axes), probabilities.sum(axes), target.sum(axes)])


def cost_and_dice(sums: torch.Tensor, smooth: float = 1.0) -> torch.Tensor:
    """Computes the mean cost plus (1 - soft Dice), the mean over the foreground classes, from `voxel_sums`."""
    cost, count = sums[:2]
    overlap, predicted, true = sums[2:].reshape(3, -1)
    dice = (2 * overlap + smooth) / (predicted + true + smooth)
    return cost / count.clamp(min=1) + (1 - dice).mean()
