"""Does the work of `neuron-vit3d segment`: slab by slab into TIFF, or region by region into OME-Zarr.

One process does it, or many do.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .input import check_number, parse_shard
from .output import note


if TYPE_CHECKING:
    from ..tracing.pieces import Pieces

# Of real stacks with traces the default takes 0.1 to 1 % for neuron.
MUCH_NEURON = 0.05


@dataclass(frozen=True)
class Work:
    """The way to share the work: a shard i/n of the regions, a scheduler's address, or a number of local workers."""

    shard: str | None = None
    scheduler: str | None = None
    workers: int | None = None

    def check(self) -> None:
        """Makes sure that at most one way was chosen."""
        given = [name for name, value in vars(self).items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"--{given[1]}: cannot be used with --{given[0]}")
        if self.workers is not None:
            check_number("--workers", self.workers, at_least=1)
        self.parsed_shard()

    def parsed_shard(self) -> tuple[int, int] | None:
        """Returns (i, n) of the shard, where there is one."""
        return None if self.shard is None else parse_shard(self.shard)

    def engine(self):
        """Returns a context whose value is what `segment_large` takes."""
        if self.scheduler is None and self.workers is None:
            return nullcontext()
        from ..inference.distributed import Cluster

        return Cluster(address=self.scheduler, workers=self.workers)


def segment_regions(image: Path, model, options, scores: Path, work: Work, **how) -> bool:
    """Writes the scores; False where other shards may still be missing."""
    from ..inference.large import segment_large
    from ..inference.segmenter import Segmenter

    given = None if isinstance(model, Segmenter) else options  # a Segmenter has them already
    with work.engine() as engine:
        return (
            segment_large(image, model, given, out=scores, shard=work.parsed_shard(), engine=engine, **how) is not None
        )


def projections_of(image: Path, channel: int | None, invert: bool, scores: Path, number: int | None = None):
    """Projects those channels of an image that the model of the scores was given."""
    from ..evaluation.overlay import Projections
    from ..inference.channel_reader import ChannelReader
    from ..volumes.formats.zarr import RESULT
    from ..volumes.formats.zarr_writer import attributes_of

    num_channels = attributes_of(scores)[RESULT]["num_channels"]
    with ChannelReader(image, num_channels, channel, invert=invert, image=number) as source:
        projections = Projections(source.shape, source.voxel_size)
        for box in source.boxes():
            projections.add_box(box, source.read_box(box).max(axis=0))
    return projections


def segment_slabs(image: Path, model, settings, results: list[Path], progress, opened: ExitStack):
    """Writes scores and mask as TIFF, slab by slab.

    Args:
        image: a file.
        model: a checkpoint's name, or a Segmenter.
        settings: of `segment_image`.
        results: scores and mask.
        progress: as in `segment_image`.
        opened: closes the reader.

    Returns:
        The scores as pieces, the threshold, the mask's share of neuron, and the image's projections.
    """
    import numpy as np

    from neuron_vit3d import __version__

    from ..inference import Segmenter
    from ..tracing.pieces import Pieces
    from ..volumes import SlabWriter, open_volume
    from ..volumes.names import has_voxels_elsewhere
    from ..volumes.on_disk import on_disk

    scores, mask = results[:2]
    channel = settings.channel
    segmenter = model if isinstance(model, Segmenter) else Segmenter(model, settings.segmenting)
    with segmenter.open(image, channel, settings.image) as source:
        settings.neurons.check_inside(image, source.shape)
        voxel_size = settings.voxel_size or source.voxel_size
        _, size, changed = on_disk(image)
        made_with: list = [
            __version__,
            segmenter.key(source.shape),
            channel,
            voxel_size,
            image.resolve(),
            size,
            changed,
        ]
        made_with += [] if settings.image is None else [settings.image]
        # What lies in a second file may change unnoticed.
        key = None if has_voxels_elsewhere(image) else " ".join(map(str, made_with))
        if key is not None and SlabWriter.is_finished(scores, key):
            note(
                f"{scores}: is there from an earlier run on this image with this model and options, and is used again"
            )
        else:
            scores_file = SlabWriter(scores, source.shape, np.float32, voxel_size, resume_key=key)
            with telling_what_is_kept(scores_file), scores_file:
                first = scores_file.slices_written
                if first:
                    note(f"{scores}: {first} of {source.shape[0]} slices are there from an interrupted run")
                for z, slab in segmenter.slabs(source, progress=progress is True, first=first):
                    scores_file.write(slab)
                    if callable(progress):
                        progress((z + len(slab)) / source.shape[0])
        reader = opened.enter_context(open_volume(scores))
        pieces = Pieces(reader)
        threshold = threshold_of(pieces, settings.tracing.threshold)
        slabs = ((z, reader.read(z, z + 1)) for z in range(reader.shape[0]))
        return pieces, threshold, *mask_of(slabs, source, mask, voxel_size, threshold)


def threshold_of(scores: "Pieces", threshold: float | None) -> float:
    """Returns the threshold that was asked for, or the one that follows the noise of the scores."""
    from ..tracing import threshold_from_noise

    return threshold_from_noise(scores) if threshold is None else threshold


def share_in_words(share: float, threshold: float) -> str:
    """Says what share of a volume is neuron."""
    return f"{share:.3%} of the voxels are neuron (scores of at least {threshold:.3g})"


def doubt_of(share: float) -> str:
    """Says what is doubtful where more is called neuron than neurons fill; else nothing."""
    return "more than neurons fill: is it the right --channel, and bright on dark?" if share > MUCH_NEURON else ""


def mask_of(slabs: Iterable[tuple], source, mask: Path, voxel_size, threshold: float):
    """Writes the mask of slabs (z, scores) as TIFF.

    Returns the share of neuron in it, and the projections of their source.
    """
    import numpy as np

    from ..evaluation.overlay import Projections
    from ..volumes import SlabWriter
    from ..volumes.names import SEGMENTED_BY

    projections, positives = Projections(source.shape, voxel_size), 0
    with SlabWriter(mask, source.shape, np.uint8, voxel_size, made_by=SEGMENTED_BY) as mask_file:
        for z, scores in slabs:
            slab = scores >= threshold
            positives += int(np.count_nonzero(slab))
            mask_file.write(slab.astype(np.uint8) * np.uint8(255))
            projections.add(z, source.read(z, z + len(scores)).max(0))
    return positives / math.prod(source.shape), projections


@contextmanager
def telling_what_is_kept(scores_file) -> Iterator[None]:
    """Says how far a run came that ends here, if the next one continues it."""
    try:
        yield
    except BaseException:
        if scores_file.can_continue and scores_file.slices_written:
            note(f"{scores_file.slices_written} of {scores_file.shape[0]} slices are kept: the same command continues")
        raise


def trace_scores(scores: "Pieces", neurons, options, voxel_size) -> tuple[list, tuple[float, float, float] | None]:
    """Traces the pieces of scores.

    Returns:
        The trees, none where there is nothing to trace, which is told; and the voxel size.
    """
    from ..tracing import TraceError, trace_neurons

    voxel_size = voxel_size or scores.voxel_size
    try:
        return trace_neurons(scores, neurons.asked(), options, voxel_size=voxel_size), voxel_size
    except TraceError as error:
        note(f"no tree was written: {error}", is_warning=True)
        return [], voxel_size
