"""The command line: neuron-vit3d segment | trace | evaluate | convert | view.

Errors that a user can cause are one line on standard error and exit status 2. Heavy imports wait until they are needed.
"""

import dataclasses
import functools
import logging
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from .cli_input import (
    TRACED_BY,
    check_device,
    check_file,
    check_folder,
    check_not_drawn_by_hand,
    check_number,
    check_target,
    find_images,
    image_name,
    is_folder_of_files,
    parse_numbers,
    parse_voxel_size,
)


app = typer.Typer(
    help="Segment and trace neurons in 3D microscopy images.", no_args_is_help=True, add_completion=False
)


ImageArgument = Annotated[Path, typer.Argument(help="TIFF, v3draw, v3dpbd or npy file.", show_default=False)]
ChannelOption = Annotated[int | None, typer.Option(help="Channel to use, from 0, where the image has several.")]
ThresholdOption = Annotated[float, typer.Option(help="Scores at least this high are neuron.")]
VoxelSizeOption = Annotated[
    str | None,
    typer.Option(help="z,y,x in micrometres, where the file does not say or is wrong. Example: 0.5,0.2,0.2"),
]


def one_line_errors(command: Callable) -> Callable:
    """Turns the errors that bad input raises into one line and exit status 2."""

    @functools.wraps(command)
    def wrapped(*args, **kwargs):
        try:
            quiet_libraries()
            with warnings.catch_warnings():
                warnings.showwarning = lambda message, *_: note(str(message))
                return command(*args, **kwargs)
        except (ValueError, OSError, MemoryError) as error:
            note(f"error: {str(error) or type(error).__name__}")
            raise typer.Exit(2) from error
        except RuntimeError as error:
            if "memory" not in str(error):
                raise
            note(f"error: not enough memory, a smaller --tile-size or --batch-size needs less: {error}")
            raise typer.Exit(2) from error
        except KeyboardInterrupt:
            note("interrupted")
            raise typer.Exit(130) from None

    return wrapped


