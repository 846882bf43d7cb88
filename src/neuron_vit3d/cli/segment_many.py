"""Segments many images with one model."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..inference import Segmenter
from .batch import Batch
from .many import Input
from .output import Output
from .segment_image import Settings, segment_image
from .segment_work import Work


def segment_many(batch: Batch, settings: Settings, model: str | None, work: Work) -> None:
    """Segments the images of a batch.

    Args:
        batch: the images.
        settings: of all of them.
        model: a checkpoint's name; None: the embedded default.
        work: how OME-Zarr images are shared out.
    """
    batch.run(_Segmenting(batch.folder, settings, model, work))


@dataclass
class _Segmenting:
    """What the batch does; the model is loaded once, and first: without it nothing can be done."""

    folder: Path
    how: Settings
    model: str | None
    work: Work

    @cached_property
    def segmenter(self) -> Segmenter:
        return Segmenter(self.model, self.how.segmenting)

    @cached_property
    def settings(self) -> str:
        one = self.segmenter
        blocks = (one.options.tile_size, one.options.tile_overlap, one.options.slice_overlap)
        how = {name: value for name, value in vars(self.how).items() if name != "segmenting"}
        return f"{one.model_key()} {blocks} {one.options.key()} {one.device.type} {how}"

    def results(self, input: Input) -> list[Path]:
        return self.how.all_results(input.path, self.folder / input.name)

    def do(self, input: Input, out: Output, progress: Callable[[float], None]) -> None:
        # Other processes load it by its name.
        model = self.segmenter if self.work == Work() else self.model
        stem = self.folder / input.name
        segment_image(input.path, stem, self.how, out, model=model, work=self.work, progress=progress)
