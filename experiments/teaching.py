"""What does teaching a few stacks bring? Taught on 1, 2, 4 and 8 stacks, tested on others of that kind.

python experiments/teaching.py run --work-dir runs/teaching                       # what suits `train --data`
python experiments/teaching.py run --work-dir runs/teaching --starts inflated scratch --base-model FOLDER --counts 4
python experiments/teaching.py report

A draw puts the twelve fly neurons (tuff) in an order: the last four are for testing, and the first 1, 2, 4 or 8 are
taught. So all counts of a draw are tested on the same neurons. Stacks of other kinds show what is forgotten. The
recipe is that of `neuron-vit3d train --data` (neuron_vit3d.teaching.recipe), and a stack is judged as there. `days`
teaches the dendrites of one day and tests on later days of the same dendrites. One line of JSON for each stack goes to
experiments/results/teaching.jsonl; what is there is not computed again, and an interrupted training goes on.
"""

import json
import os
import random
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from neuron_vit3d import Segmenter
from neuron_vit3d.data.pairs import Pair
from neuron_vit3d.files import append_line
from neuron_vit3d.inference import DEFAULT_CHECKPOINT, load_checkpoint
from neuron_vit3d.teaching.judging import LOWEST_SCORE, between, judge
from neuron_vit3d.teaching.recipe import SHARES, recipe
from neuron_vit3d.training.config import TrainingConfig
from neuron_vit3d.training.trainer import train


REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "teaching.jsonl"
TESTED = 4  # neurons of a draw
OTHERS = ("rivulet_test", "rr30a_tp0", "spotspine")
DAYS = ("rr30a_tp0", "rr30a_tp2")
STARTS = ("default", "inflated", "scratch")
MEASURES = {"f1": "F1", "f1_wide": "wide F1", "average_precision": "AP"}
app = typer.Typer(help=__doc__.splitlines()[0], no_args_is_help=True, add_completion=False)


@app.command()
def run(
    work_dir: Annotated[Path, typer.Option(help="Folder for the trained models.")],
    starts: Annotated[list[str] | None, typer.Option(help="default, inflated, scratch.")] = None,
    counts: Annotated[list[int] | None, typer.Option(help="How many stacks are taught.")] = None,
    draws: Annotated[list[int] | None, typer.Option(help="Numbers of draws.")] = None,
    days: Annotated[bool, typer.Option(help="Instead: one day of rr30a taught, a later one tested.")] = False,
    base_model: Annotated[str, typer.Option(help="The 2D model of `inflated` and `scratch`.")] = "",
    data_dir: Annotated[Path | None, typer.Option(help="Folders of image.tif and trace.swc.")] = None,
) -> None:
    """Trains and tests what has no result yet."""
    folder = data_dir or Path(os.environ.get("NEURON_VIT3D_SHARED", REPOSITORY.parent / "shared")) / "data" / "neurons"
    pairs = {
        one.parent.name: Pair(one.parent.name, one.parent / "image.tif", one) for one in folder.glob("*/trace.swc")
    }
    known = {key_of(line) for line in read_lines()}
    for start in starts or ["default"]:
        for draw in [0] if days else draws or [0]:
            plan = [([pairs[DAYS[0]]], [pairs[DAYS[1]]])] if days else plans(pairs, counts or [1, 2, 4, 8], draw)
            for taught, tested in plan:
                cell = {"start": start, "kind": "rr30a" if days else "tuff", "count": len(taught), "draw": draw}
                measure(cell, taught, tested, work_dir, base_model, known)


def plans(pairs: dict[str, Pair], counts: list[int], draw: int) -> list[tuple[list[Pair], list[Pair]]]:
    """Lists the stacks to teach and those to test, for each count."""
    names = sorted(name for name in pairs if name.startswith("tuff_"))
    random.Random(draw).shuffle(names)
    tested = [pairs[name] for name in [*names[-TESTED:], *OTHERS] if name in pairs]
    return [([pairs[name] for name in names[:count]], tested) for count in counts]


