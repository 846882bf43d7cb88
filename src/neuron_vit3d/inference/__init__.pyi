# The names of this folder, each with its home. `__init__.py` reads them from here.
from .large import segment_large as segment_large
from .options import SegmentOptions as SegmentOptions
from .segmenter import DEFAULT_CHECKPOINT as DEFAULT_CHECKPOINT
from .segmenter import Segmenter as Segmenter
from .segmenter import load_checkpoint as load_checkpoint
from .segmenter import segment as segment
