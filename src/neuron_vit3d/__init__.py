"""neuron_vit3d: segment and trace neurons in 3D microscopy with 2D vision transformers inflated to 3D.

Importing it makes the configuration, the models, the image processor and the pipeline known to transformers; what is
named here is imported on first use.
"""

import importlib
import threading
from typing import TYPE_CHECKING

from .auto_classes import register


if TYPE_CHECKING:
    from .data import load_bigneuron, synthetic_neuron
    from .evaluation import average_precision, segmentation_scores
    from .hub import publish
    from .inference import Segmenter, SegmentOptions, segment, segment_large
    from .model import (
        NeuronSegmentationPipeline,
        NeuronViT3DConfig,
        NeuronViT3DForSegmentation,
        NeuronViT3DImageProcessor,
        NeuronViT3DModel,
    )
    from .morphology import Tree, rasterize, read_swc, tree_distance
    from .tracing import TraceError, TraceOptions, threshold_from_noise, trace, trace_neurons
    from .training.start import TrainingConfig, train
    from .volumes import Volume, read_volume, write_volume


__version__ = "0.1.0"

# name -> subpackage or module that defines it
_ON_FIRST_USE = {
    "NeuronViT3DConfig": "model",
    "NeuronViT3DForSegmentation": "model",
    "NeuronViT3DImageProcessor": "model",
    "NeuronViT3DModel": "model",
    "NeuronSegmentationPipeline": "model",
    "Volume": "volumes",
    "read_volume": "volumes",
    "write_volume": "volumes",
    "Tree": "morphology",
    "TraceError": "tracing",
    "TraceOptions": "tracing",
    "read_swc": "morphology",
    "rasterize": "morphology",
    "threshold_from_noise": "tracing",
    "trace": "tracing",
    "trace_neurons": "tracing",
    "tree_distance": "morphology",
    "segment": "inference",
    "segment_large": "inference",
    "SegmentOptions": "inference",
    "Segmenter": "inference",
    "average_precision": "evaluation",
    "segmentation_scores": "evaluation",
    "load_bigneuron": "data",
    "synthetic_neuron": "data",
    "publish": "hub",
    "TrainingConfig": "training.start",
    "train": "training.start",
}

__all__ = [
    "NeuronSegmentationPipeline",
    "NeuronViT3DConfig",
    "NeuronViT3DForSegmentation",
    "NeuronViT3DImageProcessor",
    "NeuronViT3DModel",
    "SegmentOptions",
    "Segmenter",
    "TraceError",
    "TraceOptions",
    "TrainingConfig",
    "Tree",
    "Volume",
    "average_precision",
    "load_bigneuron",
    "publish",
    "rasterize",
    "read_swc",
    "read_volume",
    "segment",
    "segment_large",
    "segmentation_scores",
    "synthetic_neuron",
    "threshold_from_noise",
    "trace",
    "trace_neurons",
    "train",
    "tree_distance",
    "write_volume",
]


# One thread at a time imports: transformers does not bear to be imported by two at once.
_importing = threading.RLock()


def __getattr__(name: str):
    if name in _ON_FIRST_USE:
        with _importing:
            return getattr(importlib.import_module(f"{__name__}.{_ON_FIRST_USE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ON_FIRST_USE})


register()
