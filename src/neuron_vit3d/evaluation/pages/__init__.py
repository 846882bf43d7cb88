"""Pages for the browser: one file each, with all that it needs, made of the templates beside this module.

What comes from files is escaped, and a page's own policy keeps the browser from asking any server for anything.
"""

import base64
import importlib.util
from functools import cache
from pathlib import Path


TEMPLATES = Path(__file__).parent


class ReportError(ValueError):
    """A page that cannot be made; the message is one line."""


def page(template: str, **values) -> str:
    """Fills a template of this folder with its values; all of them but `Markup` are escaped."""
    return _environment().get_template(template).render(**values)


def png_address(content: bytes) -> str:
    """Returns an address that holds a PNG itself, for an image of a page."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def check_plotly() -> None:
    """Makes sure that a tree that turns can be made.

    Raises:
        ReportError: plotly is not installed.
    """
    try:
        found = importlib.util.find_spec("plotly")
    except ValueError:  # what `sys.modules` holds of it is no module
        found = None
    if found is None:
        raise ReportError("a tree that turns needs plotly: pip install neuron_vit3d[report]")


def plotly_script():
    """Returns the program plotly.js, as the Python package plotly brings it, ready to stand in a page.

    Raises:
        ReportError: plotly is not installed.
    """
    check_plotly()
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    return Markup(get_plotlyjs())


@cache
def _environment():
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
