"""The models: a 2D vision transformer of transformers, inflated to blocks of neighbouring slices, and a decoder.

The order is from large to small: what the models share, the segmentation model, the encoder. The decoder is in
`decoder.py`, the loss in `loss.py`.
"""

import os

import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, SemanticSegmenterOutput
from transformers.utils import can_return_tuple
from transformers.utils.output_capturing import maybe_install_capturing_hooks

from .backbones import family_of
from .configuration_neuron_vit3d import AUTO_MAP, CUSTOM_PIPELINES, NeuronViT3DConfig
from .decoder import Classifier, NeuronViT3DDecoder, pad_to_multiple, without_low_scores
from .inflation import inflate_state_dict, kernel_names
from .loading import (
    check_config,
    check_loaded,
    load_2d,
    one_clear_error,
    picture_statistics,
    read_config,
    refuse_pickles,
    shorten,
    tell_what_was_inflated,
    without_load_report,
)
from .loss import dice_cross_entropy_loss


class NeuronViT3DPreTrainedModel(PreTrainedModel):
    """Base of the two models: loading, saving, and which features of transformers they support."""

    config_class = NeuronViT3DConfig
    base_model_prefix = "encoder"
    main_input_name = "pixel_values"
    input_modalities = ("video",)
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    accepts_loss_kwargs = False  # the loss is a mean; Trainer averages it over accumulated batches

    def __init__(self, config: NeuronViT3DConfig):
        config.settle()
        super().__init__(config)

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Classifier):
            module.begin_with_prior()

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike | None,
        *model_args,
        use_safetensors: bool | None = True,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: bool = False,
        **kwargs,
    ):
        """Loads a checkpoint as in transformers, from safetensors only; a mismatch with the configuration is one clear
        error.

        Raises:
            CheckpointError (an OSError): the checkpoint cannot be found, reached or read, or its weights are pickled.
            ValueError: weights of another depth or size than the configuration says.
        """
        name = pretrained_model_name_or_path
        if use_safetensors is False:
            raise ValueError(f"{name}: use_safetensors=False is not supported: pickled weights are never opened")
        if name is not None and kwargs.get("config") is None:
            check_config(name, NeuronViT3DConfig, **kwargs)
        with one_clear_error(name), without_load_report():
            if name is not None:
                refuse_pickles(name, **kwargs)
            # Mismatches are reported below, in one line: transformers would spread them over many.
            model, info = super().from_pretrained(
                name,
                *model_args,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **kwargs,
            )
        if name is not None:
            check_loaded(name, model.config, info, ignore_mismatched_sizes=ignore_mismatched_sizes)
        model.freeze_unused()  # loading makes new parameters, and all require gradients
        return (model, info) if output_loading_info else model

    def save_pretrained(self, save_directory: str | os.PathLike, *args, **kwargs) -> None:
        """Saves as in transformers, together with the code of model, image processor and pipeline.

        So `trust_remote_code=True` works where the package is not installed.
        """
        # With this import transformers also copies the pipeline's file, and those that it imports.
        from .pipeline_neuron_vit3d import NeuronSegmentationPipeline  # noqa: F401

        kept = {name: getattr(self.config, name, None) for name in ("auto_map", "custom_pipelines")}
        # All entries are set again: those of a model loaded from the Hub point to where it came from.
        self.config.auto_map, self.config.custom_pipelines = dict(AUTO_MAP), dict(CUSTOM_PIPELINES)
        try:
            super().save_pretrained(save_directory, *args, **kwargs)
        finally:
            for name, value in kept.items():
                delattr(self.config, name)
                if value is not None:
                    setattr(self.config, name, value)

    @classmethod
    def from_pretrained_2d(
        cls,
        name: str | os.PathLike,
        *,
        inflation: str = "center",
        num_slices: int = 5,
        num_channels: int = 1,
        num_output_slices: int = 1,
        num_labels: int = 2,
        out_indices: list[int] | None = None,
        decoder_hidden_size: int = 64,
        stem_sizes: list[int] | tuple[int, ...] = (8, 16, 32),
        dtype: str | torch.dtype = "auto",
        attn_implementation: str | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike | None = None,
        output_loading_info: bool = False,
    ):
        """Makes a 3D model from the 2D vision transformer `name`: the encoder is inflated, the decoder is new.

        Args:
            name: a 2D ViT on the Hub (`"facebook/dino-vitb16"`) or a folder in its layout. Safetensors only.
            inflation: `"center"` or `"average"`, see `inflation.py`. num_slices, num_channels, num_output_slices,
                out_indices, decoder_hidden_size, stem_sizes: see [`NeuronViT3DConfig`].
            num_labels: classes, background included.
            dtype: type of the loaded weights; `"auto"` follows the 2D checkpoint's file.
            attn_implementation: `"sdpa"`, `"eager"`, `"flash_attention_2"` ...
            revision, token, cache_dir: as in `from_pretrained`.
            output_loading_info: whether to return also what happened to the weights: a dict of sorted names, "loaded"
                (unchanged), "inflated", "left_out" (of the 2D checkpoint), "initialised" (the decoder: train it).

        Raises:
            ValueError: the checkpoint is of a family that cannot be inflated, or lacks weights of the encoder.
            CheckpointError (an OSError): it cannot be found, reached or read, or its weights are pickled.
        """
        hub = {"revision": revision, "token": token, "cache_dir": cache_dir}
        hub = {key: value for key, value in hub.items() if value is not None}
        config_2d = read_config(name, "a 2D vision transformer of transformers", **hub)
        family = family_of(name, config_2d.model_type)
        mean, std = picture_statistics(name, **hub)
        config = NeuronViT3DConfig(
            backbone_config=config_2d,
            num_slices=num_slices,
            num_channels=num_channels,
            num_output_slices=num_output_slices,
            inflation=inflation,
            num_labels=num_labels,
            out_indices=out_indices,
            decoder_hidden_size=decoder_hidden_size,
            stem_sizes=list(stem_sizes),
            image_mean=mean,
            image_std=std,
        )
        model_2d, unexpected_2d = load_2d(name, config_2d, family, dtype, **hub)
        state_dict_2d = model_2d.state_dict()
        state_dict = inflate_state_dict(
            state_dict_2d, family, num_slices=num_slices, num_channels=num_channels, inflation=inflation
        )
        prefix = "backbone." if cls is NeuronViT3DModel else "encoder.backbone."
        with without_load_report():
            model, info = cls.from_pretrained(
                None,
                config=config,
                state_dict={prefix + key: value for key, value in state_dict.items()},
                dtype=model_2d.dtype,
                attn_implementation=attn_implementation,
                output_loading_info=True,
            )
        wrong = [key for key in info["missing_keys"] if not key.startswith("decoder.")] + list(info["unexpected_keys"])
        if wrong:
            raise ValueError(f"{name}: these weights do not fit the inflated model: {shorten(sorted(wrong))}")
        model.name_or_path = model.config.name_or_path = str(name)
        inflated = kernel_names(family)
        done = {
            "loaded": sorted(state_dict.keys() - set(inflated)),
            "inflated": inflated,
            "left_out": sorted({*state_dict_2d, *unexpected_2d} - state_dict.keys()),
            "initialised": sorted(info["missing_keys"]),
        }
        tell_what_was_inflated(name, done, num_slices, inflation)
        return (model, done) if output_loading_info else model


