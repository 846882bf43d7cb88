"""A neuron to try the plugin on: that of the demo, whose tree is known."""

from typing import Any

from .layers import tree_layer


SEED = 2026  # that of `scripts/demo.py`; not among the seeds of the training data
SHAPE = (48, 256, 256)


def synthetic() -> list[tuple[Any, ...]]:
    """The demo's neuron as an image layer (npe2's `sample_data`)."""
    neuron = _neuron()
    arguments = {"name": "synthetic neuron", "scale": neuron.volume.voxel_size, "units": ("um",) * 3}
    return [(neuron.volume.array, arguments, "image")]


def synthetic_with_tree() -> list[tuple[Any, ...]]:
    """The demo's neuron, and its true tree, to compare with."""
    neuron = _neuron()
    placed = {"scale": neuron.volume.voxel_size, "units": ("um",) * 3}
    return [*synthetic(), tree_layer(neuron.tree, "synthetic neuron, true tree", **placed)]


def _neuron() -> Any:
    from ...data import synthetic_neuron

    return synthetic_neuron(SHAPE, seed=SEED, kind="arbor")
