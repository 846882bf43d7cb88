"""Compares the runs of an experiment, as text and curves: means over neurons, spreads over seeds, paired tests."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


# Column -> key of a volume's figures, decimals. (F1 of a mask is its Dice.)
COLUMNS = {
    "Dice": ("dice", 3),
    "best Dice": ("best_dice", 3),
    "AP": ("average_precision", 3),
    "precision": ("precision", 3),
    "recall": ("recall", 3),
    "near precision": ("near_precision", 3),
    "HD95": ("hd95", 1),
    "clDice": ("cldice", 3),
    "ESA": ("tree_esa", 2),
    "DSA": ("tree_dsa", 2),
    "PDS": ("tree_pds", 3),
    "tree F1": ("tree_f1", 3),
    "seconds": ("seconds", 1),  # to segment the volume
}
AVERAGED = ", averaged"  # ends a variant's name if scores of blocks that overlap along z are averaged


@dataclass(frozen=True)
class Result:
    """The results of a run; `experiment` identifies it (base, arm, seed, decoder, share, data, variant)."""

    experiment: dict
    options: dict  # of the trainer
    test: dict[str, dict[str, float]]  # neuron -> figures, see `score_volume`
    validation_dice: float
    threshold: float
    train_names: list[str] = field(default_factory=list)
    validation_names: list[str] = field(default_factory=list)
    curve: list[list[float]] = field(default_factory=list)  # [step, loss]
    seconds: dict[str, float] = field(default_factory=dict)
    machine: str = ""


def write_report(results: list[Result], folder: Path) -> Path:
    """Writes report.md, summary.md, runs.csv and curves.png, and returns the first.

    report.md has a table for each study, in which each row is compared with its reference; summary.md shows what each
    row gains.

    Raises:
        ValueError: no run is finished.
    """
    if not results:
        raise ValueError("expected at least one finished run to report, got none")
    folder.mkdir(parents=True, exist_ok=True)
    tables = study_tables(results)
    write_csv(results, folder / "runs.csv")
    write_curves(tables, folder / "curves.png")
    machines = sorted({run.machine for run in results})
    lines = ["# The paper's experiment", "", f"`experiments/reproduce_paper.py` ({'; '.join(machines)})", ""]
    lines += [*_READ_IT, "", f"Of all runs: {_common_options(results)}.", ""]
    for table in tables:
        lines += table.markdown()
    summary = [lines[2], "", *_SUMMARY_HEAD]
    for table in tables:
        summary += table.summary()
    summary += [
        "",
        "± is over seeds; p is Wilcoxon's, of pairs of the same neuron and seed (how many). Seeds of one neuron are "
        "not independent: where neurons are few, p is too small. [All figures, and how to read them](report.md).",
    ]
    (folder / "summary.md").write_text("\n".join(summary) + "\n")
    path = folder / "report.md"
    path.write_text("\n".join(lines).rstrip() + "\n")
    return path


_SUMMARY_HEAD = [
    "| | runs | Dice | over the reference | p | AP | over the reference | p | tree F1 | over the reference | p |",
    "|---" * 11 + "|",
]


_READ_IT = [
    "Figures are means over the test neurons; ± is the standard deviation over seeds. The threshold was chosen on the "
    'validation neurons; "best Dice" is at the threshold that is best for each test neuron, AP (average precision) '
    "is over all "
    'thresholds. "Near precision" is the share of the mask within 3 voxels of the gold one. HD95, ESA and DSA are in '
    "voxels. "
    'F1 of a mask is its Dice. "seconds": to segment a volume, on a machine that did other work beside it. "lost": '
    "neurons in which nothing was found, or no tree, and which have no distance. p: Wilcoxon's signed-rank test on "
    "pairs of the same "
    "neuron and seed, in brackets how many; seeds of one neuron are not independent, so p is too small where neurons "
    "are few. Every neuron of every run: [runs.csv](runs.csv). Training losses: [curves.png](curves.png).",
]


def study_tables(results: list[Result]) -> list[Table]:
    """Groups the runs by study, with the rows that have runs; studies of one row are left out."""
    found = []
    variants = list(dict.fromkeys(run.experiment["variant"] for run in results))
    for base in sorted({run.experiment["base"] for run in results}):
        named = base + _options_that_differ(results, base)
        whole = {"base": base, "decoder": "tokens", "share": 1.0, "data": "split", "variant": ""}
        arms = ("scratch", "scratch, 3 x rate", "flat", "average", "center")
        studies = {
            "decoder from tokens alone": ("scratch", {arm: {**whole, "arm": arm} for arm in arms}),
            "decoder with stem": ("scratch", {arm: {**whole, "decoder": "stem", "arm": arm} for arm in arms}),
        }
        for share in (0.5, 0.25):
            part = {**whole, "share": share}
            studies[f"tokens alone, {share:g} of the training neurons"] = (
                "scratch",
                {arm: {**part, "arm": arm} for arm in ("scratch", "center")},
            )
        folds = {**whole, "data": "fold"}
        studies["tokens alone, every neuron tested on once"] = (
            "scratch",
            {arm: {**folds, "arm": arm} for arm in arms},
        )
        flat = {**whole, "data": "mip"}
        studies["projections of BigNeuron's Gold166, one slice"] = (
            "scratch",
            {"scratch": {**flat, "arm": "scratch"}, "pre-trained": {**flat, "arm": "flat"}},
        )
        changed = {**whole, "decoder": "stem", "arm": "center"}
        studies["one thing changed (center, decoder with stem)"] = (
            "plain",
            {variant or "plain": {**changed, "variant": variant} for variant in variants},
        )
        for title, (reference, rows) in studies.items():
            runs = {name: [run for run in results if _fits(run, fields)] for name, fields in rows.items()}
            runs = {name: fitting for name, fitting in runs.items() if fitting}
            if len(runs) > 1:
                found.append(Table(f"{named}, {title}", runs, reference))
    return found


def _options_that_differ(results: list[Result], base: str) -> str:
    """Returns the tile size and the steps of a 2D model's runs, in brackets, if other models have others."""
    words = []
    for key, text in (("tile_size", "tiles of {}"), ("max_steps", "{} steps")):
        if len({run.options.get(key) for run in results}) > 1:
            own = {str(run.options.get(key)) for run in results if run.experiment["base"] == base}
            words.append(text.format(", ".join(sorted(own))))
    return f" ({', '.join(words)})" if words else ""


