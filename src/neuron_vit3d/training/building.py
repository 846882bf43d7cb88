"""Builds the model that a run starts from, and chooses the precision that it is computed in."""

from dataclasses import replace
from typing import Any

import torch

from ..inference import DEFAULT_CHECKPOINT, load_checkpoint
from ..model import NeuronViT3DConfig, NeuronViT3DForSegmentation, NeuronViT3DImageProcessor
from ..model.decoder import Classifier
from ..model.intensities import DEFAULT_PERCENTILES
from ..model.loading import one_clear_error, picture_statistics
from .config import DEFAULT_MODEL, TrainingConfig, TrainingError


def build_model(config: TrainingConfig) -> tuple[NeuronViT3DForSegmentation, NeuronViT3DImageProcessor]:
    """Makes the model (float32) and the image processor that a run starts from.

    `base_model` may be a 2D vision transformer. It is inflated, or, with the initialisation "scratch", only its shape
    is used. Or it is a checkpoint of this package, from which training continues; one that labels the center slice may
    learn to label several. "default" is the checkpoint that comes with the package; a folder of that name is
    "./default".
    """
    from transformers import AutoConfig

    if config.base_model == DEFAULT_MODEL:
        config = replace(config, base_model=str(DEFAULT_CHECKPOINT))
    with one_clear_error(f"base_model {config.base_model}"):
        try:
            base_config = AutoConfig.from_pretrained(config.base_model, trust_remote_code=False)
        except ValueError as error:
            raise TrainingError(
                f"base_model {config.base_model}: expected a 2D vision transformer: {error}"
            ) from error
    shape: dict[str, Any] = {
        "num_slices": config.num_slices,
        "num_output_slices": config.num_output_slices,
        "decoder_hidden_size": config.decoder_hidden_size,
        "stem_sizes": config.stem_sizes,
    }
    if base_config.model_type == "neuron_vit3d":
        _refuse_contradiction(config, base_config, shape)
        model, processor = load_checkpoint(config.base_model)
        if config.intensities and config.intensities != processor.intensities:
            processor.intensities = config.intensities
            processor.lower_percentile, processor.upper_percentile = DEFAULT_PERCENTILES[config.intensities]
        if config.num_output_slices > base_config.num_output_slices:
            label_more_slices(model, processor, config.num_output_slices)
        return model, processor
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
        model.config,
        tile_size=config.tile_size,
        tile_overlap=config.tile_size // 6,
        intensities=config.intensities or "robust",
    )
    return model, processor


def label_more_slices(
    model: NeuronViT3DForSegmentation, processor: NeuronViT3DImageProcessor, num_output_slices: int
) -> None:
    """Makes a model that labels the center slice label the slices around it, too.

    In the beginning it labels each of them as it labels the center.
    """
    old = model.decoder.classifier
    new = Classifier(old.in_channels, model.config.num_labels, num_output_slices)
    with torch.no_grad():
        # A label's slices lie together.
        new.weight.copy_(old.weight.repeat_interleave(num_output_slices, dim=0))
        new.bias.copy_(old.bias.repeat_interleave(num_output_slices, dim=0))
    model.decoder.classifier = new
    model.config.num_output_slices = processor.num_output_slices = num_output_slices
    model.config.validate_slices()


def _refuse_contradiction(config: TrainingConfig, base_config, shape: dict) -> None:
    """Raises TrainingError where an option was given that contradicts the 3D checkpoint."""
    if config.initialisation == "scratch":
        raise TrainingError(
            f"{config.base_model}: is a 3D checkpoint, which initialisation 'scratch' would throw away"
        )
    if config.initialisation != "center":
        raise TrainingError(
            f"{config.base_model}: is a 3D checkpoint, which cannot be inflated again "
            f"(initialisation {config.initialisation!r})"
        )
    by_default = TrainingConfig(output_dir="")
    for name, asked in shape.items():
        found = getattr(base_config, name)
        if name == "num_output_slices" and found == 1:
            continue  # may become several
        if asked != getattr(by_default, name) and asked != found:
            raise TrainingError(f"{config.base_model}: is a 3D checkpoint with {name} {found}; got {asked}")


def mixed_precision(config: TrainingConfig) -> str:
    """Returns the precision for Accelerate: "no", "bf16" or "fp16"."""
    if config.mixed_precision != "auto":
        return config.mixed_precision
    if torch.cuda.is_available() and not config.cpu:
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "no"


def computation_dtype(config: TrainingConfig) -> torch.dtype:
    """Returns the precision that whole volumes are segmented in: bfloat16 where training computes in it, else float32.

    In a run in fp16, accelerate's own forward computes in fp16 during validation, too.
    """
    return torch.bfloat16 if mixed_precision(config) == "bf16" else torch.float32
