"""The program neuron-vit3d: its commands, and how it starts.

Errors that a user can cause are one line on standard error and exit status 2. Heavy imports wait until they are
needed.
"""

import io
import os
import sys

import typer

from .convert import convert
from .errors import hide_bars, one_line_errors
from .evaluate import evaluate
from .group import OneLineGroup, program
from .measure import measure
from .open_page import app as app_command
from .options import example_of
from .prepare import prepare
from .publish import publish
from .report import report
from .segment import segment
from .trace import trace
from .train import train
from .view import view


app = typer.Typer(
    cls=OneLineGroup,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback(epilog="Example: neuron-vit3d segment image.tif -o out")(program)
for command in (segment, trace, measure, evaluate, convert, view, report, prepare, publish, app_command):
    app.command(epilog=f"Example: {example_of(command)}")(one_line_errors(command))
# Its options, and -h, are read by itself: they are the fields of a dataclass.
app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(train)


def main() -> None:
    """Runs the program on the words of the command line."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # torch takes memory in large pages: in float32 tiles take four fifths of the time.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    hide_bars()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8
    app()
