"""The model, as it travels to the Hub: configuration, inflation, transformer, blocks, image processor, pipeline."""

from importlib import import_module
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from .configuration_neuron_vit3d import NeuronViT3DConfig
    from .image_processing_neuron_vit3d import NeuronViT3DImageProcessor
    from .modeling_neuron_vit3d import NeuronViT3DForSegmentation, NeuronViT3DModel
    from .pipeline_neuron_vit3d import NeuronSegmentationPipeline

_HOMES = {
    "NeuronSegmentationPipeline": "pipeline_neuron_vit3d",
    "NeuronViT3DConfig": "configuration_neuron_vit3d",
    "NeuronViT3DForSegmentation": "modeling_neuron_vit3d",
    "NeuronViT3DImageProcessor": "image_processing_neuron_vit3d",
    "NeuronViT3DModel": "modeling_neuron_vit3d",
}

__all__ = [
    "NeuronSegmentationPipeline",
    "NeuronViT3DConfig",
    "NeuronViT3DForSegmentation",
    "NeuronViT3DImageProcessor",
    "NeuronViT3DModel",
]


def __getattr__(name: str):
    # Lazy, so that the configuration does not pay for the model and for transformers' pipelines.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
