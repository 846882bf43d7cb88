# The names of this folder, each with its home. `__init__.py` reads them from here.
from .distance import tree_distance as tree_distance
from .formats.registry import read_tree as read_tree
from .formats.registry import write_tree as write_tree
from .geometry import points_along as points_along
from .measures import measure as measure
from .raster import rasterize as rasterize
from .soundness import check_tree as check_tree
from .swc import SWCError as SWCError
from .swc import Tree as Tree
from .swc import read_swc as read_swc
