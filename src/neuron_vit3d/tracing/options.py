"""What `trace` can be told: the one list of its options.

A new option is one field here, and the line of `tracer.py`, or of what that calls, in which it acts. Keyword, flag of
`trace` and `segment`, and docs follow from the field.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from ..option_fields import Check, Number, OneOf, Options, documented, option
from .methods import METHODS


class TraceError(ValueError):
    """What was given cannot be traced."""


@documented
@dataclass(frozen=True, kw_only=True, repr=False)
class TraceOptions(Options):
    """What of a mask or of scores becomes a tree: the options of `trace` and `trace_neurons`.

    They are given as a record, `trace(scores, TraceOptions(bridge_distance=8))`, or as keywords,
    `trace(scores, bridge_distance=8)`. Lengths and radii are in units of the smallest voxel side.
    """

    title: ClassVar[str] = "Tracing"

    threshold: float | None = option(
        None,
        "Scores at least this high are neuron. Default: what stands out from the noise of these scores.",
        more="As `threshold_from_noise` finds it. A mask needs none.",
        check=Number(above=0, at_most=1),
    )
    bridge_distance: float = option(
        16.0,
        "Widest gap to bridge, in voxels; 0: none.",
        more="Between two ends that face each other; an end and the side of a neurite are joined over at most 3/4 of "
        "it, two sides over half of it.",
        check=Number(at_least=0),
    )
    min_branch_length: float = option(
        3.0,
        "Shorter end branches are pruned, in voxels.",
        more="And those shorter than 1.5 radii of the branch they leave. A component that would be the end of a "
        "branch must be longer than its gap by as much.",
        check=Number(at_least=0),
    )
    min_component_voxels: int = option(
        10,
        "Smaller connected pieces are dropped, in voxels.",
        more="Connected by 26 neighbours; before anything else.",
        check=Number(at_least=0),
    )
    smoothing: float = option(
        0.7,
        "Standard deviation of the Gaussian that voxels are smoothed by first; 0: nothing is smoothed or filled.",
        more="Of a mask, foreground is all of it and what is then at least 0.35. Scores, where they are unsure, are "
        "averaged along lines after that (see `smoothing.py`): a model labels slice by slice, and what is rough or "
        "porous grows twigs. What the foreground encloses (see `cavities.py`) is foreground, too.",
        check=Number(at_least=0),
    )
    min_confidence: float = option(
        0.0,
        "Branches less sure than this are cut off, from 0 to 1.",
        more="End branches first; the root stays. The confidence of a branch (`Tree.branches`) is the mean of the "
        "scores along it, relative to the threshold, at which they are 0.5, so across a gap they are low; that of a "
        "mask's branch is the share of it that bridges no gap.",
        check=Number(at_least=0, at_most=1),
    )
    fragments: bool = option(
        False,
        "Keep what cannot be joined to the tree, as further roots of it.",
        more="What is at least `min_branch_length` long, the largest first; for stains that are broken. Of one neuron "
        "only.",
    )
    method: str = option(
        "teasar",
        f"How center lines are found: {', '.join(METHODS)}.",
        more="`teasar` is TEASAR (Sato et al. 2000), in memory or region by region as the foreground's size asks for.",
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
