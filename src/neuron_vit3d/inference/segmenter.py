"""Segments one volume of any size: blocks go through the model in batches, with a few slices in memory.

    scores = segment("neuron.tif")                       # the embedded default model; Volume of scores in [0, 1]
    segment("neuron.tif", "user/checkpoint", flips=True, out="neuron.scores.tif")     # slab by slab to disk

All options are in `options.py`.
"""

import hashlib
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from transformers.modeling_outputs import SemanticSegmenterOutput

from ..model import NeuronViT3DForSegmentation, NeuronViT3DImageProcessor
from ..model.blocks import BlockGrid, Stitcher, check_slice_overlap
from ..model.image_processing_neuron_vit3d import scores_from_logits
from ..model.intensities import IntensityRange
from ..model.loading import load_whole, read_config
from ..progress import Progress
from ..volumes import SlabWriter, Volume, VolumeError, read_volume
from .background import Contrast, needed_blocks
from .batches import Batches, to_host
from .channel_reader import ChannelReader, ahead
from .options import SegmentOptions
from .windows import Window, block_of, windows_of


logger = logging.getLogger(__name__)

DEFAULT_CHECKPOINT = Path(__file__).resolve().parents[1] / "assets" / "default"
_VOXELS_AT_ONCE = 1 << 24  # read at once to find the range of intensities


