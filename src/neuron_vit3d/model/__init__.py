"""The model, as it travels to the Hub: configuration, inflation, transformer, blocks, image processor, pipeline."""

from .configuration_neuron_vit3d import NeuronViT3DConfig
from .image_processing_neuron_vit3d import NeuronViT3DImageProcessor
from .modeling_neuron_vit3d import NeuronViT3DForSegmentation, NeuronViT3DModel
from .pipeline_neuron_vit3d import NeuronSegmentationPipeline


__all__ = [
    "NeuronSegmentationPipeline",
    "NeuronViT3DConfig",
    "NeuronViT3DForSegmentation",
    "NeuronViT3DImageProcessor",
    "NeuronViT3DModel",
]
