"""Finds the center lines of a foreground that fits into memory as a whole."""

import numpy as np

from .center_lines import CenterLines, Rules, large_components, nearest_row, of_components, with_cavities
from .foreground import Foreground
from .skeleton import extract_skeleton
from .weak_bridges import weak_bridges


def center_lines_in_memory(
    signal: Foreground, scores: np.ndarray, is_strong: np.ndarray, is_sure: np.ndarray, rules: Rules
) -> CenterLines:
    """Finds center lines in memory, from the voxels that `Found.signal` returns."""
    signal, scores, is_strong, is_sure = with_cavities(signal, scores, is_strong, is_sure, rules)
    foreground = signal.subset(is_strong)
    component = foreground.components()
    sizes = np.bincount(component)
    is_large = large_components(sizes, np.bincount(component, is_sure[is_strong]) > 0, rules.min_component_voxels)
    foreground, component = of_components(foreground, component, is_large)
    too_small = sizes[~is_large]
    if component.max() and rules.bridge_distance:
        of_signal = np.full(len(signal), -1)
        of_signal[np.searchsorted(signal.keys, foreground.keys)] = component
        bridges = weak_bridges(signal, scores.astype(np.float64), rules.levels.strong, of_signal, rules.max_weak_cost)
        if bridges:
            of_signal[[row for bridge in bridges for row in bridge.rows]] = 0
            foreground = signal.subset(of_signal >= 0)
            component = foreground.components()
            foreground, component = of_components(
                foreground, component, large_components(np.bincount(component), None, 1)
            )
    confidence = scores[np.searchsorted(signal.keys, foreground.keys)].astype(np.float64)
    roots = [nearest_row(foreground.voxels, root, rules.spacing) for root in rules.roots]
    skeleton = extract_skeleton(
        foreground, component, confidence=confidence, roots=roots, is_sure=rules.smoothing.is_sure
    )
    return CenterLines(skeleton, foreground, True, np.bincount(component), too_small)
