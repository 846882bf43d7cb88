"""Runs compared: tables by study, gains with paired tests, CSV and curves."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import wilcoxon

from neuron_vit3d.evaluation.report import (
    COLUMNS,
    Result,
    mean_and_spread,
    paired_test,
    pairs,
    study_tables,
    write_report,
)


def result(arm: str, seed: int, dice: dict[str, float], **experiment) -> Result:
    figures = {key: 0.5 for key, _ in COLUMNS.values()}
    return Result(
        experiment={
            "base": "vit", "arm": arm, "seed": seed, "decoder": "tokens", "share": 1.0, "data": "split", "variant": "",
            **experiment,
        },
        options={},
        test={name: {**figures, "dice": value} for name, value in dice.items()},
        validation_dice=0.6,
        threshold=0.7,
        curve=[[step, 2 - step / 10] for step in range(1, 9)],
        machine="2 threads",
    )  # fmt: skip


RUNS = [
    result(arm, seed, {"a": base + 0.01 * seed, "b": base + 0.1})
    for arm, base in (("scratch", 0.4), ("center", 0.5))
    for seed in (0, 1, 2)
]


def test_pairs_are_of_the_same_neuron_and_seed():
    ours = [result("center", 1, {"b": 0.7, "a": 0.6, "c": 0.9}), result("center", 5, {"a": 0.1})]
    theirs = [result("scratch", 0, {"a": 0.1}), result("scratch", 1, {"a": 0.3, "b": 0.2})]
    assert pairs(ours, theirs, "dice") == ([0.7, 0.6], [0.2, 0.3])


def test_mean_over_neurons_spread_over_seeds():
    (table,) = study_tables(RUNS)
    rows = {line.split(" | ")[0].strip("| "): line for line in table.markdown() if line.startswith("| ")}
    by_seed = [0.55, 0.555, 0.56]
    assert f"{np.mean(by_seed):.3f} ± {np.std(by_seed, ddof=1):.3f}" in rows["center"]
    assert f"{np.mean(by_seed) / (np.mean(by_seed) - 0.1) - 1:+.1%}" in rows["center"]
    assert f"{wilcoxon([0.1] * 6).pvalue:.3f} (6)" in rows["center"]
    assert "%" not in rows["scratch"]


def test_studies_are_told_apart():
    others = [
        *(result(arm, 0, {"a": 0.5}, data=f"fold {fold} of 4") for arm in ("scratch", "center") for fold in range(4)),
        *(result(arm, 0, {"a": 0.5}, share=0.25) for arm in ("scratch", "center")),
        *(result(arm, 0, {"1": 0.5}, data="mip") for arm in ("scratch", "flat")),
        *(result("center", 0, {"a": 0.5}, decoder="stem", variant=variant) for variant in ("", "focal")),
        result("average", 0, {"a": 0.5}, base="alone"),
    ]
    found = {
        table.title: {name: len(runs) for name, runs in table.rows.items()} for table in study_tables(RUNS + others)
    }
    assert found == {
        "vit, decoder from tokens alone": {"scratch": 3, "center": 3},
        "vit, tokens alone, 0.25 of the training neurons": {"scratch": 1, "center": 1},
        "vit, tokens alone, every neuron tested on once": {"scratch": 4, "center": 4},
        "vit, projections of BigNeuron's Gold166, one slice": {"scratch": 1, "pre-trained": 1},
        "vit, one thing changed (center, decoder with stem)": {"plain": 1, "focal": 1},
    }


def test_where_models_had_different_tiles_or_steps_it_says_which():
    runs = [replace(run, options={"tile_size": 192, "max_steps": 20}) for run in RUNS]
    others = [
        replace(run, options={"tile_size": 154, "max_steps": 10}, experiment={**run.experiment, "base": "large"})
        for run in RUNS
    ]
    titles = [table.title for table in study_tables(runs + others)]
    assert titles == [
        "large (tiles of 154, 10 steps), decoder from tokens alone",
        "vit (tiles of 192, 20 steps), decoder from tokens alone",
    ]


def test_the_report_is_written(tmp_path):
    path = write_report(RUNS, tmp_path / "report")
    assert path.read_text().count("\n| center") == 1 and "2 threads" in path.read_text()
    assert "| center | 3 |" in (tmp_path / "report" / "summary.md").read_text()
    with open(tmp_path / "report" / "runs.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert {(row["arm"], row["seed"], row["neuron"], row["dice"]) for row in rows} >= {("center", "2", "a", "0.52")}
    assert (tmp_path / "report" / "curves.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="expected at least one finished run"):
        write_report([], tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_infinite_figures_are_left_out():
    assert mean_and_spread([1.0, math.inf, 3.0]) == (2.0, pytest.approx(math.sqrt(2)))
    assert mean_and_spread([4.0]) == (4.0, 0.0)
    assert math.isnan(mean_and_spread([math.inf])[0])
    assert paired_test([1.0, 2.0], [1.0, 2.0]) == 1.0
    assert paired_test([math.nan, 2.0, 3.0, 4.0], [1.0, 1.0, 1.0, 1.0]) == wilcoxon([1.0, 2.0, 3.0]).pvalue
