# The names of this folder, each with its home. `__init__.py` reads them from here.
from .alignment import check_alignment as check_alignment
from .augmentation import Augmentation as Augmentation
from .bigneuron import load_bigneuron as load_bigneuron
from .bigneuron import prepare as prepare
from .labels import LabelPolicy as LabelPolicy
from .pairs import find_pairs as find_pairs
from .pairs import read_pair as read_pair
from .preparation import PreparationOptions as PreparationOptions
from .sampling import BlockDataset as BlockDataset
from .streaming import StreamedBlocks as StreamedBlocks
from .synthetic import SyntheticNeuron as SyntheticNeuron
from .synthetic import synthetic_neuron as synthetic_neuron
from .synthetic import write_synthetic_pairs as write_synthetic_pairs
from .traced_volume import TracedVolume as TracedVolume
from .visible import visible_labels as visible_labels
from .wild import WildNeuron as WildNeuron
from .wild import wild_neuron as wild_neuron
