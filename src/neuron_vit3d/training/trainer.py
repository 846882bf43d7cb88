"""The Accelerate loop: labelled volumes in, a fine-tuned checkpoint out; can be interrupted and continued.

`train(config)` leaves in `config.output_dir`: the model and its image processor (the best step by validation, its
scores shifted so that 0.5 is the best threshold there; or the last step without validation data),
`training_config.json`, `log.jsonl`, and `checkpoints/` to resume from.
"""

import json
import math
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, gather_object, set_seed
from torch.utils.data import DataLoader

from ..data.augmentation import Augmentation
from ..data.pairs import IGNORE_INDEX
from ..data.sampling import BlockDataset
from ..files import replacing_files, write_whole
from ..inference import Segmenter
from ..model import NeuronViT3DForSegmentation, NeuronViT3DImageProcessor
from ..progress import Progress
from .building import build_model, computation_dtype, mixed_precision
from .checkpoints import Checkpoints, told_as_full_disk
from .clock import Clock
from .config import TrainingConfig, TrainingError
from .logbook import Logbook, check_trackers
from .losses import ADDED_LOSSES, SegmentationLoss
from .memory import memory_advice, told_of_workers
from .optimisation import (
    WeightAverage,
    drop_frozen_gradients,
    freeze_layers,
    parameter_groups,
    quicken_off_center,
    schedule,
)
from .processes import refuse_lone_process, sum_over_processes, synchronise_batch_norm
from .reading import check_channels, checksums, fresh_neurons, read_data
from .validation import best_threshold, shift_threshold, unique_names, validation_dice


# Others wait while one process validates the largest volume, or writes a checkpoint to a slow disk.
_PATIENCE = timedelta(hours=12)


def train(config: TrainingConfig) -> Path:
    """Fine-tunes a model; continues by itself where an earlier run into the same folder stopped.

    Returns:
        The output folder, which `from_pretrained` loads.

    Raises:
        DataError: a data folder or pair cannot be used.
        VolumeError, SWCError: an image or a tree is damaged.
        TrainingError: the folder holds a run with other options, a neuron is in training and validation, the loss is
            no longer finite, memory or the disk is full, or a launcher has started one process instead of many.
    """
    check_trackers(config.report_to)
    config = replace(config, mixed_precision=mixed_precision(config))  # as a run on another machine would not find it
    loss = _loss(config)
    set_seed(config.seed)
    accelerator = Accelerator(
        cpu=config.cpu,
        mixed_precision=config.mixed_precision,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        log_with=config.report_to or None,
        project_dir=config.output_dir,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
    )
    refuse_lone_process(accelerator.num_processes)
    output = Path(config.output_dir)
    _refuse_other_run(config, output)
    try:
        train_volumes, validation_volumes = read_data(config)
    except MemoryError as error:
        raise TrainingError(
            "out of memory while the volumes were read; `neuron-vit3d prepare` makes a dataset of them (--dataset), "
            "whose training volumes stay on disk"
        ) from error
    if config.early_stopping and not validation_volumes:
        raise TrainingError("early_stopping: expected validation data to stop by, got none")
    model, processor = build_model(config)
    check_channels([*train_volumes, *validation_volumes], processor.num_channels)
    freeze_layers(model, config)
    if config.activation_checkpointing:
        model.activation_checkpointing_enable()
    _claim_folder(config, output, accelerator)
    dataset = BlockDataset(
        train_volumes,
        processor,
        length=config.max_steps * config.batch_size * config.gradient_accumulation_steps * accelerator.num_processes,
        tile_size=config.tile_size,
        foreground_probability=config.foreground_probability,
        augmentation=Augmentation() if config.augment else Augmentation.none(),
        seed=config.seed,
        balance=config.balance,
        fresh=fresh_neurons(config),
        fresh_share=config.synthetic_share,
    )
    loader = DataLoader(
        dataset,
        batch_size=config.batch_size,
        num_workers=config.num_workers,
        persistent_workers=config.num_workers > 0,
        pin_memory=accelerator.device.type == "cuda",  # from there a GPU takes blocks several times as fast
        # Its own, or beginning to read would take a number from torch's, and a continued run begins once more.
        generator=torch.Generator(),
    )
    optimizer = torch.optim.AdamW(parameter_groups(model, config))
    quicken_off_center(optimizer, model, config)
    if accelerator.num_processes > 1:
        model = synchronise_batch_norm(model, accelerator.device)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    state = RunState(checksums(train_volumes), checksums(validation_volumes))
    run = Run(config, accelerator, model, processor, optimizer, validation_volumes, loss, state)
    run.resume()
    run.fit(loader)
    return output