def measure(
    cell: dict, taught: list[Pair], tested: list[Pair], work_dir: Path, base_model: str, known: set[tuple]
) -> None:
    """Judges the model of before and the taught ones on all tested stacks of a cell."""
    before = {"start": "default", "kind": cell["kind"], "count": 0, "draw": 0, "share": 0.0}
    waiting = [pair for pair in tested if key_of(before | {"lowest": 0.0, "stack": pair.name}) not in known]
    if waiting:
        segmenter = Segmenter()
        for pair in waiting:
            note(before, pair, segmenter, [0.0], 0.0, known)
    shares = SHARES if cell["start"] == "default" else (1.0,)
    todo = [
        (share, pair)
        for share in shares
        for pair in tested
        if key_of(cell | {"share": share, "lowest": LOWEST_SCORE, "stack": pair.name}) not in known
    ]
    if not todo:
        return
    name = "_".join(str(cell[key]) for key in ("start", "kind", "count", "draw"))
    config = TrainingConfig(output_dir=str(work_dir / name), **options_of(cell["start"], base_model, taught))
    started = time.monotonic()
    folder = train(config)
    minutes = (time.monotonic() - started) / 60
    for share in shares:
        model, processor = load_checkpoint(str(folder))
        if share < 1:
            between(load_checkpoint(str(DEFAULT_CHECKPOINT))[0], model, share)
        segmenter = Segmenter(model, processor=processor)
        for _, pair in [one for one in todo if one[0] == share]:
            note(cell | {"share": share}, pair, segmenter, [0.0, LOWEST_SCORE], minutes, known)


def options_of(start: str, base_model: str, taught: list[Pair]) -> dict:
    """The options of a training: those of `train --data`, from another start where that is asked for."""
    options = recipe(knows_neurons=start == "default", on_gpu=False)
    folders = sorted({str(pair.image.parent) for pair in taught})
    options |= {"train_data": folders, "base_model": "default" if start == "default" else base_model, "cpu": True}
    return options | ({"initialisation": "scratch"} if start == "scratch" else {})


def note(cell: dict, pair: Pair, segmenter: Segmenter, lowest: list[float], minutes: float, known: set[tuple]) -> None:
    for one, judged in zip(lowest, judge(segmenter, pair, None, lowest), strict=True):
        line = cell | {"lowest": one, "stack": pair.name, "minutes": round(minutes, 1), **asdict(judged.figures)}
        append_line(RESULTS, json.dumps(line))
        known.add(key_of(line))
        print(json.dumps(line), flush=True)


def key_of(line: dict) -> tuple:
    return tuple(line[key] for key in ("start", "kind", "count", "draw", "share", "lowest", "stack"))


def read_lines() -> list[dict]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


@app.command()
def report() -> None:
    """Writes experiments/results/teaching.md."""
    lines = read_lines()
    before = {line["stack"]: line for line in lines if line["count"] == 0}
    cells = sorted(
        {(x["kind"], STARTS.index(x["start"]), x["count"], x["share"], x["lowest"]) for x in lines if x["count"]}
    )
    text = [
        "# Teaching a few stacks",
        "",
        "`experiments/teaching.py`: the recipe of `neuron-vit3d train --data`, tested on stacks that were not taught.",
        "A share is how far the weights go from the start's to the taught ones; the threshold follows noise, or is",
        "0.5 (`lowest_score`). In brackets: the change from the default before teaching, stack by stack, with a 95 %",
        "interval by bootstrap over stacks (10,000 draws).",
        "",
    ]
    for of_kind, title in ((True, "Unseen stacks of the kind that was taught"), (False, "Stacks of other kinds")):
        rows = []
        for kind, start, count, share, lowest in cells:
            found = [
                line
                for line in lines
                if (line["kind"], line["start"], line["count"]) == (kind, STARTS[start], count)
                and (line["share"], line["lowest"]) == (share, lowest)
                and line["stack"].startswith(kind) == of_kind
                and line["stack"] in before
            ]
            if found:
                draws = len({line["draw"] for line in found})
                cells_of = [described(found, before, key) for key in MEASURES]
                threshold = "0.5" if lowest else "noise"
                rows.append([kind, STARTS[start], count, f"{share:g}", threshold, draws, len(found), *cells_of])
        if rows:
            head = ["kind", "start", "taught", "share", "threshold", "draws", "tested", *MEASURES.values()]
            text += [f"## {title}", "", *table(head, rows), ""]
    RESULTS.with_suffix(".md").write_text("\n".join(text))
    print("\n".join(text))


def described(found: list[dict], before: dict[str, dict], key: str) -> str:
    """Writes the mean of a measure, and its change with an interval."""
    values = np.array([line[key] for line in found])
    gain = values - np.array([before[line["stack"]][key] for line in found])
    rng = np.random.default_rng(0)
    means = rng.choice(gain, (10_000, len(gain))).mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return f"{values.mean():.3f} ({gain.mean():+.3f}, {low:+.3f} to {high:+.3f}; worst {gain.min():+.3f})"


def table(head: list[str], rows: list[list]) -> list[str]:
    return ["| " + " | ".join(map(str, row)) + " |" for row in [head, ["---"] * len(head), *rows]]


if __name__ == "__main__":
    app()
