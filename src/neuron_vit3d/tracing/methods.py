"""The table of methods that find center lines: a new method is a module beside this file and a row here."""

from collections.abc import Callable
from importlib import import_module


# name -> module.function, imported when it is asked for. The function takes Pieces (the mask or scores) and Rules, and
# returns CenterLines; see `center_lines.py`.
METHODS = {
    "teasar": "teasar.find_center_lines",
}


def method(name: str) -> Callable:
    """Returns the function that finds center lines by the method of this name."""
    module, function = METHODS[name].split(".")
    return getattr(import_module(f".{module}", __package__), function)
