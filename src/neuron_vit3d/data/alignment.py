"""Checks whether a tree lies on the neuron of its image, or is flipped, in micrometres, or has x and y swapped."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from ..morphology import Tree


AS_IS, Y_FLIPPED, SCALED, SWAPPED = "as is", "y flipped", "scaled by voxel size", "x and y swapped"
HYPOTHESES = (AS_IS, Y_FLIPPED, SCALED, SWAPPED)

# The rule's thresholds. Where they come from stands in benchmarks/results/alignment.md (benchmarks/alignment.py).
FITS = 0.68  # a figure from which a tree lies on a bright neuron
FITS_DARK = 0.25  # a figure up to which it lies on a dark one
LEAD = 0.1  # by how much another hypothesis must beat "as is" before a tree is changed
SHORTEST = 100.0  # voxels of tree below which chance may look like a fit: it is never changed

_MAX_SAMPLES = 2000  # places on the tree where the image is looked at
_MAX_POINTS = 50_000  # places that stand for the whole tree when chance has to keep away from it
_PARTNERS = 8  # places beside the tree that each sample is compared with ...
_NEAREST, _FARTHEST = 8.0, 32.0  # ... so many voxels away (the latter: or 1/16 of the image's smaller side)
_KEEP_AWAY = 6.0  # voxels between those places and any part of the tree
_MARGIN = 2.0  # voxels that a tree may stick out of the volume
_POINTS_AT_ONCE = 1 << 14


@dataclass(frozen=True, eq=False)
class Alignment:
    """How a tree fits its image.

    Attributes:
        fit: "as is", "y flipped", "scaled by voxel size" or "x and y swapped"; None when none fits.
        figures: hypothesis -> figure in `channel`, of those that could be tried; 0.5 is chance (see
            `check_alignment`).
        tree: the repaired tree, in voxels of the image; as given when it fits as it is, or when nothing fits.
        channel: the channel of a (c, z, y, x) image where the tree fits best; 0 for a (z, y, x) image.
    """

    fit: str | None
    figures: dict[str, float]
    tree: Tree
    channel: int

    @property
    def figure(self) -> float:
        """The figure of the hypothesis that fits, or of the tree as it is where none fits."""
        return self.figures[self.fit or AS_IS]

    @property
    def is_dark(self) -> bool:
        """Whether the neuron is darker than what surrounds it (brightfield, an inverted image)."""
        return self.fit is not None and self.figure < 0.5

    def __str__(self) -> str:
        """Says in one sentence for a report what was found, and how clearly."""
        figures = ", ".join(f"{name} {figure:.2f}" for name, figure in self.figures.items())
        if self.fit is None:
            return f"the tree fits in no way that was tried ({figures}; chance is 0.5)"
        dark = ", on a neuron darker than its surroundings" if self.is_dark else ""
        return f"the tree fits {self.fit}{dark} ({figures}; chance is 0.5)"


def check_alignment(
    tree: Tree, image: np.ndarray, voxel_size: tuple[float, float, float] | None = None, *, seed: int = 0
) -> Alignment:
    """Compares the image under the tree with the image beside it, for the tree as it is and for three usual mistakes.

    The hypotheses are: the tree "as is"; "y flipped", y -> height - 1 - y (TIFFs that Vaa3D exported); "scaled by
    voxel size", micrometres -> voxels (tried where a voxel size is known and is not 1; radii are divided by the voxel
    size in x and y); "x and y swapped".

    **The figure** is the probability that the image is brighter at a place on the tree than at a place beside it, half
    of the ties included: 0.5 is chance, and 1 means that the whole tree is brighter than its surroundings. Up to 2000
    places are taken along the edges, a voxel or more apart. Each is compared with 8 places in its own slice, in random
    directions and 8 to 32 voxels away (or to 1/16 of the smaller side of the image if that is more), of which those
    within 6 voxels of any part of the tree are left out. "Bright" is a mean over 3 x 3 x 3 voxels, so that a line
    drawn two voxels beside a neurite still counts. Only near places within a slice are compared, so a haze, a bright
    middle and slices of unequal brightness hardly count. Parts outside of the volume (by more than 2 voxels) count as
    0.5; with less than half of the tree inside, the figure is 0.5.

    **The rule**: "as is" when its figure is at least `FITS` and no other beats it by `LEAD`. Another one when its
    figure is at least `FITS` and it beats "as is" by `LEAD` - unless the tree is shorter than `SHORTEST` voxels, which
    is too little to change it. Else none fits. A figure of at most `FITS_DARK` counts as 1 - figure: a neuron darker
    than its surroundings, which `Alignment.is_dark` tells. The thresholds were set on 84 real pairs, their trees laid
    on each other's images, and pieces of the trees: benchmarks/results/alignment.md.

    Of several channels the one is taken in which a hypothesis fits best. An image of one slice is a projection: z
    of the tree is taken to be 0, and is 0 in the tree returned if it fits.

    The inputs are never changed. Memory and time do not grow with the image; only the places compared are touched, in
    the order of the file, so the image may be memory-mapped.

    Args:
        tree: in voxels of the image, or so it should be.
        image: (z, y, x) or (c, z, y, x); bool, integer or real. Voxels that are not finite count as 0.
        voxel_size: edges of a voxel along z, y, x in micrometres, None where unknown.
        seed: of the random places.

    Raises:
        ValueError: the tree has no node or positions that are not finite; the image has another number of axes, an
            empty one or no numbers; voxel_size is not three positive numbers.
    """
    image = _checked(tree, image, voxel_size)
    shape = image.shape[1:]
    # The places of a hypothesis are drawn from the same seed, so that equal trees get equal figures.
    trees = {name: _flattened(moved, shape) for name, moved in _hypotheses(tree, shape, voxel_size).items()}
    places = {name: _Places.of(moved, shape, np.random.default_rng(seed)) for name, moved in trees.items()}
    points = np.concatenate([place.points for place in places.values()])
    found = []
    for channel, voxels in enumerate(image):
        figures: dict[str, float] = {}
        start = 0
        brightness = _brightness(voxels, points)
        for name, place in places.items():
            figures[name] = place.figure(brightness[start : start + len(place.points)])
            start += len(place.points)
        found.append((max(map(_strength, figures.values())), channel, figures))
    _, channel, figures = max(found, key=lambda one: one[0])  # the first of equals
    fit = _choose(figures, {name: moved.length for name, moved in trees.items()})
    return Alignment(fit, figures, tree if fit is None else trees[fit], channel)


def _choose(figures: dict[str, float], lengths: dict[str, float]) -> str | None:
    """Chooses the hypothesis that fits, by the rule of `check_alignment`, from all figures and lengths (voxels)."""
    strengths = {name: _strength(figure) for name, figure in figures.items()}
    best = max(strengths, key=strengths.__getitem__)  # the first of equals, which is "as is"
    if strengths[best] < FITS:
        return None
    if strengths[best] - strengths[AS_IS] < LEAD or lengths[best] < SHORTEST:
        return AS_IS if strengths[AS_IS] >= FITS else None
    return best


def _strength(figure: float) -> float:
    return 1 - figure if figure <= FITS_DARK else figure


def _hypotheses(tree: Tree, shape: tuple[int, int, int], voxel_size) -> dict[str, Tree]:
    """Maps every hypothesis that can be tried to the tree in voxels of the image, should it hold.

    Arrays that differ from the tree's are new.
    """
    x, y, z = tree.xyz.T
    trees = {AS_IS: tree, Y_FLIPPED: _moved(tree, x, shape[1] - 1 - y, z)}
    if voxel_size is not None and not np.allclose(voxel_size, 1, rtol=0, atol=1e-3):
        size_z, size_y, size_x = map(float, voxel_size)
        scaled = _moved(tree, x / size_x, y / size_y, z / size_z)
        trees[SCALED] = dataclasses.replace(scaled, radii=tree.radii / np.sqrt(size_x * size_y))
    trees[SWAPPED] = _moved(tree, y, x, z)
    return trees


def _moved(tree: Tree, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> Tree:
    return dataclasses.replace(tree, xyz=np.stack([x, y, z], axis=1))


def _flattened(tree: Tree, shape: tuple[int, int, int]) -> Tree:
    """Sets z = 0 where the image has a single slice."""
    x, y, z = tree.xyz.T
    return tree if shape[0] > 1 or not z.any() else _moved(tree, x, y, np.zeros_like(z))


@dataclass(frozen=True, eq=False)
class _Places:
    """The places that are compared for one hypothesis.

    points: (n + m, 3) x y z: n samples on the tree, then m places beside it. sample: (m,) the sample that each of
    these is compared with. inside: the share of the tree that is inside of the volume.
    """

    points: np.ndarray
    sample: np.ndarray
    inside: float

    @classmethod
    def of(cls, tree: Tree, shape: tuple[int, int, int], rng: np.random.Generator) -> _Places:
        from scipy.spatial import cKDTree

        size = np.array(shape[::-1], dtype=np.float64)
        points = _points_along(tree, rng)
        on = points if len(points) <= _MAX_SAMPLES else points[rng.choice(len(points), _MAX_SAMPLES, replace=False)]
        within = ((on >= -_MARGIN) & (on <= size - 1 + _MARGIN)).all(axis=1)
        inside = float(within.mean())
        if inside < 0.5:
            return cls(np.empty((0, 3)), np.empty(0, dtype=np.int64), inside)
        on = on[within]
        partners = max(_PARTNERS, min(64, _MAX_SAMPLES // len(on)))  # more for a small tree, whose figure is uncertain
        sample = np.repeat(np.arange(len(on)), partners)
        beside = _beside(on[sample], size, rng)
        nearest, _ = cKDTree(points).query(beside, distance_upper_bound=_KEEP_AWAY)
        away = np.isinf(nearest)
        if away.any():  # else the tree fills the whole image
            sample, beside = sample[away], beside[away]
        return cls(np.concatenate([on, beside]), sample, inside)

    def figure(self, brightness: np.ndarray) -> float:
        """Computes the hypothesis' figure from the brightness (n + m,) at its points."""
        if not len(self.sample):
            return 0.5
        on, beside = np.split(brightness, [len(brightness) - len(self.sample)])
        on = on[self.sample]
        brighter = np.mean(on > beside) + 0.5 * np.mean(on == beside)
        return float(0.5 + self.inside * (brighter - 0.5))


