"""neuron-vit3d report: one HTML file of all that `segment` or `trace` left in a folder."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .input import check_number, check_target, parse_voxel_size
from .options import JsonOption, VoxelSizeOption, example
from .output import Output, note


@example("neuron-vit3d report out/ -o report.html")
def report(
    folder: Annotated[Path, typer.Argument(help="What `segment` or `trace` wrote into.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML file.")] = Path("report.html"),
    most: Annotated[
        int, typer.Option(help="So many images have pictures and trees; the others have a line each.")
    ] = 20,
    turning: Annotated[
        bool,
        typer.Option("--turning/--flat", help="Trees that turn (needs plotly), or flat drawings: a smaller file."),
    ] = True,
    voxel_size: VoxelSizeOption = None,
    json: JsonOption = False,
) -> None:
    """Write one HTML file of a folder of results: pictures, trees that turn, measures, branches, what was left out.

    Branches are listed the least sure first. The file needs neither a network nor any other file.
    """
    check_number("--most", most, at_least=1)
    sides = parse_voxel_size(voxel_size)
    from ..evaluation.found_results import find_results
    from ..evaluation.pages import check_plotly
    from ..evaluation.results_page import write_results_page

    if turning:
        check_plotly()
    results = _with_summary(folder, find_results(folder))
    if not results:
        expected = "expected results of `neuron-vit3d segment` or `trace` (NAME.swc, NAME.mask.tif), found none"
        raise ValueError(f"{folder}: {expected}")
    check_target(output, *[path for one in results for path in one.trees])
    errors = write_results_page(output, folder, results, most=most, turning=turning, voxel_size=sides)
    for line in errors:
        note(f"error: {line}")
    left = max(0, len(results) - most)
    if left:
        note(f"{left} of {len(results)} images have a line each; --most {len(results)} shows them with their pictures")
    out = Output(json)
    out.tell(str(output), report=output, images=len(results), shown=len(results) - left, errors=errors)
    out.end()
    if errors:
        raise typer.Exit(1)


def _with_summary(folder: Path, results: list) -> list:
    """Adds what the summary of a batch tells; an input that left no file is told of, too."""
    from ..evaluation.found_results import Found
    from .summary import read_summary

    try:
        rows = read_summary(folder / "summary.csv")
    except ValueError:
        note(f"{folder / 'summary.csv'}: was not made by this program, and is left out", is_warning=True)
        return results
    found = {one.name: one for one in results}
    for name, row in rows.items():
        told = {
            key: str(value) for key, value in asdict(row).items() if value not in (None, "") and key != "made_with"
        }
        found.setdefault(name, Found(name)).told = told
    return [found[name] for name in sorted(found)]
