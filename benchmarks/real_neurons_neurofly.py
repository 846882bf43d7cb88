"""NeuroFly's network beside ours: scores of a stack, by its published package, which is never a dependency.

NeuroFly (PyPI `neurofly`, GPL-3) is called as it is, from a folder that its wheel was unpacked in by hand, say by
`pip download --no-deps neurofly && unzip -d FOLDER neurofly-*.whl`. Its package imports the viewer that it is a plugin
of; the network needs none of that, so those names are stood in for.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import numpy as np


_VIEWER = {"napari", "magicgui", "rtree", "brightest_path_lib", "PyQt5", "qtpy", "vispy", "tinygrad", "h5py"}
_WEIGHTS = "universal_tiny.pth"
# Blocks of the network and what they see around them, in voxels: a third of a block's work is done twice, in bounded
# memory.
_BLOCK, _HALO, _MULTIPLE = 128, 16, 16


def neurofly_scores(image: np.ndarray, folder: str) -> np.ndarray:
    """Probabilities of the network's own preprocessing and weights, for each voxel.

    Args:
        image: (z, y, x).
        folder: that the wheel was unpacked in.

    Returns:
        (z, y, x) float32 in [0, 1]. (Its program cuts off what is darker than a fixed intensity afterwards, which
        suits its own 16-bit images alone, and is left out.)
    """
    import torch

    network = _network(folder)
    prepared = network.preprocess(image)[0, 0].cpu()
    scores = np.zeros(image.shape, np.float32)
    with torch.inference_mode():
        for corner in np.ndindex(*(-(-side // _BLOCK) for side in image.shape)):
            first = [number * _BLOCK for number in corner]
            last = [min(start + _BLOCK, side) for start, side in zip(first, image.shape, strict=True)]
            seen = [slice(max(start - _HALO, 0), stop + _HALO) for start, stop in zip(first, last, strict=True)]
            block = prepared[tuple(seen)]
            padding = [amount for side in block.shape[::-1] for amount in (0, -side % _MULTIPLE)]
            out = network.model(torch.nn.functional.pad(block[None, None], padding))[0, 0].numpy()
            inner = [
                slice(start - side.start, stop - side.start)
                for start, stop, side in zip(first, last, seen, strict=True)
            ]
            scores[tuple(slice(*ends) for ends in zip(first, last, strict=True))] = out[tuple(inner)]
    return scores


def _network(folder: str):
    """Its network with its weights, on the CPU."""
    if not any(isinstance(finder, _StandIns) for finder in sys.meta_path):
        sys.meta_path.append(_StandIns())
        sys.path.insert(0, folder)
    module = importlib.import_module("neurofly.models.unet_torch")
    network = module.SegNet(str(Path(folder, "neurofly", "models", _WEIGHTS)))
    network.model = network.model.cpu().eval()
    return network


class _StandIns:
    """Finds modules that do nothing in place of those that only the viewer needs and that are not installed."""

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.split(".")[0] in _VIEWER else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = MagicMock(name=spec.name)
        module.__path__, module.__spec__ = [], spec
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is to be run."""
