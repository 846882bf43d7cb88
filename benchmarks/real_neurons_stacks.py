"""Lists the stacks that real_neurons.py measures on.

They are every real one with a trace, and synthetic neurons of a kept range of seeds.
"""

from __future__ import annotations

import functools
import hashlib
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

from neuron_vit3d import Tree, Volume, read_swc, read_volume, synthetic_neuron


REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "src" / "neuron_vit3d"
# Synthetic neurons of these seeds are for measuring alone: no training draws them.
FIRST_SEED, SYNTHETIC_SHAPE = 900_000, (40, 256, 256)
TUFF = "tuff"


@dataclass(frozen=True)
class Stack:
    """An image with a gold tree: a folder with image.tif and trace.swc, or the seed of a synthetic neuron."""

    name: str
    group: str  # "tuff", "other" or "synthetic"
    folder: Path | None = None
    seed: int | None = None

    def load(self) -> tuple[Volume, Tree]:
        """The image and its tree, in voxels."""
        if self.folder is None:
            neuron = synthetic_neuron(SYNTHETIC_SHAPE, seed=self.seed)
            return neuron.volume, neuron.tree
        with warnings.catch_warnings():  # what is mended in a trace by hand
            warnings.simplefilter("ignore")
            gold = read_swc(self.folder / "trace.swc", mend_structure=True)
        return read_volume(self.folder / "image.tif"), gold

    def fingerprint(self) -> str:
        """Changes with the image or its tree."""
        if self.folder is not None:
            return digest_of_files(self.folder / "image.tif", self.folder / "trace.swc")
        return digest_of_files(*sorted((PACKAGE / "data").glob("synthetic*.py"))) + f"-{self.seed}"


def find_stacks(data_dir: Path, num_synthetic: int = 12, names: list[str] | None = None) -> list[Stack]:
    """All stacks, or those named.

    Args:
        data_dir: its folders with an image.tif and a trace.swc are the real ones.
        num_synthetic: how many synthetic neurons.
        names: of the stacks wanted.

    Raises:
        ValueError: there is no real stack in the folder, or a name is none of a stack.
    """
    folders = sorted(trace.parent for trace in data_dir.glob("*/trace.swc") if (trace.parent / "image.tif").exists())
    if not folders:
        raise ValueError(f"{data_dir}: expected folders with image.tif and trace.swc, found none")
    found = [Stack(folder.name, TUFF if folder.name.startswith("tuff_") else "other", folder) for folder in folders]
    found += [Stack(f"synthetic_{i:02d}", "synthetic", seed=FIRST_SEED + i) for i in range(num_synthetic)]
    unknown = set(names or ()) - {stack.name for stack in found}
    if unknown:
        raise ValueError(f"expected names of stacks, and there is no {', '.join(sorted(unknown))}")
    return [stack for stack in found if not names or stack.name in names]


def default_data_dir() -> Path:
    """Where the tests look for real neurons, too."""
    return Path(os.environ.get("NEURON_VIT3D_SHARED", REPOSITORY.parent / "shared")) / "data" / "neurons"


@functools.cache
def digest_of_files(*paths: Path) -> str:
    """Sixteen hexadecimal digits that change with the files' contents."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def digest_of(*parts: object) -> str:
    """Sixteen hexadecimal digits of some values."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
