"""TrainingConfig: everything a training run is told."""

import functools
import json
import math
from dataclasses import asdict, dataclass, field, fields

from ..option_fields import no_such_option
from .added_losses import ADDED, with_weights


DEFAULT_MODEL = "default"  # what `base_model` calls the checkpoint that comes with the package
BALANCES = ("neuron", "lab", "volume")
PRECISIONS = ("auto", "no", "bf16", "fp16")
_RANGES = {
    **dict.fromkeys(
        ("num_slices", "num_output_slices", "tile_size", "batch_size", "gradient_accumulation_steps", "max_steps"),
        (1, math.inf),
    ),
    **dict.fromkeys(("evaluation_steps", "checkpoint_steps", "keep_checkpoints", "log_steps"), (1, math.inf)),
    **dict.fromkeys(("learning_rate", "encoder_learning_rate", "off_center_learning_rate"), (0, math.inf)),
    **dict.fromkeys(("weight_decay", "gradient_clipping"), (0, math.inf)),
    **dict.fromkeys(("warmup_steps", "unfreeze_steps", "early_stopping", "num_workers"), (0, math.inf)),
    **dict.fromkeys(("min_radius", "max_radius", "edge_band"), (0, math.inf)),
    **dict.fromkeys((f"{name}_weight" for name in ADDED), (0, math.inf)),
    **dict.fromkeys(("foreground_probability", "layer_decay", "synthetic_share"), (0, 1)),
    "ema_decay": (0, 0.999999),
    "frozen_layers": (-1, math.inf),
}
# What may differ between a run and its continuation: it does not change what is learned.
_FREE_TO_CHANGE = (
    "output_dir",
    "num_workers",
    "checkpoint_steps",
    "keep_checkpoints",
    "log_steps",
    "cpu",
    "report_to",
    "activation_checkpointing",
)
# What options were, before there was one, that are something else by default today.
_WERE = {"intensities": "percentiles"}


class TrainingError(ValueError):
    """A training run cannot start or go on; the message says why."""


@functools.cache
def choices() -> dict[str, tuple[str, ...]]:
    """Lists the values that each option of few values may have.

    Values that the model and the losses define are looked up only here, when they are needed. So a misspelt option is
    reported before torch has been imported.
    """
    from ..model.inflation import INFLATIONS
    from ..model.intensities import METHODS
    from .losses import LOSSES

    return {
        "initialisation": (*INFLATIONS, "scratch"),
        "balance": BALANCES,
        "loss": tuple(LOSSES),
        "radius": ("given", "image"),
        "intensities": ("", *METHODS),
        "mixed_precision": PRECISIONS,
    }


def help_words(name: str) -> list[str]:
    """Lists the words that replace {} in the help of an option; those of losses come from their tables."""
    if name.removesuffix("_weight") in ADDED:
        return [ADDED[name.removesuffix("_weight")]]
    if name == "loss":
        from .losses import LOSSES

        return [f"{loss} ({term.help})" for loss, term in LOSSES.items()]
    return [word for word in choices().get(name, ()) if word]


def refuse_unknown(name: str, *known_beside: str) -> None:
    """Raises TrainingError, with the nearest option, where none has this name.

    Args:
        name: as a field of TrainingConfig is named.
        known_beside: names of options that are none of TrainingConfig.
    """
    known = [option.name for option in fields(TrainingConfig)] + list(known_beside)
    if name not in known:
        raise TrainingError(no_such_option(name, name, known))


