"""Repeats the paper's experiment (Cheng et al. 2024, arXiv 2405.02686) with statistics.

Arms x seeds are trained, scored and compared.

    python experiments/reproduce_paper.py --data-dir neurons --split experiments/tuff_split.json \
        --base-models weights/vit-tiny-patch16-224 weights/dinov2-vits14-saliency --output-dir runs/paper
    python experiments/reproduce_paper.py ... --studies paper quarter --seeds 0 1 2 --shard 0/2     # half of the runs
    python experiments/reproduce_paper.py ... --report-only

Each run is one model: trained on the split's training neurons, its threshold chosen on the validation neurons, scored
on the test neurons. What is done is kept in `--results-dir`, a line a run in results.jsonl, and not done again; a
run that was cut off goes on from its last checkpoint. The studies are in `STUDIES`; the report is made by
`evaluation/report.py`.
"""

import json
import platform
import shutil
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from paper_data import Data, projections, read_split
from study_results import StudyResults
from transformers import AutoConfig, HfArgumentParser

from neuron_vit3d.cli.input import parse_shard
from neuron_vit3d.data.pairs import IGNORE_INDEX, read_pair
from neuron_vit3d.evaluation.overlay import Projections, write_overlay
from neuron_vit3d.evaluation.report import AVERAGED, Result, write_report
from neuron_vit3d.evaluation.scores import score_volume
from neuron_vit3d.inference import Segmenter
from neuron_vit3d.morphology import read_swc
from neuron_vit3d.training.building import computation_dtype
from neuron_vit3d.training.config import TrainingConfig
from neuron_vit3d.training.trainer import train
from neuron_vit3d.training.validation import best_threshold, segment_labelled, validation_dice


@dataclass(frozen=True)
class Experiment:
    """One run: what is trained how, on what."""

    base: str  # folder name of the 2D model
    arm: str  # one of ARMS
    seed: int
    decoder: str = (
        "tokens"  # "tokens": the paper's kind, from tokens alone; "stem": ours, with the full-resolution stem
    )
    share: float = 1.0  # of the training neurons
    data: str = "split"  # "split"; "fold 2 of 4": every 4th neuron is tested on; "mip": projections, one slice
    variant: str = ""  # one of VARIANTS

    @property
    def key(self) -> str:
        parts = [self.data, self.base, self.decoder, self.arm]
        parts += [f"share{self.share:g}"] if self.share < 1 else []
        parts += [self.variant] if self.variant else []
        return "_".join([*parts, f"seed{self.seed}"]).replace(",", "").replace(" ", "-")


# Options of the trainer. "flat": the 2D model, pre-trained, without depth.
ARMS = {
    "scratch": {"initialisation": "scratch"},
    "scratch, 3 x rate": {"initialisation": "scratch", "encoder_learning_rate": 3e-4},
    "flat": {"initialisation": "center", "num_slices": 1},
    "average": {"initialisation": "average"},
    "center": {"initialisation": "center"},
}
# The stem of the reports stays theirs: the default has become half as wide since.
DECODERS = {"tokens": {"stem_sizes": [0]}, "stem": {"stem_sizes": [16, 32, 64]}}
# What is changed against the plain recipe, one thing at a time.
VARIANTS = {
    "": {},
    "focal": {"loss": "dice_focal"},
    "clDice": {"cldice_weight": 0.5},
    "skeleton": {"skeleton_weight": 0.5},
    "3 output slices": {"num_output_slices": 3},
    "5 output slices": {"num_output_slices": 5},
    "image radii": {"radius": "image"},
    "edge band": {"edge_band": 1.0},
    "untraced ignored": {"ignore_untraced": True},
    "average of weights": {"ema_decay": 0.99},
    "3 x encoder rate": {"encoder_learning_rate": 3e-4},
    "layer decay": {"layer_decay": 0.75},
}


def experiments(study: str, base: str, seeds: list[int]) -> list[Experiment]:
    """The runs of a study; those of one seed come together, so that a study cut short is complete for fewer seeds."""
    runs = []
    for seed in seeds:
        one = Experiment(base, "center", seed)
        runs += {
            "paper": [replace(one, arm=arm) for arm in ("center", "scratch", "average", "flat", "scratch, 3 x rate")],
            "stem": [replace(one, arm=arm, decoder="stem") for arm in ("center", "scratch")],
            "half": [replace(one, arm=arm, share=0.5) for arm in ("center", "scratch")],
            "quarter": [replace(one, arm=arm, share=0.25) for arm in ("center", "scratch")],
            "folds": [
                replace(one, arm=arm, data=f"fold {fold} of 4")
                for fold in range(4)
                for arm in ("center", "scratch", "average", "flat")
            ],
            "mip": [replace(one, arm=arm, data="mip") for arm in ("flat", "scratch")],
            "variants": [replace(one, decoder="stem", variant=variant) for variant in VARIANTS],
        }[study]
    return runs


