"""One volume of any size is segmented: blocks go through the model in batches, memory is bounded by a few slices.

scores = segment("neuron.tif")                       # the embedded default model; Volume of scores in [0, 1]
segment("neuron.tif", "user/checkpoint", out="neuron.scores.tif")     # slab by slab to disk
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..model import NeuronViT3DForSegmentation, NeuronViT3DImageProcessor
from ..model.blocks import BlockGrid, Stitcher, check_slice_overlap
from ..model.image_processing_neuron_vit3d import IntensityRange, scores_from_logits
from ..model.loading import load_whole, read_config
from ..volumes import SlabWriter, Volume, VolumeError, VolumeReader, open_volume, read_volume


DEFAULT_CHECKPOINT = Path(__file__).resolve().parents[1] / "assets" / "default"
_VOXELS_AT_ONCE = 1 << 24  # read for the first look at the intensities


def segment(
    volume: str | os.PathLike | Volume,
    model: "str | os.PathLike | NeuronViT3DForSegmentation | Segmenter | None" = None,
    *,
    channel: int | None = None,
    out: str | os.PathLike | None = None,
    progress: bool = False,
    **options,
) -> Volume:
    """Scores of a volume: for every voxel the probability that it belongs to a neuron.

    Args:
        volume: a file that `read_volume` reads, or a [`Volume`].
        model: a checkpoint (folder or name on the Hub), a loaded model, or a [`Segmenter`]; None: the embedded default.
        channel: the image's channel to segment, where it has several.
        out: write the scores to this TIFF as they come, and return them mapped from it; without it they are in memory.
        progress: show a progress bar.
        options: of [`Segmenter`]: processor, device, dtype, tile_size, tile_overlap, slice_overlap, batch_size.

    Returns:
        Volume of float32 scores in [0, 1], axes (z, y, x), with the input's voxel size.

    Raises:
        VolumeError: the volume is not finite, constant, or has several channels and `channel` is None.
        ValueError: the checkpoint is not one of this package.
    """
    if isinstance(model, Segmenter) and options:
        raise ValueError(f"a Segmenter has its options already; got {', '.join(sorted(options))} again")
    segmenter = model if isinstance(model, Segmenter) else Segmenter(model, **options)
    with segmenter.open(volume, channel) as source:
        if out is None:
            scores = np.empty(source.shape, np.float32)
            for z, slab in segmenter.slabs(source, progress=progress):
                scores[z : z + len(slab)] = slab
            return Volume(scores, source.voxel_size)
        with SlabWriter(out, source.shape, np.float32, source.voxel_size) as writer:
            for _, slab in segmenter.slabs(source, progress=progress):
                writer.write(slab)
    return read_volume(out)


class Segmenter:
    """A model on a device, ready to segment any number of volumes.

    Args:
        model: a checkpoint (folder or name on the Hub), a loaded model, or None: the embedded default.
        processor: its image processor; None: the checkpoint's own, or for a loaded model one made from its config.
        device: `"cpu"`, `"cuda"`, `"mps"`; None: CUDA or MPS where there is one.
        dtype: of the computation, `torch.float32` or `torch.bfloat16`; scores are float32 either way.
        tile_size, tile_overlap: instead of the processor's, in pixels.
        slice_overlap: instead of the processor's, in slices; only a model that labels several at once can have one.
        batch_size: blocks that go through the model at once.
    """

    def __init__(
        self,
        model: str | os.PathLike | NeuronViT3DForSegmentation | None = None,
        *,
        processor: NeuronViT3DImageProcessor | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        tile_size: int | None = None,
        tile_overlap: int | None = None,
        slice_overlap: int | None = None,
        batch_size: int = 8,
    ):
        if not isinstance(model, NeuronViT3DForSegmentation):
            model, loaded_processor = load_checkpoint(model)
            processor = processor or loaded_processor
        processor = processor or NeuronViT3DImageProcessor.for_model(model.config)
        processor.check_fits(model.config)
        self.device = torch.device(device) if device is not None else _best_device()
        self.dtype, self.batch_size = dtype, batch_size
        self.model = model.to(self.device).eval()
        self.processor = processor
        self.tile_size = processor.tile_size if tile_size is None else tile_size
        self.tile_overlap = processor.tile_overlap if tile_overlap is None else tile_overlap
        if not 0 <= self.tile_overlap < self.tile_size:
            raise ValueError(
                f"expected a tile overlap from 0 to {self.tile_size - 1} (tile size - 1), got {self.tile_overlap}"
            )
        self.slice_overlap = processor.slice_overlap if slice_overlap is None else slice_overlap
        check_slice_overlap(self.slice_overlap, processor.num_output_slices)
        if batch_size < 1:
            raise ValueError(f"expected a batch size of at least 1, got {batch_size}")

    def open(self, volume: str | os.PathLike | Volume, channel: int | None = None) -> "ChannelReader":
        """The channels that the model takes, to be read a few slices at a time; use it in a `with` statement."""
        return ChannelReader(volume, self.processor.num_channels, channel)

    def slabs(self, source: "ChannelReader", *, progress: bool = False) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (first slice, scores (slices, height, width) float32) from the top of the volume to its bottom."""
        intensities = self._look_at(source)
        grid = BlockGrid(
            source.shape,
            (self.tile_size, self.tile_size),
            (self.tile_overlap, self.tile_overlap),
            self.processor.num_slices,
            self.processor.num_output_slices,
            self.slice_overlap,
        )
        stitcher, origins = Stitcher(grid), grid.tile_origins
        batch, places = [], []
        with tqdm(total=len(grid), desc="segment", unit="tile", disable=not progress) as bar:
            for step, slices in self._slices_to_label(source, grid, intensities):
                for y, x in origins:
                    window = np.s_[:, :, y : y + grid.tile[0], x : x + grid.tile[1]]
                    batch.append(np.concatenate([one[window] for one in slices], axis=1))
                    places.append((step, (y, x)))
                    if len(batch) == self.batch_size:
                        self._predict(batch, places, stitcher)
                        bar.update(self.batch_size)
                yield from _slabs(stitcher)
            if batch:
                bar.update(len(batch))
                self._predict(batch, places, stitcher)
            yield from _slabs(stitcher)

    def _look_at(self, source: "ChannelReader") -> tuple[np.ndarray, np.ndarray]:
        """Black and white of the volume, from one pass over it; refuses what cannot be segmented."""
        collected = IntensityRange(source.shape, source.num_channels)
        lowest, highest = np.inf, -np.inf
        for z, z_end in _ranges(source.shape, _VOXELS_AT_ONCE):
            slab = source.read(z, z_end)
            if slab.dtype.kind == "f" and not np.isfinite(slab).all():
                bad = slab[~np.isfinite(slab)]
                raise VolumeError(
                    f"{source.name}: expected finite voxels, got {np.isnan(bad).sum()} NaN and "
                    f"{np.isinf(bad).sum()} infinite ones in slices {z} to {z_end - 1}"
                )
            lowest, highest = min(lowest, slab.min()), max(highest, slab.max())
            collected.add(slab)
        if lowest == highest:
            raise VolumeError(f"{source.name}: expected an image, got the value {lowest} in every voxel")
        return collected.result(self.processor.lower_percentile, self.processor.upper_percentile)

    def _slices_to_label(self, source, grid, intensities) -> Iterator[tuple[int, list[np.ndarray]]]:
        """Yields (step, its `num_slices` normalised slices (channels, 1, height, width)); every slice is read once."""
        slices = {}
        for step in grid.steps:
            wanted = grid.slices_of(step)
            for z in range(wanted[0], wanted[-1] + 1):
                if z not in slices:
                    scaled = self.processor.scale(source.read(z, z + 1), intensities)
                    slices[z] = self.processor.standardise(scaled)
            for z in [z for z in slices if z < wanted[0]]:
                del slices[z]
            yield step, [slices[z] for z in wanted]

    @torch.inference_mode()
    def _predict(self, batch: list[np.ndarray], places: list[tuple], stitcher: Stitcher) -> None:
        """Sends a batch through the model and adds its scores at their places (step, origin); empties both lists."""
        pixel_values = torch.from_numpy(np.stack(batch)).to(self.device)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits = self.model(pixel_values).logits
        for place, scores in zip(places, scores_from_logits(logits).cpu().numpy(), strict=True):
            stitcher.add(*place, scores[None])
        batch.clear()
        places.clear()


