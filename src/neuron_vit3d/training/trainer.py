"""The Accelerate loop: labelled volumes in, a fine-tuned checkpoint out; can be interrupted and continued.

`train(config)` leaves in `config.output_dir`: the model and its image processor (the best step by validation, its scores
shifted so that 0.5 is the best threshold there; or the last step without validation data), `training_config.json`, `log.jsonl`, and `checkpoints/` to resume from.
"""

import json
import math
import os
import shutil
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..data.augmentation import Augmentation
from ..data.sampling import BlockDataset
from ..inference import Segmenter, load_checkpoint
from ..model import NeuronViT3DConfig, NeuronViT3DForSegmentation, NeuronViT3DImageProcessor
from ..model.loading import one_clear_error, picture_statistics
from .config import TrainingConfig, TrainingError
from .reading import check_channels, read_data
from .validation import best_threshold, shift_threshold, validation_dice


def train(config: TrainingConfig) -> Path:
    """Fine-tunes a model; continues by itself where an earlier run into the same folder stopped.

    Returns:
        The output folder, which `from_pretrained` loads.

    Raises:
        DataError: a data folder or pair cannot be used.
        VolumeError, SWCError: an image or a tree is damaged.
        TrainingError: the folder holds a run with other options, a neuron is in training and validation, or the loss is
            no longer finite.
    """
    set_seed(config.seed)
    accelerator = Accelerator(
        cpu=config.cpu,
        mixed_precision=mixed_precision(config),
        gradient_accumulation_steps=config.gradient_accumulation_steps,
    )
    output = Path(config.output_dir)
    _refuse_other_run(config, output)
    train_volumes, validation_volumes = read_data(config)
    model, processor = build_model(config)
    check_channels([*train_volumes, *validation_volumes], processor.num_channels)
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
    )
    loader = DataLoader(
        dataset,
        batch_size=config.batch_size,
        num_workers=config.num_workers,
        persistent_workers=config.num_workers > 0,
    )
    optimizer = torch.optim.AdamW(parameter_groups(model, config))
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    # Not prepared: a prepared schedule steps once a process, ours once an optimiser step.
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer.optimizer, lambda step: _warmup_cosine(step, config))
    run = Run(config, accelerator, model, processor, optimizer, schedule, validation_volumes)
    accelerator.register_for_checkpointing(schedule, run.state)
    run.resume()
    run.fit(loader)
    return output


def build_model(config: TrainingConfig) -> tuple[NeuronViT3DForSegmentation, NeuronViT3DImageProcessor]:
    """Model (float32) and image processor that a run starts from.

    `base_model` may be a 2D vision transformer, inflated or (initialisation "scratch") used for its shape only; or a
    checkpoint of this package, which is continued from.
    """
    from transformers import AutoConfig

    with one_clear_error(f"base_model {config.base_model}"):
        try:
            base_config = AutoConfig.from_pretrained(config.base_model, trust_remote_code=False)
        except ValueError as error:
            raise TrainingError(
                f"base_model {config.base_model}: expected a 2D vision transformer: {error}"
            ) from error
    if base_config.model_type == "neuron_vit3d":
        if config.initialisation == "scratch":
            raise TrainingError(
                f"{config.base_model}: is a 3D checkpoint, which initialisation 'scratch' would throw away"
            )
        return load_checkpoint(config.base_model)
    shape = {
        "num_slices": config.num_slices,
        "num_output_slices": config.num_output_slices,
        "decoder_hidden_size": config.decoder_hidden_size,
        "stem_sizes": config.stem_sizes,
    }
    if config.initialisation == "scratch":
        mean, std = picture_statistics(config.base_model)
        model = NeuronViT3DForSegmentation(
            NeuronViT3DConfig(backbone_config=base_config, image_mean=mean, image_std=std, **shape)
        )
    else:
        model = NeuronViT3DForSegmentation.from_pretrained_2d(
            config.base_model, inflation=config.initialisation, dtype=torch.float32, **shape
        )
    processor = NeuronViT3DImageProcessor.for_model(
        model.config, tile_size=config.tile_size, tile_overlap=config.tile_size // 6
    )
    return model, processor


