"""The command line: neuron-vit3d segment | trace | evaluate | convert | view | train | prepare | publish.

Errors that a user can cause are one line on standard error and exit status 2. Heavy imports wait until they are
needed.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from .cli_errors import one_line_errors
from .cli_group import OneLineGroup, program
from .cli_input import (
    check_device,
    check_file,
    check_folder,
    check_not_made_by_hand,
    check_number,
    check_target,
    find_images,
    image_name,
    is_folder_of_files,
    parse_numbers,
    parse_voxel_size,
)
from .cli_options import (
    ChannelOption,
    FragmentsOption,
    ImageArgument,
    MinConfidenceOption,
    ThresholdOption,
    VoxelSizeOption,
)
from .cli_output import branches_of, note, numbered, remove_other_trees, remove_tree, signed, write_tree
from .cli_prepare import prepare
from .cli_publish import publish
from .cli_segment import Work, projections_of, segment_regions, segment_slabs, threshold_of, told_share, trace_scores
from .cli_train import train
from .volumes.formats.registry import written_in_words


app = typer.Typer(
    cls=OneLineGroup,
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback(epilog="Example: neuron-vit3d segment image.tif -o out")(program)


@app.command(epilog="Example: neuron-vit3d segment image.tif -o out --voxel-size 0.5,0.2,0.2")
@one_line_errors
def segment(
    image: ImageArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("."),
    model: Annotated[
        str | None, typer.Option(help="Checkpoint folder or Hub name. Default: the embedded one.")
    ] = None,
    channel: ChannelOption = None,
    threshold: ThresholdOption = None,
    voxel_size: VoxelSizeOption = None,
    bridge_distance: Annotated[float, typer.Option(help="Widest gap to bridge when tracing, in voxels.")] = 16.0,
    min_confidence: MinConfidenceOption = 0.0,
    fragments: FragmentsOption = False,
    trace: Annotated[bool, typer.Option(help="Also trace the mask to an SWC file.")] = True,
    tile_size: Annotated[
        int | None, typer.Option(help="Side of a tile in pixels, about. Default: the model's.")
    ] = None,
    tile_overlap: Annotated[int | None, typer.Option(help="Pixels tiles share. Default: the model's.")] = None,
    slice_overlap: Annotated[int | None, typer.Option(help="Slices blocks share. Default: the model's.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Blocks at once. Default: 8, on a GPU 32.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps. Default: the best there is.")] = None,
    dtype: Annotated[
        str, typer.Option(help="float32, or bfloat16: faster on recent hardware, nearly equal.")
    ] = "float32",
    skip_background: Annotated[
        bool,
        typer.Option("--skip-background/--no-skip-background", help="Leave out tiles in which no neurite can be."),
    ] = True,
    invert: Annotated[bool, typer.Option("--invert", help="The image is dark on bright: read its negative.")] = False,
    flips: Annotated[bool, typer.Option("--flips", help="Average over mirror images: four times slower.")] = False,
    compile: Annotated[bool, typer.Option("--compile", help="Compile the model; pays for large volumes.")] = False,
    zarr: Annotated[
        bool | None,
        typer.Option("--zarr/--tiff", help="Write OME-Zarr, region by region; or TIFF. Default: as the image is."),
    ] = None,
    shard: Annotated[
        str | None, typer.Option(help="i/n: only the i-th of n parts, from 0, of an OME-Zarr; for job arrays.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes to start for an OME-Zarr (needs dask).")] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a dask scheduler whose workers do it, e.g. tcp://host:8786.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Segment and trace IMAGE: NAME.scores.tif, NAME.mask.tif, NAME.swc, NAME.branches.csv and NAME.png in the output
    folder.

    The table has a row for each branch of the tree, with its confidence; the picture shows doubtful ones in another
    colour.

    Of an OME-Zarr image NAME.scores.ome.zarr and NAME.mask.ome.zarr, whatever its size: a region is in memory, and
    projections of the image; the same command goes on where it was interrupted; --shard, --workers and --scheduler
    share the work out.
    """
    voxel_size = parse_voxel_size(voxel_size)
    if threshold is not None:
        check_number("--threshold", threshold, above=0, at_most=1)
    check_number("--bridge-distance", bridge_distance, at_least=0)
    check_number("--min-confidence", min_confidence, at_least=0, at_most=1)
    if batch_size is not None:
        check_number("--batch-size", batch_size, at_least=1)
    if tile_size is not None:
        check_number("--tile-size", tile_size, at_least=1)
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
    import torch

    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if dtype not in dtypes:
        raise ValueError(f"--dtype: expected {' or '.join(dtypes)}, got {dtype!r}")
    how = {
        "tile_size": tile_size,
        "tile_overlap": tile_overlap,
        "slice_overlap": slice_overlap,
        "skip_background": skip_background,
        "invert": invert,
        "flips": flips,
        "compile": compile,
        "batch_size": batch_size,
        "device": check_device(device),
        "dtype": dtypes[dtype],
    }
    if zarr:
        how |= {"channel": channel, "voxel_size": voxel_size, "progress": not quiet}
        if not segment_regions(image, model, results[0], work, **how):
            note(f"{results[0]}: this shard is done; the same command without --shard ends the work")
            return
        from .inference.large import write_mask

        threshold = threshold_of(results[0], threshold)
        share = write_mask(results[0], results[1], threshold, progress=not quiet)
        projections = projections_of(image, channel, invert, scores=results[0])
    else:
        threshold, share, projections = segment_slabs(
            image, model, channel, voxel_size, threshold, results, quiet, how
        )
    print(f"{results[0]}  {results[1]}  {told_share(share, threshold)}")
    from .evaluation.overlay import write_overlay
    from .volumes.names import is_own_result

    trees = []
    if trace:
        rules = {"min_confidence": min_confidence, "fragments": fragments}
        rules |= {"threshold": threshold, "bridge_distance": bridge_distance}
        trees = trace_scores(results[0], swc, image, voxel_size, **rules)
    elif is_own_result(swc):
        note(f"{swc}: is of an earlier run, and may not be this mask's tree")
    print(write_overlay(results[3], projections, trees))


