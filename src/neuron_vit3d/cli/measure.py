"""neuron-vit3d measure: lengths, branches, orders, radii and Sholl crossings of trees."""

from pathlib import Path
from typing import Annotated

import typer

from ..morphology.formats.registry import in_words, is_tree_name
from .input import check_number, check_target, parse_voxel_size
from .options import VoxelSizeOption, example
from .output import note


@example("neuron-vit3d measure out/image.swc --voxel-size 0.5,0.2,0.2 --csv measures.csv --picture sholl.png")
def measure(
    trees: Annotated[
        list[str], typer.Argument(help=f"{in_words()}; folders of them; patterns as '*.swc'.", show_default=False)
    ],
    voxel_size: VoxelSizeOption = None,
    sholl_step: Annotated[
        float, typer.Option(help="Distance of the Sholl spheres, in micrometres, or voxels without a voxel size.")
    ] = 10.0,
    csv: Annotated[Path | None, typer.Option(help="CSV file to write, a row for each tree.")] = None,
    sholl: Annotated[Path | None, typer.Option(help="CSV file of the Sholl crossings, in 3D and in 2D.")] = None,
    branches: Annotated[
        Path | None, typer.Option(help="CSV file of the branches: order, length, tortuosity, radius.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="PNG file of the trees and their Sholl crossings, at most eight trees.")
    ] = None,
    json_asked: Annotated[bool, typer.Option("--json", help="Print JSON, with the Sholl crossings.")] = False,
) -> None:
    """Measure trees, in micrometres where the voxel size is known, else in voxels."""
    sides = parse_voxel_size(voxel_size)
    check_number("--sholl-step", sholl_step, above=0)
    files = find_trees(trees)
    targets = [target for target in (csv, sholl, branches, picture) if target is not None]
    for target in targets:
        check_target(target, *files)
    if len({target.resolve() for target in targets}) < len(targets):
        raise ValueError("--csv, --sholl, --branches and --picture: expected different files, got one twice")
    from ..evaluation.measured import LARGEST_PICTURE, Measured, as_json, as_text, write_table, write_tables

    if picture is not None and len(files) > LARGEST_PICTURE:
        raise ValueError(f"--picture: shows at most {LARGEST_PICTURE} trees, got {len(files)}")
    measured = [Measured.read(path, sides, sholl_step) for path in files]
    if any(one.measures.figures["unit"] == "voxels" for one in measured):
        note("in voxels where no voxel size is known: --voxel-size z,y,x gives micrometres")
    if csv is not None:
        write_table(csv, measured)
    write_tables(measured, sholl=sholl, branches=branches)
    if picture is not None:
        from ..evaluation.sholl_picture import write_sholl_picture

        write_sholl_picture(picture, measured)
    print(as_json(measured) if json_asked else as_text(measured))


def find_trees(words: list[str]) -> list[Path]:
    """The trees that files, folders and patterns name, in that order, each once.

    Raises:
        OSError: there is no such file, a folder holds no tree, or nothing fits a pattern.
    """
    import glob

    found: dict[Path, None] = {}
    for word in words:
        path = Path(word)
        if path.is_dir():
            some = sorted(one for one in path.iterdir() if one.is_file() and is_tree_name(one))
            expected = f"a folder with trees ({in_words()})"
        elif path.exists():
            some, expected = [path], ""
        elif glob.has_magic(word):
            some = sorted(Path(one) for one in glob.glob(word, recursive=True) if Path(one).is_file())
            expected = "a pattern that fits some files"
        else:
            raise OSError(f"{path}: no such file")
        if not some:
            raise OSError(f"{path}: expected {expected}, found none")
        found |= dict.fromkeys(some)
    return list(found)