STUDIES = ("paper", "stem", "half", "quarter", "folds", "mip", "variants")


@dataclass
class Arguments:
    base_models: list[str] = field(metadata={"help": "Folders or names of 2D vision transformers."})
    data_dir: str = field(metadata={"help": "Folder of image + SWC pairs."})
    split: str = field(metadata={"help": "JSON file with the pairs' names: train, validation, test."})
    output_dir: str = field(metadata={"help": "Runs, pictures, results and the report go here."})
    results_dir: str = field(default="", metadata={"help": "Folder of results.jsonl [default: output_dir/results]."})
    report_dir: str = field(
        default="", metadata={"help": "Where report.md, runs.csv and curves.png go [default: output_dir]."}
    )
    mip_dir: str = field(
        default="", metadata={"help": "Folder of projections <id>/mip.tif, <id>/gold.swc, for 'mip'."}
    )
    studies: list[str] = field(default_factory=lambda: ["paper"], metadata={"help": ", ".join(STUDIES)})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    arms: list[str] = field(default_factory=lambda: list(ARMS), metadata={"help": "Only these of each study."})
    variants: list[str] = field(
        default_factory=lambda: list(VARIANTS),
        metadata={"help": "Only these of study 'variants'; '' is the plain recipe."},
    )
    max_steps: int = 300
    evaluation_steps: int = field(
        default=0, metadata={"help": "Validate every so many steps and keep the best; 0: at the end alone."}
    )
    batch_size: int = 6
    learning_rate: float = field(
        default=3e-3, metadata={"help": "Of the decoder; the encoder's is the trainer's default."}
    )
    tile_size: int = field(default=192, metadata={"help": "Of a tile, about: the nearest multiple of the patch."})
    shard: str = field(default="0/1", metadata={"help": "i/n: the i-th of n parts of the runs, counted from 0."})
    report_only: bool = field(default=False, metadata={"help": "Only make the report of what is done."})


