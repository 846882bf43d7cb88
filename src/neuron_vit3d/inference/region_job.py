"""Divides one large volume into work that any process can do: to read regions, segment them, and downsample."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..files import new_folder
from ..model.intensities import IntensityRange
from ..volumes import Volume, VolumeError
from ..volumes.formats.zarr import RESULT
from ..volumes.formats.zarr_writer import ImageLevel, attributes_of, create_image, lower_resolution
from ..volumes.on_disk import on_disk
from .background import Contrast, enough, highest_in_blocks, is_small, levels_in_block, sample_of_blocks
from .channel_reader import BoxReader, ChannelReader, ahead
from .options import SegmentOptions
from .progress_folder import Look, ProgressFolder
from .regions import Region, RegionGrid
from .segmenter import Segmenter, check_range, check_voxels, tell_of_inversion


# Scores are rounded to multiples of 1 / this, so that they compress better, and background becomes 0, which is not
# stored.
_LEVELS = 1024


class LargeJob:
    """A job: what is segmented, how, and where the result goes. Each method does a kind of work and records what is
    done.

    A job can be sent to other processes, unless it was given a Volume or a Segmenter.
    """

    def __init__(
        self, image, out: Path, model, channel, voxel_size, options: SegmentOptions, processor=None, number=None
    ):
        self.image = image if isinstance(image, Volume) else Path(image)
        self.out, self.model, self.channel, self.voxel_size_given = out, model, channel, voxel_size
        self.options, self.processor, self.number = options, processor, number
        self.folder = out.with_name(f".{out.name}.unfinished")
        self.unfinished = self.folder / out.name
        self.progress = ProgressFolder(self.folder / "progress")

    def __enter__(self) -> "LargeJob":
        self._open = ExitStack()
        self.segmenter = self.model
        if not isinstance(self.model, Segmenter):
            self.segmenter = Segmenter(self.model, self.options, processor=self.processor)
        self.source: ChannelReader = self._open.enter_context(
            self.segmenter.open(self.image, self.channel, self.number)
        )
        self.regions = RegionGrid(self.segmenter.grid(self.source.shape))
        return self

    def __exit__(self, *error) -> None:
        self._open.close()

    @cached_property
    def made_with(self) -> dict:
        """Returns what decides the result; two runs may share a folder if it is the same for both."""
        segmenter = self.segmenter
        return {
            "image": _stamp(self.image),
            "channel": self.channel,
            "voxel_size": self.voxel_size_given and list(self.voxel_size_given),
            "model": segmenter.model_key(),
            "tile_overlap": segmenter.options.tile_overlap,
            "tile": list(self.regions.whole.tile),
            "slice_overlap": segmenter.options.slice_overlap,
            "invert": segmenter.options.invert,
            **segmenter.options.deciding(),
            "region": list(self.regions.side),
            "num_channels": segmenter.processor.num_channels,
            **({} if self.number is None else {"image_number": self.number}),
        }

    def is_finished(self) -> bool:
        """Tells whether the result is there; raises VolumeError if something else is in its place."""
        if not self.out.exists():
            return False
        self._check_same(self.out)
        shutil.rmtree(self.folder, ignore_errors=True)  # a run may have been stopped just before this
        return True

    def begin(self) -> None:
        """Makes the folder for the result, or checks that an existing one belongs to the same job."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        if not self.folder.exists():
            # Other runs may start at the same moment: the first one's folder stays.
            try:
                with new_folder(self.folder) as own:
                    own.mkdir()
                    create_image(
                        own / self.out.name,
                        self.source.shape,
                        np.float32,
                        self.voxel_size_given or self.source.voxel_size,
                        shard=self.regions.side,
                        chunk=self.regions.chunk,
                        attributes={RESULT: self.made_with},
                    )
            except OSError:
                if not self.folder.exists():
                    raise
        self.check_begun()

    def check_begun(self) -> None:
        """Raises VolumeError if the folder belongs to another job: a worker may see other files under the same
        names."""
        self._check_same(self.unfinished)

    def _check_same(self, path: Path) -> None:
        try:
            theirs = dict(attributes_of(path)[RESULT])
        except Exception as error:
            raise VolumeError(
                f"{path}: is there already and is no image that this program began; choose another output"
            ) from error
        ours = json.loads(json.dumps(self.made_with))
        theirs.setdefault("invert", ours["invert"])  # older runs did not record it
        for option in fields(SegmentOptions):  # options at their defaults may be missing
            if (option.name in theirs) != (option.name in ours):
                theirs.setdefault(option.name, option.default)
                ours.setdefault(option.name, option.default)
        if theirs.keys() != ours.keys():
            raise VolumeError(
                f"{path}: is another result, or one of another version of this program; "
                "remove it or choose another output"
            )
        for key, value in ours.items():
            if theirs[key] != value:
                raise VolumeError(
                    f"{path}: was begun with {key} {theirs[key]}, which is {value} now; "
                    "remove it or choose another output"
                )

    # -- first round -----------------------------------------------------------------------------------------------

    def look(self, indices: list[int]) -> Iterator[int]:
        """Reads regions, and keeps the records from which the plan of the whole volume is made."""
        for index in indices:
            if not self.progress.is_done("look", index):  # another run may have come by
                self.progress.note("look", index, self._look_at(self.regions[index]))
            yield index

    def _look_at(self, region: Region) -> Look:
        skip = self.segmenter.options.skip_background
        box = self.source.read_box(region.labelled if skip else region.core)
        check_voxels(box, self.source.name, (region.labelled if skip else region.core)[0].start)
        core = box[(slice(None), *region.inner)] if skip else box
        stands_out = np.empty(0, np.float32)
        if skip:
            contrast = Contrast(box.shape[1:])
            contrast.add(box)
            stands_out = contrast.result()
        projection, sample = self._intensity_range().look_at(core, _origin(region))
        return Look(projection, sample, core.min(), core.max(), stands_out)

    def _intensity_range(self) -> IntensityRange:
        return IntensityRange(self.source.shape, self.segmenter.processor.intensities)

    # -- the plan ---------------------------------------------------------------------------------------------------

    def make_plan(self) -> None:
        """Finds black, white and the needed contrast of the whole volume; the first process to get here decides."""
        if self.progress.plan() is not None:
            return
        collected = self._intensity_range()
        lowest: Any = np.inf  # of the voxels' own type once there are some, for messages
        highest: Any = -np.inf
        by_block = []
        for region in self.regions:
            look = self.progress.look(region.index)
            lowest, highest = min(lowest, look.lowest), max(highest, look.highest)
            collected.merge(look.projection, look.sample, _origin(region))
            if self.segmenter.options.skip_background:
                by_block.append(highest_in_blocks(look.stands_out, region.grid).ravel())
        check_range(lowest, highest, self.source.name)
        tell_of_inversion(collected, self.source.name, inverted=self.segmenter.options.invert)
        processor = self.segmenter.processor
        black, white = collected.result(processor.lower_percentile, processor.upper_percentile)
        plan = {"black": black.tolist(), "white": white.tolist(), "enough": 0.0}
        if self.segmenter.options.skip_background:
            plan["enough"] = self._enough(by_block, (black, white))
        self.progress.note_plan(plan)

    def _enough(self, by_block: list[np.ndarray], intensities: tuple[np.ndarray, np.ndarray]) -> float:
        first = np.cumsum([0, *map(len, by_block)])  # number of each region's first block
        all_blocks = np.concatenate(by_block)
        if is_small(all_blocks):
            return 0.0
        sample = sample_of_blocks(all_blocks)
        levels = []
        for index in sorted({int(np.searchsorted(first, number, "right")) - 1 for number in sample}):
            region, look = self.regions[index], self.progress.look(index)
            steps, origins = region.grid.steps, region.grid.tile_origins
            own = [number - first[index] for number in sample if first[index] <= number < first[index + 1]]
            blocks = [(steps[number // len(origins)], origins[number % len(origins)]) for number in own]
            found = self.segmenter.score_some(self._reader(region), region.grid, intensities, blocks)
            for block, scores in zip(blocks, found, strict=True):
                levels.append(levels_in_block(look.stands_out, region.grid, *block, scores))
        return enough(levels)

    # -- second round ------------------------------------------------------------------------------------------------

    def segment(self, indices: list[int]) -> Iterator[int]:
        """Writes the scores of the regions that may hold a neurite; the scores of the others are 0."""
        plan = self.progress.plan()
        assert plan is not None  # the first round has written it
        intensities = np.array(plan["black"]), np.array(plan["white"])
        target = ImageLevel(self.unfinished)
        for region, needed, reader in ahead(self._to_segment(indices, plan["enough"])):
            if reader is not None:
                scores = np.empty([core.stop - core.start for core in region.labelled], np.float32)
                for z, slab in self.segmenter.score(reader, region.grid, intensities, needed):
                    scores[z] = slab[0]
                self._check_not_ended()
                target.write(region.core, np.rint(scores[region.inner] * _LEVELS) / np.float32(_LEVELS))
            self._check_not_ended()
            self.progress.note("segment", region.index)
            yield region.index

    def _to_segment(self, indices, enough_contrast: float) -> Iterator[tuple[Region, np.ndarray, BoxReader | None]]:
        """Yields the regions, their needed blocks (steps, tiles) bool, and a reader if any block is needed."""
        for index in indices:
            region = self.regions[index]
            needed = np.ones((len(region.grid.steps), len(region.grid.tile_origins)), bool)
            if self.progress.is_done("segment", index):  # another run may have come by
                yield region, needed, None
                continue
            if enough_contrast:
                needed = highest_in_blocks(self.progress.look(index).stands_out, region.grid) >= enough_contrast
            yield region, needed, self._reader(region) if needed.any() else None

    def _reader(self, region: Region) -> BoxReader:
        return BoxReader(self.source.read_box(region.seen), region.grid.above)

    # -- third round -------------------------------------------------------------------------------------------------

    def number_of_shard(self, level: int, index: int) -> int:
        """Numbers a shard of a lower resolution; no resolution has more shards than the first has regions."""
        return level * len(self.regions) + index

    def shrink(self, numbers: list[int]) -> Iterator[int]:
        """Fills those shards of lower resolutions for which the next higher resolution is complete."""
        for number in numbers:
            self._check_not_ended()
            lower_resolution(self.unfinished, *divmod(number, len(self.regions)))
            self.progress.note("shrink", number)
            yield number

    def _check_not_ended(self) -> None:
        """Checks that no other run has finished the result: anything written after that would be lost."""
        if not self.unfinished.exists():
            raise OSError(f"{self.out}: another run has ended this work, or its folder was removed")

    def finish(self) -> None:
        self.unfinished.rename(self.out)
        shutil.rmtree(self.folder, ignore_errors=True)


def _origin(region: Region) -> tuple[int, int]:
    return region.core[1].start, region.core[2].start


def _stamp(image: Path | Volume) -> str:
    """Returns a text that differs between two images, and changes when an image does."""
    if isinstance(image, Volume):
        return hashlib.sha256(np.ascontiguousarray(image.array).data).hexdigest()
    found = on_disk(image)
    return f"{image.name}, {found.files} files, {found.size} bytes, changed {found.changed}"