class NeuronViT3DForSegmentation(NeuronViT3DPreTrainedModel):
    """The encoder with a light decoder on top: labels `num_output_slices` slices around the center of each block."""

    _no_split_modules = ["NeuronViT3DDecoder"]  # noqa: RUF012

    def __init__(self, config: NeuronViT3DConfig):
        super().__init__(config)
        self.encoder = NeuronViT3DModel(config)
        self.decoder = NeuronViT3DDecoder(config)
        self.post_init()
        self._keys_to_ignore_on_load_unexpected = None  # transformers has added the encoder's
        self.freeze_unused()

    def freeze_unused(self) -> None:
        """Freezes what the decoder does not read: distributed training would wait for its gradients."""
        self.encoder.freeze_unused()
        for layer in self.encoder.layers[max(self.config.out_indices) :]:
            layer.requires_grad_(False)
        if self.config.family.final_norm is not None:
            self.encoder.backbone.get_submodule(self.config.family.final_norm).requires_grad_(False)

    def get_position_embeddings(self) -> nn.Parameter | None:
        return self.encoder.get_position_embeddings()

    def resize_position_embeddings(self, new_image_size: int) -> None:
        self.encoder.resize_position_embeddings(new_image_size)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | int | list[int] | None = None,
        output_attentions: bool | None = None,
        **kwargs,
    ) -> SemanticSegmenterOutput:
        """
        Args:
            pixel_values: (batch, channels, slices, height, width), any height and width.
            labels: (batch, num_output_slices, height, width), integer classes; `semantic_loss_ignore_index` voxels are
                left out of the loss.
            output_hidden_states: `True` for all hidden states; an index or a list of them for only these, with None in
                place of the others.
            output_attentions: attention weights of every layer (eager attention).

        Returns:
            loss (scalar, with labels), logits (batch, num_labels, num_output_slices, height, width), hidden_states and
            attentions of the 2D transformer (batch, tokens, hidden_size).
        """
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        outputs = self.encoder(
            pixel_values, output_hidden_states=True, output_attentions=output_attentions, return_dict=True, **kwargs
        )
        hidden_states = outputs.hidden_states
        logits = self.decoder(self.encoder.feature_maps(hidden_states, pixel_values), pixel_values)
        loss = None if labels is None else self.loss_function(logits, labels)
        if labels is None and self.config.lowest_score and not self.training:
            logits = without_low_scores(logits, self.config.lowest_score)
        if isinstance(output_hidden_states, int) and not isinstance(output_hidden_states, bool):
            output_hidden_states = [output_hidden_states]
        if isinstance(output_hidden_states, list | tuple):
            chosen = {range(len(hidden_states))[index] for index in output_hidden_states}
            hidden_states = tuple(state if index in chosen else None for index, state in enumerate(hidden_states))
        return SemanticSegmenterOutput(
            loss=loss,
            logits=logits,
            hidden_states=hidden_states if output_hidden_states not in (False, None) else None,
            attentions=outputs.attentions if output_attentions else None,
        )

    def loss_function(self, logits: torch.Tensor, labels: torch.Tensor, **kwargs) -> torch.Tensor:
        """Computes Dice + cross-entropy, see [`dice_cross_entropy_loss`]."""
        return dice_cross_entropy_loss(logits, labels, ignore_index=self.config.semantic_loss_ignore_index)


