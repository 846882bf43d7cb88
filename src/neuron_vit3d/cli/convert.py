"""neuron-vit3d convert: one format of an image becomes another; a tree is repaired, or drawn into a mask."""

from pathlib import Path
from typing import Annotated

import typer

from ..volumes.formats.registry import written_in_words
from .input import check_file, check_target
from .options import ChannelOption, JsonOption, example
from .output import Output


@example("neuron-vit3d convert image.v3dpbd image.tif")
def convert(
    source: Annotated[Path, typer.Argument(help="Image or SWC file.", show_default=False)],
    target: Annotated[Path, typer.Argument(help=f"{written_in_words()}; .swc from an SWC file.", show_default=False)],
    channel: ChannelOption = None,
    like: Annotated[Path | None, typer.Option(help="Image whose shape an SWC file is drawn into as a mask.")] = None,
    json: JsonOption = False,
) -> None:
    """Convert between image formats; check and repair an SWC file; or draw one into a mask."""
    sources = [source, *([like] if like else [])]
    for path in sources:
        check_file(path)
    check_target(target, *sources)
    from ..evaluation.comparison import is_tree
    from ..morphology import rasterize, read_swc
    from ..volumes import Volume, open_volume, read_volume, write_volume

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
    out = Output(json)
    out.tell(str(target), written=target)
    out.end()