@app.command(epilog="Example: neuron-vit3d trace out/image.scores.tif -o tree.swc --bridge-distance 8")
@one_line_errors
def trace(
    mask: Annotated[Path, typer.Argument(help="Mask (not 0) or scores (floats in [0, 1]).", show_default=False)],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="SWC file. Default: beside the input.")] = None,
    channel: ChannelOption = None,
    threshold: ThresholdOption = None,
    voxel_size: VoxelSizeOption = None,
    bridge_distance: Annotated[float, typer.Option(help="Widest gap to bridge, in voxels.")] = 16.0,
    min_branch_length: Annotated[float, typer.Option(help="Shorter end branches are pruned, in voxels.")] = 3.0,
    root: Annotated[
        list[str] | None,
        typer.Option(help="x,y,z in voxels, e.g. of the soma; repeat it for several neurons. Default: the thickest."),
    ] = None,
    neurons: Annotated[int, typer.Option(help="How many to trace, the largest; each to a file of its own.")] = 1,
    min_confidence: MinConfidenceOption = 0.0,
    fragments: FragmentsOption = False,
) -> None:
    """Trace a mask or scores to an SWC file; several neurons to NAME_1.swc, NAME_2.swc ...

    Beside each, NAME.branches.csv has a row for each branch, with its confidence.
    """
    voxel_size = parse_voxel_size(voxel_size)
    check_number("--neurons", neurons, at_least=1)
    check_number("--min-confidence", min_confidence, at_least=0, at_most=1)
    if root and neurons > 1:
        raise ValueError("--neurons: cannot be used with --root, which says how many by itself")
    check_file(mask)
    from .evaluation.comparison import is_tree

    if is_tree(mask):
        raise ValueError(f"{mask}: expected a mask or scores to trace, found a tree")
    unasked = output is None
    output = mask.with_name(image_name(mask) + ".swc") if output is None else output
    count, outputs = max(neurons, len(root or [])), [output]
    if fragments and count > 1:
        raise ValueError(
            "--fragments: cannot be used for several neurons, for which of them they belong to is not known"
        )
    if count > 1:
        outputs = [numbered(output, i) for i in range(1, count + 1)]
    for path in outputs:
        if unasked:
            check_not_made_by_hand(path)
        check_target(path, mask)
        check_target(branches_of(path), mask)
        check_not_made_by_hand(branches_of(path))
    from .tracing import trace_neurons
    from .volumes import open_volume

    try:
        roots = [parse_numbers(text, 3, "--root: expected x,y,z in voxels") for text in root or []]
        with open_volume(mask, channel) as reader:
            trees = trace_neurons(
                reader,
                roots or neurons,
                voxel_size=voxel_size or reader.voxel_size,
                threshold=threshold,
                bridge_distance=bridge_distance,
                min_branch_length=min_branch_length,
                min_confidence=min_confidence,
                fragments=fragments,
            )
    except ValueError as error:
        raise ValueError(f"{mask}: {str(error).removeprefix(f'{mask}: ')}") from error
    for tree, path in zip(trees, outputs, strict=False):
        write_tree(path, signed(tree, mask))
    for path in outputs[len(trees) :]:  # there are fewer than asked for: an earlier run's would not be this mask's
        remove_tree(path)
    if unasked:
        remove_other_trees(mask, output, count)


