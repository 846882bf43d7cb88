"""neuron-vit3d trace: a mask or scores become trees."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..tracing.options import TraceOptions
from .input import (
    check_file,
    check_not_made_by_hand,
    check_number,
    check_target,
    image_name,
    parse_numbers,
    parse_voxel_size,
)
from .options import ChannelOption, JsonOption, VoxelSizeOption, example, takes
from .output import Output, branches_of, described, numbered, remove_other_trees, remove_tree, signed, write_tree


@takes(tracing=TraceOptions)
@example("neuron-vit3d trace out/image.scores.tif -o tree.swc --bridge-distance 8")
def trace(
    mask: Annotated[Path, typer.Argument(help="Mask (not 0) or scores (floats in [0, 1]).", show_default=False)],
    tracing: TraceOptions,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="SWC file. Default: beside the input.")] = None,
    channel: ChannelOption = None,
    voxel_size: VoxelSizeOption = None,
    root: Annotated[
        list[str] | None,
        typer.Option(help="x,y,z in voxels, e.g. of the soma; repeat it for several neurons. Default: the thickest."),
    ] = None,
    neurons: Annotated[int, typer.Option(help="How many to trace, the largest; each to a file of its own.")] = 1,
    json: JsonOption = False,
) -> None:
    """Trace a mask or scores to an SWC file; several neurons to NAME_1.swc, NAME_2.swc ...

    Beside each, NAME.branches.csv has a row for each branch, with its confidence.
    """
    size = parse_voxel_size(voxel_size)
    check_number("--neurons", neurons, at_least=1)
    if root and neurons > 1:
        raise ValueError("--neurons: cannot be used with --root, which says how many by itself")
    check_file(mask)
    from ..evaluation.comparison import is_tree

    if is_tree(mask):
        raise ValueError(f"{mask}: expected a mask or scores to trace, found a tree")
    unasked = output is None
    output = mask.with_name(image_name(mask) + ".swc") if output is None else output
    count, outputs = max(neurons, len(root or [])), [output]
    if tracing.fragments and count > 1:
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
    from ..tracing import trace_neurons
    from ..volumes import open_volume

    try:
        roots: Any = [parse_numbers(text, 3, "--root: expected x,y,z in voxels") for text in root or []]
        with open_volume(mask, channel) as reader:
            trees = trace_neurons(
                reader,
                roots or neurons,
                tracing,
                voxel_size=size or reader.voxel_size,
            )
    except ValueError as error:
        raise ValueError(f"{mask}: {str(error).removeprefix(f'{mask}: ')}") from error
    out = Output(json)
    out.figures["trees"] = []
    for tree, path in zip(trees, outputs, strict=False):
        figures = write_tree(path, signed(tree, mask))
        out.tell(described(figures), trees=[*out.figures["trees"], figures])
    for path in outputs[len(trees) :]:  # there are fewer than asked for: an earlier run's would not be this mask's
        remove_tree(path)
    if unasked:
        remove_other_trees(mask, output, count)
    out.end()
