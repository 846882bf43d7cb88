"""Configuration of the model: that of a 2D vision transformer, the depth of a block, and the decoder's sizes."""

import copy
import dataclasses
import difflib
import os
from typing import cast

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec
from transformers.utils import logging

from .backbones import Family, Level, family_of
from .inflation import INFLATIONS


logger = logging.get_logger(__name__)

# Modules and names of the Auto classes in a checkpoint's folder, for `trust_remote_code=True`.
AUTO_MAP = {
    "AutoConfig": "configuration_neuron_vit3d.NeuronViT3DConfig",
    "AutoModel": "modeling_neuron_vit3d.NeuronViT3DModel",
    "AutoModelForSemanticSegmentation": "modeling_neuron_vit3d.NeuronViT3DForSegmentation",
    "AutoImageProcessor": "image_processing_neuron_vit3d.NeuronViT3DImageProcessor",
}
CUSTOM_PIPELINES = {
    "neuron-segmentation": {
        "impl": "pipeline_neuron_vit3d.NeuronSegmentationPipeline",
        "pt": ["AutoModelForSemanticSegmentation"],
        "type": "image",
    }
}

# Keys that a config.json may hold beside the fields: transformers (also later versions) or users write them.
_OTHER_KEYS = {
    "_name_or_path",
    "attn_implementation",
    "auto_map",
    "custom_pipelines",
    "experts_implementation",
    "model_type",
    "name_or_path",
    "num_labels",
    "output_attentions",
    "per_layer_config",
    "quantization_config",
    "torch_dtype",
    "use_cache",
}