@app.command()
@one_line_errors
def segment(
    image: ImageArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("."),
    model: Annotated[
        str | None, typer.Option(help="Checkpoint folder or Hub name. Default: the embedded one.")
    ] = None,
    channel: ChannelOption = None,
    threshold: ThresholdOption = 0.5,
    voxel_size: VoxelSizeOption = None,
    bridge_distance: Annotated[float, typer.Option(help="Widest gap to bridge when tracing, in voxels.")] = 16.0,
    trace: Annotated[bool, typer.Option(help="Also trace the mask to an SWC file.")] = True,
    tile_size: Annotated[int | None, typer.Option(help="Side of a tile in pixels. Default: the model's.")] = None,
    tile_overlap: Annotated[int | None, typer.Option(help="Pixels tiles share. Default: the model's.")] = None,
    slice_overlap: Annotated[int | None, typer.Option(help="Slices blocks share. Default: the model's.")] = None,
    batch_size: Annotated[int, typer.Option(help="Blocks at once.")] = 8,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps. Default: the best there is.")] = None,
    dtype: Annotated[
        str, typer.Option(help="float32, or bfloat16: faster on recent hardware, nearly equal.")
    ] = "float32",
    skip_background: Annotated[
        bool, typer.Option("--skip-background", help="Leave out tiles in which no neurite can be.")
    ] = False,
    flips: Annotated[bool, typer.Option("--flips", help="Average over mirror images: four times slower.")] = False,
    compile: Annotated[bool, typer.Option("--compile", help="Compile the model; pays for large volumes.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Segment and trace IMAGE: NAME.scores.tif, NAME.mask.tif, NAME.swc and NAME.png in the output folder."""
    voxel_size = parse_voxel_size(voxel_size)
    check_number("--threshold", threshold, above=0, at_most=1)
    check_number("--bridge-distance", bridge_distance, at_least=0)
    check_number("--batch-size", batch_size, at_least=1)
    if tile_size is not None:
        check_number("--tile-size", tile_size, at_least=1)
    check_file(image)
    name = image_name(image)
    check_folder(output)
    results = [output / f"{name}{suffix}" for suffix in (".scores.tif", ".mask.tif", ".swc", ".png")]
    for result in results:
        check_target(result, image)
    if trace:
        check_not_drawn_by_hand(results[2])
    import numpy as np
    import torch

    from .data.sources import open_source
    from .evaluation.overlay import Projections, write_overlay
    from .inference import Segmenter
    from .morphology import TraceError
    from .morphology import trace as trace_scores
    from .volumes import SlabWriter, Volume, read_volume

    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if dtype not in dtypes:
        raise ValueError(f"--dtype: expected {' or '.join(dtypes)}, got {dtype!r}")
    sizes = {"tile_size": tile_size, "tile_overlap": tile_overlap, "slice_overlap": slice_overlap}
    how = {"skip_background": skip_background, "flips": flips, "compile": compile, "batch_size": batch_size}
    segmenter = Segmenter(model, device=check_device(device), dtype=dtypes[dtype], **sizes, **how)
    with segmenter.open(image, channel) as source:
        voxel_size = voxel_size or source.voxel_size
        projections, positives = Projections(source.shape), 0
        stamp = open_source(image.parent, scan=False).stamp(image.name)
        key = f"{segmenter.key()} {channel} {stamp} {voxel_size}"
        scores_file = SlabWriter(results[0], source.shape, np.float32, voxel_size, resume_key=key)
        mask_file = SlabWriter(results[1], source.shape, np.uint8, voxel_size)
        with telling_what_is_kept(scores_file), scores_file, mask_file:
            first = scores_file.slices_written
            if first:
                note(f"{results[0]}: {first} of {source.shape[0]} slices are there from an interrupted run")
            kept = ((z, scores_file.read_written(z, z + 1)) for z in range(first))
            for z, scores in chain(kept, segmenter.slabs(source, progress=not quiet, first=first)):
                slab = scores >= threshold
                positives += int(np.count_nonzero(slab))
                if z >= first:
                    scores_file.write(scores)
                mask_file.write(slab.astype(np.uint8) * np.uint8(255))
                projections.add(z, source.read(z, z + len(scores)).max(0))
    print(f"{results[0]}  {results[1]}  {positives / math.prod(source.shape):.3%} of the voxels are neuron")
    trees = []
    if trace:
        try:
            scores = Volume(read_volume(results[0]).array, voxel_size)
            tree = trace_scores(scores, threshold=threshold, bridge_distance=bridge_distance)
        except TraceError as error:
            results[2].unlink(missing_ok=True)  # an earlier run's tree would not be this mask's
            note(f"no tree was written: {error}")
        else:
            tree = signed(tree, image)
            print(describe_tree(tree.write(results[2]), tree))
            trees = [tree]
    print(write_overlay(results[3], projections, trees))


@app.command()
@one_line_errors
def trace(
    mask: Annotated[Path, typer.Argument(help="Mask (not 0) or scores (floats in [0, 1]).", show_default=False)],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="SWC file. Default: beside the input.")] = None,
    threshold: ThresholdOption = 0.5,
    voxel_size: VoxelSizeOption = None,
    bridge_distance: Annotated[float, typer.Option(help="Widest gap to bridge, in voxels.")] = 16.0,
    min_branch_length: Annotated[float, typer.Option(help="Shorter end branches are pruned, in voxels.")] = 5.0,
    root: Annotated[str | None, typer.Option(help="x,y,z in voxels, e.g. of the soma. Default: the thickest.")] = None,
) -> None:
    """Trace a mask or scores to an SWC file."""
    voxel_size = parse_voxel_size(voxel_size)
    check_file(mask)
    if output is None:
        output = mask.with_name(image_name(mask) + ".swc")
        check_not_drawn_by_hand(output)
    check_target(output, mask)
    from .morphology import trace as trace_mask
    from .volumes import Volume, read_volume, single_channel

    volume = single_channel(read_volume(mask))
    try:
        tree = trace_mask(
            Volume(volume.array, voxel_size or volume.voxel_size),
            threshold=threshold,
            bridge_distance=bridge_distance,
            min_branch_length=min_branch_length,
            root=parse_numbers(root, 3, "--root: expected x,y,z in voxels") if root else None,
        )
    except ValueError as error:
        raise ValueError(f"{mask}: {error}") from error
    tree = signed(tree, mask)
    print(describe_tree(tree.write(output), tree))


@app.command()
@one_line_errors
def evaluate(
    predicted: Annotated[Path, typer.Argument(help="SWC file or mask, or a folder of them.", show_default=False)],
    gold: Annotated[Path, typer.Argument(help="Gold SWC file or mask, or a folder of them.", show_default=False)],
    threshold: Annotated[float, typer.Option(help="Distance in voxels within which trees agree.")] = 2.0,
    json_asked: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    csv: Annotated[Path | None, typer.Option(help="CSV file to write, a row for each neuron.")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="PNG file of what agrees, is missed and is extra; of folders: a folder.")
    ] = None,
    image: Annotated[Path | None, typer.Option(help="Image to draw the picture over; of folders: a folder.")] = None,
) -> None:
    """Compare trees with gold trees, or masks with gold masks (or with the tubes of the gold trees).

    Of two folders, files of one name are compared (a.swc or a.mask.tif with a.swc, a.gold.swc or a.tif).
    """
    for path in (predicted, gold):
        if not path.exists():
            raise OSError(f"{path}: no such file")
    if image is not None and picture is None:
        raise ValueError("--image: is for --picture, which is not given")
    from .evaluation.comparison import Comparison, as_json, as_table, find_comparisons, means, neuron_name, write_csv

    many = is_folder_of_files(predicted)
    if many != is_folder_of_files(gold):
        raise ValueError(f"{gold}: expected {'a folder' if many else 'a file'} as {predicted} is, found the other")
    pairs = find_comparisons(predicted, gold) if many else [(neuron_name(predicted), predicted, gold)]
    images = find_images(image, [name for name, *_ in pairs]) if many and image else {pairs[0][0]: image}
    for target in (csv, None if many else picture):
        if target is not None:
            check_target(target, predicted)
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
        for key, value in figures.items():
            print(f"{key:18} {value:.4f}" if isinstance(value, float) else f"{key:18} {value}")


