"""Where training data comes from: images with traces as a dataset, and synthetic neurons with known trees."""

from importlib import import_module


_HOMES = {
    "Augmentation": "augmentation",
    "BlockDataset": "sampling",
    "LabelPolicy": "labels",
    "PreparationOptions": "preparation",
    "StreamedBlocks": "streaming",
    "TracedVolume": "traced_volume",
    "WildNeuron": "wild",
    "check_alignment": "alignment",
    "find_pairs": "pairs",
    "load_bigneuron": "bigneuron",
    "prepare": "bigneuron",
    "read_pair": "pairs",
    "SyntheticNeuron": "synthetic",
    "synthetic_neuron": "synthetic",
    "visible_labels": "visible",
    "wild_neuron": "wild",
    "write_synthetic_pairs": "synthetic",
}

__all__ = [
    "Augmentation",
    "BlockDataset",
    "LabelPolicy",
    "PreparationOptions",
    "StreamedBlocks",
    "SyntheticNeuron",
    "TracedVolume",
    "WildNeuron",
    "check_alignment",
    "find_pairs",
    "load_bigneuron",
    "prepare",
    "read_pair",
    "synthetic_neuron",
    "visible_labels",
    "wild_neuron",
    "write_synthetic_pairs",
]


def __getattr__(name: str):
    # Lazy, so that whoever wants one of these does not pay for the libraries of the others.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
