"""What pays in teaching a model on wild pictures: pre-training, depth, and each ingredient of the synthetic pictures.

python experiments/default_studies.py pretraining --base-model vit-tiny-patch16-224 --work-dir runs/pretraining
python experiments/default_studies.py ingredients --base-model vit-tiny-patch16-224 --work-dir runs/ingredients
python experiments/default_studies.py report pretraining

Every arm is trained by the recipe of experiments/results/wild_model.md, only shorter, on smaller tiles, and from the
2D model, with several seeds. It is then measured on real stacks with traces, of which none is trained on: average
precision of the scores of every fourth slice, the band between center line and gold surface left out, and F1 of the
tree traced in all slices. One line of JSON a stack goes to experiments/results/; what is there is not computed again,
and an interrupted training goes on where it was. The analysis: seeds are averaged within a stack, arms are compared
with the first one stack by stack, with a 95 % interval (t distribution); nothing is chosen by it here.
"""

import json
import math
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from neuron_vit3d import TraceError, read_swc, segment, trace, tree_distance
from neuron_vit3d.data.wild import INGREDIENTS
from neuron_vit3d.evaluation import ranking_scores
from neuron_vit3d.evaluation.ranking import center_line_labels
from neuron_vit3d.files import append_line
from neuron_vit3d.inference import Segmenter
from neuron_vit3d.training.config import TrainingConfig
from neuron_vit3d.volumes import open_volume


REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"
MOST_VOXELS = 15_000_000  # of a stack; larger ones are left out, for every arm labels all voxels of each
EVERY = 4  # slices of a stack, of which one is ranked
MEASURES = {  # key of a line of results: heading in the report
    "average_precision": "average precision",
    "best_dice": "best Dice",
    "f1_wide": "wide tree F1",
    "f1": "tree F1",
}
app = typer.Typer(help=__doc__.splitlines()[0], no_args_is_help=True, add_completion=False)
WorkDir = Annotated[Path, typer.Option(help="Folder for the trained models.")]
BaseModel = Annotated[str, typer.Option(help="A 2D vision transformer, a folder or a name on the Hub.")]
DataDir = Annotated[Path, typer.Option(help="Folders of image.tif and trace.swc to measure on.")]
Backgrounds = Annotated[list[Path] | None, typer.Option(help="Images of tissue that neurons are painted onto.")]


@dataclass(frozen=True)
class Arm:
    """One way to train, and how it differs from the recipe."""

    name: str
    changes: dict = field(default_factory=dict)


PRETRAINING = (
    Arm("scratch", {"initialisation": "scratch"}),
    Arm("flat", {"num_slices": 1}),
    Arm("average", {"initialisation": "average"}),
    Arm("center", {}),
)
LEAVE_ONE_OUT = (
    Arm("all ingredients"),
    *(Arm(f"without {name}", {"synthetic_without": [name]}) for name in INGREDIENTS),
)
STUDIES = {"pretraining": PRETRAINING, "ingredients": LEAVE_ONE_OUT}


def recipe(output: Path, base_model: str, backgrounds: list[Path], steps: int, seed: int) -> TrainingConfig:
    """As experiments/results/wild_model.md says, on synthetic neurons alone, shorter and on smaller tiles."""
    return TrainingConfig(
        output_dir=str(output),
        base_model=base_model,
        synthetic_share=1.0,
        synthetic_backgrounds=[str(path) for path in backgrounds],
        tile_size=128,
        batch_size=8,
        max_steps=steps,
        learning_rate=3e-3,
        encoder_learning_rate=1.5e-4,
        off_center_learning_rate=1e-3,
        warmup_steps=steps // 12,
        ema_decay=0.99,
        checkpoint_steps=50,
        keep_checkpoints=1,
        num_workers=0,
        seed=seed,
    )


@app.command()
def pretraining(
    base_model: BaseModel,
    work_dir: WorkDir,
    data_dir: DataDir = REPOSITORY.parent / "shared" / "data" / "neurons",
    backgrounds: Backgrounds = None,
    steps: int = 250,
    seeds: int = 3,
) -> None:
    """The encoder from scratch, without depth, and inflated by "average" and "center"."""
    run("pretraining", base_model, work_dir, data_dir, backgrounds or [], steps, range(seeds))


@app.command()
def ingredients(
    base_model: BaseModel,
    work_dir: WorkDir,
    data_dir: DataDir = REPOSITORY.parent / "shared" / "data" / "neurons",
    backgrounds: Backgrounds = None,
    steps: int = 250,
    seeds: int = 1,
) -> None:
    """All ingredients of the synthetic pictures, and all but one."""
    run("ingredients", base_model, work_dir, data_dir, backgrounds or [], steps, range(seeds))


