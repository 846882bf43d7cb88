"""The methods that real_neurons.py compares: what gives scores, and what makes trees of them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from real_neurons_filters import above_background, background_subtraction, sato
from real_neurons_stacks import PACKAGE, REPOSITORY, Stack, digest_of, digest_of_files

from neuron_vit3d import TraceError, Tree, Volume, threshold_from_noise, trace


SATO, BACKGROUND, KIMIMARO, NEUROFLY = "sato", "background", "kimimaro", "neurofly"
FILTERS = {SATO: sato, BACKGROUND: background_subtraction}
CENTER_ONLY = ", center kernel only"
_BESIDE = Path(__file__).parent
EMPTY = Tree.from_parents(np.empty((0, 3)), np.empty(0), np.empty(0, dtype=int))


@dataclass(frozen=True)
class Scorer:
    """What gives every voxel of a stack a score.

    Attributes:
        name: "sato", "background", "neurofly"; else a model's.
        model: its checkpoint (a folder or a name on the Hub), or None for the embedded default.
        center_only: the off-center kernels of its patch embedding are set to zero first.
        threshold: of the scores; None: found from them.
        neurofly_dir: the folder that holds NeuroFly's package.
    """

    name: str
    model: str | None = None
    center_only: bool = False
    threshold: float | None = None
    neurofly_dir: str | None = None

    def fingerprint(self, stack: Stack) -> str:
        """Changes with the scores: by the code, the checkpoint or the stack."""
        if self.name in FILTERS:
            return digest_of(stack.fingerprint(), self.name, digest_of_files(_BESIDE / "real_neurons_filters.py"))
        if self.name == NEUROFLY:
            return digest_of(stack.fingerprint(), self.name, digest_of_files(_BESIDE / "real_neurons_neurofly.py"))
        folder = Path(self.model) if self.model else PACKAGE / "assets" / "default"
        # A name on the Hub stands for itself.
        weights = digest_of_files(*sorted(folder.glob("*.safetensors")), *sorted(folder.glob("*config.json")))
        code = digest_of_files(*sorted([*(PACKAGE / "model").glob("*.py"), *(PACKAGE / "inference").glob("*.py")]))
        return digest_of(
            stack.fingerprint(), weights, self.model if not folder.is_dir() else "", code, self.center_only
        )

    def scores(self, volume: Volume, cache: Path | None = None) -> np.ndarray:
        """(z, y, x) float32, from the cache's file where there is one, which is written otherwise."""
        if cache is not None and cache.exists():
            return np.load(cache)
        scores = self._scores(volume)
        if cache is not None:
            cache.parent.mkdir(parents=True, exist_ok=True)
            partial = cache.with_suffix(".partial.npy")
            np.save(partial, scores)
            partial.replace(cache)
        return scores

    def _scores(self, volume: Volume) -> np.ndarray:
        if self.name in FILTERS:
            return FILTERS[self.name](volume.array)
        if self.name == NEUROFLY:
            from real_neurons_neurofly import neurofly_scores

            return neurofly_scores(volume.array, self.neurofly_dir)
        from neuron_vit3d import segment

        return segment(volume, load_model(self.model, self.center_only)).array

    @property
    def is_filter(self) -> bool:
        """Whether the scores are a filter's response, and no probabilities."""
        return self.name in FILTERS

    def own_threshold(self, scores: np.ndarray) -> float:
        if self.threshold is not None:
            return self.threshold
        return above_background(scores) if self.is_filter else threshold_from_noise(scores)


def load_model(model: str | None, center_only: bool = False):
    """Loads a `Segmenter`, or one without what its patch embedding learned from the slices beside the center."""
    from neuron_vit3d import Segmenter

    segmenter = Segmenter(model)
    if center_only:
        import torch

        with torch.no_grad():
            kernel = segmenter.model.encoder.patch_embedding_3d  # a view of the weights
            is_center = torch.arange(kernel.shape[2]) == kernel.shape[2] // 2
            kernel[:, :, ~is_center] = 0
    return segmenter


def our_tree(scores: np.ndarray, threshold: float, volume: Volume, *, is_probability: bool) -> Tree:
    """Traces a model's scores, or the mask of a filter's response, which is no probability."""
    found = scores if is_probability else scores >= threshold
    try:
        return trace(found, threshold=threshold if is_probability else 0.5, voxel_size=volume.voxel_size)
    except TraceError:  # nothing reaches the threshold
        return EMPTY


def kimimaro_tree(mask: np.ndarray) -> Tree:
    """kimimaro's center lines in a mask, with its parameters for neurons, gaps joined as widely as ours are."""
    sys.path.append(str(REPOSITORY / "scripts"))
    from tracing_peers import by_kimimaro, trimmed

    if not mask.any():
        return EMPTY
    points, edges, reach = by_kimimaro(mask.astype(np.uint8))
    return trimmed(points, edges, reach, mask.shape) if len(points) else EMPTY


def has_kimimaro(peers_dir: str | None) -> bool:
    """Whether kimimaro can be imported, from a folder of installed packages if need be."""
    if peers_dir:
        sys.path.append(peers_dir)
    try:
        import kimimaro  # noqa: F401
    except ImportError:
        return False
    return True
