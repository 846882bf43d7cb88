"""Answers wrong usage with one line on standard error that names the nearest option or command."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ..option_fields import no_such_option
from .output import note


# typer exports BadParameter alone; what it derives from is the error of all wrong usage, whatever click typer is built
# on.
UsageError: Any = typer.BadParameter.__mro__[1]


class OneLineGroup(TyperGroup):
    """The commands of the program; wrong usage of any of them ends it with one line and exit status 2."""

    def parse_args(self, ctx, args: list[str]) -> list[str]:
        """Reads the options that stand before the command; without any word the program shows its help."""
        no_word = not args  # click empties the list
        try:
            return super().parse_args(ctx, args)
        except UsageError as error:
            if no_word:
                raise
            raise _told(error, ctx) from error

    def invoke(self, ctx):
        """Reads the options of a command, and runs it."""
        try:
            return super().invoke(ctx)
        except UsageError as error:
            raise _told(error, ctx) from error


def _told(error: Any, ctx) -> typer.Exit:
    """Tells of wrong usage in one line; returns what ends the program."""
    ctx = getattr(error, "ctx", None) or ctx
    message, wrong = error.format_message(), getattr(error, "option_name", None)
    if wrong is not None:  # click names what begins alike, which need not be what was meant
        known = [
            name
            for parameter in ctx.command.get_params(ctx)
            for name in (*parameter.opts, *parameter.secondary_opts)
            if name.startswith("--")
        ]
        message = no_such_option(wrong, wrong, known)
    command = "neuron-vit3d" if ctx.parent is None else f"neuron-vit3d {ctx.command.name}"
    note(f"error: {message.rstrip('.')} ({command} -h lists the {'commands' if ctx.parent is None else 'options'})")
    return typer.Exit(2)


def show_version(asked: bool) -> None:
    """Prints the version and ends the program, where `--version` was given."""
    if asked:
        from neuron_vit3d import __version__

        print(f"neuron-vit3d {__version__}")
        raise typer.Exit()


def program(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Segment and trace neurons in 3D microscopy images."""
