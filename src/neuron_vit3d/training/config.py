"""TrainingConfig: everything a training run is told."""

import json
from dataclasses import asdict, dataclass, field

from ..model.inflation import INFLATIONS


BALANCES = ("neuron", "lab", "volume")
INITIALISATIONS = (*INFLATIONS, "scratch")
# What may differ between a run and its continuation: it does not change what is learned.
_FREE_TO_CHANGE = ("output_dir", "num_workers", "checkpoint_steps", "keep_checkpoints", "log_steps", "cpu")


class TrainingError(ValueError):
    """A run that cannot start or go on; the message says why."""


@dataclass
class TrainingConfig:
    """Options of `scripts/train.py`; lengths are in voxels."""

    output_dir: str = field(metadata={"help": "Where the model, the log and the checkpoints go."})
    train_data: list[str] = field(default_factory=list, metadata={"help": "Folders of image + SWC pairs to train on."})
    dataset: str = field(
        default="",
        metadata={
            "help": "Instead of folders of pairs: what scripts/prepare_bigneuron.py made, a folder or a name on the Hub."
        },
    )
    validation_data: list[str] = field(
        default_factory=list, metadata={"help": "Folders of pairs to choose the best step by; never trained on."}
    )
    names: list[str] = field(
        default_factory=list,
        metadata={"help": "Train on the pairs of these names only (default: all that are found)."},
    )
    validation_names: list[str] = field(
        default_factory=list, metadata={"help": "Validate on the pairs of these names only (default: all)."}
    )
    base_model: str = field(
        default="facebook/dino-vitb16", metadata={"help": "A 2D ViT to inflate, or a 3D checkpoint to continue from."}
    )
    initialisation: str = field(
        default="center", metadata={"help": f"Encoder weights: {', '.join(INITIALISATIONS)} (random, same shape)."}
    )
    num_slices: int = field(default=5, metadata={"help": "Neighbouring slices in a block."})
    num_output_slices: int = field(default=1, metadata={"help": "Slices labelled around the center one."})
    decoder_hidden_size: int = field(default=64, metadata={"help": "Channels of the decoder's pyramid."})
    stem_sizes: list[int] = field(
        default_factory=lambda: [16, 32, 64],
        metadata={"help": "Channels of the full-resolution stem at strides 1, 2, 4; one 0 leaves the stem out."},
    )
    tile_size: int = field(default=224, metadata={"help": "Side of a training tile."})
    batch_size: int = field(default=8, metadata={"help": "Blocks a step and process."})
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "Batches summed up before a step."})
    max_steps: int = field(default=1000, metadata={"help": "Optimiser steps."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Of the decoder, at its highest."})
    encoder_learning_rate: float = field(default=1e-4, metadata={"help": "Of the encoder, at its highest."})
    weight_decay: float = field(default=0.05, metadata={"help": "AdamW's, on matrices only."})
    warmup_steps: int = field(default=50, metadata={"help": "Steps of linear warm-up before the cosine."})
    gradient_clipping: float = field(default=1.0, metadata={"help": "Largest gradient norm."})
    foreground_probability: float = field(
        default=0.7, metadata={"help": "Share of blocks centered on a neuron's voxel."}
    )
    balance: str = field(
        default="neuron",
        metadata={"help": f"What blocks are drawn from equally often: {', '.join(BALANCES)} (each voxel)."},
    )
    augment: bool = field(default=True, metadata={"help": "Flips, zoom, intensities, noise, blur."})
    min_radius: float = field(default=1.0, metadata={"help": "SWC radii below this are raised to it."})
    max_radius: float = field(default=0.0, metadata={"help": "SWC radii above this are cut to it; 0: as they are."})
    channel: int = field(default=-1, metadata={"help": "Image channel to use; -1: images have one."})
    mixed_precision: str = field(
        default="auto", metadata={"help": "no, bf16, fp16, or auto: bf16 where the machine multiplies it natively."}
    )
    evaluation_steps: int = field(default=250, metadata={"help": "Validate every so many steps, and at the end."})
    checkpoint_steps: int = field(
        default=250, metadata={"help": "Keep a checkpoint to resume from every so many steps."}
    )
    keep_checkpoints: int = field(default=2, metadata={"help": "Checkpoints kept; older ones are removed."})
    log_steps: int = field(default=10, metadata={"help": "Write a line to log.jsonl every so many steps."})
    num_workers: int = field(default=1, metadata={"help": "Processes that prepare blocks."})
    seed: int = field(default=0, metadata={"help": "Of everything random."})
    cpu: bool = field(default=False, metadata={"help": "Train on the CPU even where there is a GPU."})

    def __post_init__(self):
        if self.initialisation not in INITIALISATIONS:
            raise ValueError(
                f"initialisation must be one of {', '.join(INITIALISATIONS)}; got {self.initialisation!r}"
            )
        if self.balance not in BALANCES:
            raise ValueError(f"balance must be one of {', '.join(BALANCES)}; got {self.balance!r}")
        for name in ("tile_size", "batch_size", "gradient_accumulation_steps", "max_steps", "evaluation_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        for name in ("checkpoint_steps", "keep_checkpoints", "log_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if not 0 <= self.foreground_probability <= 1:
            raise ValueError(f"foreground_probability must be in [0, 1]; got {self.foreground_probability}")
        if self.stem_sizes == [0]:
            self.stem_sizes = []

    def difference(self, earlier: dict) -> str | None:
        """The first option that keeps this run from continuing the earlier one, in words; None: it can continue."""
        for key, value in json.loads(json.dumps(asdict(self))).items():  # JSON has lists where there may be tuples
            if key not in _FREE_TO_CHANGE and key in earlier and earlier[key] != value:
                return f"{key} was {earlier[key]!r} and is {value!r} now"
        return None
