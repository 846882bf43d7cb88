"""Compares a predicted mask with the gold mask: overlap, surface distance, center lines."""

import numpy as np

from ..volumes import as_mask_or_scores


def segmentation_scores(
    predicted: np.ndarray, gold: np.ndarray, *, ignore: np.ndarray | None = None, voxel_size=None
) -> dict[str, float]:
    """Computes how well a mask agrees with the gold mask.

    Args:
        predicted, gold: masks (z, y, x), or Volumes of them; voxels that are not zero are neuron. Integers with
            several values are interpreted by `as_mask_or_scores`; scores and probabilities are neuron from 0.5 on.
        ignore: mask of voxels that are left out: they count as background in both masks. (Surfaces and center lines
            are those of the remaining voxels.)
        voxel_size: z, y, x in micrometres; `hd95` is then in micrometres, otherwise in voxels.

    Returns:
        dice, precision, recall, f1, iou in [0, 1] (1 where both masks are empty, 0 where one is);
        hd95: the larger of the two directed 95th percentiles of surface distance (infinite where one mask is empty);
        cldice: harmonic mean of the shares of each center line that lies in the other mask (Shit et al. 2021, clDice).

    Raises:
        ValueError: the masks are not 3D or differ in shape.
    """
    predicted, gold = _mask(predicted, "predicted"), _mask(gold, "gold")
    if predicted.shape != gold.shape:
        raise ValueError(
            f"expected masks of one shape, got predicted {predicted.shape} and gold {gold.shape} (z, y, x)"
        )
    if ignore is not None:
        ignore = _mask(ignore, "ignore")
        if ignore.shape != gold.shape:
            raise ValueError(f"expected ignore of the masks' shape {gold.shape} (z, y, x), got {ignore.shape}")
        predicted, gold = predicted & ~ignore, gold & ~ignore
    scores = overlap_scores(predicted, gold)
    scores["hd95"] = hausdorff95(predicted, gold, voxel_size)
    scores["cldice"] = center_line_dice(predicted, gold)
    return scores


def overlap_scores(predicted: np.ndarray, gold: np.ndarray) -> dict[str, float]:
    """Computes dice, precision, recall, f1 and iou of two boolean masks."""
    both = int(np.count_nonzero(predicted & gold))
    positives, truths = int(np.count_nonzero(predicted)), int(np.count_nonzero(gold))
    empty = 1.0 if positives == truths == 0 else 0.0
    precision = both / positives if positives else empty
    recall = both / truths if truths else empty
    dice = 2 * both / (positives + truths) if positives + truths else 1.0
    iou = both / (positives + truths - both) if positives + truths else 1.0
    return {"dice": dice, "precision": precision, "recall": recall, "f1": dice, "iou": iou}


def hausdorff95(predicted: np.ndarray, gold: np.ndarray, voxel_size=None) -> float:
    """Computes the larger directed 95th percentile of the distance from one mask's surface to the other's."""
    if not predicted.any() or not gold.any():
        return 0.0 if predicted.any() == gold.any() else float("inf")
    from scipy.spatial import cKDTree

    scale = np.ones(3) if voxel_size is None else np.asarray(voxel_size, float)
    surfaces = [_surface(mask) * scale for mask in (predicted, gold)]
    distances = [cKDTree(b).query(a)[0] for a, b in (surfaces, surfaces[::-1])]
    return float(max(np.percentile(distance, 95) for distance in distances))


def center_line_dice(predicted: np.ndarray, gold: np.ndarray) -> float:
    """Computes clDice: the harmonic mean of topology precision and sensitivity, from the masks' skeletons."""
    if not predicted.any() or not gold.any():
        return float(predicted.any() == gold.any())
    box = _bounding_box(predicted | gold)
    predicted, gold = predicted[box], gold[box]
    predicted_line, gold_line = center_line(predicted), center_line(gold)
    precision = np.count_nonzero(predicted_line & gold) / np.count_nonzero(predicted_line)
    sensitivity = np.count_nonzero(gold_line & predicted) / np.count_nonzero(gold_line)
    return 2 * precision * sensitivity / (precision + sensitivity) if precision + sensitivity else 0.0


def center_line(mask: np.ndarray) -> np.ndarray:
    """Thins a mask to its skeleton (Lee et al. 1994).

    Thinning erases some components, such as blocks of even thickness; these are represented by their innermost voxel.
    """
    from scipy import ndimage
    from skimage.morphology import skeletonize

    line = skeletonize(mask) > 0
    component, count = ndimage.label(mask, np.ones((3, 3, 3)))
    erased = np.setdiff1d(np.arange(1, count + 1), component[line])
    if erased.size:
        depth = ndimage.distance_transform_edt(np.pad(np.isin(component, erased), 1))[1:-1, 1:-1, 1:-1]
        line[tuple(np.transpose(ndimage.maximum_position(depth, component, erased)))] = True
    return line


def _mask(mask, name: str) -> np.ndarray:
    array = np.asarray(getattr(mask, "array", mask))
    if array.ndim != 3:
        raise ValueError(f"expected a {name} mask with axes (z, y, x), got shape {array.shape}")
    if array.dtype.kind == "f":
        return array >= 0.5 if ((array > 0) & (array < 1)).any() else array != 0
    array = as_mask_or_scores(array, name=f"the {name} mask")
    return array >= 0.5 if array.dtype.kind == "f" else array != 0


def _surface(mask: np.ndarray) -> np.ndarray:
    """Finds the voxels (n, 3) of a mask that have a face-neighbour outside it or lie on the volume's border."""
    box = _bounding_box(mask)
    padded = np.pad(mask[box], 1)
    inside = padded[1:-1, 1:-1, 1:-1].copy()
    for axis in range(3):
        for shift in (-1, 1):
            inside &= np.roll(padded, shift, axis)[1:-1, 1:-1, 1:-1]
    corner = [side.start for side in box]
    return np.argwhere(padded[1:-1, 1:-1, 1:-1] & ~inside) + corner


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    box = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(int(used[0]), int(used[-1]) + 1))
    return tuple(box)
