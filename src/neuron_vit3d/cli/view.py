"""neuron-vit3d view: draws an image with its trees."""

from pathlib import Path
from typing import Annotated

import typer

from .input import check_file, check_target, check_units, parse_voxel_size
from .options import (
    ChannelOption,
    ImageArgument,
    ImageNumberOption,
    JsonOption,
    SwcUnitsOption,
    VoxelSizeOption,
    example,
)
from .output import Output


@example("neuron-vit3d view image.tif out/image.swc --gold image.gold.swc -o compared.png")
def view(
    image: ImageArgument,
    tree: Annotated[Path, typer.Argument(help="SWC file, drawn in red.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG file.", show_default=False)],
    gold: Annotated[Path | None, typer.Option(help="Gold SWC file, drawn in green beneath, wider.")] = None,
    channel: ChannelOption = None,
    number: ImageNumberOption = None,
    voxel_size: VoxelSizeOption = None,
    swc_units: SwcUnitsOption = None,
    json: JsonOption = False,
) -> None:
    """Draw maximum projections of an image with its tree."""
    sources = [image, tree, *([gold] if gold else [])]
    for path in sources:
        check_file(path)
    check_target(output, *sources)
    check_units(swc_units, "--swc-units")
    sides = parse_voxel_size(voxel_size)
    from ..evaluation.comparison import read_projections
    from ..evaluation.fit import read_fitted
    from ..evaluation.overlay import write_overlay

    projections = read_projections(image, channel, number)
    shape, projections.voxel_size = projections.shape, sides or projections.voxel_size
    how = (shape, projections.voxel_size)
    drawn = read_fitted(tree, *how, units=swc_units)
    human = read_fitted(gold, *how, units=swc_units, mend_structure=True) if gold else None
    write_overlay(output, projections, [drawn], gold=human)
    out = Output(json)
    out.tell(str(output), picture=output)
    out.end()
