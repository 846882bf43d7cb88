"""Arguments and options that several commands of the command line have; the example that each shows."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer


ImageArgument = Annotated[Path, typer.Argument(help="TIFF, v3draw, v3dpbd or npy file.", show_default=False)]
ChannelOption = Annotated[int | None, typer.Option(help="Channel to use, from 0, where the image has several.")]
ThresholdOption = Annotated[
    float | None,
    typer.Option(
        help="Scores at least this high are neuron. Default: what stands out from the noise of these scores."
    ),
]
MinConfidenceOption = Annotated[float, typer.Option(help="Branches less sure than this are cut off, from 0 to 1.")]
FragmentsOption = Annotated[
    bool, typer.Option("--fragments", help="Keep what cannot be joined to the tree, as further roots of it.")
]
VoxelSizeOption = Annotated[
    str | None,
    typer.Option(help="z,y,x in micrometres, where the file does not say or is wrong. Example: 0.5,0.2,0.2"),
]


def example(line: str) -> Callable[[Callable], Callable]:
    """Notes the line that a command's help shows as an example."""

    def noted(command: Callable) -> Callable:
        command.example = line
        return command

    return noted