@app.command()
@one_line_errors
def convert(
    source: Annotated[Path, typer.Argument(help="Image or SWC file.", show_default=False)],
    target: Annotated[Path, typer.Argument(help=".tif, .v3draw, .npy; .swc from an SWC file.", show_default=False)],
    channel: ChannelOption = None,
    like: Annotated[Path | None, typer.Option(help="Image whose shape an SWC file is drawn into as a mask.")] = None,
) -> None:
    """Convert between image formats; check and repair an SWC file; or draw one into a mask."""
    check_file(source)
    check_target(target, source)
    from .evaluation.comparison import is_tree
    from .morphology import rasterize, read_swc
    from .volumes import Volume, open_volume, read_volume, write_volume

    if not is_tree(source):
        if is_tree(target):
            raise ValueError(f"{target}: an image becomes a tree by `neuron-vit3d segment`, not by conversion")
        write_volume(target, read_volume(source, channel=channel))
    elif is_tree(target):
        read_swc(source).write(target)
    else:
        if like is None:
            raise ValueError(f"{target}: --like IMAGE is needed to draw {source} into a mask of that image's shape")
        check_file(like)
        with open_volume(like, channel or 0) as reader:
            shape, voxel_size = reader.shape, reader.voxel_size
        write_volume(target, Volume(rasterize(read_swc(source), shape), voxel_size))
    print(target)


@app.command()
@one_line_errors
def view(
    image: ImageArgument,
    tree: Annotated[Path, typer.Argument(help="SWC file, drawn in red.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG file.", show_default=False)],
    gold: Annotated[Path | None, typer.Option(help="Gold SWC file, drawn in green beneath.")] = None,
    channel: ChannelOption = None,
) -> None:
    """Draw maximum projections of an image with its tree."""
    for path in (image, tree, *([gold] if gold else [])):
        check_file(path)
    check_target(output, image)
    from .evaluation.comparison import read_gold, read_projections
    from .evaluation.overlay import write_overlay
    from .morphology import read_swc

    projections = read_projections(image, channel)
    print(write_overlay(output, projections, [read_swc(tree)], gold=read_gold(gold) if gold else None))


@contextmanager
def telling_what_is_kept(scores_file) -> Iterator[None]:
    """Says how far a run that ends here came, where the next one continues."""
    try:
        yield
    except BaseException:
        if scores_file.slices_written:
            note(f"{scores_file.slices_written} of {scores_file.shape[0]} slices are kept: the same command continues")
        raise


def signed(tree, source: Path):
    """The tree with a comment on where it comes from."""
    return dataclasses.replace(tree, comments=(f"{TRACED_BY} from {source.name}", *tree.comments))


def describe_tree(path: Path, tree) -> str:
    """One line on a traced tree, with what tracing left out."""
    left_out = [comment for comment in tree.comments if "dropped" in comment]
    return f"{path}  {len(tree)} nodes, {tree.length:.0f} voxels long" + "".join(f"; {text}" for text in left_out)


def note(text: str) -> None:
    print(f"neuron-vit3d: {' '.join(text.split())}", file=sys.stderr)


def quiet_libraries() -> None:
    """No log lines, bars and tables of others between the lines of this program, which tells itself what matters."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for name in ("neuron_vit3d", "tifffile"):
        logging.getLogger(name).addHandler(logging.NullHandler())


def main() -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    app()


if __name__ == "__main__":
    main()