class NeuronViT3DModel(NeuronViT3DPreTrainedModel):
    """The encoder: the 2D transformer itself, applied to blocks of slices."""

    _keys_to_ignore_on_load_unexpected = [r"^decoder\."]  # noqa: RUF012  # of a whole segmentation model

    def __init__(self, config: NeuronViT3DConfig):
        super().__init__(config)
        # Built in the precision of the whole model, not in that of the 2D checkpoint's file.
        self.backbone = AutoModel.from_config(config.backbone_config, dtype=torch.get_default_dtype())
        for part in config.family.left_out:
            if hasattr(self.backbone, part):
                setattr(self.backbone, part, None)  # unused: it would be noise in the checkpoint
        # These hooks keep hidden states. If they were installed later, on a first call, a compiled graph would break.
        maybe_install_capturing_hooks(self.backbone)
        self.post_init()
        self.freeze_unused()

    def freeze_unused(self) -> None:
        """Freezes parameters that no gradient reaches (the mask token): distributed training would wait for theirs."""
        for name, parameter in self.backbone.named_parameters():
            if self.config.family.is_unused(name):
                parameter.requires_grad_(False)

    @property
    def layers(self) -> nn.ModuleList:
        """The layers of the 2D transformer, first to last."""
        return self.backbone.get_submodule(self.config.family.layers)

    @property
    def patch_embedding_3d(self) -> torch.Tensor:
        """The kernel of the patch embedding in 3D: a view (hidden, channels, slices, patch, patch)."""
        weight = self.get_input_embeddings().weight
        return weight.unflatten(1, (self.config.num_channels, self.config.num_slices))

    def get_input_embeddings(self) -> nn.Conv2d:
        return self.backbone.get_submodule(self.config.family.kernels[0])

    def get_position_embeddings(self) -> nn.Parameter | None:
        """Returns the learned positions (1, prefix tokens + patches, hidden_size); None if the family has none."""
        return self.config.family.position_embeddings(self.backbone)

    def feature_maps(self, hidden_states: tuple[torch.Tensor, ...], pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """Lays out the hidden states that the decoder reads as feature maps.

        Args:
            hidden_states: all hidden states of a block, as `forward` returns them.
            pixel_values: the block, (batch, channels, slices, height, width); only its size is used.

        Returns:
            Four maps (batch, channels, rows, columns), shallow to deep, as `config.feature_levels` says. If the sides
            of the tile are no multiples of the patch, the maps are those of the padded tile.
        """
        patch, config = self.config.patch_size, self.config
        height, width = (-(-side // patch) * patch for side in pixel_values.shape[-2:])
        return [
            config.family.feature_map(hidden_states[index], level, height, width)
            for index, level in zip(config.out_indices, config.feature_levels, strict=True)
        ]

    @torch.no_grad()
    def resize_position_embeddings(self, new_image_size: int) -> None:
        """Interpolates the learned positions to tiles of another side, in pixels, and keeps the result.

        Positions are interpolated to each tile on every pass anyway. So nothing changes for tiles of this side but the
        time that it takes; for other sides they are then interpolated from the new positions. Rotary positions
        (DINOv3) need no resizing.

        Raises:
            ValueError: the side is no multiple of the patch, or the family's positions belong to pairs of patches
                (BEiT).
        """
        patch = self.config.patch_size
        if new_image_size < patch or new_image_size % patch:
            raise ValueError(f"new_image_size must be a positive multiple of the patch {patch}; got {new_image_size}")
        self.config.family.resize_positions(self.backbone, new_image_size)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        output_hidden_states: bool | int | list[int] | None = None,
        output_attentions: bool | None = None,
        **kwargs,
    ) -> BaseModelOutput:
        """
        Args:
            pixel_values: (batch, channels, slices, height, width). Sides that are no multiples of the patch are padded
                at the bottom and right, by repeating the border.
            output_hidden_states, output_attentions: as in transformers' vision models.

        Returns:
            last_hidden_state (batch, prefix tokens + patches, hidden_size), hidden_states, attentions: the 2D
            transformer's own.
        """
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        channels, slices = self.config.num_channels, self.config.num_slices
        if pixel_values.ndim != 5 or pixel_values.shape[1:3] != (channels, slices):
            raise ValueError(
                f"expected pixel_values (batch, {channels} channels, {slices} slices, height, width), "
                f"got shape {tuple(pixel_values.shape)}"
            )
        images = pad_to_multiple(pixel_values.flatten(1, 2), self.config.patch_size)
        outputs = self.backbone(
            images.to(self.dtype),
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            return_dict=True,
            **self.config.family.options,
            **kwargs,
        )
        return BaseModelOutput(
            last_hidden_state=outputs.last_hidden_state,
            hidden_states=outputs.hidden_states,
            attentions=getattr(outputs, "attentions", None),  # a convolutional model has none
        )


NeuronViT3DModel.register_for_auto_class("AutoModel")
NeuronViT3DForSegmentation.register_for_auto_class("AutoModelForSemanticSegmentation")