class RunState:
    """What a checkpoint keeps beside weights, optimiser and schedule.

    Args:
        training, validation: names and checksums of the volumes.
    """

    def __init__(self, training: list[tuple[str, int]], validation: list[tuple[str, int]]):
        self.step, self.best_dice, self.best_step, self.seconds, self.stopped = 0, -1.0, 0, 0.0, False
        self.training, self.validation = training, validation

    def state_dict(self) -> dict:
        return dict(vars(self))

    def load_state_dict(self, state: dict) -> None:
        vars(self).update(state)

    def difference(self, training: list[tuple[str, int]], validation: list[tuple[str, int]]) -> str:
        """Says which data has changed; "" where none has."""
        for part, before, now in (
            ("training", self.training, training),
            ("validation", self.validation, validation),
        ):
            if len(before) != len(now):
                return f"{len(before)} {part} volumes then, {len(now)} now"
            for (name, value), (new_name, new_value) in zip(before, now, strict=True):
                if name != new_name:
                    return f"the {part} volume {name} then, {new_name} now"
                if value != new_value:
                    return f"another image or other labels of the {part} volume {name}"
        return ""


class Run:
    """A training run: its steps, its validation, its log and its checkpoints."""

    def __init__(self, config, accelerator, model, processor, optimizer, validation_volumes, loss, state):
        self.config, self.accelerator, self.model, self.processor = config, accelerator, model, processor
        self.optimizer, self.validation_volumes, self.loss = optimizer, validation_volumes, loss
        self.output = Path(config.output_dir)
        self.bare_model = accelerator.unwrap_model(model)
        self.average = WeightAverage(self.bare_model, config.ema_decay) if config.ema_decay else None
        # Not prepared: a prepared schedule steps once a process, ours once an optimiser step.
        self.schedule = schedule(optimizer.optimizer, config)
        self.state = state
        accelerator.register_for_checkpointing(self.schedule, self.state)
        self.checkpoints = Checkpoints(self.output, accelerator, config.keep_checkpoints, self.average)
        self.logbook = Logbook(config, accelerator)
        self.clock = Clock()
        self.gradients_are_lost = False

    def resume(self) -> None:
        """Continues from the latest checkpoint in the output folder, if there is one; the log is cut off there.

        Raises:
            TrainingError: it is damaged, or was written with other data or by another number of processes.
        """
        data = self.state.training, self.state.validation
        if self.checkpoints.load():
            if changed := self.state.difference(*data):
                raise TrainingError(
                    f"{self.output}: holds a run with other data ({changed}); choose another folder or remove it"
                )
            self.accelerator.print(f"continuing from step {self.state.step} of {self.config.max_steps}")
        self.logbook.begin(self.state.step)

    def fit(self, loader: DataLoader) -> None:
        """Trains to the last step, or until validation has stopped getting better."""
        config, accelerator, state, clock = self.config, self.accelerator, self.state, self.clock
        clock.start(state.seconds)
        done = state.step * config.gradient_accumulation_steps
        batches = [] if state.stopped else accelerator.skip_first_batches(loader, done)
        self.model.train()
        losses, how = [], {"unit": "step", "initial": state.step, "shown": accelerator.is_main_process}
        with Progress("train", config.max_steps, **how) as bar:  # closed before an error is told, too
            for number, batch in enumerate(told_of_workers(clock.waiting(batches)), start=done):
                with memory_advice(config, "a step"), clock("model"), accelerator.accumulate(self.model):
                    loss = self._learn(batch)
                losses.append(loss)
                if not math.isfinite(loss) or self.gradients_are_lost:
                    what = f"the loss became {loss}" if not math.isfinite(loss) else "the gradients were not finite"
                    raise TrainingError(
                        f"{what} at step {state.step + 1}; {self.checkpoints.last_good()}. "
                        f"Its blocks: {self._origin(loader.dataset, number)}"
                    )
                if not accelerator.sync_gradients:
                    continue
                self.schedule.step()
                state.step += 1
                state.seconds = clock.total
                bar.update()
                is_last = state.step == config.max_steps
                if state.step % config.log_steps == 0 or is_last:
                    self._log_progress(losses)
                    bar.tell(loss=f"{np.mean(losses):.3f}")
                    losses = []
                with clock("beside"):  # seldom, and as long as it takes
                    if state.step % config.evaluation_steps == 0 or is_last:
                        self.validate()
                    if state.step % config.checkpoint_steps == 0 or is_last or state.stopped:
                        self.checkpoints.save(state.step)
                if state.stopped:
                    break
        if state.stopped:
            accelerator.print(f"no better validation since step {state.best_step}: stopped at step {state.step}")
        self.logbook.end()

    def _learn(self, batch: dict[str, torch.Tensor]) -> float:
        """Runs a batch forward and backward, and steps when enough are summed. Returns the global batch's loss."""
        logits = self.model(pixel_values=batch["pixel_values"]).logits
        loss = self.loss(logits, batch["labels"])
        self.accelerator.backward(loss)
        if self.accelerator.sync_gradients:
            drop_frozen_gradients(self.optimizer)
            norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.gradient_clipping or math.inf)
            # In half precision they are now and then; the step is then left out.
            self.gradients_are_lost = self.accelerator.scaler is None and not math.isfinite(norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None and self.accelerator.sync_gradients:
            self.average.update_parameters(self.bare_model)
        return loss.item()  # the same in all processes

    def validate(self) -> None:
        """Measures Dice on whole validation volumes, which the processes share out.

        The model is saved when it is the best so far (or there are none to validate on).
        """
        state, model = self.state, self.average.module if self.average is not None else self.bare_model
        if self.validation_volumes:
            by_volume = self._validation_dice(model)
            threshold, dice = best_threshold(by_volume)
            self.logbook.write(
                state.step,
                dice=float(np.mean([dice[0.5] for dice in by_volume.values()])),
                best_threshold=threshold,
                best_threshold_dice=dice,
                dice_by_volume={name: round(dice[threshold], 4) for name, dice in by_volume.items()},
            )
            self.model.train()
            if dice > state.best_dice:
                state.best_dice, state.best_step = dice, state.step
                self._save(model, threshold)
            elif patience := self.config.early_stopping * self.config.evaluation_steps:
                state.stopped = state.step - state.best_step >= patience
        else:
            self._save(model, 0.5)
        self.accelerator.wait_for_everyone()

    def _validation_dice(self, model: NeuronViT3DForSegmentation) -> dict[str, dict[float, float]]:
        """Returns the Dice of all volumes, the same in all processes; the largest volumes are dealt out first."""
        accelerator = self.accelerator
        order = sorted(range(len(self.validation_volumes)), key=lambda i: -self.validation_volumes[i].labels.size)
        own = order[accelerator.process_index :: accelerator.num_processes]
        segmenter = Segmenter(
            model,
            processor=self.processor,
            device=accelerator.device,
            dtype=computation_dtype(self.config),
            skip_background=False,
        )
        with memory_advice(self.config, "validation"):
            found = [(which, *validation_dice(segmenter, [self.validation_volumes[which]]).values()) for which in own]
        dice, names = dict(gather_object(found)), unique_names(self.validation_volumes)
        return {name: dice[which] for which, name in enumerate(names)}

    def _save(self, model: NeuronViT3DForSegmentation, threshold: float) -> None:
        """Writes model and processor to the output folder, with scores of `threshold` shifted to 0.5.

        Training goes on with the unshifted model.
        """
        if not self.accelerator.is_main_process:
            return
        trained_bias = model.decoder.classifier.bias.detach().clone()
        shift_threshold(model, threshold)
        with told_as_full_disk(self.output):
            save_pretrained(model, self.processor, self.output)
        model.decoder.classifier.bias.data.copy_(trained_bias)

    def _log_progress(self, losses: list[float]) -> None:
        """Logs loss, highest learning rate, and speed since the last line, without validation and checkpoints."""
        lap = self.clock.lap()
        seconds = max(lap["all"] - lap["beside"], 1e-9)
        self.logbook.write(
            self.state.step,
            loss=float(np.mean(losses)),
            learning_rate=max(self.schedule.get_last_lr()),
            seconds=round(self.clock.total, 1),
            blocks_per_second=round(
                len(losses) * self.config.batch_size * self.accelerator.num_processes / seconds, 3
            ),
            outside_model=round(1 - lap["model"] / seconds, 4),  # share of the time: waiting for blocks, and the loop
        )

    def _origin(self, dataset: BlockDataset, number: int) -> str:
        """Tells which blocks all processes had in their batch `number`."""
        size = self.config.batch_size * self.accelerator.num_processes
        return "; ".join(dataset.origin(index) for index in range(number * size, (number + 1) * size))


def save_pretrained(model: NeuronViT3DForSegmentation, processor: NeuronViT3DImageProcessor, folder: Path) -> None:
    """Writes model and processor beside the old ones, then replaces the old ones file by file."""
    with replacing_files(folder) as partial:
        model.save_pretrained(partial)
        processor.save_pretrained(partial)


def _loss(config: TrainingConfig) -> SegmentationLoss:
    weights = {f"{name}_weight": getattr(config, f"{name}_weight") for name in ADDED_LOSSES}
    try:
        return SegmentationLoss(config.loss, ignore_index=IGNORE_INDEX, total=sum_over_processes, **weights)
    except ImportError as error:
        raise TrainingError(str(error)) from error


def _refuse_other_run(config: TrainingConfig, output: Path) -> None:
    """Raises TrainingError where the output folder holds a run with other options, or files that are of no run."""
    path = output / "training_config.json"
    found = [name for name in ("model.safetensors", "config.json") if (output / name).exists()]
    if found and not path.exists():
        raise TrainingError(
            f"{output}: holds {found[0]} and no training_config.json: another model than a run's; choose another "
            "folder"
        )
    if path.exists() and (any(output.glob("checkpoints/step_*")) or (output / "model.safetensors").exists()):
        difference = config.difference(json.loads(path.read_text()))
        if difference:
            raise TrainingError(f"{output}: holds another run ({difference}); choose another folder or remove it")


def _claim_folder(config: TrainingConfig, output: Path, accelerator: Accelerator) -> None:
    """Creates the output folder and writes the options there; called once it is known that the run can start."""
    accelerator.wait_for_everyone()  # all have looked for another run
    if accelerator.is_main_process:
        output.mkdir(parents=True, exist_ok=True)
        options = {**asdict(config), "num_processes": accelerator.num_processes}
        write_whole(output / "training_config.json", json.dumps(options, indent=1) + "\n", alone=True)
    accelerator.wait_for_everyone()
