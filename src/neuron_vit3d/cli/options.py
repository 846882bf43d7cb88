"""Options that several commands have, or that follow from the fields of a record, and the example that each command
shows."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import Field
from pathlib import Path
from typing import Annotated, Any

import typer

from ..morphology.node_types import TYPES
from ..option_fields import Options, flags
from ..volumes.formats.registry import in_words


ImageArgument = Annotated[Path, typer.Argument(help=f"{in_words()}.", show_default=False)]
ImagesArgument = Annotated[
    list[str],
    typer.Argument(metavar="IMAGE", help=f"{in_words()}; folders of them; patterns as '*.czi'.", show_default=False),
]
RootOption = Annotated[
    list[str] | None,
    typer.Option(help="x,y,z in voxels, e.g. of the soma; repeat it for several neurons. Default: the thickest."),
]
NeuronsOption = Annotated[int, typer.Option(help="How many to trace, the largest; each to a file of its own.")]
ImageNumberOption = Annotated[
    int | None,
    typer.Option("--image", help="Of a file that holds several images: this one, from 0.", show_default=False),
]
UnitsOption = Annotated[
    str, typer.Option(help="Of the SWC file: voxels, or um (micrometres; its header says so, and the voxel size).")
]
TypeOption = Annotated[
    str | None,
    typer.Option(
        "--type",
        help=f"Of all nodes but the soma in the SWC file: {', '.join(TYPES)}. Default: as it is; traced: undefined.",
        show_default=False,
    ),
]
SwcUnitsOption = Annotated[
    str | None,
    typer.Option(
        "--swc-units",
        help="Of trees that are read: voxels, or um (micrometres). Default: as their header says, or else voxels.",
        show_default=False,
    ),
]
LabelOption = Annotated[
    str | None, typer.Option(help="Of labels: the neuron has this value.", metavar="N", show_default=False)
]
ScaleOption = Annotated[
    float | None, typer.Option(help="Of probabilities as other numbers: this value is 1.", show_default=False)
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Of many: stop at the first that fails.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Do not tell how far it is.")]
ChannelOption = Annotated[int | None, typer.Option(help="Channel to use, from 0, where the image has several.")]
VoxelSizeOption = Annotated[
    str | None,
    typer.Option(help="z,y,x in micrometres, where the file does not say or is wrong. Example: 0.5,0.2,0.2"),
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Print a JSON object of what was written, and of the figures, instead of lines."),
]


_EXAMPLES: dict[str, str] = {}  # command -> line


def example(line: str) -> Callable[[Callable], Callable]:
    """Notes the line that a command's help shows as an example."""

    def noted(command: Callable) -> Callable:
        _EXAMPLES[command.__name__] = line
        return command

    return noted


def example_of(command: Callable) -> str:
    """Returns the line that [`example`] noted."""
    return _EXAMPLES[command.__name__]


def takes(**records: type[Options]) -> Callable[[Callable], Callable]:
    """Gives a command a flag for each option of some records, and calls it with the records.

    Args:
        records: parameter of the command -> the record that it is.
    """

    def with_flags(command: Callable) -> Callable:
        @functools.wraps(command)
        def called(**values):
            made = {
                parameter: record_of(record, {one.name: values.pop(one.name) for one in record.all()})
                for parameter, record in records.items()
            }
            return command(**values, **made)

        own = [each for each in inspect.signature(command).parameters.values() if each.name not in records]
        own += [_flag(one, record.title) for record in records.values() for one in record.all()]
        called.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
        called.__annotations__ = {each.name: each.annotation for each in own}
        return called

    return with_flags


def _flag(one: Field, title: str) -> inspect.Parameter:
    names = "/".join(flags(one))
    about = typer.Option(names, help=one.metadata["help"], rich_help_panel=title)
    return inspect.Parameter(
        one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=Annotated[one.type, about]
    )


def record_of(record: type[Options], values: dict[str, Any]) -> Options:
    """Makes a record of what was typed; an error names the flag."""
    for one, value in record.wrong(values):
        raise ValueError(f"{flags(one)[0]}: expected {one.metadata['check'].expected}, got {value!r}")
    return record(**values)
