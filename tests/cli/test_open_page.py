"""`app`: what is refused before the page is opened."""

import importlib.util
import sys

import pytest

from support.program import fail


def test_limits_that_cannot_be_are_refused():
    assert fail("app", "--megabytes", "0").startswith("--megabytes: expected a number above 0")
    assert fail("app", "--minutes", "nan").startswith("--minutes: expected a number above 0")
    assert fail("app", "--port", "70000").startswith("--port: expected a number at least 1 and at most 65535")


@pytest.mark.parametrize("name", ["gradio", "plotly"])
def test_one_line_says_what_to_install(name, monkeypatch):
    found = importlib.util.find_spec
    there = sys.modules["neuron_vit3d"].__spec__
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda one: None if one == name else there if one == "gradio" else found(one) or there,
    )
    assert fail("app") == f"the page needs {name}: pip install neuron_vit3d[app]"
