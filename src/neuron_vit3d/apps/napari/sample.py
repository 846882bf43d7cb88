"""Neurons to try the plugin on: the real sample that comes with the package, and the demo's synthetic one."""

from typing import Any

from .layers import tree_layer


SEED = 2026  # that of `scripts/demo.py`; not among the seeds of the training data
SHAPE = (48, 256, 256)


def dendrites() -> list[tuple[Any, ...]]:
    """Dendrites of a mouse, two-photon microscopy, as an image layer (npe2's `sample_data`)."""
    from ...data.sample import SAMPLE_IMAGE
    from ...volumes import read_volume

    volume = read_volume(SAMPLE_IMAGE, memory_map=False)
    return [(volume.array, {"name": "dendrites", **_placed(volume.voxel_size)}, "image")]


def dendrites_with_tree() -> list[tuple[Any, ...]]:
    """The same, and the tree that a person drew, of five of the dendrites."""
    from ...data.sample import SAMPLE_TREE
    from ...morphology import read_swc

    image = dendrites()
    placed = {name: image[0][1][name] for name in ("scale", "units")}
    return [*image, tree_layer(read_swc(SAMPLE_TREE), "dendrites, by a person", **placed)]


def synthetic() -> list[tuple[Any, ...]]:
    """The demo's neuron as an image layer."""
    neuron = _neuron()
    return [(neuron.volume.array, {"name": "synthetic neuron", **_placed(neuron.volume.voxel_size)}, "image")]


def synthetic_with_tree() -> list[tuple[Any, ...]]:
    """The demo's neuron, and its true tree, to compare with."""
    neuron = _neuron()
    return [*synthetic(), tree_layer(neuron.tree, "synthetic neuron, true tree", **_placed(neuron.volume.voxel_size))]


def _placed(voxel_size: tuple[float, float, float] | None) -> dict[str, Any]:
    return {"scale": voxel_size or (1, 1, 1), "units": ("um",) * 3}


def _neuron() -> Any:
    from ...data import synthetic_neuron

    return synthetic_neuron(SHAPE, seed=SEED, kind="arbor")