def _common_options(results: list[Result]) -> str:
    """Lists the options that all runs share, except those that say how often something is written."""
    left_out = ("steps", "keep_", "num_workers", "cpu", "report_to")
    shared = {
        key: value
        for key, value in results[0].options.items()
        if all(run.options.get(key) == value for run in results)
        and (key in ("max_steps", "warmup_steps") or not any(word in key for word in left_out))
    }
    return ", ".join(f"{key} {value}" for key, value in shared.items() if value not in ("", [], False, 0, 0.0))


def _fits(run: Result, fields: dict) -> bool:
    """Tells whether a run has these fields; a "fold" means any fold."""
    mine = {**run.experiment, "data": run.experiment["data"].split()[0]}
    return all(mine[key] == value for key, value in fields.items())


@dataclass(frozen=True)
class Table:
    """A table of results, in which each row is compared with a reference row.

    A row is a group of runs that differ only in their seed (and fold).
    """

    title: str
    rows: dict[str, list[Result]]
    reference: str

    def markdown(self) -> list[str]:
        lines = [
            f"## {self.title}",
            "",
            f"| | runs | {' | '.join(COLUMNS)} | Dice over {self.reference} | p | AP over {self.reference} | p |",
            "|---" * (len(COLUMNS) + 6) + "|",
        ]
        for name, runs in self.rows.items():
            cells = [name, str(len(runs)), *(_cell(runs, key, decimals) for key, decimals in COLUMNS.values())]
            for key in ("dice", "average_precision"):
                cells += self._gain(name, key)
            lines.append("| " + " | ".join(cells) + " |")
        return [*lines, ""]

    def summary(self) -> list[str]:
        """Returns a line for each row: Dice, AP and tree F1, and what they gain over the reference."""
        lines = [f"| **{self.title}** |" + " |" * 10]
        for name, runs in self.rows.items():
            cells = [name, str(len(runs))]
            for key in ("dice", "average_precision", "tree_f1"):
                cells += [_cell(runs, key, 3), *self._gain(name, key)]
            lines.append("| " + " | ".join(cells) + " |")
        return lines

    def _gain(self, name: str, key: str) -> list[str]:
        """Returns the relative gain over the reference, and p with the number of pairs."""
        ours, theirs = pairs(self.rows[name], self.rows.get(self.reference, []), key)
        if name == self.reference or not np.any(theirs):
            return ["", ""]
        return [f"{np.mean(ours) / np.mean(theirs) - 1:+.1%}", f"{paired_test(ours, theirs):.3f} ({len(ours)})"]


