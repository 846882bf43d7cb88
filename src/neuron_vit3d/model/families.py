"""The 2D vision transformers that can be inflated, and what differs between their families."""

from transformers import PreTrainedConfig


# The families of transformers whose base model takes pictures and returns prefix tokens followed by one token a patch.
FAMILIES = (
    "vit",
    "deit",
    "dinov2",
    "dinov2_with_registers",
    "dinov3_vit",
    "beit",
    "vit_mae",
    "ijepa",
    "vit_msn",
)


def as_backbone(name: str, config: PreTrainedConfig) -> PreTrainedConfig:
    """The configuration of the transformer that will look at blocks, from the 2D checkpoint's.

    It is the 2D model's own, but for a masked autoencoder: ViTMAEModel hides patches at random and shuffles the rest,
    which is its training, so its encoder is taken as the plain ViT that it is (He et al. 2022, arXiv 2111.06377,
    section 3: "our encoder is a ViT").

    Raises:
        ValueError: the model is of a family that cannot be inflated.
    """
    check_family(name, config.model_type)
    if config.model_type != "vit_mae":
        return config
    from transformers import ViTConfig

    own = ViTConfig().to_dict().keys() & config.to_dict().keys()
    shared = {key: getattr(config, key) for key in own if key not in ("model_type", "architectures")}
    return ViTConfig(**shared)


def check_family(name: str, model_type: str | None) -> None:
    """Raises ValueError where a model of this type cannot be inflated."""
    if model_type not in FAMILIES:
        raise ValueError(
            f"{name}: cannot inflate a model of type {model_type!r}; 2D vision transformers of these families can be: "
            f"{', '.join(FAMILIES)}"
        )


def is_unused(key: str) -> bool:
    """Whether segmentation never reads this weight of a 2D model: a pooler for classification, a mask token for pre-training."""
    return key.startswith("pooler.") or key.endswith("mask_token")