def run(study: str, base_model: str, work_dir: Path, data_dir: Path, backgrounds, steps: int, seeds: range) -> None:
    stacks = sorted(path.parent for path in data_dir.glob("tuff_*/trace.swc"))
    stacks = [stack for stack in stacks if voxels_of(stack / "image.tif") <= MOST_VOXELS]
    if not stacks:
        raise SystemExit(
            f"default_studies.py: {data_dir}: expected folders tuff_* with trace.swc and an image.tif of at most "
            f"{MOST_VOXELS} voxels, found none"
        )
    done = {(line["arm"], line["seed"], line["steps"], line["stack"]) for line in lines_of(study)}
    for seed in seeds:  # all arms of a seed before the next: a study that is cut short compares all of them
        for arm in STUDIES[study]:
            missing = [stack for stack in stacks if (arm.name, seed, steps, stack.name) not in done]
            if not missing:
                continue
            output = work_dir / f"{arm.name.replace(' ', '_')}_{seed}_{steps}"
            config = {**asdict(recipe(output, base_model, backgrounds, steps, seed)), **arm.changes}
            output.parent.mkdir(parents=True, exist_ok=True)
            options = output.with_suffix(".json")
            options.write_text(json.dumps(config, indent=1))
            subprocess.run([sys.executable, REPOSITORY / "scripts" / "train.py", options], check=True)
            segmenter = Segmenter(str(output))
            for stack in missing:
                line = {
                    "arm": arm.name,
                    "seed": seed,
                    "steps": steps,
                    "stack": stack.name,
                    **figures(segmenter, stack),
                }
                append_line(RESULTS / f"default_{study}.jsonl", json.dumps(line))
            print(f"{arm.name}, seed {seed}: done", flush=True)
    report(study)


def figures(segmenter: Segmenter, folder: Path) -> dict[str, float]:
    """Ranks the scores of every fourth slice of a stack, and compares its trace with the gold tree.

    The trace is made as `neuron-vit3d segment` makes it: its threshold follows the noise of the stack.
    """
    gold = read_swc(folder / "trace.swc", mend_structure=True)
    scores = segment(folder / "image.tif", segmenter)
    array = np.asarray(scores.array, np.float32)
    line, band = center_line_labels(gold, array.shape)
    ranked = ranking_scores(array[::EVERY], line[::EVERY], ignore=band[::EVERY])
    try:
        tree = tree_distance(trace(scores), gold)
    except TraceError:  # nothing reaches the threshold: nothing is found
        tree = {"f1": 0.0, "f1_wide": 0.0}
    found = {**ranked, **tree}
    return {key: round(found[key], 4) for key in MEASURES}


def voxels_of(image: Path) -> int:
    with open_volume(image) as reader:
        return math.prod(reader.shape)


def lines_of(study: str) -> list[dict]:
    path = RESULTS / f"default_{study}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@app.command()
def report(study: Annotated[str, typer.Argument(help=f"{' or '.join(STUDIES)}")]) -> None:
    """Writes experiments/results/default_STUDY.md from its lines."""
    from scipy.stats import t

    lines = lines_of(study)
    order = [arm.name for arm in STUDIES[study] if any(line["arm"] == arm.name for line in lines)]
    text = [
        f"# {study.capitalize()} in the default's own setting\n",
        f"Made by `experiments/default_studies.py report {study}`. Average precision and best Dice on every fourth "
        f"slice of real stacks (tuff, of at most {MOST_VOXELS // 1_000_000} million voxels), band left out; F1 of "
        "the trees within 2 voxels and, wide, within the gold radius where that is larger; seeds averaged within a "
        "stack; differences from the first row, stack by stack, with 95 % intervals.\n",
        "| arm | steps | seeds | stacks |" + "".join(f" {name} | difference |" for name in MEASURES.values()),
        "|---|---|---|---|" + "---|---|" * len(MEASURES),
    ]
    by_arm = {}
    for name in order:
        own = [line for line in lines if line["arm"] == name]
        stacks = sorted({line["stack"] for line in own})
        by_arm[name] = {
            key: {stack: np.mean([line[key] for line in own if line["stack"] == stack]) for stack in stacks}
            for key in MEASURES
        }
        cells = [name, str(own[0]["steps"]), str(len({line["seed"] for line in own})), str(len(stacks))]
        for key in MEASURES:
            cells.append(f"{np.mean(list(by_arm[name][key].values())):.3f}")
            first = by_arm[order[0]][key]
            change = np.array([by_arm[name][key][stack] - first[stack] for stack in stacks if stack in first])
            if name == order[0] or len(change) < 2:
                cells.append("")
                continue
            half = t.ppf(0.975, len(change) - 1) * change.std(ddof=1) / np.sqrt(len(change))
            cells.append(f"{change.mean():+.3f} ({change.mean() - half:+.3f} to {change.mean() + half:+.3f})")
        text.append("| " + " | ".join(cells) + " |")
    path = RESULTS / f"default_{study}.md"
    path.write_text("\n".join(text) + "\n")
    print(path.read_text())


if __name__ == "__main__":
    app()
