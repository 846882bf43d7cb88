"""neuron-vit3d segment: an image becomes scores, a mask, a tree and a picture; or many images do."""

from pathlib import Path
from typing import Annotated

import typer

from ..inference.options import SegmentOptions
from ..tracing.options import TraceOptions
from .input import check_device, check_file, check_type, check_units, image_name, parse_voxel_size
from .many import find_images, is_one
from .neurons import Neurons
from .options import (
    ChannelOption,
    ImageNumberOption,
    ImagesArgument,
    JsonOption,
    NeuronsOption,
    QuietOption,
    RootOption,
    StrictOption,
    TypeOption,
    UnitsOption,
    VoxelSizeOption,
    example,
    takes,
)
from .output import Output, telling_logged_warnings
from .segment_image import Settings, segment_image
from .segment_work import Work


LARGE = "Large volumes"


@takes(tracing=TraceOptions, segmenting=SegmentOptions)
@example("neuron-vit3d segment image.tif -o out --voxel-size 0.5,0.2,0.2")
def segment(
    images: ImagesArgument,
    segmenting: SegmentOptions,
    tracing: TraceOptions,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("."),
    model: Annotated[
        str | None, typer.Option(help="Checkpoint folder or Hub name. Default: the embedded one.")
    ] = None,
    channel: ChannelOption = None,
    image: ImageNumberOption = None,
    voxel_size: VoxelSizeOption = None,
    trace: Annotated[bool, typer.Option(help="Also trace the mask to an SWC file.")] = True,
    units: UnitsOption = "voxels",
    node_type: TypeOption = None,
    root: RootOption = None,
    neurons: NeuronsOption = 1,
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
    strict: StrictOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Segment and trace IMAGE: NAME.scores.tif, NAME.mask.tif, NAME.swc, NAME.branches.csv and NAME.png in the output
    folder.

    The table has a row for each branch of the tree, with its confidence; the picture shows doubtful ones in another
    colour. Several neurons go to NAME_1.swc, NAME_2.swc ...

    Many images, folders of them and patterns such as "*.czi" are segmented one after the other, and summary.csv has a
    row for each. An image that cannot be read is reported, and the others are done. The same command goes on where it
    was interrupted.

    For an OME-Zarr image of any size, scores and mask are NAME.scores.ome.zarr and NAME.mask.ome.zarr; memory holds
    one region, and projections of the image. The same command goes on where it was interrupted. --shard, --workers and
    --scheduler share the work out.
    """
    size = parse_voxel_size(voxel_size)
    one = is_one(images)
    if one:
        check_file(Path(images[0]))
    work = Work(shard, scheduler, workers)
    work.check()
    asked = Neurons.parsed(root, neurons, tracing)
    if not trace and asked != Neurons():
        raise ValueError("--no-trace: cannot be used with --root or --neurons")
    check_units(units)
    check_type(node_type)
    settings = Settings(segmenting, tracing, asked, channel, size, trace, zarr, units, node_type, image)
    if one:
        path = Path(images[0])
        out = Output(json)
        check_device(segmenting.device)
        stem = output / image_name(path)
        with telling_logged_warnings():
            segment_image(path, stem, settings, out, model=model, work=work, progress=not quiet)
        out.end()
        return
    if shard is not None:
        raise ValueError("--shard: is for one image; give each job some of the images, and a folder of its own")
    if root:
        raise ValueError("--root: is a place in one image, and cannot be used for many")
    inputs = find_images(images)
    check_device(segmenting.device)
    from .batch import Batch
    from .segment_many import segment_many

    segment_many(Batch("segment", inputs, output, as_json=json, quiet=quiet, strict=strict), settings, model, work)