@dataclass
@with_weights
class TrainingConfig:
    """Options of `neuron-vit3d train`; lengths are in voxels.

    Each loss of `ADDED` has a weight, such as `cldice_weight`. In the help of an option, {} stands for what
    `help_words` lists.
    """

    output_dir: str = field(
        metadata={"help": "Where the model, the log and the checkpoints go.", "aliases": ["-o"]},
    )
    train_data: list[str] = field(default_factory=list, metadata={"help": "Folders of image + SWC pairs to train on."})
    dataset: str = field(
        default="",
        metadata={
            "help": "Instead of folders of pairs: what `neuron-vit3d prepare` made, a folder or a name on the Hub."
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
        default="facebook/dino-vitb16",
        metadata={
            "help": "A 2D ViT to inflate, or a 3D checkpoint to continue from; default: the one of the package."
        },
    )
    initialisation: str = field(default="center", metadata={"help": "Encoder weights: {} (random, same shape)."})
    num_slices: int = field(default=5, metadata={"help": "Neighbouring slices in a block."})
    num_output_slices: int = field(default=1, metadata={"help": "Slices labelled around the center one."})
    decoder_hidden_size: int = field(default=64, metadata={"help": "Channels of the decoder's pyramid."})
    stem_sizes: list[int] = field(
        default_factory=lambda: [8, 16, 32],
        metadata={"help": "Channels of the full-resolution stem at strides 1, 2, 4; one 0 leaves the stem out."},
    )
    tile_size: int = field(default=224, metadata={"help": "Side of a training tile."})
    batch_size: int = field(default=8, metadata={"help": "Blocks a step and process."})
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "Batches summed up before a step."})
    max_steps: int = field(default=1000, metadata={"help": "Optimiser steps."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Of the decoder, at its highest."})
    encoder_learning_rate: float = field(default=1e-4, metadata={"help": "Of the encoder, at its highest."})
    off_center_learning_rate: float = field(
        default=0.0,
        metadata={
            "help": "Of the embedding's kernels of all slices but the center one, which center inflation sets to 0; "
            "0: as the encoder."
        },
    )
    layer_decay: float = field(
        default=1.0,
        metadata={"help": "Each encoder layer learns at this times the rate of the one above; 1: all alike."},
    )
    frozen_layers: int = field(
        default=0,
        metadata={"help": "Lowest encoder layers, with the embeddings, that never learn; -1: the whole encoder."},
    )
    unfreeze_steps: int = field(
        default=0,
        metadata={
            "help": "Begin with the decoder alone; one encoder layer more, from above, learns every so many steps."
        },
    )
    weight_decay: float = field(default=0.05, metadata={"help": "AdamW's, on matrices only."})
    warmup_steps: int = field(default=50, metadata={"help": "Steps of linear warm-up before the cosine."})
    gradient_clipping: float = field(default=1.0, metadata={"help": "Largest gradient norm; 0: any."})
    ema_decay: float = field(
        default=0.0,
        metadata={
            "help": "Keep a moving average of the weights (0.999 ...), validate and save it; 0: the weights "
            "themselves."
        },
    )
    loss: str = field(default="dice_cross_entropy", metadata={"help": "One of {}."})
    foreground_probability: float = field(
        default=0.7, metadata={"help": "Share of blocks centered on a neuron's voxel."}
    )
    balance: str = field(
        default="neuron",
        metadata={"help": "What blocks are drawn from equally often: {} (each voxel)."},
    )
    augment: bool = field(default=True, metadata={"help": "Flips, zoom, intensities, noise, blur."})
    min_radius: float = field(default=1.0, metadata={"help": "SWC radii below this are raised to it."})
    max_radius: float = field(default=0.0, metadata={"help": "SWC radii above this are cut to it; 0: as they are."})
    radius: str = field(
        default="given", metadata={"help": "Radii of training trees: given, or image (measured in the image)."}
    )
    edge_band: float = field(
        default=0.0, metadata={"help": "Training ignores voxels nearer than this to the surface of a tube."}
    )
    ignore_untraced: bool = field(
        default=False, metadata={"help": "Training ignores what is as bright as the neuron and not in its tree."}
    )
    intensities: str = field(
        default="",
        metadata={"help": "How black and white are found: {} (default: robust; a 3D checkpoint's own)."},
    )
    synthetic_share: float = field(
        default=0.0, metadata={"help": "Share of blocks that show synthetic neurons, made as they are needed."}
    )
    synthetic_without: list[str] = field(
        default_factory=list, metadata={"help": "Ingredients that the pictures of synthetic neurons do without."}
    )
    synthetic_backgrounds: list[str] = field(
        default_factory=list, metadata={"help": "Images of tissue that synthetic neurons may be painted onto."}
    )
    channel: int = field(default=-1, metadata={"help": "Image channel to use; -1: images have one."})
    mixed_precision: str = field(
        default="auto", metadata={"help": "no, bf16, fp16, or auto: bf16 where the machine multiplies it natively."}
    )
    activation_checkpointing: bool = field(
        default=False, metadata={"help": "Compute the encoder's activations twice rather than keep them: less memory."}
    )
    evaluation_steps: int = field(default=250, metadata={"help": "Validate every so many steps, and at the end."})
    early_stopping: int = field(
        default=0, metadata={"help": "Stop after so many validations without a better one; 0: never."}
    )
    checkpoint_steps: int = field(
        default=250, metadata={"help": "Keep a checkpoint to resume from every so many steps."}
    )
    keep_checkpoints: int = field(default=2, metadata={"help": "Checkpoints kept; older ones are removed."})
    log_steps: int = field(default=10, metadata={"help": "Write a line to log.jsonl every so many steps."})
    report_to: list[str] = field(
        default_factory=list,
        metadata={"help": "Trackers besides log.jsonl: tensorboard, wandb, and others of accelerate."},
    )
    num_workers: int = field(default=1, metadata={"help": "Processes that prepare blocks."})
    seed: int = field(default=0, metadata={"help": "Of everything random."})
    cpu: bool = field(default=False, metadata={"help": "Train on the CPU even where there is a GPU."})

    def __post_init__(self):
        for name, values in choices().items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name} must be one of {', '.join(values)}; got {getattr(self, name)!r}")
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high:
                limits = f"at least {low}" if high == math.inf else f"in [{low}, {high}]"
                raise ValueError(f"{name} must be {limits}; got {getattr(self, name)}")
        if self.stem_sizes == [0]:
            self.stem_sizes = []
        # Also where it is read by a parser that knows no empty list.
        self.report_to = [name for name in self.report_to if name not in ("", "none")]

    def difference(self, earlier: dict) -> str | None:
        """Names the first option that keeps this run from continuing the earlier one; None where it can continue."""
        # An option that is newer than that run was as it is by default. (JSON has lists where there may be tuples.)
        earlier = {**asdict(TrainingConfig("")), **_WERE, **earlier}
        for key, value in json.loads(json.dumps(asdict(self))).items():
            if key not in _FREE_TO_CHANGE and earlier[key] != value:
                return f"{key} was {earlier[key]!r} and is {value!r} now"
        return None
