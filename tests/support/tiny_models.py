"""Tiny 2D transformers with random weights, and the 3D models made of them: what the tests of the model share."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from neuron_vit3d import NeuronViT3DConfig, NeuronViT3DForSegmentation


TILE = 32  # pre-training size of the tiny 2D models, in pixels
PATCH = 8


@dataclass(frozen=True)
class Row:
    """What the tests know of a family of 2D models, beside its entry in `backbones.py`.

    Attributes:
        prefix_tokens: tokens before those of the patches.
        prefix_positions: those of them that have a learned position; None: all.
        positions: "learned", "rotary" or "pairs" (of patches).
        sizes: of the tiny model, beside those that all have.
        variants: changes to the configuration that give the model other weights.
    """

    prefix_tokens: int = 1
    prefix_positions: int | None = None
    positions: str = "learned"
    sizes: dict = field(default_factory=lambda: {"intermediate_size": 64})
    variants: tuple[dict, ...] = ()

    def positions_at(self, side: int) -> int:
        """Learned positions of a model that was trained on pictures of this side, in pixels."""
        prefix = self.prefix_tokens if self.prefix_positions is None else self.prefix_positions
        return prefix + (side // PATCH) ** 2


ROWS = {
    "vit": Row(),
    "deit": Row(prefix_tokens=2),
    "dinov2": Row(sizes={}, variants=({"use_swiglu_ffn": True, "use_mask_token": False},)),
    "dinov2_with_registers": Row(prefix_tokens=5, prefix_positions=1, sizes={}),
    "dinov3_vit": Row(
        prefix_tokens=3,
        positions="rotary",
        sizes={"intermediate_size": 64, "num_register_tokens": 2},
        variants=({"use_gated_mlp": True, "num_register_tokens": 0},),
    ),
    "beit": Row(
        positions="pairs",
        variants=(
            {"use_mean_pooling": False, "use_relative_position_bias": True, "use_mask_token": True},
            {"use_absolute_position_embeddings": True, "use_shared_relative_position_bias": True},
        ),
    ),
    "vit_mae": Row(),
    "ijepa": Row(prefix_tokens=0),
    "vit_msn": Row(),
}


def config_2d(family: str = "vit", **changes) -> PreTrainedConfig:
    """Configuration of a 2D transformer, 32 wide and 4 layers deep, for pictures of 32 x 32 in patches of 8 x 8."""
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "image_size": TILE,
        "patch_size": PATCH,
    }
    return AutoConfig.for_model(family, **{**sizes, **ROWS[family].sizes, **changes})


def model_2d(family: str = "vit", *, seed: int = 0, **changes) -> PreTrainedModel:
    """A 2D transformer whose every weight is random: none is left at zero or one, where a mistake would not show."""
    model = AutoModel.from_config(config_2d(family, **changes)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.1, generator=generator)
    return model


def save_2d(folder: Path, family: str = "vit", **changes) -> Path:
    """Saves `model_2d` and returns its folder."""
    model_2d(family, **changes).save_pretrained(folder)
    return folder


def tiny_config(family: str = "vit", **changes) -> NeuronViT3DConfig:
    """A segmentation model's configuration around `config_2d`: blocks of 3 slices."""
    sizes = {"num_slices": 3, "decoder_hidden_size": 8, "stem_sizes": [4, 8, 8]}
    return NeuronViT3DConfig(backbone_config=config_2d(family), **{**sizes, **changes})


def tiny_model(family: str = "vit", *, seed: int = 0, **changes) -> NeuronViT3DForSegmentation:
    """A segmentation model in evaluation mode whose every weight is random, so that its logits are of the order of
    one."""
    torch.manual_seed(seed)
    model = NeuronViT3DForSegmentation(tiny_config(family, **changes))
    for parameter in model.encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    for module in model.decoder.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, torch.nn.BatchNorm2d):  # as if it had been trained
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


def tiny_block(*, seed: int = 0, batch: int = 2, channels: int = 1, slices: int = 3, height=TILE, width=TILE):
    """Pixel values (batch, channels, slices, height, width), normally distributed."""
    return torch.randn(batch, channels, slices, height, width, generator=torch.Generator().manual_seed(seed))


def write_dino_checkpoint(folder, *, hidden_size=768, layers=12, heads=12, image_size=224, patch_size=16):
    """Random weights under the names and in the config.json of facebook/dino-vitb16. Returns config and tensors."""
    config = {
        "architectures": ["ViTModel"],
        "attention_probs_dropout_prob": 0.0,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "hidden_size": hidden_size,
        "image_size": image_size,
        "initializer_range": 0.02,
        "intermediate_size": 4 * hidden_size,
        "layer_norm_eps": 1e-12,
        "model_type": "vit",
        "num_attention_heads": heads,
        "num_channels": 3,
        "num_hidden_layers": layers,
        "patch_size": patch_size,
        "qkv_bias": True,
        "transformers_version": "4.11.0.dev0",
    }
    shapes = {
        "embeddings.cls_token": (1, 1, hidden_size),
        "embeddings.position_embeddings": (1, (image_size // patch_size) ** 2 + 1, hidden_size),
        "embeddings.patch_embeddings.projection.weight": (hidden_size, 3, patch_size, patch_size),
        "embeddings.patch_embeddings.projection.bias": (hidden_size,),
        "layernorm.weight": (hidden_size,),
        "layernorm.bias": (hidden_size,),
    }
    linear = {
        "attention.attention.query": (hidden_size, hidden_size),
        "attention.attention.key": (hidden_size, hidden_size),
        "attention.attention.value": (hidden_size, hidden_size),
        "attention.output.dense": (hidden_size, hidden_size),
        "intermediate.dense": (4 * hidden_size, hidden_size),
        "output.dense": (hidden_size, 4 * hidden_size),
        "layernorm_before": (hidden_size,),
        "layernorm_after": (hidden_size,),
    }
    for layer in range(layers):
        for name, shape in linear.items():
            shapes[f"encoder.layer.{layer}.{name}.weight"] = shape
            shapes[f"encoder.layer.{layer}.{name}.bias"] = shape[:1]
    generator = torch.Generator().manual_seed(0)
    weights = {name: 0.05 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    folder.joinpath("config.json").write_text(json.dumps(config))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return config, weights
