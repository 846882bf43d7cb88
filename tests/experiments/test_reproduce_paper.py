"""experiments/reproduce_paper.py: plans, trains, scores, reports; goes on; refuses a split that leaks."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from neuron_vit3d.data.synthetic import synthetic_neuron, write_synthetic_pairs
from support.places import REPOSITORY
from support.tiny_runs import forget_accelerate, save_base


SCRIPT = REPOSITORY / "experiments" / "reproduce_paper.py"
SPLIT = {"train": ["neuron_0000", "neuron_0001"], "validation": ["neuron_0002"], "test": ["neuron_0003"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("paper")
    save_base(folder / "base")
    write_synthetic_pairs(folder / "data", 4, seed=4, shape=(4, 40, 40), quality="clean")
    (folder / "split.json").write_text(json.dumps(SPLIT))
    return folder


def run(folder: Path, output: Path, *arguments, expect: int = 0) -> None:
    words = ["--base-models", folder / "base", "--data-dir", folder / "data", "--split", folder / "split.json"]
    words += ["--output-dir", output, "--max-steps", 1, "--batch-size", 1, "--tile-size", 32, "--seeds", 0, *arguments]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["reproduce_paper.py", *map(str, words)])
        patched.syspath_prepend(str(SCRIPT.parent))  # as `python experiments/reproduce_paper.py` has it
        try:
            with pytest.raises(SystemExit) as ended:
                runpy.run_path(str(SCRIPT), run_name="__main__")
        finally:
            forget_accelerate()
    assert ended.value.code == expect


def results(output: Path) -> dict[str, dict]:
    """The lines that the runs have left, by the runs' names."""
    lines = [json.loads(line) for line in (output / "results" / "results.jsonl").read_text().splitlines()]
    assert len({line["run"] for line in lines}) == len(lines)
    return {line.pop("run"): line for line in lines}


@pytest.mark.slow
def test_arms_are_trained_scored_and_reported_once(folder, tmp_path, capsys):
    run(folder, tmp_path, "--studies", "paper", "--arms", "center", "scratch")
    done = results(tmp_path)
    assert set(done) == {"split_base_tokens_center_seed0", "split_base_tokens_scratch_seed0"}
    center = done["split_base_tokens_center_seed0"]
    assert center["options"]["initialisation"] == "center" and center["options"]["stem_sizes"] == []
    assert set(center["test"]) == {"neuron_0003"} and center["train_names"] == SPLIT["train"]
    assert 0 <= center["test"]["neuron_0003"]["dice"] <= 1 and "tree_f1" in center["test"]["neuron_0003"]
    assert (tmp_path / "split_base_tokens_center_seed0" / "neuron_0003.png").exists()
    report = (tmp_path / "report.md").read_text()
    assert "## base, decoder from tokens alone" in report and report in capsys.readouterr().out
    # Again: nothing is trained, the report is the same; and other options are no excuse to mix recipes.
    run(folder, tmp_path, "--studies", "paper", "--arms", "center", "scratch")
    assert results(tmp_path) == done and (tmp_path / "report.md").read_text() == report
    # So it is with what older versions left: a file a run.
    (tmp_path / "results" / "results.jsonl").unlink()
    for name, result in done.items():
        (tmp_path / "results" / f"{name}.json").write_text(json.dumps(result, indent=1))
    run(folder, tmp_path, "--studies", "paper", "--arms", "center", "scratch")
    assert not (tmp_path / "results" / "results.jsonl").exists() and (tmp_path / "report.md").read_text() == report
    capsys.readouterr()
    run(folder, tmp_path, "--studies", "paper", "--arms", "center", "--learning-rate", 0.5, expect=2)
    assert (
        "run split_base_tokens_center_seed0: was run with learning_rate 0.003, which is 0.5 now"
        in capsys.readouterr().err
    )
    other = {**SPLIT, "test": SPLIT["validation"], "validation": SPLIT["test"]}
    (tmp_path / "other.json").write_text(json.dumps(other))
    run(folder, tmp_path, "--studies", "paper", "--arms", "center", "--split", tmp_path / "other.json", expect=2)
    told = "center_seed0: was run with other validation neurons (neuron_0002, neuron_0003)"
    assert told in capsys.readouterr().err


