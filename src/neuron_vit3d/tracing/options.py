"""The options of `trace`, in one list.

A new option is one field here, and the code in `tracer.py`, or in what that calls, that uses it. The keyword, the flag
of `trace` and `segment`, and the docs follow from the field.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from ..option_fields import Check, Number, OneOf, Options, documented, option
from .methods import METHODS


class TraceError(ValueError):
    """An input that cannot be traced, or an option out of its range."""


@documented
@dataclass(frozen=True, kw_only=True, repr=False)
class TraceOptions(Options):
    """Options of `trace` and `trace_neurons`: how a mask or scores become a tree.

    They are given as a record, `trace(scores, TraceOptions(bridge_distance=8))`, or as keywords,
    `trace(scores, bridge_distance=8)`. Lengths and radii are in units of the smallest voxel side.
    """

    title: ClassVar[str] = "Tracing"

    threshold: float | None = option(
        None,
        "Scores at least this high are neuron. Default: a threshold that follows the noise of these scores.",
        more="`threshold_from_noise` finds the default. A mask needs no threshold.",
        check=Number(above=0, at_most=1),
    )
    bridge_distance: float = option(
        16.0,
        "Widest gap to bridge, in voxels; 0: none.",
        more="The full width holds between two ends that face each other; an end and the side of a neurite are joined "
        "over at most 3/4 of it, two sides over half of it.",
        check=Number(at_least=0),
    )
    min_branch_length: float = option(
        3.0,
        "Shorter end branches are pruned, in voxels.",
        more="End branches shorter than 1.5 radii of the branch they leave are pruned, too. A component at the end of "
        "a bridged gap must be longer than the gap by at least this length.",
        check=Number(at_least=0),
    )
    min_component_voxels: int = option(
        10,
        "Smaller connected pieces are dropped, in voxels.",
        more="Pieces are connected by 26 neighbours. They are dropped before any gap is bridged.",
        check=Number(at_least=0),
    )
    smoothing: float = option(
        0.7,
        "Standard deviation of the Gaussian that smooths voxels first; 0: nothing is smoothed or filled.",
        more="The foreground of a mask is the mask and all voxels that are at least 0.35 after smoothing. Unsure "
        "scores are then also averaged along lines (see `smoothing.py`), since a model labels slice by slice, and a "
        "rough or porous foreground leads to false twigs. What the foreground encloses is foreground, too (see "
        "`cavities.py`).",
        check=Number(at_least=0),
    )
    min_confidence: float = option(
        0.0,
        "Branches less sure than this are cut off, from 0 to 1.",
        more="End branches are cut first; the root stays. The confidence of a branch (`Tree.branches`) is the mean of "
        "the scores along it, which are relative to the threshold: 0.5 is at the threshold, and gaps are lower. For a "
        "mask it is the share of the branch that bridges no gap.",
        check=Number(at_least=0, at_most=1),
    )
    fragments: bool = option(
        False,
        "Keep pieces that cannot be joined to the tree, as further roots of it.",
        more="For broken stains. Pieces of at least `min_branch_length` are kept, the largest first. Works for one "
        "neuron only.",
    )
    method: str = option(
        "teasar",
        f"How center lines are found: {', '.join(METHODS)}.",
        more="`teasar` is TEASAR (Sato et al. 2000), in memory, or region by region if the foreground is large.",
        check=OneOf(tuple(METHODS)),
    )

    @classmethod
    def error(cls, name: str, check: Check, value: Any) -> TraceError:
        """The error that says what was expected of an option."""
        if isinstance(check, OneOf):
            return TraceError(f"{name}: expected {check.expected}, got {value!r}")
        if math.isfinite(check.at_most):
            limits = f"lie in {'[' if math.isfinite(check.at_least) else '('}0, {check.at_most:g}]"
        else:
            limits = f"be a number of at least {check.at_least:g}"
        return TraceError(f"{name} must {limits}, got {value}")