def _points_along(tree: Tree, rng: np.random.Generator) -> np.ndarray:
    """Takes at most `_MAX_POINTS` points (n, 3) along the edges, a voxel or more apart.

    Nodes without edges are included.
    """
    child, parent = tree.segments.T
    begin, along = tree.xyz[child], tree.xyz[parent] - tree.xyz[child]
    length = np.linalg.norm(along, axis=1)
    step = max(1.0, length.sum() / _MAX_POINTS)
    count = np.maximum(np.rint(length / step), 1).astype(np.int64)
    edge = np.repeat(np.arange(len(count)), count)
    if len(edge) > _MAX_POINTS:
        kept = np.sort(rng.choice(len(edge), _MAX_POINTS, replace=False))
    else:
        kept = np.arange(len(edge))
    number = (kept - (np.cumsum(count) - count)[edge[kept]] + 0.5) / count[edge[kept]]
    return begin[edge[kept]] + number[:, None] * along[edge[kept]]


def _beside(points: np.ndarray, size: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws a place (n, 3) for every point, within its slice and within the image.

    It lies at a random angle, and at a distance whose logarithm is uniform (near places are the fairest comparison,
    far ones leave a thick neurite).
    """
    width, height = size[:2]
    farthest = min(max(_FARTHEST, min(width, height) / 16), min(width, height) / 2)
    nearest = min(_NEAREST, farthest / 2)
    distance = nearest * (farthest / nearest) ** rng.random(len(points))
    angle = rng.uniform(0, 2 * np.pi, len(points))
    shift = np.stack([distance * np.cos(angle), distance * np.sin(angle), np.zeros(len(points))], axis=1)
    beside = points + shift
    outside = ((beside < -0.5) | (beside > size - 0.5))[:, :2].any(axis=1)
    beside[outside] = (points - shift)[outside]  # on the other side; in a corner that may be outside as well:
    beside[:, :2] = np.mod(beside[:, :2] + 0.5, size[:2]) - 0.5
    return beside


def _brightness(voxels: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Sums the 3 x 3 x 3 voxels of an image (z, y, x) around points (n, 3; x y z). Returns (n,) float32.

    At the image's faces the outermost voxels are counted again, so that all sums are of 27 voxels (9 if there is one
    slice). Points are looked up in the order of the file.
    """
    depth, height, width = voxels.shape
    center = np.rint(points[:, ::-1]).astype(np.int64)
    order = np.lexsort((center[:, 2], center[:, 1], center[:, 0]))
    step = np.arange(-1, 2)
    sums = np.empty(len(points), dtype=np.float32)
    for start in range(0, len(order), _POINTS_AT_ONCE):
        rows = order[start : start + _POINTS_AT_ONCE]
        z, y, x = center[rows].T
        z = np.clip(z[:, None] + (step if depth > 1 else 0), 0, depth - 1)[:, :, None, None]
        y = np.clip(y[:, None] + step, 0, height - 1)[:, None, :, None]
        x = np.clip(x[:, None] + step, 0, width - 1)[:, None, None, :]
        found = voxels[z, y, x].astype(np.float32)
        sums[rows] = np.nan_to_num(found, copy=False, posinf=0, neginf=0).sum(axis=(1, 2, 3))
    return sums


def _checked(tree: Tree, image: np.ndarray, voxel_size) -> np.ndarray:
    """Returns the image as (c, z, y, x), a plain view.

    Raises ValueError where the inputs are not as `check_alignment` says.
    """
    if not len(tree):
        raise ValueError("the tree has no node: nothing to align with the image")
    if not np.isfinite(tree.xyz).all():
        raise ValueError("cannot align a tree with NaN or infinite positions")
    image = np.asarray(image)
    if image.ndim not in (3, 4) or not image.size or image.dtype.kind not in "buif":
        raise ValueError(f"expected an image (z, y, x) or (c, z, y, x) of numbers, got {image.shape} {image.dtype}")
    if voxel_size is not None and not (
        len(voxel_size) == 3 and all(0 < float(edge) < float("inf") for edge in voxel_size)
    ):
        raise ValueError(f"expected voxel_size z, y, x in micrometres, positive and finite, got {voxel_size!r}")
    return image if image.ndim == 4 else image[None]
