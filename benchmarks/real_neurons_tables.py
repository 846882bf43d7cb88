"""Tables of what real_neurons.py measured: each stack, means over groups, paired differences with their intervals."""

from __future__ import annotations

import math

import numpy as np


# Column -> figure, decimals.
COLUMNS = {
    "F1": ("f1", 3),
    "precision": ("precision", 3),
    "recall": ("recall", 3),
    "F1 within 4": ("f1_4", 3),
    "precision within 4": ("precision_4", 3),
    "recall within 4": ("recall_4", 3),
    "wide F1": ("f1_wide", 3),
    "wide precision": ("precision_wide", 3),
    "wide recall": ("recall_wide", 3),
    "ESA": ("esa", 2),
    "DSA": ("dsa", 2),
    "PDS": ("pds", 3),
    "branch points F1": ("branch_points_f1", 3),
    "precision of branch points": ("branch_points_precision", 3),
    "recall of branch points": ("branch_points_recall", 3),
    "tips F1": ("tips_f1", 3),
    "precision of tips": ("tips_precision", 3),
    "recall of tips": ("tips_recall", 3),
    "length / gold": ("length_ratio", 2),
    "wrong length inside": ("wrong_inside", 3),
    "AP": ("average_precision", 3),
    "AP in tiles": ("average_precision_tiles", 3),
    "best Dice": ("best_dice", 3),
    "score, CPU s": ("score_seconds", 1),
    "trace, CPU s": ("trace_seconds", 1),
}
# What is compared pair by pair, and whether more is better.
COMPARED = {
    "F1": True,
    "F1 within 4": True,
    "wide F1": True,
    "ESA": False,
    "PDS": False,
    "branch points F1": True,
    "tips F1": True,
    "AP": True,
    "AP in tiles": True,
    "best Dice": True,
}
GROUPS = {"tuff": ("tuff",), "all real": ("tuff", "other"), "synthetic": ("synthetic",)}
_RESAMPLES, _SEED = 10_000, 0


def head(groups: list[str], model: str, threshold: float | None) -> list[str]:
    """Markdown that says what was measured on stacks of these groups, and how to read it."""
    at = "at the threshold of each stack's noise" if threshold is None else f"at threshold {threshold:g}"
    counts = {group: sum(one in members for one in groups) for group, members in GROUPS.items()}
    return [
        "# Traces of real neurons",
        "",
        f"`benchmarks/real_neurons.py`, {model} {at}: {counts['all real']} real stacks, {counts['tuff']} "
        f"of them tuff, and {counts['synthetic']} synthetic neurons.",
        "",
        "Distances are in voxels. F1, precision and recall: length of the tree within 2 voxels of the gold one (or "
        "4; or, wide, the gold radius there where that is larger). Branch points and tips: matched one to one within "
        "5 voxels. Wrong length "
        "inside: share of the length beyond 2 voxels that lies in the gold tube dilated by 2. AP, best Dice: of the "
        "scores, against the voxels within 1 voxel of the gold lines, the rest of the gold tube and 1 voxel beyond "
        "left out; in tiles: "
        "only in those 192 x 192 pixels of a slice that a gold line runs through, for others may show neurites that "
        "nobody traced. Trees are our tracer's, but for kimimaro's. Differences: mean over the stacks, its 95 % "
        "interval (bootstrap "
        "of the stacks), and on how many the first is better.",
        "",
        "Tuff traces are drawn in 7 to 578 fragments, whose ends count as tips, and which are not joined at branch "
        "points: precision of branch points and recall of tips are too low there for any tree in one piece. The three "
        "rr30a stacks are "
        "days of one field, of which five dendrites are traced, and others are visible; their radii, and those of "
        "rivulet_test (made by a program), are placeholders, and spotspine's tree has 31 nodes.",
        "",
    ]


def tables(lines: list[dict], reference: str) -> list[str]:
    """Markdown of all lines: means by group, paired differences of `reference` and the other methods, every stack.

    Args:
        lines: of the JSON file; each has stack, group, method and its figures.
        reference: the method whose differences from the others are given.
    """
    methods = list(dict.fromkeys(line["method"] for line in lines))
    methods.sort(key=lambda method: method != reference)  # stable: the reference first
    text = ["## Means", "", *mean_table(lines, methods)]
    for other in methods:
        if other != reference:
            text += ["", f"## {reference} less {other}", "", *difference_table(lines, reference, other)]
    return [*text, "", "## Stacks", "", *stack_table(lines, methods)]


def mean_table(lines: list[dict], methods: list[str]) -> list[str]:
    """A row for each group and method; figures that are not finite in a stack are left out there."""
    rows = []
    for group, members in GROUPS.items():
        for method in methods:
            chosen = [line for line in lines if line["group"] in members and line["method"] == method]
            if chosen:
                values = [_mean([line[key] for line in chosen]) for key, _ in COLUMNS.values()]
                rows.append([f"{group} ({len(chosen)})", method, *_formatted(values)])
    return _markdown(["stacks", "method", *COLUMNS], rows)


def stack_table(lines: list[dict], methods: list[str]) -> list[str]:
    """A row for each stack and method."""
    order = {method: i for i, method in enumerate(methods)}
    rows = [
        [line["stack"], line["method"], *_formatted([line[key] for key, _ in COLUMNS.values()])]
        for line in sorted(
            lines, key=lambda line: (line["group"] == "synthetic", line["stack"], order[line["method"]])
        )
    ]
    return _markdown(["stack", "method", *COLUMNS], rows)


def difference_table(lines: list[dict], one: str, other: str) -> list[str]:
    """Makes the table of the mean differences of two methods over the stacks that both have.

    With the 95 % interval of each, and on how many stacks the first is better.
    """
    figures = {(line["stack"], line["method"]): line for line in lines}
    rows = []
    for group, members in GROUPS.items():
        stacks = dict.fromkeys(line["stack"] for line in lines if line["group"] in members)
        pairs = [
            (figures[stack, one], figures[stack, other])
            for stack in stacks
            if (stack, one) in figures and (stack, other) in figures
        ]
        if not pairs:
            continue
        row = [f"{group} ({len(pairs)})"]
        for column, more_is_better in COMPARED.items():
            key, decimals = COLUMNS[column]
            row.append(_difference([first[key] - second[key] for first, second in pairs], decimals, more_is_better))
        rows.append(row)
    return _markdown(["stacks", *COMPARED], rows)


def interval(differences: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the mean over the stacks: percentiles of the means of 10,000 resamples (Efron 1979)."""
    rng = np.random.default_rng(_SEED)
    means = rng.choice(differences, (_RESAMPLES, len(differences))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _difference(differences: list[float], decimals: int, more_is_better: bool) -> str:
    finite = np.array([value for value in differences if math.isfinite(value)])
    if not len(finite):
        return "-"
    better = int(np.count_nonzero(finite > 0 if more_is_better else finite < 0))
    low, high = interval(finite)
    return f"{finite.mean():+.{decimals}f} ({low:+.{decimals}f} to {high:+.{decimals}f}), {better} of {len(finite)}"


def _mean(values: list[float | None]) -> float:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return float(np.mean(finite)) if finite else math.nan


def _formatted(values: list[float]) -> list[str]:
    decimals = [decimals for _, decimals in COLUMNS.values()]
    return [f"{v:.{d}f}" if v is not None and math.isfinite(v) else "-" for v, d in zip(values, decimals, strict=True)]


def _markdown(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
