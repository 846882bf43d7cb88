"""Teaches a model one to ten traced stacks: `neuron-vit3d train --data mine -o mine_model`.

Every stack is left out of one training, whose model is then judged by it: figures of stacks that a model has seen say
nothing. If the taught models are better there than the model of before, a last training on all stacks makes the model
that is kept; else the model of before is. `report.html` shows both.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..data.pairs import Pair, find_pairs, find_untraced, read_pair
from ..evaluation.overlay import Projections, write_overlay, write_tree_difference
from ..inference import DEFAULT_CHECKPOINT, Segmenter, load_checkpoint
from ..training.building import build_model
from ..training.config import DEFAULT_MODEL, TrainingConfig, TrainingError
from ..training.trainer import save_pretrained, train
from ..volumes import open_volume
from .folds import deal, halve
from .judging import LOWEST_SCORE, Judged, between, judge
from .recipe import SHARES, measure_pace, recipe
from .report import NAME, picture_of, write_page
from .state import State
from .verdict import BEFORE, Candidate, Verdict, speak


@dataclass(frozen=True)
class Taught:
    """What came of a teaching.

    Attributes:
        folder: holds the model that is kept, for `from_pretrained` and `--model`.
        report: a page with the verdict and pictures.
        verdict: whether teaching was worth it.
    """

    folder: Path
    report: Path
    verdict: Verdict


def teach(
    data: str | os.PathLike | Sequence[str | os.PathLike],
    output_dir: str | os.PathLike,
    *,
    base_model: str = DEFAULT_MODEL,
    seed: int = 0,
    **options: Any,
) -> Taught:
    """Teaches a model a few traced stacks, and says whether it is better on stacks that it has not seen.

    The same call continues a teaching that was interrupted.

    Args:
        data: folders of images with their trees (`a.tif` and `a.swc`), as [`train`] takes them.
        output_dir: where the model, the report and the pictures go.
        base_model: a checkpoint of this package, or a 2D vision transformer to inflate.
        seed: of everything random.
        options: of [`TrainingConfig`], instead of what suits a few stacks.

    Raises:
        TrainingError (a ValueError): an option cannot be used, or the folder holds another teaching.
        DataError, VolumeError, SWCError (ValueErrors): the data cannot be used, such as a tree that misses its image.

    Example:
        ```python
        taught = neuron_vit3d.teach("mine", "mine_model")
        print(taught.verdict.text)
        scores = neuron_vit3d.segment("image.tif", taught.folder)
        ```
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise TrainingError("data: teaching runs in one process; with many, use train_data and validation_data")
    for taken in ("dataset", "train_data", "validation_data", "validation_names"):
        if options.get(taken):
            raise TrainingError(f"{taken}: cannot be used together with data, whose stacks judge each other")
    folders = [data] if isinstance(data, (str, os.PathLike)) else list(data)
    known = base_model == DEFAULT_MODEL or _is_checkpoint(base_model)
    on_gpu = torch.cuda.is_available() and not options.get("cpu", False)
    chosen = recipe(knows_neurons=known, on_gpu=on_gpu) | options
    config = TrainingConfig(
        output_dir=str(output_dir),
        train_data=[str(folder) for folder in folders],
        base_model=base_model,
        seed=seed,
        **chosen,
    )
    return Teaching(config, knows_neurons=known).run()


