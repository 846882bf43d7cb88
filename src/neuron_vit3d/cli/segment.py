"""neuron-vit3d segment: an image becomes scores, a mask, a tree and a picture."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ..inference.options import SegmentOptions
from ..tracing.options import TraceOptions
from .input import (
    check_device,
    check_file,
    check_folder,
    check_not_made_by_hand,
    check_target,
    image_name,
    parse_voxel_size,
)
from .options import (
    ChannelOption,
    ImageArgument,
    JsonOption,
    VoxelSizeOption,
    example,
    takes,
)
from .output import Output, branches_of, described, note
from .segment_work import Work, projections_of, segment_regions, segment_slabs, threshold_of, told_share, trace_scores


LARGE = "Large volumes"


@takes(tracing=TraceOptions, segmenting=SegmentOptions)
@example("neuron-vit3d segment image.tif -o out --voxel-size 0.5,0.2,0.2")
def segment(
    image: ImageArgument,
    segmenting: SegmentOptions,
    tracing: TraceOptions,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("."),
    model: Annotated[
        str | None, typer.Option(help="Checkpoint folder or Hub name. Default: the embedded one.")
    ] = None,
    channel: ChannelOption = None,
    voxel_size: VoxelSizeOption = None,
    trace: Annotated[bool, typer.Option(help="Also trace the mask to an SWC file.")] = True,
    zarr: Annotated[
        bool | None,
        typer.Option(
            "--zarr/--tiff",
            help="Write OME-Zarr, region by region; or TIFF. Default: as the image is.",
            rich_help_panel=LARGE,
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            help="i/n: only the i-th of n parts, from 0, of an OME-Zarr; for job arrays.", rich_help_panel=LARGE
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes to start for an OME-Zarr (needs dask).", rich_help_panel=LARGE)
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Address of a dask scheduler whose workers do it, e.g. tcp://host:8786.", rich_help_panel=LARGE
        ),
    ] = None,
    json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not tell how far it is.")] = False,
) -> None:
    """Segment and trace IMAGE: NAME.scores.tif, NAME.mask.tif, NAME.swc, NAME.branches.csv and NAME.png in the output
    folder.

    The table has a row for each branch of the tree, with its confidence; the picture shows doubtful ones in another
    colour.

    Of an OME-Zarr image NAME.scores.ome.zarr and NAME.mask.ome.zarr, whatever its size: a region is in memory, and
    projections of the image; the same command goes on where it was interrupted; --shard, --workers and --scheduler
    share the work out.
    """
    size = parse_voxel_size(voxel_size)
    check_file(image)
    zarr = image.is_dir() if zarr is None else zarr
    work = Work(shard, scheduler, workers)
    work.check()
    if not zarr and work != Work():
        raise ValueError("--shard, --workers and --scheduler: expected an OME-Zarr image, or --zarr")
    name = image_name(image)
    check_folder(output)
    kind = "ome.zarr" if zarr else "tif"
    results = [output / f"{name}.{suffix}" for suffix in (f"scores.{kind}", f"mask.{kind}", "swc", "png")]
    for result in results[2 if zarr else 0 :]:
        check_target(result, image)
    _, mask, swc, png = results
    branches = branches_of(swc)
    if trace:
        check_target(branches, image)
    for result, is_made in ((mask, not zarr), (swc, trace), (branches, trace), (png, True)):
        if is_made:
            check_not_made_by_hand(result)
    check_device(segmenting.device)
    out = Output(json)
    if zarr:
        how = {"channel": channel, "voxel_size": size, "progress": not quiet}
        if not segment_regions(image, model, segmenting, results[0], work, **how):
            note(f"{results[0]}: this shard is done; the same command without --shard ends the work")
            out.figures |= {"scores": results[0], "finished": False}
            out.end()
            return
        from ..inference.large import write_mask

        threshold = threshold_of(results[0], tracing.threshold)
        share = write_mask(results[0], results[1], threshold, progress=not quiet)
        projections = projections_of(image, channel, segmenting.invert, scores=results[0])
    else:
        threshold, share, projections = segment_slabs(
            image, model, segmenting, channel, size, tracing.threshold, results, quiet
        )
    out.tell(
        f"{results[0]}  {results[1]}  {told_share(share, threshold)}",
        **{"scores": results[0], "mask": results[1], "neuron_share": float(share), "threshold": float(threshold)},
    )
    from ..evaluation.overlay import write_overlay
    from ..volumes.names import is_own_result

    trees: list = []
    figures = None
    if trace:
        trees, figures = trace_scores(results[0], swc, image, replace(tracing, threshold=threshold), size)
        if figures is not None:
            out.tell(described(figures))
    elif is_own_result(swc):
        note(f"{swc}: is of an earlier run, and may not be this mask's tree")
    out.tell(str(write_overlay(results[3], projections, trees)), tree=figures, picture=results[3])
    out.end()
