# The names of this folder, each with its home. `__init__.py` reads them from here.
from .configuration_neuron_vit3d import NeuronViT3DConfig as NeuronViT3DConfig
from .image_processing_neuron_vit3d import NeuronViT3DImageProcessor as NeuronViT3DImageProcessor
from .modeling_neuron_vit3d import NeuronViT3DForSegmentation as NeuronViT3DForSegmentation
from .modeling_neuron_vit3d import NeuronViT3DModel as NeuronViT3DModel
from .pipeline_neuron_vit3d import NeuronSegmentationPipeline as NeuronSegmentationPipeline
