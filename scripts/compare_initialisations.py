"""Trains the same model from 2D pre-trained weights and from scratch, same data, steps and seed; writes a report.

    python scripts/compare_initialisations.py --data-dir folder --split split.json --base-model name --output-dir runs/compare

`split.json` names the pairs: {"train": [...], "validation": [...], "test": [...]}. The threshold is chosen on the validation
volumes; test volumes are scored with it and with the threshold that is best for each (its ceiling). An interrupted run
continues.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from transformers import HfArgumentParser

from neuron_vit3d.data.pairs import find_pairs, read_pair
from neuron_vit3d.evaluation.overlay import Projections, write_overlay
from neuron_vit3d.evaluation.segmentation import overlap_scores, segmentation_scores
from neuron_vit3d.inference import Segmenter
from neuron_vit3d.morphology import read_swc, trace, tree_distance
from neuron_vit3d.training.config import TrainingConfig
from neuron_vit3d.training.trainer import computation_dtype, train
from neuron_vit3d.training.validation import THRESHOLDS, best_threshold, segment_labelled, validation_dice


@dataclass
class Arguments:
    data_dir: str = field(metadata={"help": "Folder of image + SWC pairs."})
    split: str = field(metadata={"help": "JSON file with the pairs' names: train, validation, test."})
    base_model: str = field(metadata={"help": "2D vision transformer."})
    output_dir: str = field(metadata={"help": "Runs, pictures and report.md go here."})
    arms: list[str] = field(default_factory=lambda: ["center", "scratch"], metadata={"help": "center average scratch"})
    max_steps: int = 600
    batch_size: int = 6
    tile_size: int = 196
    seed: int = 0
    stem: bool = field(default=True, metadata={"help": "The decoder with the full-resolution stem, or tokens alone."})


def main() -> int:
    (arguments,) = HfArgumentParser(Arguments, description=__doc__.splitlines()[0]).parse_args_into_dataclasses()
    try:
        split = json.loads(Path(arguments.split).read_text())
        output = Path(arguments.output_dir)
        results = {arm: run_arm(arm, arguments, split, output / arm) for arm in arguments.arms}
        (output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        write_curves(output, arguments.arms)
        (output / "report.md").write_text(report(arguments, results))
    except (ValueError, OSError) as error:
        print(f"compare_initialisations.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print((output / "report.md").read_text())
    return 0


def run_arm(arm: str, arguments: Arguments, split: dict, folder: Path) -> dict:
    """Trains one arm and scores it on the test volumes."""
    done = folder / "test.json"
    if done.exists():
        return json.loads(done.read_text())
    config = TrainingConfig(
        train_data=[arguments.data_dir],
        names=split["train"],
        output_dir=str(folder),
        base_model=arguments.base_model,
        initialisation=arm,
        max_steps=arguments.max_steps,
        batch_size=arguments.batch_size,
        tile_size=arguments.tile_size,
        stem_sizes=[16, 32, 64] if arguments.stem else [0],
        evaluation_steps=arguments.max_steps,
        checkpoint_steps=100,
        keep_checkpoints=1,
        seed=arguments.seed,
    )
    if not (folder / "trained").exists():
        train(config)
        (folder / "trained").touch()
    segmenter = Segmenter(str(folder), dtype=computation_dtype(config))
    pairs = {pair.name: pair for pair in find_pairs(arguments.data_dir)}
    validation = [read_pair(pairs[name]) for name in split["validation"]]
    threshold, dice = best_threshold(validation_dice(segmenter, validation))
    result = {
        "validation_threshold": threshold,
        "validation_dice": dice,
        "test": {
            name: score_volume(segmenter, pairs[name], threshold, folder / f"{name}.png") for name in split["test"]
        },
    }
    done.write_text(json.dumps(result, indent=1) + "\n")
    return result


def score_volume(segmenter: Segmenter, pair, threshold: float, picture: Path) -> dict:
    """Dice and tree distances of a volume, and its picture: tree traced (red) over the gold one (green)."""
    volume = read_pair(pair)
    scores = segment_labelled(segmenter, volume)
    gold = volume.labels == 1
    best = max(THRESHOLDS, key=lambda t: overlap_scores(scores >= t, gold)["dice"])
    result = {
        "best_threshold": best,
        "best_dice": overlap_scores(scores >= best, gold)["dice"],
        **segmentation_scores(scores >= threshold, gold),
    }
    gold_tree = read_swc(pair.annotation, mend_structure=True)
    tree = trace(scores, threshold=threshold)
    result["tree"] = tree_distance(tree, gold_tree)
    projections = Projections(scores.shape)
    projections.add(0, volume.image[0])
    write_overlay(picture, projections, [tree], gold=gold_tree)
    return result


def write_curves(output: Path, arms: list[str]) -> None:
    """Training loss of every arm in one picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    for arm in arms:
        lines = [json.loads(line) for line in (output / arm / "log.jsonl").read_text().splitlines()]
        steps, losses = zip(*[(line["step"], line["loss"]) for line in lines if "loss" in line], strict=True)
        axes.plot(steps, losses, label=arm)
    axes.set(xlabel="step", ylabel="training loss (cross-entropy + 1 - Dice)")
    axes.legend()
    figure.tight_layout()
    figure.savefig(output / "curves.png", dpi=110)


def report(arguments: Arguments, results: dict) -> str:
    """Markdown: a row for every arm and test volume."""
    names = list(next(iter(results.values()))["test"])
    lines = [
        f"# {' against '.join(results)}: {Path(arguments.base_model).name}",
        "",
        f"`scripts/compare_initialisations.py`, {arguments.max_steps} steps of {arguments.batch_size} tiles of "
        f"{arguments.tile_size} x {arguments.tile_size}, 5 slices, seed {arguments.seed}, decoder "
        f"{'with stem' if arguments.stem else 'from tokens alone'}. The threshold was chosen on the validation volumes.",
        "",
        "| arm | test volume | threshold | Dice | Dice at its best threshold | precision | recall | clDice | HD95 | tree F1 | ESA |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for arm, result in results.items():
        rows = [(name, result["test"][name]) for name in names]
        for name, row in rows:
            lines.append(f"| {arm} | {name} | {result['validation_threshold']} | " + " | ".join(_cells(row)) + " |")
        mean = np.mean([[float(cell) for cell in _cells(row)] for _, row in rows], axis=0)
        lines.append(f"| {arm} | mean | | " + " | ".join(f"{value:.3f}" for value in mean) + " |")
    return "\n".join(lines) + "\n"


def _cells(row: dict) -> list[str]:
    values = [row[key] for key in ("dice", "best_dice", "precision", "recall", "cldice", "hd95")]
    return [f"{value:.3f}" for value in [*values, row["tree"]["f1"], row["tree"]["esa"]]]


if __name__ == "__main__":
    raise SystemExit(main())
