# The names of this folder, each with its home. `__init__.py` reads them from here.
from .checks import check_finite as check_finite
from .checks import check_signal as check_signal
from .formats.slices import is_slice_folder as is_slice_folder
from .formats.tiff_writer import SlabWriter as SlabWriter
from .io import open_volume as open_volume
from .io import read_volume as read_volume
from .io import write_volume as write_volume
from .meaning import as_mask_or_scores as as_mask_or_scores
from .meaning import labels_of as labels_of
from .names import VOLUME_SUFFIXES as VOLUME_SUFFIXES
from .names import is_volume_folder as is_volume_folder
from .names import is_volume_name as is_volume_name
from .names import volume_stem as volume_stem
from .reader import VolumeReader as VolumeReader
from .volume import Volume as Volume
from .volume import VolumeError as VolumeError
from .volume import single_channel as single_channel
