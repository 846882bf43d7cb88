"""The loss that the model computes when it is given labels."""

import torch
from torch.nn import functional as F


def dice_cross_entropy_loss(
    logits: torch.Tensor, labels: torch.Tensor, *, ignore_index: int = 255, smooth: float = 1.0
) -> torch.Tensor:
    """Cross-entropy plus (1 - soft Dice) of the foreground classes over the batch (Milletari et al. 2016, V-Net).

    Dice is taken over the whole batch, not block by block: most blocks hold little foreground or none.

    Args:
        logits: (batch, num_labels, num_output_slices, height, width).
        labels: (batch, num_output_slices, height, width), integers.
        ignore_index: label of voxels left out.
    """
    if labels.shape != (logits.shape[0], *logits.shape[2:]):
        raise ValueError(
            f"expected labels of shape {(logits.shape[0], *logits.shape[2:])} (batch, slices, height, width), "
            f"got {tuple(labels.shape)}"
        )
    logits, labels = logits.float(), labels.long()
    valid = labels != ignore_index
    count = valid.sum().clamp(min=1)
    cross_entropy = F.cross_entropy(logits, labels, ignore_index=ignore_index, reduction="sum") / count
    probabilities = logits.softmax(1)[:, 1:] * valid.unsqueeze(1)
    target = F.one_hot(labels.where(valid, 0), logits.shape[1]).movedim(-1, 1)[:, 1:] * valid.unsqueeze(1)
    axes = (0, *range(2, logits.ndim))
    overlap = (probabilities * target).sum(axes)
    dice = (2 * overlap + smooth) / (probabilities.sum(axes) + target.sum(axes) + smooth)
    return cross_entropy + (1 - dice).mean()
