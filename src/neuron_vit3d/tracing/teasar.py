"""Center lines by TEASAR (Sato et al. 2000): in memory, or region by region where there is too much foreground."""

import math

from .by_region import REGION_SIDES, center_lines_by_region
from .center_lines import CenterLines, Rules
from .in_memory import center_lines_in_memory
from .pieces import Pieces, look_through


# At most so many foreground voxels, or voxels of center lines, are held at once, of which each takes up to 650 bytes;
# more foreground is worked through region by region.
VOXELS_AT_ONCE = 10_000_000
# At about 8 seconds a million. And of so many, when they fill more than this share of a volume, most must be
# background.
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