@app.command(epilog="Example: neuron-vit3d evaluate out/image.swc image.gold.swc --picture compared.png")
@one_line_errors
def evaluate(
    predicted: Annotated[Path, typer.Argument(help="SWC file or mask, or a folder of them.", show_default=False)],
    gold: Annotated[Path, typer.Argument(help="Gold SWC file or mask, or a folder of them.", show_default=False)],
    threshold: Annotated[
        float | None, typer.Option(help="Distance in voxels within which trees agree. Default: 2.")
    ] = None,
    json_asked: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    csv: Annotated[Path | None, typer.Option(help="CSV file to write, a row for each neuron.")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="PNG file of what agrees, is missed and is extra; of folders: a folder.")
    ] = None,
    image: Annotated[Path | None, typer.Option(help="Image to draw the picture over; of folders: a folder.")] = None,
) -> None:
    """Compare trees with gold trees, or masks with gold masks (or with the tubes of the gold trees).

    Scores (floats) are compared as the mask of those of at least 0.5, and by their average precision.
    Of two folders, files of one name are compared (a.swc or a.mask.tif with a.swc, a.gold.swc or a.tif).
    """
    for path in (predicted, gold):
        if not path.exists():
            raise OSError(f"{path}: no such file")
    if image is not None and picture is None:
        raise ValueError("--image: is for --picture, which is not given")
    from .evaluation.comparison import (
        Comparison,
        as_json,
        as_table,
        find_comparisons,
        is_tree,
        means,
        neuron_name,
        write_csv,
    )

    many = is_folder_of_files(predicted)
    if many != is_folder_of_files(gold):
        raise ValueError(f"{gold}: expected {'a folder' if many else 'a file'} as {predicted} is, found the other")
    pairs = find_comparisons(predicted, gold) if many else [(neuron_name(predicted), predicted, gold)]
    if threshold is None:
        threshold = 2.0
    elif not is_tree(pairs[0][1]):
        raise ValueError(f"--threshold: is the distance within which trees agree, but {pairs[0][1]} is no tree")
    images = find_images(image, [name for name, *_ in pairs]) if many and image else {pairs[0][0]: image}
    sources = [path for pair in pairs for path in pair[1:]] + [path for path in images.values() if path is not None]
    for target in (csv, None if many else picture):
        if target is not None:
            check_target(target, *sources)
    if many and picture is not None:
        check_folder(picture)
    figures = {}
    for name, ours, theirs in pairs:
        comparison = Comparison(ours, theirs, threshold)
        figures[name] = comparison.figures()
        if picture is not None:
            comparison.write_picture(picture / f"{name}.png" if many else picture, images.get(name))
    if csv is not None:
        write_csv(csv, figures)
    if not many:
        (figures,) = figures.values()
    if json_asked:
        print(as_json({"neurons": figures, "mean": means(figures)} if many else figures))
    elif many:
        print(as_table(figures))
    else:
        width = max(18, *map(len, figures))
        for key, value in figures.items():
            print(f"{key:{width}} {value:.4f}" if isinstance(value, float) else f"{key:{width}} {value}")


