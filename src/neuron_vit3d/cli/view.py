"""neuron-vit3d view: draws an image with its trees."""

from pathlib import Path
from typing import Annotated

import typer

from ..volumes.formats.registry import in_words
from .content import warn_of_mistake
from .input import check_file, check_target, check_units, parse_voxel_size
from .options import ChannelOption, ImageNumberOption, JsonOption, SwcUnitsOption, VoxelSizeOption, example
from .output import Output, note


@example("neuron-vit3d view image.tif out/image.swc --gold image.gold.swc -o compared.png")
def view(
    first: Annotated[
        Path, typer.Argument(metavar="IMAGE", help=f"{in_words()}; for --html it may be left out.", show_default=False)
    ],
    second: Annotated[
        Path | None, typer.Argument(metavar="TREE", help="SWC file, drawn in red.", show_default=False)
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="PNG file.", show_default=False)] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            help="HTML file with the tree in 3D, to be turned in a browser (needs plotly).", show_default=False
        ),
    ] = None,
    gold: Annotated[Path | None, typer.Option(help="Gold SWC file, drawn in green beneath, wider.")] = None,
    channel: ChannelOption = None,
    number: ImageNumberOption = None,
    voxel_size: VoxelSizeOption = None,
    swc_units: SwcUnitsOption = None,
    json: JsonOption = False,
) -> None:
    """Draw maximum projections of an image with its tree; or the tree alone or over the image, in 3D.

    In 3D branches are coloured by their confidence where NAME.branches.csv lies beside the tree.
    """
    image, tree = _told_apart(first, second)
    if output is None and html is None:
        raise ValueError("--output: expected a PNG file to write, or --html an HTML file; got neither")
    if image is None and output is not None:
        raise ValueError(f"--output: the picture needs an image beside {tree}; --html draws a tree alone")
    sources = [path for path in (image, tree, gold) if path is not None]
    for path in sources:
        check_file(path)
    for target in (output, html):
        if target is not None:
            check_target(target, *sources)
    if output is not None and html is not None and output.resolve() == html.resolve():
        raise ValueError("--output and --html: expected different files, got one twice")
    check_units(swc_units, "--swc-units")
    sides = parse_voxel_size(voxel_size)
    if html is not None:
        from ..evaluation.pages import check_plotly

        check_plotly()
    projections, size = None, sides
    if image is not None:
        from ..evaluation.comparison import read_projections

        projections = read_projections(image, channel, number)
        size = projections.voxel_size = sides or projections.voxel_size
    shape = None if projections is None else projections.shape
    drawn, size = _read(tree, shape, size, swc_units)
    human = _read(gold, shape, size, swc_units, mend_structure=True)[0] if gold else None
    if image is not None and projections is not None:
        for swc, one in ((tree, drawn), (gold, human)):
            if swc is not None and one is not None:
                warn_of_mistake(one, swc, projections.xy[None], image, size)
    out = Output(json)
    if output is not None and projections is not None:
        from ..evaluation.overlay import write_overlay

        write_overlay(output, projections, [drawn], gold=human)
        out.tell(str(output), picture=output)
    if html is not None:
        from ..evaluation.turning_tree import Turned, write_turning_tree
        from ..volumes.on_disk import printable

        shown = Turned(drawn, size, _confidence(tree, drawn), human, projections)
        write_turning_tree(html, shown, printable(tree.name))
        out.tell(str(html), html=html)
    out.end()


def _told_apart(first: Path, second: Path | None) -> tuple[Path | None, Path]:
    """Returns the image, where there is one, and the tree; with a tree first, the image may come second."""
    from ..morphology.formats.registry import is_tree_name

    if second is None:
        if not is_tree_name(first):
            raise ValueError(f"{first}: expected a tree, or an image and its tree; got no tree")
        return None, first
    return (second, first) if is_tree_name(first) and not is_tree_name(second) else (first, second)


def _read(path: Path, shape, sides, units: str | None, *, mend_structure: bool = False):
    """Reads a tree, in the voxels of its image or, without an image, in those that it tells of.

    Args:
        path: the file.
        shape: of the image (z, y, x), or None.
        sides: the voxel size, z, y, x in micrometres, or None.
        units: that it was said to be in, or None.
        mend_structure: as in `read_tree`.

    Returns:
        The tree and the voxel size. Without an image, what its header says to be in micrometres stays so, and its
        voxels are 1 um.
    """
    from ..evaluation.fit import read_fitted
    from ..morphology import read_tree
    from ..morphology.units import expecting_micrometres, says_micrometres, to_voxels, voxel_size_of

    if shape is not None:
        tree = read_fitted(path, shape, sides, units=units, mend_structure=mend_structure)
        return tree, sides or voxel_size_of(tree)
    with expecting_micrometres():
        tree = read_tree(path, mend_structure=mend_structure)
    sides = sides or voxel_size_of(tree)
    if sides is None and units is None and says_micrometres(tree):
        return tree, (1.0, 1.0, 1.0)
    return to_voxels(tree, path, sides, units), sides


def _confidence(path: Path, tree):
    """Looks the confidence of a tree's branches up in the table beside its file; None where there is none of it."""
    from ..morphology.branch_table import BranchTableError, branch_table_of, is_table_of, read_branch_table

    table = branch_table_of(path)
    if not table.is_file():
        return None
    try:
        branches = read_branch_table(table)
    except BranchTableError as error:
        note(f"{error}; the tree is drawn without confidence", is_warning=True)
        return None
    if not is_table_of(branches, tree):
        note(f"{table}: is not of {path}, as it is now; the tree is drawn without confidence", is_warning=True)
        return None
    return branches.confidence