def parameter_groups(model: torch.nn.Module, config: TrainingConfig) -> list[dict]:
    """AdamW's groups: the encoder at its lower rate, the decoder; weight decay on matrices and kernels only."""
    groups = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (
                name.startswith("encoder."),
                parameter.ndim > 1 and not name.endswith(("_token", "position_embeddings")),
            )
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": config.encoder_learning_rate if is_encoder else config.learning_rate,
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (is_encoder, decays), parameters in groups.items()
    ]


class RunState:
    """What a checkpoint keeps beside weights, optimiser and schedule."""

    def __init__(self):
        self.step, self.best_dice, self.best_step, self.seconds = 0, -1.0, 0, 0.0

    def state_dict(self) -> dict:
        return dict(vars(self))

    def load_state_dict(self, state: dict) -> None:
        vars(self).update(state)


class Run:
    """A training run: its steps, its validation, its log and its checkpoints."""

    def __init__(self, config, accelerator, model, processor, optimizer, schedule, validation_volumes):
        self.config, self.accelerator, self.model, self.processor = config, accelerator, model, processor
        self.optimizer, self.schedule, self.validation_volumes = optimizer, schedule, validation_volumes
        self.output = Path(config.output_dir)
        self.state = RunState()

    def fit(self, loader) -> None:
        config, accelerator, state = self.config, self.accelerator, self.state
        losses, started = [], time.monotonic() - state.seconds
        batches = accelerator.skip_first_batches(loader, state.step * config.gradient_accumulation_steps)
        self.model.train()
        bar = tqdm(total=config.max_steps, initial=state.step, desc="train", disable=not accelerator.is_main_process)
        for batch in batches:
            with accelerator.accumulate(self.model):
                loss = self.model(**batch).loss
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(self.model.parameters(), config.gradient_clipping)
                self.optimizer.step()
                self.optimizer.zero_grad()
            losses.append(accelerator.gather(loss.detach()).mean().item())
            if not math.isfinite(losses[-1]):
                raise TrainingError(
                    f"the loss became {losses[-1]} at step {state.step + 1}; "
                    f"the last good checkpoint is step {self._latest_step()} in {self.output / 'checkpoints'}"
                )
            if not accelerator.sync_gradients:
                continue
            self.schedule.step()
            state.step += 1
            state.seconds = time.monotonic() - started
            bar.update()
            if state.step % config.log_steps == 0 or state.step == config.max_steps:
                rate = self.schedule.get_last_lr()
                self._log(loss=float(np.mean(losses)), learning_rate=max(rate), seconds=round(state.seconds, 1))
                bar.set_postfix(loss=f"{np.mean(losses):.3f}")
                losses = []
            if state.step % config.evaluation_steps == 0 or state.step == config.max_steps:
                self.validate()
            if state.step % config.checkpoint_steps == 0 or state.step == config.max_steps:
                self.checkpoint()
        bar.close()

    def validate(self) -> None:
        """Dice on whole validation volumes; the model is saved when it is the best so far (or there are none)."""
        state, model = self.state, self.accelerator.unwrap_model(self.model)
        if not self.accelerator.is_main_process:
            self.accelerator.wait_for_everyone()
            return
        if self.validation_volumes:
            segmenter = Segmenter(
                model,
                processor=self.processor,
                device=self.accelerator.device,
                dtype=computation_dtype(self.config),
            )
            by_volume = validation_dice(segmenter, self.validation_volumes)
            threshold, dice = best_threshold(by_volume)
            self._log(
                dice=float(np.mean([dice[0.5] for dice in by_volume.values()])),
                best_threshold=threshold,
                best_threshold_dice=dice,
                dice_by_volume={name: round(dice[threshold], 4) for name, dice in by_volume.items()},
            )
            model.train()
            if dice > state.best_dice:
                state.best_dice, state.best_step = dice, state.step
                trained_bias = model.decoder.classifier.bias.detach().clone()
                shift_threshold(model, threshold)  # of what is saved; training goes on with the bias as it was
                save_pretrained(model, self.processor, self.output)
                model.decoder.classifier.bias.data.copy_(trained_bias)
        else:
            save_pretrained(model, self.processor, self.output)
        self.accelerator.wait_for_everyone()

    def checkpoint(self) -> None:
        """Everything that is needed to go on, written under a temporary name first; older ones are removed."""
        folder = self.output / "checkpoints" / f"step_{self.state.step:07d}"
        partial = folder.with_name("." + folder.name)
        self.accelerator.save_state(str(partial))
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            os.replace(partial, folder)
            for old in self._checkpoints()[: -self.config.keep_checkpoints]:
                shutil.rmtree(old)
        self.accelerator.wait_for_everyone()

    def resume(self) -> None:
        """Continues from the latest checkpoint in the output folder, if there is one; the log is cut off there."""
        checkpoints = self._checkpoints()
        if checkpoints:
            self.accelerator.load_state(str(checkpoints[-1]))
        log = self.output / "log.jsonl"
        if self.accelerator.is_main_process and log.exists():
            lines = log.read_text().splitlines(keepends=True)
            # The last line has no end where the run was killed while it was written.
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= self.state.step]
            _write_whole(log, "".join(kept if checkpoints else []))
        if checkpoints:
            self.accelerator.print(f"continuing from step {self.state.step} of {self.config.max_steps}")

    def _checkpoints(self) -> list[Path]:
        return sorted((self.output / "checkpoints").glob("step_*"))

    def _latest_step(self) -> int:
        checkpoints = self._checkpoints()
        return int(checkpoints[-1].name.removeprefix("step_")) if checkpoints else 0

    def _log(self, **values) -> None:
        if self.accelerator.is_main_process:
            with open(self.output / "log.jsonl", "a") as log:
                log.write(json.dumps({"step": self.state.step, **values}) + "\n")


