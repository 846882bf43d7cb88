# The names of the package, each with its home. `__init__.py` reads them from here.
from .data import load_bigneuron as load_bigneuron
from .data import synthetic_neuron as synthetic_neuron
from .evaluation import average_precision as average_precision
from .evaluation import segmentation_scores as segmentation_scores
from .hub import publish as publish
from .inference import Segmenter as Segmenter
from .inference import SegmentOptions as SegmentOptions
from .inference import segment as segment
from .inference import segment_large as segment_large
from .model import NeuronSegmentationPipeline as NeuronSegmentationPipeline
from .model import NeuronViT3DConfig as NeuronViT3DConfig
from .model import NeuronViT3DForSegmentation as NeuronViT3DForSegmentation
from .model import NeuronViT3DImageProcessor as NeuronViT3DImageProcessor
from .model import NeuronViT3DModel as NeuronViT3DModel
from .morphology import Tree as Tree
from .morphology import measure as measure
from .morphology import rasterize as rasterize
from .morphology import read_swc as read_swc
from .morphology import read_tree as read_tree
from .morphology import tree_distance as tree_distance
from .morphology import write_tree as write_tree
from .teaching import Taught as Taught
from .teaching import teach as teach
from .tracing import TraceError as TraceError
from .tracing import TraceOptions as TraceOptions
from .tracing import threshold_from_noise as threshold_from_noise
from .tracing import trace as trace
from .tracing import trace_neurons as trace_neurons
from .training.start import TrainingConfig as TrainingConfig
from .training.start import train as train
from .volumes import Volume as Volume
from .volumes import read_volume as read_volume
from .volumes import write_volume as write_volume

__version__: str