@app.command(epilog="Example: neuron-vit3d convert image.v3dpbd image.tif")
@one_line_errors
def convert(
    source: Annotated[Path, typer.Argument(help="Image or SWC file.", show_default=False)],
    target: Annotated[Path, typer.Argument(help=f"{written_in_words()}; .swc from an SWC file.", show_default=False)],
    channel: ChannelOption = None,
    like: Annotated[Path | None, typer.Option(help="Image whose shape an SWC file is drawn into as a mask.")] = None,
) -> None:
    """Convert between image formats; check and repair an SWC file; or draw one into a mask."""
    sources = [source, *([like] if like else [])]
    for path in sources:
        check_file(path)
    check_target(target, *sources)
    from .evaluation.comparison import is_tree
    from .morphology import rasterize, read_swc
    from .volumes import Volume, open_volume, read_volume, write_volume

    if not is_tree(source) and is_tree(target):
        raise ValueError(f"{target}: an image becomes a tree by `neuron-vit3d segment`, not by conversion")
    if like is not None and is_tree(source) == is_tree(target):
        raise ValueError(f"--like: is for drawing an SWC file into a mask, not for {source} to {target}")
    if not is_tree(source):
        write_volume(target, read_volume(source, channel=channel))
    elif is_tree(target):
        if channel is not None:
            raise ValueError(f"--channel: is for images, but {source} is a tree")
        read_swc(source).write(target)
    else:
        if like is None:
            raise ValueError(f"{target}: --like IMAGE is needed to draw {source} into a mask of that image's shape")
        with open_volume(like, channel or 0) as reader:
            shape, voxel_size = reader.shape, reader.voxel_size
        write_volume(target, Volume(rasterize(read_swc(source), shape), voxel_size))
    print(target)


@app.command(epilog="Example: neuron-vit3d view image.tif out/image.swc --gold image.gold.swc -o compared.png")
@one_line_errors
def view(
    image: ImageArgument,
    tree: Annotated[Path, typer.Argument(help="SWC file, drawn in red.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG file.", show_default=False)],
    gold: Annotated[Path | None, typer.Option(help="Gold SWC file, drawn in green beneath.")] = None,
    channel: ChannelOption = None,
) -> None:
    """Draw maximum projections of an image with its tree."""
    sources = [image, tree, *([gold] if gold else [])]
    for path in sources:
        check_file(path)
    check_target(output, *sources)
    from .evaluation.comparison import read_gold, read_projections
    from .evaluation.overlay import write_overlay
    from .morphology import read_swc

    projections = read_projections(image, channel)
    print(write_overlay(output, projections, [read_swc(tree)], gold=read_gold(gold) if gold else None))


app.command(epilog="Example: neuron-vit3d prepare stacks prepared --num-proc 2")(one_line_errors(prepare))
app.command(epilog="Example: neuron-vit3d publish runs/first user/first --private")(one_line_errors(publish))
# Its options, and -h, are read by itself: they are the fields of a dataclass.
app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(train)


def main() -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # torch takes memory in large pages: in float32 tiles take four fifths of the time.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8
    app()


if __name__ == "__main__":
    main()