class ChannelReader:
    """The channels of a volume that a model takes, read a few slices at a time as (channels, slices, height, width)."""

    def __init__(self, volume: str | os.PathLike | Volume, num_channels: int, channel: int | None = None):
        if num_channels > 1 and channel is not None:
            raise ValueError(f"the model takes {num_channels} channels at once; channel = {channel} cannot be chosen")
        with ExitStack() as stack:
            first = stack.enter_context(open_volume(volume, 0 if num_channels > 1 else channel))
            others = [stack.enter_context(open_volume(volume, index)) for index in range(1, num_channels)]
            self.readers: list[VolumeReader] = [first, *others]
            self._stack = stack.pop_all()
        self.name, self.shape, self.voxel_size = first.source, first.shape, first.voxel_size
        self.num_channels = num_channels

    def read(self, z: int, z_end: int) -> np.ndarray:
        """Slices z to z_end - 1 of every channel."""
        return np.stack([reader.read(z, z_end) for reader in self.readers])

    def __enter__(self) -> "ChannelReader":
        return self

    def __exit__(self, *error) -> None:
        self._stack.close()


def load_checkpoint(
    name: str | os.PathLike | None = None,
) -> tuple[NeuronViT3DForSegmentation, NeuronViT3DImageProcessor]:
    """Model (float32) and image processor of a checkpoint: a folder, a name on the Hub, or None: the embedded default.

    Raises:
        ValueError: it is a checkpoint of another kind of model, its weights or its image processor do not fit its
            configuration, or it lacks weights.
        CheckpointError (an OSError): it cannot be found, reached or read, or its weights are pickled.
    """
    name = DEFAULT_CHECKPOINT if name is None else name
    config = read_config(name, "a checkpoint, a folder or a name on the Hub")
    if config.model_type != "neuron_vit3d":
        raise ValueError(
            f"{name}: expected a neuron_vit3d checkpoint, found a model of type {config.model_type!r}"
            + " (a 2D vision transformer becomes one by from_pretrained_2d and training)"
        )
    return load_whole(NeuronViT3DForSegmentation, NeuronViT3DImageProcessor, name, config, torch.float32)


def _slabs(stitcher: Stitcher) -> Iterator[tuple[int, np.ndarray]]:
    for z, scores in stitcher.finished():
        yield z, np.clip(scores, 0.0, 1.0, out=scores)


def _ranges(shape: tuple[int, int, int], voxels: int) -> list[tuple[int, int]]:
    """The slices of a volume in runs of about so many voxels."""
    run = max(1, voxels // (shape[1] * shape[2]))
    return [(z, min(z + run, shape[0])) for z in range(0, shape[0], run)]


def _best_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps") if torch.backends.mps.is_available() else torch.device("cpu")
