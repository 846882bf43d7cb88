"""Makes scores, a mask, trees and a picture of one image, alone or as one of many."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..inference.options import SegmentOptions
from ..tracing.options import TraceOptions
from .input import check_file, check_folder, check_not_made_by_hand, check_target
from .neurons import Neurons
from .output import Output, branches_of, described, note, remove_other_trees, write_trees
from .segment_work import (
    Work,
    doubt_of,
    projections_of,
    segment_regions,
    segment_slabs,
    share_in_words,
    threshold_of,
    trace_scores,
)


@dataclass(frozen=True)
class Settings:
    """What the options of `segment` say of every image; what decides the results stands here, whoever adds to it."""

    segmenting: SegmentOptions
    tracing: TraceOptions
    neurons: Neurons
    channel: int | None = None
    voxel_size: tuple[float, float, float] | None = None
    trace: bool = True
    zarr: bool | None = None
    units: str = "voxels"
    node_type: str | None = None
    image: int | None = None

    def is_zarr(self, image: Path) -> bool:
        """Tells whether scores and mask are written as OME-Zarr: as asked, or else as the image is."""
        from ..volumes import is_volume_folder

        return is_volume_folder(image) and image.is_dir() if self.zarr is None else self.zarr

    def results(self, image: Path, stem: Path) -> list[Path]:
        """Scores, mask, tree and picture of an image, `stem` being where they are and how their names begin."""
        kind = "ome.zarr" if self.is_zarr(image) else "tif"
        return [stem.with_name(f"{stem.name}.{suffix}") for suffix in (f"scores.{kind}", f"mask.{kind}", "swc", "png")]

    def all_results(self, image: Path, stem: Path) -> list[Path]:
        """Lists all files that an image may become."""
        scores, mask, swc, picture = self.results(image, stem)
        trees = [file for path in self.neurons.outputs(swc) for file in (path, branches_of(path))]
        return [scores, mask, *(trees if self.trace else []), picture]


def segment_image(
    image: Path,
    stem: Path,
    settings: Settings,
    out: Output,
    *,
    model,
    work: Work,
    progress: bool | Callable[[float], None],
) -> None:
    """Segments and traces an image.

    Args:
        image: the file or folder.
        stem: the output folder and what the names of the results begin with.
        settings: how.
        out: is told what was written.
        model: a checkpoint's name, or a Segmenter that was made with the settings.
        work: how an OME-Zarr is shared out.
        progress: whether to tell how far it is; or what is told it instead, as a share of the image.
    """
    check_file(image)
    is_zarr, neurons, tracing = settings.is_zarr(image), settings.neurons, settings.tracing
    if not is_zarr and work != Work():
        raise ValueError("--shard, --workers and --scheduler: expected an OME-Zarr image, or --zarr")
    check_folder(stem.parent)
    results = settings.results(image, stem)
    for result in results[2 if is_zarr else 0 :]:
        check_target(result, image)
    scores, mask, swc, picture = results
    for result in [] if is_zarr else [mask]:
        check_not_made_by_hand(result)
    if settings.trace:
        neurons.check_outputs(swc, image, unasked=True)
    check_not_made_by_hand(picture)
    with ExitStack() as opened:  # the scores' pieces keep what is counted of them
        if is_zarr:
            shown = progress is True
            how = {"channel": settings.channel, "voxel_size": settings.voxel_size, "progress": shown}
            how["image_number"] = settings.image
            if not segment_regions(image, model, settings.segmenting, scores, work, **how):
                note(f"{scores}: this shard is done; the same command without --shard ends the work")
                out.figures |= {"scores": scores, "finished": False}
                return
            from ..inference.large import write_mask
            from ..tracing.pieces import Pieces
            from ..volumes import open_volume

            pieces = Pieces(opened.enter_context(open_volume(scores)))
            threshold = threshold_of(pieces, tracing.threshold)
            share = write_mask(scores, mask, threshold, progress=shown)
            projections = projections_of(image, settings.channel, settings.segmenting.invert, scores, settings.image)
        else:
            pieces, threshold, share, projections = segment_slabs(image, model, settings, results, progress, opened)
        doubt = doubt_of(share)
        out.warnings += [doubt] if doubt else []
        out.tell(
            f"{scores}  {mask}  {', '.join([share_in_words(share, threshold), *out.warnings])}",
            **{"scores": scores, "mask": mask, "neuron_share": float(share), "threshold": float(threshold)},
        )
        from ..evaluation.overlay import write_overlay
        from ..volumes.names import is_own_result

        trees: list = []
        figures: list[dict] = []
        if settings.trace:
            paths = neurons.outputs(swc)
            found, sides = trace_scores(pieces, neurons, replace(tracing, threshold=threshold), settings.voxel_size)
            trees, figures = write_trees(found, paths, image, sides, settings.units, settings.node_type)
            for one in figures:
                out.tell(described(one))
            remove_other_trees(image, swc, neurons.count)
        elif is_own_result(swc):
            note(f"{swc}: is of an earlier run, and may not be this mask's tree", is_warning=True)
        told: dict[str, Any] = {"tree": figures[0] if figures else None}
        told |= {"trees": figures} if neurons.count > 1 else {}
        out.tell(str(write_overlay(picture, projections, trees)), **told, picture=picture)
