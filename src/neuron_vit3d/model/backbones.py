"""The 2D models that can be inflated: each family has one entry with all that the package knows about it.

To add a family, add an entry to `FAMILIES`. The fields of an entry default to those of ViT; an entry names what
differs. A family whose models do not return tokens of one size overrides the methods of `Family` in a class of its
own.

The decoder reads feature maps: (batch, channels, rows, columns), like `feature_maps` of transformers'
`BackboneOutput`. The `Level` of a map gives its channels and its stride, like timm's `FeatureInfo`, so that one
decoder serves every family.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class Level:
    """Size of a hidden state that is laid out as a feature map.

    Attributes:
        channels: channels of the map.
        stride: side of a cell of the map, in pixels of the tile.
    """

    channels: int
    stride: int


@dataclass(frozen=True)
class Family:
    """What differs between families of 2D models. The defaults are those of ViT.

    Attributes:
        model_type: name of the family in a config.json.
        kernels: convolutions that read the picture, by their names in the 2D model. These are inflated.
        layers: name of the list of layers in the 2D model. The hidden state 0 is the input of the first layer, n the
            output of the n-th.
        final_norm: norm after the last layer, which hidden states do not pass; None: there is none.
        left_out: parts of the 2D model that segmentation does not need.
        unused: parameters that no gradient reaches, since only pre-training uses them.
        positions: name of the learned positions (1, prefix tokens + patches, hidden_size) in the 2D model; None: it
            has no learned positions.
        options: arguments of every forward pass of the 2D model, so that it takes tiles of any size.
        why_not_resized: reason why positions of this family cannot be resized permanently, to follow "positions of
            'vit' " in the error.
        read_as: family whose code reads the pictures, if it is another one.
    """

    model_type: str
    kernels: tuple[str, ...] = ("embeddings.patch_embeddings.projection",)
    layers: str = "layers"
    final_norm: str | None = "layernorm"
    left_out: tuple[str, ...] = ("pooler",)
    unused: tuple[str, ...] = ("embeddings.mask_token",)
    positions: str | None = "embeddings.position_embeddings"
    options: Mapping[str, Any] = field(default_factory=lambda: {"interpolate_pos_encoding": True})
    why_not_resized: str | None = None
    read_as: str | None = None

    # -- what a configuration says ------------------------------------------------------------------------------------

    def levels(self, config: PreTrainedConfig) -> tuple[Level, ...]:
        """Returns the level of every hidden state, from the input of the first layer to the output of the last."""
        return (Level(config.hidden_size, _side(config.patch_size)),) * (config.num_hidden_layers + 1)

    def as_backbone(self, config: PreTrainedConfig) -> PreTrainedConfig:
        """Turns the configuration of a 2D checkpoint into that of the model that reads blocks."""
        if self.read_as is None:
            return config
        other = AutoConfig.for_model(self.read_as)
        own = other.to_dict().keys() & config.to_dict().keys()
        shared = {key: getattr(config, key) for key in own if key not in ("model_type", "architectures")}
        return type(other)(**shared)

    def is_unused(self, key: str) -> bool:
        """Tells whether segmentation never uses the weight of this name in the 2D model."""
        return key in self.unused or key.startswith(tuple(f"{part}." for part in self.left_out))

    # -- what a model does --------------------------------------------------------------------------------------------

    def feature_map(self, hidden_state: torch.Tensor, level: Level, height: int, width: int) -> torch.Tensor:
        """Lays out a hidden state as a feature map.

        Args:
            hidden_state: (batch, prefix tokens + patches, channels). Prefix tokens (class, distillation, registers)
                come first, then the patches row by row.
            level: level of this hidden state.
            height, width: sides of the tile in pixels, multiples of the stride.

        Returns:
            (batch, channels, height / stride, width / stride): a view, so the channels of a cell lie together in
            memory.
        """
        rows, columns = height // level.stride, width // level.stride
        patches = hidden_state[:, hidden_state.shape[1] - rows * columns :]
        return patches.transpose(1, 2).unflatten(2, (rows, columns))

    def position_embeddings(self, backbone: PreTrainedModel) -> nn.Parameter | None:
        """Returns the learned positions of a model; None if it has none."""
        if self.positions is None:
            return None
        home, _, name = self.positions.rpartition(".")
        return getattr(backbone.get_submodule(home), name, None)

    def resize_positions(self, backbone: PreTrainedModel, side: int) -> None:
        """Interpolates the learned positions to tiles of another side, in pixels, and keeps the result.

        Raises:
            ValueError: the positions of this family cannot be resized.
        """
        if self.why_not_resized:
            raise ValueError(f"positions of {self.model_type!r} {self.why_not_resized}")
        positions = self.position_embeddings(backbone)
        if self.positions is not None and positions is not None:
            home, _, name = self.positions.rpartition(".")
            patch, embeddings = _side(backbone.config.patch_size), backbone.get_submodule(home)
            prefix = positions.shape[1] - (_side(backbone.config.image_size) // patch) ** 2
            tokens = positions.new_empty(1, prefix + (side // patch) ** 2, positions.shape[2])
            resized = embeddings.interpolate_pos_encoding(tokens, side, side)
            setattr(embeddings, name, nn.Parameter(resized.clone(), positions.requires_grad))
        backbone.config.image_size = side


# -- the families --------------------------------------------------------------------------------------------------

_ENTRIES = (
    Family("vit"),
    Family("deit"),
    Family("dinov2", layers="encoder.layer", options={}),  # always interpolates its positions
    Family("dinov2_with_registers", layers="encoder.layer", options={}),
    Family(
        "dinov3_vit",
        kernels=("embeddings.patch_embeddings",),
        layers="model.layer",
        final_norm="norm",
        positions=None,  # rotary
        options={},
    ),
    Family("beit", why_not_resized="belong to pairs of patches and are interpolated on every pass"),
    # The model of a masked autoencoder hides random patches and shuffles the rest, which only serves its training. Its
    # encoder is a plain ViT (He et al. 2022, arXiv 2111.06377, section 3: "our encoder is a ViT").
    Family("vit_mae", read_as="vit"),
    Family("ijepa"),
    Family("vit_msn"),
)
FAMILIES = {family.model_type: family for family in _ENTRIES}


def family_of(name: str | os.PathLike, model_type: str | None) -> Family:
    """Returns the entry of a family.

    Args:
        name: name of the model in the error.
        model_type: name of the family in a config.json.

    Raises:
        ValueError: models of this type cannot be inflated.
    """
    if model_type not in FAMILIES:
        raise ValueError(
            f"{name}: cannot inflate a model of type {model_type!r}; 2D vision transformers of these families can be: "
            f"{', '.join(FAMILIES)}"
        )
    return FAMILIES[model_type]


def _side(size: int | list[int] | tuple[int, ...]) -> int:
    """Returns the side of a square that a configuration gives as one number or as two."""
    return size if isinstance(size, int) else size[0]
