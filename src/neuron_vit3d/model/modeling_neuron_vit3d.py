"""NeuronViT3DForSegmentation: a 2D vision transformer of transformers, inflated to blocks of neighbouring slices.

Reads from large to small: what the models share, the segmentation model, the encoder, the loss. The decoder is in
`decoder.py`.
"""

import contextlib
import inspect
import os

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, SemanticSegmenterOutput
from transformers.utils import can_return_tuple, logging

from .configuration_neuron_vit3d import NeuronViT3DConfig
from .decoder import NeuronViT3DDecoder, pad_to_multiple
from .inflation import inflate_state_dict


logger = logging.get_logger(__name__)

# The 2D families whose base model takes pictures and returns prefix tokens followed by one token a patch.
FAMILIES = ("vit", "deit", "dinov2", "dinov2_with_registers", "dinov3_vit", "beit", "ijepa", "vit_msn")


class NeuronViT3DPreTrainedModel(PreTrainedModel):
    """What the two models share: loading, saving, and which of transformers' abilities they have."""

    config_class = NeuronViT3DConfig
    base_model_prefix = "encoder"
    main_input_name = "pixel_values"
    input_modalities = ("video",)
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        """As in transformers. Loading replaces parameters by new ones that all want gradients: freezes again."""
        loaded = super().from_pretrained(*args, **kwargs)
        (loaded[0] if isinstance(loaded, tuple) else loaded).freeze_unused()
        return loaded

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
        stem_sizes: list[int] | tuple[int, ...] = (16, 32, 64),
        dtype: str | torch.dtype = "auto",
        attn_implementation: str | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike | None = None,
    ):
        """A 3D model whose encoder is the 2D vision transformer `name`, inflated; the decoder is newly initialised.

        Args:
            name: a 2D ViT on the Hub (`"facebook/dino-vitb16"`) or a folder in its layout. Safetensors only.
            inflation: `"center"` or `"average"`, see `inflation.py`.
            num_slices, num_channels, num_output_slices, out_indices, decoder_hidden_size, stem_sizes:
                see [`NeuronViT3DConfig`].
            num_labels: classes, background included.
            dtype: of the loaded weights; `"auto"` follows the 2D checkpoint's file.
            attn_implementation: `"sdpa"`, `"eager"`, `"flash_attention_2"` ...
            revision, token, cache_dir: as in `from_pretrained`.

        Raises:
            ValueError: the checkpoint is of a family that cannot be inflated, or lacks weights of the encoder.
        """
        hub = {"revision": revision, "token": token, "cache_dir": cache_dir}
        hub = {key: value for key, value in hub.items() if value is not None}
        config_2d = AutoConfig.from_pretrained(name, **hub)
        config = NeuronViT3DConfig(
            backbone_config=_check_family(name, config_2d),
            num_slices=num_slices,
            num_channels=num_channels,
            num_output_slices=num_output_slices,
            inflation=inflation,
            num_labels=num_labels,
            out_indices=out_indices,
            decoder_hidden_size=decoder_hidden_size,
            stem_sizes=list(stem_sizes),
        )
        with _without_load_report():
            model_2d, info_2d = AutoModel.from_pretrained(
                name, config=config_2d, dtype=dtype, use_safetensors=True, output_loading_info=True, **hub
            )
        missing_2d = sorted(key for key in info_2d["missing_keys"] if not _is_unused(key))
        if missing_2d:
            raise ValueError(f"{name}: the 2D checkpoint lacks weights of its own encoder: {_shorten(missing_2d)}")
        state_dict = inflate_state_dict(
            model_2d.state_dict(), num_slices=num_slices, num_channels=num_channels, inflation=inflation
        )
        prefix = "backbone." if cls is NeuronViT3DModel else "encoder.backbone."
        with _without_load_report():
            model, info = cls.from_pretrained(
                None,
                config=config,
                state_dict={prefix + key: value for key, value in state_dict.items()},
                dtype=model_2d.dtype,
                attn_implementation=attn_implementation,
                output_loading_info=True,
            )
        wrong = [key for key in info["missing_keys"] if not key.startswith("decoder.")]
        wrong += list(info["unexpected_keys"]) + [str(key) for key in info["mismatched_keys"]]
        if wrong:
            raise ValueError(f"{name}: these weights do not fit the inflated model: {_shorten(sorted(wrong))}")
        model.name_or_path = model.config.name_or_path = str(name)
        logger.info(
            f"{name}: loaded {len(state_dict) - 1} tensors as they are, inflated 1 patch embedding ({inflation}, "
            f"{num_slices} slices), initialised {len(info['missing_keys'])} tensors of the decoder"
        )
        return model


