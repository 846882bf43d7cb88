"""neuron-vit3d convert: converts an image to another format; repairs a tree, or draws it into a mask."""

from pathlib import Path
from typing import Annotated

import typer

from ..morphology.formats.registry import FORMATS, format_named_by, suffixes_in_words
from ..volumes.formats.registry import written_in_words
from .content import warn_of_mistake_in
from .input import check_file, check_folder, check_target, check_type, check_units, parse_label, parse_voxel_size
from .options import (
    ChannelOption,
    ImageNumberOption,
    JsonOption,
    LabelOption,
    ScaleOption,
    SwcUnitsOption,
    TypeOption,
    UnitsOption,
    VoxelSizeOption,
    example,
)
from .output import Output, in_units, note


@example("neuron-vit3d convert image.v3dpbd image.tif")
def convert(
    source: Annotated[Path, typer.Argument(help="Image, or tree (.swc, .traces, .asc).", show_default=False)],
    target: Annotated[
        Path, typer.Argument(help=f"{written_in_words()}; {suffixes_in_words()} from a tree.", show_default=False)
    ],
    channel: ChannelOption = None,
    image: ImageNumberOption = None,
    like: Annotated[Path | None, typer.Option(help="Image whose shape an SWC file is drawn into as a mask.")] = None,
    format: Annotated[
        str | None, typer.Option(help=f"Format of a tree: {', '.join(FORMATS)}. Default: by the suffix.")
    ] = None,
    voxel_size: VoxelSizeOption = None,
    units: UnitsOption = "voxels",
    swc_units: SwcUnitsOption = None,
    node_type: TypeOption = None,
    label: LabelOption = None,
    scale: ScaleOption = None,
    json: JsonOption = False,
) -> None:
    """Convert between image formats; repair a tree, or write it for other programs; or draw it into a mask."""
    sources = [source, *([like] if like else [])]
    for path in sources:
        check_file(path)
    if format is not None and format not in FORMATS:
        raise ValueError(f"--format: expected one of {', '.join(FORMATS)}, got {format!r}")
    to_tree = (format or format_named_by(target)) is not None
    if (format or format_named_by(target)) == "precomputed":
        check_folder(target.parent)
    else:
        check_target(target, *sources)
    from ..evaluation.comparison import is_tree
    from ..evaluation.fit import read_fitted
    from ..morphology import rasterize, write_tree
    from ..morphology.node_types import with_type
    from ..morphology.units import MICROMETRES, says_micrometres
    from ..volumes import Volume, as_mask_or_scores, open_volume, read_volume, write_volume

    sides = parse_voxel_size(voxel_size)
    check_units(units)
    check_units(swc_units, "--swc-units")
    check_type(node_type)
    if node_type is not None and not to_tree:
        raise ValueError(f"--type: is for trees that are written, not for {target}")
    if not is_tree(source) and MICROMETRES in (units, swc_units):
        raise ValueError(f"--units, --swc-units: are for trees, but {source} is an image")
    if not is_tree(source) and to_tree:
        raise ValueError(f"{target}: an image becomes a tree by `neuron-vit3d segment`, not by conversion")
    if sides is not None and not is_tree(source):
        raise ValueError(f"--voxel-size: is for trees, but {source} is an image")
    if like is not None and is_tree(source) == to_tree:
        raise ValueError(f"--like: is for drawing an SWC file into a mask, not for {source} to {target}")
    number = parse_label(label)
    for option, given in (("--label", number), ("--scale", scale), ("--image", image)):
        if given is not None and is_tree(source):
            raise ValueError(f"{option}: is for images, but {source} is a tree")
    if not is_tree(source):
        volume = read_volume(source, channel=channel, image=image)
        if number is not None or scale is not None:  # else the numbers stay as they are
            volume = as_mask_or_scores(volume, label=number, scale=scale)
        write_volume(target, volume)
    elif to_tree:
        if channel is not None:
            raise ValueError(f"--channel: is for images, but {source} is a tree")
        tree, sides = _converted(source, sides, swc_units)
        tree = with_type(tree, node_type) if node_type else tree
        if (format or format_named_by(target)) == "swc":
            tree = tree if says_micrometres(tree) else in_units(tree, units, sides, target)
        elif units == MICROMETRES:
            raise ValueError(f"--units: is for SWC files; {target} is in micrometres by itself")
        write_tree(target, tree, voxel_size=sides, format=format)
    else:
        if like is None:
            raise ValueError(f"{target}: --like IMAGE is needed to draw {source} into a mask of that image's shape")
        with open_volume(like, channel or 0) as reader:
            sides = sides or reader.voxel_size
            tree = read_fitted(source, reader.shape, sides, units=swc_units)
            warn_of_mistake_in(reader, tree, source, like)
            drawn = Volume(rasterize(tree, reader.shape), sides)
        write_volume(target, drawn)
    out = Output(json)
    out.tell(str(target), written=target)
    out.end()


def _converted(source: Path, sides: tuple[float, float, float] | None, units: str | None):
    """Reads and repairs a tree, and takes it to voxels where that can be done.

    Args:
        source: the file.
        sides: the voxel size that was given (z, y, x in micrometres), or None.
        units: the units that it was said to be in, or None.

    Returns:
        The tree, with parents before their children, and the voxel size: as given, or as the header tells. A tree that
        its header says to be in micrometres, without a voxel size, stays as it is, and its voxels are 1 um.
    """
    from ..morphology import read_tree
    from ..morphology.units import expecting_micrometres, says_micrometres, to_voxels, voxel_size_of

    with expecting_micrometres():
        tree = read_tree(source, mend_structure=True).parents_first()
    sides = sides or voxel_size_of(tree)
    if units is None and sides is None and says_micrometres(tree):
        note(f"{source}: stays in micrometres, as its header says: --voxel-size z,y,x takes it to voxels")
        return tree, (1.0, 1.0, 1.0)
    return to_voxels(tree, source, sides, units), sides