@pytest.mark.slow
def test_several_slices_are_scored_apart_and_averaged_and_projections_in_one_slice(folder, tmp_path, capsys):
    for name in range(30):
        neuron = synthetic_neuron((4, 32, 32), seed=name, quality="clean")
        (tmp_path / "mip" / str(name)).mkdir(parents=True)
        tifffile.imwrite(tmp_path / "mip" / str(name) / "mip.tif", np.asarray(neuron.volume.array).max(0))
        neuron.tree.write(tmp_path / "mip" / str(name) / "gold.swc")
    run(folder, tmp_path / "out", "--studies", "mip", "--arms", "flat", "--mip-dir", tmp_path / "mip")
    (flat,) = results(tmp_path / "out").values()
    assert len(flat["test"]) == 20 and len(flat["train_names"]) == 2 and flat["options"]["num_slices"] == 1
    assert not set(flat["test"]) & {*flat["train_names"], *flat["validation_names"]}
    shutil.rmtree(tmp_path / "mip" / "7")
    run(folder, tmp_path / "out", "--studies", "mip", "--arms", "flat", "--mip-dir", tmp_path / "mip", expect=2)
    assert "mip: was made of other projections than those of" in capsys.readouterr().err

    module = runpy.run_path(str(SCRIPT))
    arguments = module["Arguments"]([str(folder / "base")], str(folder / "data"), str(folder / "split.json"), "")
    arguments.max_steps = arguments.batch_size = 1
    (tmp_path / "slices").mkdir()
    runner = module["Runner"](arguments, tmp_path / "slices", module["StudyResults"](tmp_path / "slices" / "results"))
    runner.do(module["Experiment"]("base", "center", 0, decoder="stem", variant="3 output slices"))
    forget_accelerate()
    noted = {line["experiment"]["variant"] for line in results(tmp_path / "slices").values()}
    assert noted == {"3 output slices", "3 output slices, averaged"}


def test_every_neuron_is_tested_in_one_fold_and_never_trained_on_there(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    module = runpy.run_path(str(SCRIPT))
    names = [f"n{i}" for i in range(12)]
    data = module["Data"]("folder", names[:8], names[8:10], names[10:])
    folds = [data.fold(which, 4) for which in range(4)]
    assert sorted(name for fold in folds for name in fold.test) == sorted(names)
    for fold in folds:
        assert sorted([*fold.train, *fold.validation, *fold.test]) == sorted(names)
        assert (len(fold.train), len(fold.validation)) == (8, 1)


@pytest.mark.parametrize(
    ("arguments", "split", "complaint"),
    [
        (["--studies", "none"], SPLIT, "studies: expected some of paper, "),
        (["--variants", "none"], SPLIT, "variants: expected some of , focal, "),
        (["--arms", "centre"], SPLIT, "arms: expected some of scratch, "),
        (["--shard", "2/2"], SPLIT, "shard: expected i/n with i from 0 to n - 1, got '2/2'"),
        ([], {**SPLIT, "test": ["nobody"]}, "found no pair named 'nobody'"),
        ([], {"train": ["neuron_0000"]}, "expected lists of names train, validation and test"),
        ([], {**SPLIT, "test": ["neuron_0001"]}, "neuron_0001 is in two parts; a neuron may be in one"),
        ([], {**SPLIT, "test": ["neuron_0002"]}, "neuron_0002 is in two parts"),
        (["--report-only"], SPLIT, "expected at least one finished run"),
        (["--studies", "mip", "--mip-dir", "nowhere"], SPLIT, "nowhere: expected folders with mip.tif and gold.swc"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, split, complaint, folder, tmp_path, capsys):
    (tmp_path / "split.json").write_text(json.dumps(split))
    run(folder, tmp_path / "out", *arguments, "--split", tmp_path / "split.json", expect=2)
    error = capsys.readouterr().err.strip()
    assert error.startswith("reproduce_paper.py: ") and complaint in error and "\n" not in error