def save_pretrained(model: NeuronViT3DForSegmentation, processor: NeuronViT3DImageProcessor, folder: Path) -> None:
    """Writes model and processor beside the old ones, then replaces those file by file."""
    partial = folder / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    processor.save_pretrained(partial)
    for path in sorted(partial.iterdir()):
        os.replace(path, folder / path.name)
    partial.rmdir()


def _refuse_other_run(config: TrainingConfig, output: Path) -> None:
    """Raises TrainingError where the output folder holds a run with other options."""
    path = output / "training_config.json"
    if path.exists():
        difference = config.difference(json.loads(path.read_text()))
        if difference:
            raise TrainingError(f"{output}: holds another run ({difference}); choose another folder or remove it")


def _claim_folder(config: TrainingConfig, output: Path, accelerator: Accelerator) -> None:
    """Creates the output folder and notes the options there, once it is known that the run can start."""
    accelerator.wait_for_everyone()  # all have looked for another run
    if accelerator.is_main_process:
        output.mkdir(parents=True, exist_ok=True)
        _write_whole(output / "training_config.json", json.dumps(asdict(config), indent=1) + "\n")
    accelerator.wait_for_everyone()


def _write_whole(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    os.replace(partial, path)


def mixed_precision(config: TrainingConfig) -> str:
    """What Accelerate is told: "no", "bf16" or "fp16"."""
    if config.mixed_precision != "auto":
        return config.mixed_precision
    if torch.cuda.is_available() and not config.cpu:
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "no"


def computation_dtype(config: TrainingConfig) -> torch.dtype:
    """What whole volumes are segmented in: bfloat16 where the training computes in it, else float32."""
    return torch.bfloat16 if mixed_precision(config) == "bf16" else torch.float32


def _warmup_cosine(step: int, config: TrainingConfig) -> float:
    """Factor on the learning rates: linear from 0 to 1 over the warm-up, then a cosine to 0 at the last step."""
    if step < config.warmup_steps:
        return (step + 1) / (config.warmup_steps + 1)
    progress = (step - config.warmup_steps) / max(1, config.max_steps - config.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