class NeuronViT3DForSegmentation(NeuronViT3DPreTrainedModel):
    """The encoder with a light decoder on top: labels `num_output_slices` slices around the center of each block."""

    def __init__(self, config: NeuronViT3DConfig):
        super().__init__(config)
        self.encoder = NeuronViT3DModel(config)
        self.decoder = NeuronViT3DDecoder(config)
        self.post_init()
        self.freeze_unused()

    def freeze_unused(self) -> None:
        """Freezes what no gradient reaches, or distributed training would wait for it: the decoder reads hidden states
        before the 2D transformer's final norm, and none above the deepest of `out_indices`."""
        self.encoder.freeze_unused()
        backbone, depth = self.encoder.backbone, self.encoder.backbone.config.num_hidden_layers
        layers = next(m for m in backbone.modules() if isinstance(m, nn.ModuleList) and len(m) == depth)
        final_norm = backbone.norm if hasattr(backbone, "norm") else backbone.layernorm
        for module in (*layers[max(self.config.out_indices) :], final_norm):
            module.requires_grad_(False)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | list[int] | None = None,
        output_attentions: bool | None = None,
        **kwargs,
    ) -> SemanticSegmenterOutput:
        """
        Args:
            pixel_values: (batch, channels, slices, height, width), any height and width.
            labels: (batch, num_output_slices, height, width), integer classes; `semantic_loss_ignore_index` voxels are
                left out of the loss.
            output_hidden_states: all hidden states (`True`), or those of these indices.
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
        features = [hidden_states[index] for index in self.config.out_indices]
        logits = self.decoder(features, pixel_values)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels)
        if isinstance(output_hidden_states, (list, tuple)):
            hidden_states = tuple(hidden_states[index] for index in output_hidden_states)
        return SemanticSegmenterOutput(
            loss=loss,
            logits=logits,
            hidden_states=hidden_states if output_hidden_states not in (False, None) else None,
            attentions=outputs.attentions if output_attentions else None,
        )

    def loss_function(self, logits: torch.Tensor, labels: torch.Tensor, **kwargs) -> torch.Tensor:
        """Dice + cross-entropy, see [`dice_cross_entropy_loss`]."""
        return dice_cross_entropy_loss(logits, labels, ignore_index=self.config.semantic_loss_ignore_index)


class NeuronViT3DModel(NeuronViT3DPreTrainedModel):
    """The encoder: the 2D transformer itself, over blocks of slices."""

    def __init__(self, config: NeuronViT3DConfig):
        super().__init__(config)
        # In the precision that the whole model is built in, not in that of the 2D checkpoint's file.
        self.backbone = AutoModel.from_config(config.backbone_config, dtype=torch.get_default_dtype())
        if hasattr(self.backbone, "pooler"):
            self.backbone.pooler = None  # nobody uses it: noise in the checkpoint
        # ViT and DeiT interpolate their positions on request, DINOv2 always, DINOv3 has rotary ones.
        parameters = inspect.signature(self.backbone.forward).parameters
        self._position_kwargs = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in parameters else {}
        self.post_init()
        self.freeze_unused()

    def freeze_unused(self) -> None:
        """Freezes the 2D model's mask token: no gradient reaches it, and distributed training would wait for one."""
        for name, parameter in self.backbone.named_parameters():
            if _is_unused(name):
                parameter.requires_grad_(False)

    @property
    def patch_embedding_3d(self) -> torch.Tensor:
        """The patch embedding's kernel as the 3D one it is: a view (hidden, channels, slices, patch, patch)."""
        weight = self.get_input_embeddings().weight
        return weight.unflatten(1, (self.config.num_channels, self.config.num_slices))

    def get_input_embeddings(self) -> nn.Conv2d:
        embeddings = self.backbone.embeddings.patch_embeddings
        return getattr(embeddings, "projection", embeddings)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        output_hidden_states: bool | list[int] | None = None,
        output_attentions: bool | None = None,
        **kwargs,
    ) -> BaseModelOutput:
        """
        Args:
            pixel_values: (batch, channels, slices, height, width). Sides that are no multiple of the patch are padded
                (bottom and right, by repeating the border).
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
            **self._position_kwargs,
            **kwargs,
        )
        return BaseModelOutput(
            last_hidden_state=outputs.last_hidden_state,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def dice_cross_entropy_loss(
    logits: torch.Tensor, labels: torch.Tensor, *, ignore_index: int = 255, smooth: float = 1.0
) -> torch.Tensor:
    """Cross-entropy plus (1 - soft Dice) of the foreground classes over the batch (Milletari et al. 2016, V-Net).

    Dice is taken over the whole batch, not block by block: most blocks hold little foreground or none.

    Args:
        logits: (batch, num_labels, num_output_slices, height, width).
        labels: (batch, num_output_slices, height, width), integers.
        ignore_index: label of voxels left out.
    """
    if labels.shape != (logits.shape[0], *logits.shape[2:]):
        raise ValueError(
            f"expected labels of shape {(logits.shape[0], *logits.shape[2:])} (batch, slices, height, width), "
            f"got {tuple(labels.shape)}"
        )
    logits, labels = logits.float(), labels.long()
    valid = labels != ignore_index
    count = valid.sum().clamp(min=1)
    cross_entropy = F.cross_entropy(logits, labels, ignore_index=ignore_index, reduction="sum") / count
    probabilities = logits.softmax(1)[:, 1:] * valid.unsqueeze(1)
    target = F.one_hot(labels.where(valid, 0), logits.shape[1]).movedim(-1, 1)[:, 1:] * valid.unsqueeze(1)
    axes = (0, *range(2, logits.ndim))
    overlap = (probabilities * target).sum(axes)
    dice = (2 * overlap + smooth) / (probabilities.sum(axes) + target.sum(axes) + smooth)
    return cross_entropy + (1 - dice).mean()


def _check_family(name, config):
    if config.model_type not in FAMILIES:
        raise ValueError(
            f"{name}: cannot inflate a model of type {config.model_type!r}; 2D vision transformers of these families "
            f"can be: {', '.join(FAMILIES)}"
        )
    return config


def _is_unused(key: str) -> bool:
    """Whether segmentation never reads this weight of a 2D model."""
    return key.startswith("pooler.") or key.endswith("mask_token")


@contextlib.contextmanager
def _without_load_report():
    """Silences transformers' table of missing weights: an unused pooler and a new decoder are what is expected here."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _shorten(keys: list[str], count: int = 4) -> str:
    return ", ".join(keys[:count]) + (f" and {len(keys) - count} more" if len(keys) > count else "")