@strict
class NeuronViT3DConfig(PreTrainedConfig):
    r"""
    Configuration of [`NeuronViT3DModel`] and [`NeuronViT3DForSegmentation`].

    Args:
        backbone_config (`dict` or `PreTrainedConfig`, *optional*, defaults to a ViT-B/16):
            The 2D vision transformer whose layers the model uses. Its `num_channels` is set to `num_channels *
            num_slices`, since the slices of a block enter the patch embedding as channels.
        num_slices (`int`, *optional*, defaults to 5):
            Neighbouring slices in a block. Must be odd, so that there is a center slice.
        num_channels (`int`, *optional*, defaults to 1):
            Channels of the microscopy image.
        num_output_slices (`int`, *optional*, defaults to 1):
            Slices around the center that are labelled in one pass. Must be odd, and at most `num_slices`.
        inflation (`str`, *optional*, defaults to `"center"`):
            How the 2D patch embedding became 3D: `"center"` or `"average"`. This field is a record only:
            `from_pretrained_2d` inflates.
        out_indices (`list[int]`, *optional*):
            The hidden states that the decoder reads, shallow to deep: 0 is the embedding, `num_hidden_layers` the
            output of the last layer. By default four, evenly spread over the depth.
        decoder_hidden_size (`int`, *optional*, defaults to 64):
            Channels of the decoder's pyramid. Must be a multiple of 4.
        stem_sizes (`list[int]`, *optional*, defaults to `[8, 16, 32]`):
            Channels at strides 1, 2, 4 of the convolutional stem, which gives the decoder full resolution. With an
            empty list there is no stem, and the decoder reads the tokens alone, as in the paper.
        initializer_range (`float`, *optional*, defaults to 0.02):
            Standard deviation of the decoder's initial linear weights.
        semantic_loss_ignore_index (`int`, *optional*, defaults to 255):
            Label of voxels that the loss leaves out.
        image_mean, image_std (`float` or `list[float]`, *optional*, default to 0.5):
            Mean and standard deviation that the 2D model's pictures were normalised with, one number or one per
            colour. The image processor of this model normalises blocks in the same way, so that the first layer gets
            what it was trained on.
        lowest_score (`float`, *optional*, defaults to 0):
            Voxels whose score is below it get a score of exactly 0. Such scores tell nothing of a stack's noise, so
            their threshold is 0.5 and not one that follows the noise: right for a model that was taught the stacks of
            one lab, which is as sure of each of them.

    Raises:
        ValueError: sizes that do not fit together, or a field that does not exist. (An unknown field in a config.json
            is kept, with a warning: a later version, or a user, may have written it.)
    """

    model_type = "neuron_vit3d"
    sub_configs_defaults = {  # noqa: RUF012
        "backbone_config": SubConfigSpec(config_class=AutoConfig, model_type="vit"),
    }

    backbone_config: dict | PreTrainedConfig | None = None
    num_slices: int = 5
    num_channels: int = 1
    num_output_slices: int = 1
    inflation: str = "center"
    out_indices: list[int] | tuple[int, ...] | None = None
    decoder_hidden_size: int = 64
    stem_sizes: list[int] | tuple[int, ...] = (8, 16, 32)
    initializer_range: float = 0.02
    semantic_loss_ignore_index: int = 255
    image_mean: float | int | list[float] | tuple[float, ...] = 0.5
    image_std: float | int | list[float] | tuple[float, ...] = 0.5
    lowest_score: float | int = 0.0

    def __post_init__(self, **kwargs):
        for complaint in self.other_fields(kwargs).values():
            # Otherwise it would be ignored silently, and the model would not be the one asked for.
            raise ValueError(f"NeuronViT3DConfig has no field {complaint}")
        if not __name__.startswith("transformers_modules."):
            # The package has registered its own pipeline. For a checkpoint's pipeline transformers would ask whether
            # to trust its code.
            kwargs.pop("custom_pipelines", None)
        # mypy does not know the type of this field of transformers' class.
        if self.id2label is None and kwargs.get("num_labels") in (None, 2):  # type: ignore[has-type]
            self.id2label = {0: "background", 1: "neuron"}
        if isinstance(self.backbone_config, dict):
            family_of("backbone_config", self.backbone_config.get("model_type"))
        # The caller's 2D configuration stays as it is: a copy becomes the 3D one.
        self.backbone_config = copy.deepcopy(self.backbone_config)
        super().__post_init__(**kwargs)
        self.backbone_config = self.family.as_backbone(self.backbone_config)
        self.label2id = {name: index for index, name in self.id2label.items()}
        self._backbone.name_or_path = ""  # the path on the author's disk is private
        if self.out_indices is None:
            depth = len(self.family.levels(self.backbone_config)) - 1
            self.out_indices = [max(1, round(depth * part / 4)) for part in (1, 2, 3, 4)]
        self.out_indices = list(self.out_indices)
        self.stem_sizes = list(self.stem_sizes)
        if not 0 <= self.lowest_score < 0.5:
            raise ValueError(f"lowest_score must be at least 0 and below 0.5; got {self.lowest_score}")
        self.settle()

    def settle(self):
        """Checks that the fields fit together, and sets those that depend on others.

        The model calls it again, since fields may be changed later.

        The checks are called here so that they raise a ValueError; `strict` would wrap it in an error that is none.
        """
        self.validate_slices()
        self.validate_decoder()
        self._backbone.num_channels = self.num_channels * self.num_slices

    @classmethod
    def other_fields(cls, values: dict) -> dict[str, str]:
        """Finds fields that a configuration does not have, each with words that name it and the nearest real one."""
        known = {field.name for field in dataclasses.fields(cls)}
        found = {}
        for key, value in values.items():
            if key not in known | _OTHER_KEYS and not key.startswith("_"):  # those are transformers' own
                near = difflib.get_close_matches(key, known, n=1)
                found[key] = f"{key!r} (value {value!r})" + (f"; did you mean {near[0]}?" if near else "")
        return found

    @classmethod
    def from_dict(cls, config_dict: dict, **kwargs):
        """Works as in transformers, but keeps unknown fields, with a warning, so that what was saved can be loaded."""
        others = cls.other_fields(config_dict)
        loaded = super().from_dict({key: config_dict[key] for key in config_dict if key not in others}, **kwargs)
        for key in others:
            setattr(loaded[0] if isinstance(loaded, tuple) else loaded, key, config_dict[key])
        if others:
            logger.warning(
                f"kept, but without effect: NeuronViT3DConfig has no field {', no field '.join(others.values())}"
            )
        return loaded

    @classmethod
    def from_json_file(cls, json_file: str | os.PathLike):
        """Works as in transformers, but treats unknown fields like `from_dict`."""
        return cls.from_dict(cls._dict_from_json_file(json_file))

    def validate_slices(self):
        """Checks that the numbers of slices are odd and positive, and that the output fits into the block."""
        if self.num_channels < 1:
            raise ValueError(f"num_channels must be at least 1; got {self.num_channels}")
        for name in ("num_slices", "num_output_slices"):
            value = getattr(self, name)
            if value < 1 or value % 2 == 0:
                raise ValueError(f"{name} must be odd and positive, so that there is a center slice; got {value}")
        if self.num_output_slices > self.num_slices:
            raise ValueError(
                f"num_output_slices must be at most num_slices = {self.num_slices}; got {self.num_output_slices}"
            )

    def validate_decoder(self):
        """Checks that the decoder's sizes fit together and to the backbone."""
        if self.num_labels < 2:
            raise ValueError(f"num_labels must be at least 2, background included; got {self.num_labels}")
        if self.inflation not in INFLATIONS:
            raise ValueError(f"inflation must be one of {', '.join(INFLATIONS)}; got {self.inflation!r}")
        if self.decoder_hidden_size < 4 or self.decoder_hidden_size % 4:
            raise ValueError(f"decoder_hidden_size must be a positive multiple of 4; got {self.decoder_hidden_size}")
        if len(self.stem_sizes) not in (0, 3) or any(size < 1 for size in self.stem_sizes):
            raise ValueError(
                f"stem_sizes must be empty or three channel counts for strides 1, 2, 4; got {self.stem_sizes}"
            )
        depth = len(self.family.levels(self.backbone_config)) - 1
        indices = list(self.out_indices or ())
        if len(indices) != 4 or any(not 0 <= index <= depth for index in indices):
            raise ValueError(f"out_indices must be four numbers in 0..{depth}; got {indices}")
        for name in ("image_mean", "image_std"):
            value = getattr(self, name)
            if isinstance(value, list | tuple) and not value:
                raise ValueError(f"{name} must be a number, or a list with one number per colour; got an empty list")

    @property
    def _backbone(self) -> PreTrainedConfig:
        """Configuration of the 2D model; it is an object as soon as `__post_init__` has run."""
        return cast(PreTrainedConfig, self.backbone_config)

    @property
    def family(self) -> Family:
        """Entry of the 2D model's family in `backbones.py`."""
        return family_of("backbone_config", self._backbone.model_type)

    @property
    def feature_levels(self) -> tuple[Level, ...]:
        """Channels and stride of the four feature maps that the decoder reads, shallow to deep."""
        levels = self.family.levels(self.backbone_config)
        return tuple(levels[index] for index in self.out_indices or ())

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels: the sides of a tile are padded to multiples of it."""
        return max(level.stride for level in self.family.levels(self.backbone_config))

    @property
    def image_size(self) -> int:
        """Side of the pictures the 2D model was pre-trained on, in pixels."""
        size = self._backbone.image_size
        return size if isinstance(size, int) else size[0]


NeuronViT3DConfig.register_for_auto_class()
