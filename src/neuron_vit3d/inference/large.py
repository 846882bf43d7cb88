"""Segments a volume of any size region by region, by any number of processes, into an OME-Zarr.

    segment_large("brain.ome.zarr", out="brain.scores.ome.zarr")          # in this process, region by region
    segment_large(..., shard=(3, 16))                                     # the 4th of 16 jobs
    segment_large(..., engine=Cluster(address="tcp://scheduler:8786"))    # see distributed.py

There are three rounds over the regions (`regions.py`). The first reads all of them, to find black and white of the
whole volume and its background. The second segments them, each into its own shard. The third makes the lower
resolutions. A file for each region records what is done. So any run with the same image, model and options goes on
where others stopped, and parallel runs share the work by `shard`. Until all is done, the result is in the hidden
folder `.NAME.unfinished` beside its final place. Memory holds one region, and an xy projection of the volume.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from ..files import new_folder
from ..model import NeuronViT3DImageProcessor
from ..progress import Progress
from ..volumes import Volume, VolumeError, open_volume
from ..volumes.formats.zarr import RESULT
from ..volumes.formats.zarr_writer import ImageLevel, attributes_of, create_image, lower_resolution, resolutions
from .options import SegmentOptions
from .region_job import LargeJob
from .segmenter import Segmenter, segmenter_of


class Engine(Protocol):
    """A way to run the work of a job."""

    def run(self, job: LargeJob, task: str, numbers: list[int]) -> Iterator[int]:
        """Calls the method `task` of a job with each of the numbers, and yields each number once its work is done."""
        ...


class Here:
    """Runs the work piece by piece, in this process."""

    def run(self, job: LargeJob, task: str, numbers: list[int]) -> Iterator[int]:
        yield from getattr(job, task)(numbers)


def segment_large(
    image: str | os.PathLike | Volume,
    model: "str | os.PathLike | Segmenter | None" = None,
    options: SegmentOptions | None = None,
    *,
    out: str | os.PathLike,
    channel: int | None = None,
    image_number: int | None = None,
    voxel_size: tuple[float, float, float] | None = None,
    shard: tuple[int, int] | None = None,
    engine: Engine | None = None,
    processor: NeuronViT3DImageProcessor | None = None,
    progress: bool = False,
    **keywords,
) -> Path | None:
    """Scores a volume of any size, into an OME-Zarr image with lower resolutions.

    Args:
        image: a file or folder that `open_volume` reads, preferably an OME-Zarr; or a Volume.
        model: a checkpoint (folder or name on the Hub), a [`Segmenter`], or None: the embedded default.
        options: how scores are made.
        out: the new folder, `NAME.ome.zarr`.
        channel: the image's channel to segment, if it has several.
        image_number: number of the image, from 0, in a file that holds several.
        voxel_size: z, y, x in micrometres, replaces the image's own.
        shard: (i, n): segments only the i-th of n parts of the regions, from 0; for parallel jobs that share a disk. A
            run without it comes last: it does what is missing, makes the lower resolutions and gives the folder its
            name.
        engine: where the work runs; None: in this process.
        processor: the model's image processor, as in [`Segmenter`].
        progress: whether to report the progress on standard error.
        keywords: single options of [`SegmentOptions`], instead of `options` or to change them.

    Returns:
        The folder; None with `shard`.

    Raises:
        VolumeError: the image is not finite, or constant; or `out` was made from another image, by another model or
            with other options, or is no image of this package.
        OSError: something cannot be read or written.
        TypeError: there is no option of that name.
    """
    if isinstance(model, Segmenter):
        segmenter_of(segment_large, model, options, processor, keywords)  # refuses what it was given again
    options = SegmentOptions.of(segment_large, options, keywords)
    if shard is not None and not 0 <= shard[0] < shard[1]:
        raise ValueError(f"shard: expected i/n with i from 0 to n - 1, got {shard[0]}/{shard[1]}")
    job = LargeJob(image, Path(out), model, channel, voxel_size, options, processor, image_number)
    with job:
        return _run(job, shard, engine or Here(), progress)


def _run(job: LargeJob, shard: tuple[int, int] | None, engine: Engine, progress: bool) -> Path | None:
    if job.is_finished():
        return None if shard is not None else job.out
    job.begin()
    mine = list(range(len(job.regions)))
    if shard is not None:
        mine = [index for index in mine if index % shard[1] == shard[0]]

    def everything(task: str, numbers: Iterable[int], voxels: Callable[[int], int]) -> None:
        numbers = list(numbers)
        left = [number for number in numbers if not job.progress.is_done(task, number)]
        total, done = sum(map(voxels, numbers)), sum(map(voxels, set(numbers) - set(left)))
        with Progress(task, total, unit="voxel", initial=done, shown=progress and bool(left)) as bar:
            for number in engine.run(job, task, left):
                bar.update(voxels(number))

    def of_region(index: int) -> int:
        return job.regions[index].voxels

    everything("look", mine, of_region)
    # What other shards have not done yet; each run starts at another place.
    count = len(job.regions)
    start = 0 if shard is None else shard[0] * count // shard[1]
    everything("look", [*range(start, count), *range(start)], of_region)
    job.make_plan()
    everything("segment", mine, of_region)
    if shard is not None:
        return None
    for level in range(1, len(resolutions(job.regions.shape))):
        shards = len(ImageLevel(job.unfinished, level))
        everything("shrink", (job.number_of_shard(level, index) for index in range(shards)), lambda number: 1)
    job.finish()
    return job.out


def write_mask(scores: Path, out: Path, threshold: float, *, progress: bool = False) -> float:
    """Writes the mask of an OME-Zarr image of scores as another OME-Zarr: 255 at scores >= threshold, else 0.

    An image under the name `out` is replaced if this program made it.

    Returns:
        The share of the voxels that are set.

    Raises:
        VolumeError: there is something else under that name.
    """
    if out.exists():
        try:
            attributes_of(out)[RESULT]
        except Exception as error:
            raise VolumeError(
                f"{out}: is there already and was not made by this program; choose another output"
            ) from error
    source, count = ImageLevel(scores), 0
    with open_volume(scores) as reader:
        voxel_size = reader.voxel_size
    with new_folder(out) as folder:
        create_image(
            folder,
            source.shape,
            np.uint8,
            voxel_size,
            shard=source.shard,
            chunk=source.chunk,
            attributes={RESULT: {"scores": scores.name, "threshold": threshold}},
        )
        target = ImageLevel(folder)
        with Progress("mask", len(source), unit="region", shown=progress) as bar:
            for index in range(len(source)):
                box = source.box(index)
                mask = source.read(box) >= threshold
                if mask.any():
                    count += int(np.count_nonzero(mask))
                    target.write(box, mask.astype(np.uint8) * np.uint8(255))
                bar.update()
        for level in range(1, len(resolutions(source.shape))):
            for index in range(len(ImageLevel(folder, level))):
                lower_resolution(folder, level, index)
        if out.exists():
            shutil.rmtree(out)
    return count / np.prod(source.shape, dtype=float)
