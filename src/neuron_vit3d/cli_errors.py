"""How a command of the command line ends where something is wrong: with one line and an exit status."""

import functools
import logging
import warnings
from collections.abc import Callable

import typer

from .cli_output import note


def one_line_errors(command: Callable) -> Callable:
    """Turns the errors that bad input raises into one line and exit status 2."""

    @functools.wraps(command)
    def wrapped(*args, **kwargs):
        try:
            quiet_libraries()
            with warnings.catch_warnings():
                warnings.showwarning = lambda message, *_: note(str(message))
                return command(*args, **kwargs)
        except (ValueError, OSError, MemoryError) as error:
            note(f"error: {str(error) or type(error).__name__}")
            raise typer.Exit(2) from error
        except RuntimeError as error:
            if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                note(f"error: --compile: cannot compile here: {str(error).strip().splitlines()[0]}")
                raise typer.Exit(2) from error
            if "memory" not in str(error):
                raise
            note(f"error: not enough memory, a smaller --tile-size or --batch-size needs less: {error}")
            raise typer.Exit(2) from error
        except KeyboardInterrupt:
            note("interrupted")
            raise typer.Exit(130) from None

    return wrapped


def quiet_libraries() -> None:
    """No log lines, bars and tables of others between the lines of this program, which tells itself what matters."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for name in ("neuron_vit3d", "tifffile"):
        logging.getLogger(name).addHandler(logging.NullHandler())