class Teaching:
    """One teaching: its stacks, its trainings and what came of them.

    Args:
        config: of its trainings; `output_dir` is the teaching's folder.
        knows_neurons: the base model is a checkpoint of this package.
    """

    def __init__(self, config: TrainingConfig, *, knows_neurons: bool):
        self.config, self.knows_neurons = config, knows_neurons
        self.output = Path(config.output_dir)
        self.work = self.output / "work"
        self.channel = None if config.channel < 0 else config.channel
        found = [pair for folder in config.train_data for pair in find_pairs(folder)]
        missing = set(config.names) - {pair.name for pair in found}
        if missing:
            raise TrainingError(f"{', '.join(config.train_data)}: found no pair named {min(missing)!r}")
        self.pairs = _unlike([pair for pair in found if not config.names or pair.name in config.names])
        self.state = State(self.output, config, self.pairs)
        # Between two checkpoints of one shape lie others; a model that was inflated has none on the other side.
        shares = SHARES if knows_neurons else (1.0,)
        self.candidates = [Candidate(share, lowest) for share in shares for lowest in (0.0, LOWEST_SCORE)]

    def run(self) -> Taught:
        """Runs all that is still to be done."""
        output, state, begun = self.output, self.state, time.monotonic()
        if state.finished:
            shutil.rmtree(self.work, ignore_errors=True)  # of a run that was killed when all was done
            return Taught(output, output / NAME, speak(state.figures, of_halves=len(self.pairs) == 1))
        before = state.minutes
        if not state.figures:
            self._check()
        self.work.mkdir(parents=True, exist_ok=True)
        judges = halve(self.pairs[0], self.work / "halves", self.channel) if len(self.pairs) == 1 else self.pairs
        folds = deal([pair.name for pair in judges], self.config.seed)
        self._tell_plan(judges, folds)

        def save() -> None:
            state.minutes = before + (time.monotonic() - begun) / 60
            state.save()

        by_name = {pair.name: pair for pair in judges}
        self._judge([], None, judges, save)
        for number, unseen in enumerate(folds, start=1):
            seen = [pair for pair in judges if pair.name not in unseen]
            waiting = [one for one in self.candidates if not all(state.knows(one.name, name) for name in unseen)]
            if not waiting:
                continue
            _tell(f"training {number} of {len(folds) + 1}, without {', '.join(unseen)}")
            folder = self._train(f"fold_{number}", seen)
            for share in dict.fromkeys(one.share for one in waiting):
                of_share = [one for one in waiting if one.share == share]
                self._judge(of_share, self._blended(folder, share), [by_name[name] for name in unseen], save)
        verdict = speak(state.figures, of_halves=len(self.pairs) == 1)
        kept = next((one for one in self.candidates if one.name == verdict.model), None)
        self._keep(kept, len(folds) + 1)
        save()
        report = write_page(output, state, verdict, kept, self.config, [pair.name for pair in judges])
        state.finished = True  # all that is returned is there
        save()
        shutil.rmtree(self.work, ignore_errors=True)
        return Taught(output, report, verdict)

    def _check(self) -> None:
        """Reads all stacks, so that what is wrong with the last one is told before the first training."""
        for folder in self.config.train_data:
            for image in find_untraced(folder, self.pairs):
                if not self.config.names:
                    _tell(f"{image}: has no tree beside it, and is left out")
        for pair in self.pairs:
            read_pair(pair, channel=self.channel)

    def _tell_plan(self, judges: list[Pair], folds: list[list[str]]) -> None:
        model, _ = build_model(self.config)
        pace = measure_pace(model, self.config)
        voxels = 0
        for pair in judges:
            with open_volume(pair.image) as reader:
                depth, height, width = reader.shape
                voxels += depth * height * width
        trainings = len(folds) + 1
        seconds = pace.seconds(self.config, trainings, voxels * (1 + len({one.share for one in self.candidates})))
        of = "the two halves of one stack" if len(self.pairs) == 1 else f"{len(judges)} stacks"
        _tell(
            f"teaching {of}: {trainings} trainings of {self.config.max_steps} steps, about "
            f"{max(1, round(seconds / 60))} minute(s) on this machine"
        )

    def _train(self, name: str, pairs: list[Pair]) -> Path:
        """Trains on these stacks; goes on where it was interrupted."""
        folders = sorted({str(_root_of(pair, self.config.train_data) or pair.image.parent) for pair in pairs})
        config = replace(
            self.config,
            output_dir=str(self.work / name),
            train_data=folders,
            names=[pair.name for pair in pairs],
        )
        return train(config)

    def _blended(self, folder: Path, share: float) -> Segmenter:
        taught, processor = load_checkpoint(str(folder))
        if share < 1:
            between(build_model(self.config)[0], taught, share)
        taught.config.lowest_score = 0.0  # which the base model may have; each candidate has its own
        return Segmenter(taught, processor=processor)

    def _judge(
        self, candidates: list[Candidate], segmenter: Segmenter | None, pairs: Iterable[Pair], save: Callable[[], None]
    ) -> None:
        """Judges candidates of one share by stacks that it was not taught; none, and None: the model of before."""
        names = [one.name for one in candidates] or [BEFORE]
        for pair in pairs:
            if all(self.state.knows(name, pair.name) for name in names):
                continue
            if segmenter is None:
                segmenter = Segmenter(self._before())
            lowest = [one.lowest_score for one in candidates] or [0.0]
            for name, judged in zip(names, judge(segmenter, pair, self.channel, lowest), strict=True):
                draw(picture_of(self.output, pair.name, name), judged)
                self.state.note(name, pair.name, judged.figures)
                _tell(f"{pair.name}, {'before' if name == BEFORE else 'taught ' + name}: {_in_words(judged)}")
            save()

    def _before(self) -> str | None:
        """The checkpoint to compare with: the base model where it knows neurons, else the embedded default."""
        is_own = self.knows_neurons and self.config.base_model != DEFAULT_MODEL
        return self.config.base_model if is_own else None

    def _keep(self, kept: Candidate | None, trainings: int) -> None:
        """Leaves the better model in the folder: the candidate taught all stacks, or None: the model of before."""
        if kept is None:
            model, processor = load_checkpoint(str(self._before() or DEFAULT_CHECKPOINT))
        else:
            _tell(f"training {trainings} of {trainings}, on all stacks")
            taught = self._blended(self._train("all", self.pairs), kept.share)
            model, processor = taught.model, taught.processor
            model.config.lowest_score = kept.lowest_score
        save_pretrained(model, processor, self.output)


def draw(path: Path, judged: Judged) -> None:
    """Draws a stack with the tree that a model found and the gold one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    projections = Projections(judged.image.shape, judged.voxel_size)
    projections.add(0, judged.image)
    if judged.gold is None:
        write_overlay(path, projections, [judged.tree])
    else:
        write_tree_difference(path, projections, judged.tree, judged.gold)


def _in_words(judged: Judged) -> str:
    figures = judged.figures
    if figures.f1 is None or figures.f1_wide is None:
        return f"Dice {figures.dice:.3f}, AP {figures.average_precision:.3f}"
    return f"F1 {figures.f1:.3f}, wide F1 {figures.f1_wide:.3f}, AP {figures.average_precision:.3f}"


def _root_of(pair: Pair, roots: list[str]) -> str | None:
    """The folder, out of those that were given, that a pair was found below."""
    return next((root for root in roots if pair.image.is_relative_to(root)), None)


def _unlike(pairs: list[Pair]) -> list[Pair]:
    """Raises TrainingError where two stacks have one name: they could not be told apart."""
    names = [pair.name for pair in pairs]
    for pair in pairs:
        if names.count(pair.name) > 1:
            raise TrainingError(f"{pair.image}: two stacks are named {pair.name}; give each a name of its own")
    return pairs


def _is_checkpoint(model: str) -> bool:
    """Whether a name is that of a checkpoint of this package; what is wrong with it is told when it is loaded."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(model, trust_remote_code=False).model_type == "neuron_vit3d"
    except (OSError, ValueError):
        return False


def _tell(line: str) -> None:
    print(f"neuron-vit3d: {line}", file=sys.stderr, flush=True)