def main() -> int:
    (arguments,) = HfArgumentParser(Arguments, description=__doc__.splitlines()[0]).parse_args_into_dataclasses()
    try:
        for option, known in (("studies", STUDIES), ("arms", ARMS), ("variants", VARIANTS)):
            unknown = set(getattr(arguments, option)) - set(known)
            if unknown:
                raise ValueError(f"{option}: expected some of {', '.join(known)}, got {min(unknown)!r}")
        part, parts = parse_shard(arguments.shard)
        output = Path(arguments.output_dir)
        results = Path(arguments.results_dir or output / "results")
        runner = Runner(arguments, output, StudyResults(results))
        if not arguments.report_only:
            runs = [
                run
                for study in arguments.studies
                for base in runner.bases
                for run in experiments(study, base, arguments.seeds)
                if run.arm in arguments.arms and run.variant in arguments.variants
            ]
            for run in list(dict.fromkeys(runs))[part::parts]:  # a run may be of several studies
                runner.do(run)
        print(write_report(list(runner.results.read().values()), Path(arguments.report_dir or output)).read_text())
    except (ValueError, OSError) as error:
        print(f"reproduce_paper.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


class Runner:
    """Trains and scores single experiments."""

    def __init__(self, arguments: Arguments, output: Path, results: StudyResults):
        self.arguments, self.output, self.results = arguments, output, results
        self.bases = {Path(base).name: base for base in arguments.base_models}

    def do(self, run: Experiment) -> None:
        """Trains the run's model, scores it, and notes the result; nothing where that was done before."""
        folder = self.output / run.key
        data = self.data_of(run)
        config = self.config_of(run, folder, data)
        result = self.results.read().get(run.key)
        if result is not None:
            noted = f"{self.results.path}, run {run.key}"
            before, now = result.options, recipe(config)
            different = [key for key in now if key in before and before[key] != now[key]]
            if different:
                key = different[0]
                raise ValueError(f"{noted}: was run with {key} {before[key]!r}, which is {now[key]!r} now")
            same_neurons(result, data, noted)
            return
        print(f"{time.strftime('%H:%M:%S')} {run.key}", flush=True)
        started = time.monotonic()
        train(config)
        trained = time.monotonic()
        log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        validated = max(
            (line for line in log if "best_threshold" in line), key=lambda line: line["best_threshold_dice"]
        )
        result = {
            "options": recipe(config),
            "validation_dice": validated["best_threshold_dice"],
            "threshold": validated["best_threshold"],
            "train_names": data.train,
            "validation_names": data.validation,
            "curve": [[line["step"], line["loss"]] for line in log if "loss" in line],
            "machine": f"{_device()}, {str(computation_dtype(config)).removeprefix('torch.')}, torch "
            f"{torch.__version__}",
        }
        # The trainer has shifted the scores so that the threshold which is best on the validation neurons is 0.5.
        segmenter = Segmenter(str(folder), dtype=computation_dtype(config), skip_background=False)
        if config.num_output_slices > 1:
            overlapping = Segmenter(
                str(folder),
                dtype=computation_dtype(config),
                slice_overlap=config.num_output_slices - 1,
                skip_background=False,
            )
            # Averaged scores are others, with another best threshold.
            dice = validation_dice(overlapping, [read_pair(data.pairs[name]) for name in data.validation])
            threshold, best = best_threshold(dice)
            self.note(
                replace(run, variant=run.variant + AVERAGED),
                self.score(overlapping, data, folder, threshold),
                {**result, "threshold": threshold, "validation_dice": best},
            )
        test = self.score(segmenter, data, folder)
        result["seconds"] = {"train": trained - started, "score": time.monotonic() - trained}
        self.note(run, test, result)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)

    def note(self, run: Experiment, test: dict, result: dict) -> None:
        self.results.add(run.key, Result(experiment=asdict(run), test=test, **result))

    def config_of(self, run: Experiment, folder: Path, data: Data) -> TrainingConfig:
        """What the trainer is told."""
        arguments, base = self.arguments, self.bases[run.base]
        patch = AutoConfig.from_pretrained(base).patch_size
        options = {
            "base_model": base,
            "max_steps": arguments.max_steps,
            "batch_size": arguments.batch_size,
            "learning_rate": arguments.learning_rate,
            "tile_size": round(arguments.tile_size / patch) * patch,
            "evaluation_steps": arguments.evaluation_steps or arguments.max_steps,
            "checkpoint_steps": max(100, arguments.max_steps // 4),
            "keep_checkpoints": 1,
            "num_workers": 0,
            "seed": run.seed,
            **ARMS[run.arm],
            **DECODERS[run.decoder],
            **VARIANTS[run.variant],
        }
        if run.data == "mip":
            options["num_slices"] = 1
        return TrainingConfig(
            output_dir=str(folder),
            train_data=[data.folder],
            names=data.train,
            validation_data=[data.folder],
            validation_names=data.validation,
            **options,
        )

    def data_of(self, run: Experiment) -> Data:
        """Which neurons are trained on, chosen the threshold by, and tested on."""
        if run.data == "mip":
            return projections(Path(self.arguments.mip_dir), self.output / "mip")
        data = read_split(Path(self.arguments.split), self.arguments.data_dir)
        if run.data.startswith("fold"):
            _, fold, _, folds = run.data.split()
            data = data.fold(int(fold), int(folds))
        return data.part(run.share, run.seed) if run.share < 1 else data

    def score(
        self, segmenter: Segmenter, data: Data, folder: Path, threshold: float = 0.5
    ) -> dict[str, dict[str, float]]:
        """All figures of the test volumes, and their pictures: the traced tree (red) over the gold one (green)."""
        figures = {}
        for name in data.test:
            pair = data.pairs[name]
            volume, gold_tree = read_pair(pair), read_swc(pair.annotation, mend_structure=True)
            started = time.monotonic()
            scores = segment_labelled(segmenter, volume)
            seconds = time.monotonic() - started
            scores[volume.labels == IGNORE_INDEX] = 0
            result, tree = score_volume(scores, threshold, volume.labels == 1, gold_tree)
            projections = Projections(scores.shape)
            projections.add(0, volume.image[0])
            picture = folder / f"{name}.png"  # pairs of subfolders have a "/" in their names
            picture.parent.mkdir(parents=True, exist_ok=True)
            write_overlay(picture, projections, [tree], gold=gold_tree)
            figures[name] = {**result, "seconds": seconds}
        return figures


def same_neurons(result: Result, data: Data, place: str) -> None:
    """Raises ValueError where a noted run was trained, chosen or tested on other neurons than these."""
    for part, before, now in (
        ("training", result.train_names, data.train),
        ("validation", result.validation_names, data.validation),
        ("test", list(result.test), data.test),
    ):
        if sorted(before) != sorted(now):
            raise ValueError(
                f"{place}: was run with other {part} neurons ({', '.join(sorted(set(before) ^ set(now)))})"
            )


def _device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{torch.get_num_threads()} thread(s) of {platform.machine()}"


def recipe(config: TrainingConfig) -> dict:
    """What of a configuration decides the result, without the places of this machine."""
    left_out = ("output_dir", "train_data", "validation_data", "base_model", "names", "validation_names")
    return {key: value for key, value in asdict(config).items() if key not in left_out}


if __name__ == "__main__":
    raise SystemExit(main())
