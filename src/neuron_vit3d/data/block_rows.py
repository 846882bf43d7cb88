"""Cuts a volume with its tree into rows of the config "blocks": pieces of one size, each with its labels."""

import hashlib
from collections.abc import Iterator

import numpy as np

from ..morphology import Tree, points_along
from .labels import LabelPolicy, labels_of_window
from .pairs import IGNORE_INDEX


def cut_blocks(
    neuron_id: str,
    image: np.ndarray,
    tree: Tree,
    policy: LabelPolicy,
    level: float | None,
    *,
    lab: str | None,
    block_shape: tuple[int, int, int],
    background: float,
    seed: int,
) -> Iterator[dict]:
    """Yields rows of "blocks" in random order: the pieces of a grid that hold the tree, and some of the others.

    Where the volume is smaller than a block the image is mirrored and the labels are ignored.

    Args:
        neuron_id: of the rows; with the seed it decides which pieces without the tree are taken, and the order.
        image: (z, y, x).
        tree: as `labels.prepare_tree` gave it.
        policy, level: of `labels.draw_labels`.
        lab: of the rows.
        block_shape: (z, y, x).
        background: share of the blocks without the tree.
        seed: of what is random.
    """
    seed = int.from_bytes(hashlib.sha256(f"{seed} {neuron_id}".encode()).digest()[:8], "big")
    rng = np.random.default_rng(seed)
    black, white = intensity_range(image)
    origins = choose_blocks(tree, image.shape, block_shape, background, rng)
    for origin in rng.permutation(origins):
        inside = tuple(slice(o, min(o + b, n)) for o, b, n in zip(origin, block_shape, image.shape, strict=True))
        beyond = [(0, b - (s.stop - s.start)) for b, s in zip(block_shape, inside, strict=True)]
        labels = labels_of_window(tree, image, inside, policy, level)
        piece = np.pad(image[inside], beyond, mode="symmetric")
        mask = np.pad(labels, beyond, constant_values=IGNORE_INDEX)
        yield {
            "neuron_id": neuron_id,
            "lab": lab,
            "neuron_blocks": len(origins),
            "origin": origin.tolist(),
            "shape": list(block_shape),
            "dtype": image.dtype.name,
            "image": np.ascontiguousarray(piece, piece.dtype.newbyteorder("<")).tobytes(),
            "mask": mask.tobytes(),
            "black": black,
            "white": white,
        }


def choose_blocks(
    tree: Tree,
    shape: tuple[int, int, int],
    block_shape: tuple[int, int, int],
    background: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Chooses blocks of a grid over the volume: all that hold a point of the tree, and a share of the others.

    Returns their origins (n, 3), z y x.
    """
    starts = []
    for length, side in zip(shape, block_shape, strict=True):
        starts.append(np.linspace(0, max(0, length - side), -(-length // side)).round().astype(np.int64))
    points = points_along(tree, 2.0, shape)[:, ::-1]
    points = points[((points > -0.5) & (points < np.array(shape) - 0.5)).all(axis=1)]
    cells = [np.searchsorted(start, axis, "right") - 1 for start, axis in zip(starts, points.T.round(), strict=True)]
    grid = [len(start) for start in starts]
    with_neuron = np.unique(np.ravel_multi_index(cells, grid))
    others = np.setdiff1d(np.arange(np.prod(grid)), with_neuron, assume_unique=True)
    wanted = round(len(with_neuron) * background / (1 - background))
    chosen = np.concatenate([with_neuron, rng.choice(others, min(wanted, len(others)), replace=False)])
    return np.stack(
        [start[index] for start, index in zip(starts, np.unravel_index(chosen, grid), strict=True)], axis=1
    )


def intensity_range(image: np.ndarray, lower: float = 1.0, upper: float = 99.5) -> tuple[float, float]:
    """Finds the intensities of a volume (z, y, x) that become 0 and 1.

    They are those that `NeuronViT3DImageProcessor` finds by default: a percentile of (a sample of) the voxels, and one
    of the maximum projection.
    """
    stride = max(1, round((image.size / 1e6) ** 0.5))
    black = float(np.percentile(image[:, ::stride, ::stride], lower))
    projection = image.max(axis=0)
    white = float(np.percentile(projection, upper))
    if white <= black:
        white = float(projection.max())
    return black, white if white > black else black + 1.0
