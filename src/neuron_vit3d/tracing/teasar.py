"""Finds center lines by TEASAR (Sato et al. 2000): in memory, or region by region if the foreground is too large."""

import math

from .by_region import REGION_SIDES, center_lines_by_region
from .center_lines import CenterLines, Rules
from .in_memory import center_lines_in_memory
from .pieces import Pieces, look_through


# Most foreground voxels, or voxels of center lines, that are held at once; each takes up to 650 bytes. A larger
# foreground is traced region by region.
VOXELS_AT_ONCE = 10_000_000
# Largest foreground that is traced, at about 8 seconds per million voxels. A foreground that is also larger than
# MAX_SHARE of its volume, and than VOXELS_AT_ONCE, must be mostly background, and is refused.
MAX_FOREGROUND_VOXELS = 1_000_000_000
MAX_SHARE = 0.2


def find_center_lines(source: Pieces, rules: Rules) -> CenterLines:
    """Finds the center lines of a mask or of scores.

    Raises:
        TraceError: no foreground, or too much of it; scores outside [0, 1] or not finite.
    """
    found = look_through(source, rules.levels, rules.smoothing, most=VOXELS_AT_ONCE, cell=REGION_SIDES[-1])
    most = min(MAX_FOREGROUND_VOXELS, max(VOXELS_AT_ONCE, int(MAX_SHARE * math.prod(source.shape))))
    found.check_count(most)
    if found.num_strong <= VOXELS_AT_ONCE:
        return center_lines_in_memory(*found.signal(rules.spacing), rules)
    cells = found.cells
    del found
    return center_lines_by_region(source, cells, rules)
