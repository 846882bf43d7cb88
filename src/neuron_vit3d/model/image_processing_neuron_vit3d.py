"""The image processor: cuts a normalised volume into blocks, and stitches the predicted slices to scores."""

import difflib
import inspect

import numpy as np
import torch
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from transformers.utils import logging

from .blocks import BlockGrid, check_slice_overlap, cut, stitch, tile_side
from .intensities import DEFAULT_PERCENTILES, METHODS, IntensityRange, compressed


logger = logging.get_logger(__name__)
# Further keys of preprocessor_config.json that transformers writes; names that begin with "_" are allowed, too.
_OTHER_KEYS = {"image_processor_type", "feature_extractor_type", "processor_class", "auto_map", "custom_pipelines"}


class NeuronViT3DImageProcessor(BaseImageProcessor):
    r"""
    Args:
        num_slices, num_channels, num_output_slices: of the model, see [`NeuronViT3DConfig`].
        tile_size (`int`, defaults to 224): approximate side of a tile in pixels. The actual side lies between 5/6 and
            4/3 of it and covers a plane with the fewest pixels, see [`tile_side`]. A smaller plane is one tile.
        tile_overlap (`int`, defaults to 32): least number of pixels that neighbouring tiles share.
        slice_overlap (`int`, defaults to 0): least number of labelled slices that neighbouring blocks share; their
            scores are averaged. Must be less than `num_output_slices`.
        lower_percentile (`float`, defaults to 1.0): this percentile of the volume becomes black (0).
        upper_percentile (`float`, defaults to 99.5): this percentile of the volume's maximum projection becomes white
            (1). Neurites fill a thousandth of a volume but a few hundredths of its projection, so the projection shows
            how bright they are, whatever the depth. With robust intensities it is a percentile of the projection's
            cells.
        image_mean, image_std (`float` or `list[float]`, default to 0.5): intensities in [0, 1] are then normalised as
            the 2D model's pictures were; one number, or one per channel.
        patch_size (`int`, defaults to 16): patch size of the model; tiles consist of whole patches.
        intensities (`str`, defaults to "percentiles"): "percentiles" scales linearly and clips, as older checkpoints
            do. "capped" does the same, but white is at most three times the robust one. "robust" finds black and white
            such that one bright soma, scale bar or slice does not move them, and compresses what is brighter than
            white. See `intensities.py`.

    Raises:
        ValueError: impossible values, or an option that does not exist. (An unknown option in a
            preprocessor_config.json is kept, with a warning: a later version, or a user, may have written it.)
    """

    model_input_names = ["pixel_values"]  # noqa: RUF012

    def __init__(
        self,
        num_slices: int = 5,
        num_channels: int = 1,
        num_output_slices: int = 1,
        tile_size: int = 224,
        tile_overlap: int = 32,
        lower_percentile: float = 1.0,
        upper_percentile: float = 99.5,
        image_mean: float | list[float] = 0.5,
        image_std: float | list[float] = 0.5,
        slice_overlap: int = 0,
        patch_size: int = 16,
        intensities: str = "percentiles",
        **kwargs,
    ):
        for complaint in self.other_options(kwargs).values():
            # Otherwise it would be ignored silently, and the blocks would not be those asked for.
            raise ValueError(f"the image processor has no option {complaint}")
        super().__init__(**kwargs)
        self.num_slices = num_slices
        self.num_channels = num_channels
        self.num_output_slices = num_output_slices
        self.tile_size = tile_size
        self.tile_overlap = tile_overlap
        self.slice_overlap = slice_overlap
        self.patch_size = patch_size
        self.lower_percentile = lower_percentile
        self.upper_percentile = upper_percentile
        self.image_mean = image_mean
        self.image_std = image_std
        self.intensities = intensities
        if intensities not in METHODS:
            raise ValueError(f"intensities must be one of {', '.join(METHODS)}; got {intensities!r}")
        check_slice_overlap(slice_overlap, num_output_slices)
        if not (np.asarray(image_std) > 0).all():
            raise ValueError(f"image_std must be positive; got {image_std}")

    @classmethod
    def for_model(cls, config, image_mean=None, image_std=None, **kwargs) -> "NeuronViT3DImageProcessor":
        """Makes the processor of a model with this [`NeuronViT3DConfig`].

        By default it normalises with the mean and standard deviation in the configuration, those of the 2D model's
        pictures.

        Args:
            config: the model's configuration.
            image_mean, image_std: replace the configuration's; a number or one per colour. If the image has as many
                channels as the pictures had colours, each channel gets its own; otherwise they are averaged, as the
                kernels of the colours are summed.
            kwargs: options of the processor: tile_size, tile_overlap, slice_overlap, lower_percentile,
                upper_percentile, and intensities (with the default percentiles of that method where none are given).
        """
        known = {"tile_size", "tile_overlap", "slice_overlap", "lower_percentile", "upper_percentile", "intensities"}
        if unknown := kwargs.keys() - known:
            raise ValueError(f"the image processor has no option {min(unknown)!r}")
        lower, upper = DEFAULT_PERCENTILES.get(kwargs.get("intensities", "percentiles"), (None, None))
        kwargs = {"lower_percentile": lower, "upper_percentile": upper, **kwargs}
        mean = config.image_mean if image_mean is None else image_mean
        std = config.image_std if image_std is None else image_std
        return cls(
            num_slices=config.num_slices,
            num_channels=config.num_channels,
            num_output_slices=config.num_output_slices,
            patch_size=config.patch_size,
            image_mean=_by_channel(mean, config.num_channels),
            image_std=_by_channel(std, config.num_channels),
            **kwargs,
        )

    @classmethod
    def other_options(cls, values: dict) -> dict[str, str]:
        """Finds unknown options, each with words that name it and the nearest real one."""
        known = [name for name in inspect.signature(cls.__init__).parameters if name not in ("self", "kwargs")]
        found = {}
        for key, value in values.items():
            if key not in known and key not in _OTHER_KEYS and not key.startswith("_"):
                near = difflib.get_close_matches(key, known, n=1)
                found[key] = f"{key!r} (value {value!r})" + (f"; did you mean {near[0]}?" if near else "")
        return found

    @classmethod
    def from_dict(cls, image_processor_dict: dict, **kwargs):
        """Works as in transformers, but keeps unknown options, with a warning, so that what was saved can be loaded.

        Raises:
            ValueError: the values belong to another kind of model, such as a 2D checkpoint.
        """
        kind = image_processor_dict.get("image_processor_type", cls.__name__)
        if kind != cls.__name__:
            raise ValueError(
                f"expected the values of a {cls.__name__}, found those of a {kind}; make the one that belongs to a "
                f"model by {cls.__name__}.for_model(model.config)"
            )
        others = cls.other_options(image_processor_dict)
        known = {key: value for key, value in image_processor_dict.items() if key not in others}
        loaded = super().from_dict(known, **kwargs)
        for key in others:
            setattr(loaded[0] if isinstance(loaded, tuple) else loaded, key, image_processor_dict[key])
        if others:
            told = ", no option ".join(others.values())
            logger.warning(f"kept, but without effect: the image processor has no option {told}")
        return loaded

    def fit_to(self, config) -> None:
        """Takes over the patch size of a model with this configuration; older checkpoints do not store it here.

        Raises ValueError if this processor's blocks do not fit the model.
        """
        for name in ("num_slices", "num_channels", "num_output_slices"):
            if getattr(self, name) != getattr(config, name):
                raise ValueError(
                    f"the image processor has {name} = {getattr(self, name)}, the model {getattr(config, name)}: they "
                    "belong to different checkpoints"
                )
        self.patch_size = config.patch_size

    def preprocess(self, volume: np.ndarray, return_tensors: str | None = "pt", **kwargs) -> BatchFeature:
        """Turns a volume (slices, height, width), or with channels first, into `pixel_values`.

        Returns:
            `pixel_values` (blocks, channels, num_slices, tile height, tile width), float32, in the order of [`cut`];
            and `volume_shape`, which [`post_process_segmentation`] needs to stitch the predictions.
        """
        if kwargs:
            raise ValueError(f"the image processor takes no option {min(kwargs)!r} with a volume; set it before")
        volume = self.with_channels(volume)
        normalised = self.standardise(self.scale(volume, self.intensity_range(volume)))
        blocks = cut(normalised, self.grid(volume.shape[1:]))
        data = {"pixel_values": blocks, "volume_shape": np.array(volume.shape[1:])}
        return BatchFeature(data=data, tensor_type=return_tensors)

    def post_process_segmentation(self, logits: torch.Tensor, volume_shape) -> np.ndarray:
        """Turns logits of all blocks into scores (slices, height, width), float32.

        The logits are (blocks, num_labels, num_output_slices, ...).
        """
        depth, height, width = (int(side) for side in volume_shape)
        grid = self.grid((depth, height, width))
        return stitch(scores_from_logits(logits).cpu().numpy()[:, None], grid)[0]

    def intensity_range(self, volume: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Finds black and white of each channel of a volume (channels, slices, height, width) in memory."""
        collected = IntensityRange(volume.shape[1:], self.intensities)
        collected.add(volume)
        return collected.result(self.lower_percentile, self.upper_percentile)

    def scale(self, volume: np.ndarray, intensities: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Scales a volume (channels, ...) of any real type to float32 in [0, 1], by each channel's black and white."""
        wide = np.result_type(volume.dtype, np.float32)  # 32-bit integers and float64 keep their digits until scaled
        black, white = (np.reshape(side, (-1,) + (1,) * (volume.ndim - 1)).astype(wide) for side in intensities)
        scaled = volume.astype(wide)  # one copy, then in place: new memory costs more than arithmetic
        scaled -= black
        scaled /= white - black
        if self.intensities == "robust":
            return compressed(scaled).astype(np.float32, copy=False)
        return np.clip(scaled, 0.0, 1.0, out=scaled).astype(np.float32, copy=False)

    def standardise(self, scaled: np.ndarray) -> np.ndarray:
        """Normalises intensities in [0, 1] (channels, ...) as the 2D model's pictures were."""
        mean, std = (
            np.reshape(np.asarray(value, np.float32), (-1,) + (1,) * (scaled.ndim - 1))
            for value in (self.image_mean, self.image_std)
        )
        standardised = scaled - mean
        standardised /= std
        return standardised

    def grid(
        self,
        shape: tuple[int, int, int],
        *,
        tile_size: int | None = None,
        tile_overlap: int | None = None,
        slice_overlap: int | None = None,
    ) -> BlockGrid:
        """Returns the grid of the blocks of a volume of this shape (slices, height, width).

        Options that are given replace the processor's own.
        """
        tile_size = self.tile_size if tile_size is None else tile_size
        overlap = self.tile_overlap if tile_overlap is None else tile_overlap
        depth, height, width = shape
        tile = (
            tile_side(height, tile_size, overlap, self.patch_size),
            tile_side(width, tile_size, overlap, self.patch_size),
        )
        slice_overlap = self.slice_overlap if slice_overlap is None else slice_overlap
        sides = (depth, height, width)
        return BlockGrid(sides, tile, (overlap, overlap), self.num_slices, self.num_output_slices, slice_overlap)

    def with_channels(self, volume: np.ndarray) -> np.ndarray:
        """Checks a volume, and adds the channel axis: (slices, height, width) becomes (1, slices, height, width)."""
        volume = np.asarray(volume)
        if volume.ndim == 3:
            volume = volume[None]
        if volume.ndim != 4 or volume.shape[0] != self.num_channels:
            raise ValueError(
                f"expected a volume (slices, height, width) or ({self.num_channels} channels, slices, height, width), "
                f"got shape {volume.shape}"
            )
        if volume.dtype.kind not in "buif":
            raise ValueError(f"expected a volume of real numbers, got {volume.dtype}")
        if volume.size == 0:
            raise ValueError(f"expected at least one voxel along every axis, got shape {volume.shape}")
        if volume.dtype.kind == "f" and not np.isfinite(volume).all():
            raise ValueError(f"expected finite voxels, got {np.count_nonzero(~np.isfinite(volume))} that are not")
        return volume


def scores_from_logits(logits: torch.Tensor) -> torch.Tensor:
    """Turns logits (batch, num_labels, ...) into the probability of not being background (batch, ...), float32."""
    background, *others = logits.float().unbind(1)
    # Equals 1 - softmax(logits)[0], which takes ten times as long, and rounds small scores to multiples of the
    # smallest float step below 1.
    neuron = others[0] if len(others) == 1 else torch.stack(others).logsumexp(0)
    return (neuron - background).sigmoid().contiguous()


def _by_channel(values, num_channels: int) -> float | list[float]:
    """Returns one number, or one per channel if the 2D model had as many colours; otherwise the colours' mean."""
    values = np.atleast_1d(values).astype(float)
    if len(values) == num_channels > 1 and len(set(values)) > 1:
        return values.tolist()
    return float(values.mean())


NeuronViT3DImageProcessor.register_for_auto_class()