def segment(
    volume: str | os.PathLike | Volume,
    model: "str | os.PathLike | NeuronViT3DForSegmentation | Segmenter | None" = None,
    options: SegmentOptions | None = None,
    *,
    channel: int | None = None,
    processor: NeuronViT3DImageProcessor | None = None,
    out: str | os.PathLike | None = None,
    progress: bool = False,
    **keywords,
) -> Volume:
    """Scores a volume: for every voxel the probability that it belongs to a neuron.

    Args:
        volume: a file that `read_volume` reads, or a [`Volume`].
        model: a checkpoint (folder or name on the Hub), a loaded model, a [`Segmenter`]; None: the embedded default.
        options: how scores are made.
        channel: the image's channel to segment, if it has several.
        processor: the model's image processor, as in [`Segmenter`].
        out: a TIFF to which scores are written as they come; the result is mapped from it. None: scores are in memory.
        progress: whether to report the progress on standard error.
        keywords: single options of [`SegmentOptions`], instead of `options` or to change them.

    Returns:
        Volume of float32 scores in [0, 1], axes (z, y, x), with the input's voxel size.

    Raises:
        VolumeError: the volume is not finite, constant, or has several channels and `channel` is None.
        ValueError: the checkpoint is not one of this package, or an option cannot have its value.
        TypeError: there is no option of that name.
    """
    if out is not None and Path(out).suffix == ".zarr":
        raise ValueError(f"{out}: expected a name for a TIFF; `segment_large` writes OME-Zarr")
    segmenter = segmenter_of(segment, model, options, processor, keywords)
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
        model: a checkpoint (folder or name on the Hub), a loaded model, or None: the embedded default. A loaded model
            is moved to the device (no copy is made), and its weights become float32 unless they are quantised.
        options: how scores are made.
        processor: the model's image processor; None: the checkpoint's own, or for a loaded model one made from its
            config. keywords: single options of [`SegmentOptions`], instead of `options` or to change them.

    Attributes:
        options: as given, with defaults filled in by the model, its image processor and the machine.

    Raises:
        ValueError: the checkpoint is not one of this package, or an option cannot have its value.
        TypeError: there is no option of that name.
    """

    def __init__(
        self,
        model: str | os.PathLike | NeuronViT3DForSegmentation | None = None,
        options: SegmentOptions | None = None,
        *,
        processor: NeuronViT3DImageProcessor | None = None,
        **keywords,
    ):
        options = SegmentOptions.of(Segmenter, options, keywords)
        if not isinstance(model, NeuronViT3DForSegmentation):
            model, loaded_processor = load_checkpoint(model)
            processor = processor or loaded_processor
        processor = processor or NeuronViT3DImageProcessor.for_model(model.config)
        processor.fit_to(model.config)
        self.device = torch.device(options.device) if options.device is not None else _best_device()
        self.dtype: torch.dtype = getattr(torch, options.dtype)
        self.model = model.to(self.device).eval()
        if not getattr(model, "is_quantized", False):  # half precision is slow on CPUs, and autocast refuses float16
            model.float()
        self._compiled = torch.compile(self.model) if options.compile else None
        self.processor = processor
        self.options = replace(
            options,
            device=self.device,
            # A GPU takes little longer for many blocks of a small model than for a few.
            batch_size=options.batch_size or (32 if self.device.type == "cuda" else 8),
            **{
                name: getattr(processor, name)
                for name in ("tile_size", "tile_overlap", "slice_overlap")
                if getattr(options, name) is None
            },
        )
        size, overlap, slice_overlap = self.options.tile_size, self.options.tile_overlap, self.options.slice_overlap
        assert size is not None and overlap is not None and slice_overlap is not None  # the processor has them
        if not 0 <= overlap < size:
            raise ValueError(f"expected a tile overlap from 0 to {size - 1} (tile size - 1), got {overlap}")
        check_slice_overlap(slice_overlap, processor.num_output_slices)

    @property
    def _batch_size(self) -> int:
        """Number of blocks per batch, decided when the segmenter was made."""
        assert self.options.batch_size is not None
        return self.options.batch_size

    def __getattr__(self, name: str):
        """Returns the value of an option: `segmenter.tile_size` is `segmenter.options.tile_size`."""
        if name in SegmentOptions.__dataclass_fields__:
            return getattr(self.options, name)
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

    def key(self, shape: tuple[int, int, int]) -> str:
        """Returns a text of what decides the scores of a volume of this shape.

        It covers the weights, the image processor, the blocks, the options, and the kind of device.
        """
        words = f"({self.grid(shape)}, {self.options.key()})"
        return hashlib.sha256(f"{self.model_key()}{words}{self.device.type}".encode()).hexdigest()

    def model_key(self) -> str:
        """Returns a hash of the weights and the image processor."""
        known = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            known.update(name.encode())
            known.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy())
        known.update(self.processor.to_json_string().encode())
        return known.hexdigest()

    def open(
        self, volume: str | os.PathLike | Volume, channel: int | None = None, image: int | None = None
    ) -> ChannelReader:
        """Opens the channels that the model takes, to be read a few slices at a time; use it in a `with` statement."""
        return ChannelReader(volume, self.processor.num_channels, channel, invert=self.options.invert, image=image)

    def grid(self, shape: tuple[int, int, int]) -> BlockGrid:
        """Returns the blocks that a volume of this shape (slices, height, width) is cut into."""
        return self.processor.grid(
            shape,
            tile_size=self.options.tile_size,
            tile_overlap=self.options.tile_overlap,
            slice_overlap=self.options.slice_overlap,
        )

    def slabs(
        self, source: ChannelReader, *, progress: bool = False, first: int = 0
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (first slice, scores (slices, height, width) float32) from slice `first` to the last one."""
        intensities, contrast = self._look_at(source)
        grid = self.grid(source.shape)
        needed, known = None, {}
        if contrast is not None:

            def look_at(blocks: list[tuple]) -> Iterator[np.ndarray]:
                for block, scores in zip(blocks, self.score_some(source, grid, intensities, blocks), strict=True):
                    known[block] = scores
                    yield scores

            needed = needed_blocks(contrast.result(), grid, look_at)
        voxels = (source.shape[0] - first) * math.prod(source.shape[1:])
        with Progress("segment", voxels, unit="voxel", shown=progress) as bar:
            for z, scores in self.score(source, grid, intensities, needed, known, first=first):
                yield z, scores
                bar.update(scores.size)

    def score(
        self,
        source,
        grid: BlockGrid,
        intensities,
        needed: np.ndarray | None = None,
        known: Mapping[tuple, np.ndarray] = MappingProxyType({}),
        *,
        first: int = 0,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (slice, scores (1, height, width) float32) of a grid's blocks, from slice `first` on.

        Args:
            source: object whose `read` returns slices of the grid.
            intensities: black and white.
            needed: (steps, tiles) bool, the blocks to score; the scores of the others are 0. None: all.
            known: scores of blocks that were scored before, by (step, origin).
        """
        if needed is None:
            needed = np.ones((len(grid.steps), len(grid.tile_origins)), bool)
        stitcher = Stitcher(grid, first=first, limits=(0.0, 1.0))
        # The last bits of a block's scores depend on the other blocks in its batch. A run that goes on from `first`
        # must give the same scores as an uninterrupted run, so its first batch begins where a batch of that one did.
        before = sum(grid.labelled(step)[-1] < first for step in grid.steps)
        origins = grid.tile_origins
        is_new = np.array([[(step, origin) not in known for origin in origins] for step in grid.steps]) & needed
        left_out = int(is_new[:before].sum()) // self._batch_size * self._batch_size
        numbers = is_new.cumsum().reshape(needed.shape)  # numbers of the blocks that go through the model, from 1
        start = min(int((numbers[:, -1] <= left_out).sum()), before)
        batches = Batches(self._begin, self._batch_size, stitcher)
        steps = zip(grid.steps[start:], needed[start:], numbers[start:], strict=True)
        windows = windows_of(grid, grid.steps[start:], needed[start:])
        for (step, tiles, number), slices in ahead(self._slices_to_label(source, grid, intensities, steps, windows)):
            for origin, is_needed, of_block in zip(origins, tiles, number, strict=True):
                if not is_needed:
                    stitcher.skip(step)
                elif (step, origin) in known:
                    stitcher.add(step, origin, known[step, origin][None])
                elif of_block > left_out:
                    batches.add((step, origin), block_of(slices, origin, grid.tile))
            yield from stitcher.finished()
        batches.finish()
        yield from stitcher.finished()

    def _look_at(self, source: ChannelReader) -> tuple[tuple[np.ndarray, np.ndarray], Contrast | None]:
        """Finds black and white of the volume, and the contrast of its cells, in one pass; refuses unusable
        volumes."""
        collected = IntensityRange(source.shape, self.processor.intensities)
        contrast = Contrast(source.shape) if self.options.skip_background else None
        lowest, highest = np.inf, -np.inf
        for z, z_end in _ranges(source.shape, _VOXELS_AT_ONCE):
            slab = source.read(z, z_end)
            check_voxels(slab, source.name, z)
            lowest, highest = min(lowest, slab.min()), max(highest, slab.max())
            collected.add(slab)
            if contrast is not None:
                contrast.add(slab)
        check_range(lowest, highest, source.name)
        tell_of_inversion(collected, source.name, inverted=self.options.invert)
        return collected.result(self.processor.lower_percentile, self.processor.upper_percentile), contrast

    def _slices_to_label(self, source, grid, intensities, steps, windows) -> Iterator[tuple[tuple, list[Window]]]:
        """Yields each step (first slice, its needed tiles, ...) with its `num_slices` normalised slices on the device.

        Of each slice only its window is given, and none if no tile of the step is needed. No slice is read twice.
        """
        slices: dict[int, Window] = {}
        for step, tiles, *rest in steps:
            wanted = grid.slices_of(step) if tiles.any() else []
            for z in [z for z in slices if not len(wanted) or z < wanted[0]]:
                del slices[z]
            for z in wanted:
                if z not in slices:
                    rows, columns = windows[z]
                    scaled = self.processor.scale(source.read(z, z + 1)[..., rows, columns], intensities)
                    voxels = torch.from_numpy(self.processor.standardise(scaled)).to(self.device)
                    slices[z] = Window(voxels, (rows.start, columns.start))
            yield (step, tiles, *rest), [slices[z] for z in wanted]

    def score_some(self, source, grid, intensities, blocks: list[tuple[int, tuple[int, int]]]) -> Iterator[np.ndarray]:
        """Yields scores (num_output_slices, tile height, tile width) of blocks (step, origin) in ascending order."""
        steps = list(dict.fromkeys(step for step, _ in blocks))
        asked = set(blocks)
        needed = np.array([[(step, origin) in asked for origin in grid.tile_origins] for step in steps])
        windows = windows_of(grid, steps, needed)
        by_step = self._slices_to_label(source, grid, intensities, zip(steps, needed, strict=True), windows)
        cut = (
            block_of(slices, origin, grid.tile) for (step, _), slices in by_step for at, origin in blocks if at == step
        )
        while batch := list(islice(cut, self.options.batch_size)):
            yield from self._begin(batch)()

    @torch.inference_mode()
    def _begin(self, batch: list[torch.Tensor]) -> Callable[[], np.ndarray]:
        """Starts the model on blocks (channels, slices, height, width); returns a function that waits for their
        scores.

        The scores are (blocks, num_output_slices, height, width).
        """
        pixel_values = torch.stack(batch)
        forward = self.model
        if self._compiled is not None and 2 * len(batch) >= self._batch_size:
            # The batch is filled up, since the model would be compiled again for another number of blocks.
            filling = self._batch_size - len(batch)
            pixel_values = torch.cat([pixel_values, pixel_values[:1].expand(filling, -1, -1, -1, -1)])
            forward = self._forward_compiled
        mirrored = [(), (-1,), (-2,), (-2, -1)] if self.options.flips else [()]
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            scores = [scores_from_logits(forward(pixel_values.flip(axes)).logits).flip(axes) for axes in mirrored]
        return to_host(sum(scores)[: len(batch)] / len(scores))

    def _forward_compiled(self, pixel_values: torch.Tensor) -> SemanticSegmenterOutput:
        # A CPU gains little unless the weights are constants: they are then laid out for its matrix units, and
        # activations become part of the convolutions. As an option of `torch.compile` this would come too late.
        with torch._inductor.config.patch(freezing=self.device.type == "cpu"):
            assert self._compiled is not None
            return self._compiled(pixel_values)


def segmenter_of(
    asked_by: Callable, model, options: SegmentOptions | None, processor, keywords: dict[str, Any]
) -> Segmenter:
    """Makes a Segmenter from the arguments of a function that takes a model or a Segmenter, and options."""
    if not isinstance(model, Segmenter):
        return Segmenter(model, SegmentOptions.of(asked_by, options, keywords), processor=processor)
    given = sorted([*keywords, *(["options"] if options is not None else [])])
    given += ["processor"] if processor is not None else []
    if given:
        raise ValueError(f"a Segmenter has its options already; got {', '.join(given)} again")
    return model


def load_checkpoint(
    name: str | os.PathLike | None = None,
) -> tuple[NeuronViT3DForSegmentation, NeuronViT3DImageProcessor]:
    """Loads model (float32) and image processor of a checkpoint: a folder, a name on the Hub, or None (the default).

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


def check_voxels(slab: np.ndarray, name: str, z: int) -> None:
    """Raises VolumeError if a slab (channels, slices, height, width) from slice z on has NaN or infinite voxels."""
    if slab.dtype.kind == "f" and not np.isfinite(slab).all():
        bad = slab[~np.isfinite(slab)]
        raise VolumeError(
            f"{name}: expected finite voxels, got {np.isnan(bad).sum()} NaN and "
            f"{np.isinf(bad).sum()} infinite ones in slices {z} to {z + slab.shape[1] - 1}"
        )


def check_range(lowest: float, highest: float, name: str) -> None:
    """Raises VolumeError if an image has the same value in every voxel."""
    if lowest == highest:
        raise VolumeError(f"{name}: expected an image, got the value {lowest} in every voxel")


def tell_of_inversion(collected: IntensityRange, name: str, *, inverted: bool) -> None:
    """Warns if an image, as it is read, looks dark on bright."""
    if collected.is_inverted():
        logger.warning(
            "%s: looks dark on bright%s, while neurons are expected to be bright on dark; %s",
            name,
            " once it is inverted" if inverted else "",
            "leave --invert out" if inverted else "try --invert (invert=True)",
        )


def _ranges(shape: tuple[int, int, int], voxels: int) -> list[tuple[int, int]]:
    """Divides the slices of a volume into runs of about `voxels` voxels."""
    run = max(1, voxels // (shape[1] * shape[2]))
    return [(z, min(z + run, shape[0])) for z in range(0, shape[0], run)]


def _best_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps") if torch.backends.mps.is_available() else torch.device("cpu")
