"""neuron_vit3d: segment and trace neurons in 3D microscopy with 2D vision transformers inflated to 3D.

Importing it registers the configuration, the models and the image processor with transformers' Auto classes.
"""

import importlib

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForSemanticSegmentation

from .model import (
    NeuronViT3DConfig,
    NeuronViT3DForSegmentation,
    NeuronViT3DImageProcessor,
    NeuronViT3DModel,
)


__version__ = "0.1.0"

AutoConfig.register(NeuronViT3DConfig.model_type, NeuronViT3DConfig)
AutoModel.register(NeuronViT3DConfig, NeuronViT3DModel)
AutoModelForSemanticSegmentation.register(NeuronViT3DConfig, NeuronViT3DForSegmentation)
AutoImageProcessor.register(NeuronViT3DConfig, image_processor_classes={"pil": NeuronViT3DImageProcessor})

# name -> subpackage that defines it; imported on first use
_ON_FIRST_USE = {
    "Volume": "volumes",
    "read_volume": "volumes",
    "write_volume": "volumes",
    "Tree": "morphology",
    "read_swc": "morphology",
    "rasterize": "morphology",
    "trace": "morphology",
    "tree_distance": "morphology",
    "segment": "inference",
    "Segmenter": "inference",
    "segmentation_scores": "evaluation",
    "synthetic_neuron": "data",
}

__all__ = [
    "NeuronViT3DConfig",
    "NeuronViT3DForSegmentation",
    "NeuronViT3DImageProcessor",
    "NeuronViT3DModel",
    *_ON_FIRST_USE,
]


def __getattr__(name: str):
    if name in _ON_FIRST_USE:
        return getattr(importlib.import_module(f"{__name__}.{_ON_FIRST_USE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ON_FIRST_USE})
