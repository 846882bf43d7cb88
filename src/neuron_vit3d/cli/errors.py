"""Ends a command with one line and an exit status where something is wrong."""

import functools
import logging
import os
import sys
import warnings
from collections.abc import Callable

import typer

from .output import note


def one_line_errors(command: Callable, quiet: bool = True) -> Callable:
    """Turns the errors that bad input raises into one line and exit status 2.

    Args:
        command: a command of the program.
        quiet: hide what libraries tell; imports transformers for it.
    """

    @functools.wraps(command)
    def wrapped(*args, **kwargs):
        try:
            if quiet:
                quiet_libraries()
            with warnings.catch_warnings():
                warnings.showwarning = lambda message, *_: note(str(message), is_warning=True)
                return command(*args, **kwargs)
        except KeyboardInterrupt as error:
            note(str(error) or "interrupted")
            raise typer.Exit(130) from None
        except Exception as error:
            line = told(error)
            if line is None:
                raise
            note(f"error: {line}")
            raise typer.Exit(2) from error

    return wrapped


def told(error: Exception) -> str | None:
    """Returns the line that tells of an error of the input or the machine; None for a mistake of the program."""
    if isinstance(error, ValueError | OSError | MemoryError):
        return str(error) or type(error).__name__
    if isinstance(error, RuntimeError):
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            return f"--compile: cannot compile here: {str(error).strip().splitlines()[0]}"
        if "memory" in str(error):
            return f"not enough memory, a smaller --tile-size or --batch-size needs less: {error}"
    return None


def exit_status(script: str, call: Callable, *args, **kwargs) -> int:
    """Runs the work of a script; errors of bad input become one line that begins with the script's name.

    Returns:
        The exit status: 0, 2 after an error, or 130 after an interruption.
    """
    hide_bars()
    try:
        call(*args, **kwargs)
    except (ValueError, OSError) as error:
        print(f"{script}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(f"{script}: {error or 'interrupted'}", file=sys.stderr)
        return 130
    return 0


def run_script(script: str, command: Callable) -> None:
    """Runs a command of the program as a script of its own.

    Options come from the command line; errors are told as in `exit_status`.
    """

    @functools.wraps(command)
    def wrapped(*args, **kwargs):
        raise typer.Exit(exit_status(script, command, *args, **kwargs))

    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(wrapped)
    app()


def hide_bars() -> None:
    """Switches the bars of libraries off where standard error is a file or a pipe.

    The libraries look for a terminal only when they are imported, if at all.
    """
    if not sys.stderr.isatty():
        for name in ("TQDM_DISABLE", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
            os.environ.setdefault(name, "1")


def quiet_libraries() -> None:
    """Keeps log lines, bars and tables of libraries from between the lines of this program."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for name in ("neuron_vit3d", "tifffile"):
        logging.getLogger(name).addHandler(logging.NullHandler())