def pairs(ours: list[Result], theirs: list[Result], key: str) -> tuple[list[float], list[float]]:
    """Returns a figure for every seed and test neuron that both rows have: two lists in the same order."""
    found = {(run.experiment["seed"], name): figures[key] for run in theirs for name, figures in run.test.items()}
    both = [
        (figures[key], found[run.experiment["seed"], name])
        for run in ours
        for name, figures in run.test.items()
        if (run.experiment["seed"], name) in found
    ]
    return [one for one, _ in both], [other for _, other in both]


def mean_and_spread(by_seed: Sequence[float]) -> tuple[float, float]:
    """Computes mean and standard deviation (of the sample; 0 for one value) of one figure over seeds.

    Values that are not finite are left out.
    """
    values = np.asarray(by_seed, float)
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0


def paired_test(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Returns the two-sided p of Wilcoxon's signed-rank test on pairs (same neuron and seed); 1 if all are equal."""
    from scipy.stats import wilcoxon

    differences = np.asarray(ours, float) - np.asarray(theirs, float)
    differences = differences[np.isfinite(differences)]
    if not differences.any():
        return 1.0
    return float(wilcoxon(differences).pvalue)


def _cell(runs: list[Result], key: str, decimals: int) -> str:
    """Returns the mean over neurons, then mean and spread over seeds, as text."""
    by_seed: dict[int, list[float]] = {}
    for run in runs:
        by_seed.setdefault(run.experiment["seed"], []).extend(
            figures[key] for figures in run.test.values() if key in figures
        )
    values = {seed: np.array(values)[np.isfinite(values)] for seed, values in by_seed.items()}
    means = [np.mean(finite) for finite in values.values() if len(finite)]
    mean, spread = mean_and_spread(means)
    missing = sum(map(len, by_seed.values())) - sum(map(len, values.values()))
    text = f"{mean:.{decimals}f}" + (f" ± {spread:.{decimals}f}" if len(means) > 1 else "")
    return text + (f" ({missing} lost)" if missing else "")


def write_csv(results: list[Result], path: Path) -> None:
    """Writes a row for every run and test neuron."""
    experiment = list(results[0].experiment)
    figures = list(dict.fromkeys(key for run in results for values in run.test.values() for key in values))
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*experiment, "neuron", "threshold", *figures])
        for run in results:
            for name, values in run.test.items():
                row = [run.experiment[key] for key in experiment]
                writer.writerow([*row, name, run.threshold, *(_short(values.get(key, "")) for key in figures)])


def write_curves(tables: list[Table], path: Path) -> None:
    """Draws the training loss: a panel for each table, a line for each of its rows.

    A line is the mean over seeds, smoothed over 5 entries.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = min(2, len(tables)) or 1
    rows = -(-len(tables) // columns) or 1
    figure, axes = pyplot.subplots(rows, columns, figsize=(6 * columns, 3.6 * rows), squeeze=False)
    for panel in axes.flat[len(tables) :]:
        panel.set_axis_off()
    for panel, table in zip(axes.flat, tables, strict=False):
        for name, runs in table.rows.items():
            length = min(len(run.curve) for run in runs)
            if length < 5 or name.endswith(AVERAGED):
                continue
            losses = np.mean([[loss for _, loss in run.curve[:length]] for run in runs], axis=0)
            steps = [step for step, _ in runs[0].curve[:length]]
            panel.plot(steps[4:], np.convolve(losses, np.ones(5) / 5, "valid"), label=name)
        panel.set(xlabel="step", ylabel="training loss")
        panel.set_title(table.title, fontsize=8)
        if panel.lines:
            panel.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def _short(value):
    return round(value, 5) if isinstance(value, float) else value
