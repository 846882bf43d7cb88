"""neuron-vit3d view: draws an image with its trees."""

from pathlib import Path
from typing import Annotated

import typer

from .input import check_file, check_target, check_units
from .options import ChannelOption, ImageArgument, ImageNumberOption, JsonOption, SwcUnitsOption, example
from .output import Output


@example("neuron-vit3d view image.tif out/image.swc --gold image.gold.swc -o compared.png")
def view(
    image: ImageArgument,
    tree: Annotated[Path, typer.Argument(help="SWC file, drawn in red.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG file.", show_default=False)],
    gold: Annotated[Path | None, typer.Option(help="Gold SWC file, drawn in green beneath, wider.")] = None,
    channel: ChannelOption = None,
    number: ImageNumberOption = None,
    swc_units: SwcUnitsOption = "voxels",
    json: JsonOption = False,
) -> None:
    """Draw maximum projections of an image with its tree."""
    sources = [image, tree, *([gold] if gold else [])]
    for path in sources:
        check_file(path)
    check_target(output, *sources)
    check_units(swc_units, "--swc-units")
    from ..evaluation.comparison import read_gold, read_projections
    from ..evaluation.fit import fitted
    from ..evaluation.overlay import write_overlay
    from ..morphology import read_tree
    from ..morphology.units import MICROMETRES

    projections = read_projections(image, channel, number)
    shape, sides, is_um = projections.shape, projections.voxel_size, swc_units == MICROMETRES
    drawn = fitted(read_tree(tree), tree, shape, sides, is_um=is_um)
    human = fitted(read_gold(gold), gold, shape, sides, is_um=is_um) if gold else None
    write_overlay(output, projections, [drawn], gold=human)
    out = Output(json)
    out.tell(str(output), picture=output)
    out.end()
