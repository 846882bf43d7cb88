"""`view --html`: a tree alone or over its image, with its confidence; and what is refused."""

import importlib.util
import sys

import numpy as np
import pytest

from neuron_vit3d import Volume, write_volume
from support.program import fail, names, run, succeed


HAS_PLOTLY = importlib.util.find_spec("plotly") is not None
needs_plotly = pytest.mark.skipif(not HAS_PLOTLY, reason="plotly is not installed (extra report)")


@pytest.fixture
def files(tmp_path, monkeypatch):
    """An image of a line, and its tree with the table of its branches."""
    monkeypatch.chdir(tmp_path)
    scores = np.zeros((8, 24, 48), np.float32)
    scores[4, 12, 5:45] = 1
    write_volume(tmp_path / "a.scores.tif", Volume(scores, (2.0, 0.5, 0.25)))
    run("trace", "a.scores.tif", "-o", "a.swc")
    return tmp_path


@needs_plotly
def test_a_tree_alone_and_over_its_image(files):
    assert succeed("view", "a.swc", "--html", "new/a.html") == "new/a.html\n"
    alone = (files / "new" / "a.html").read_text()
    assert "sure (confidence 0.9 or more)" in alone and "image (maximum" not in alone
    both = succeed("view", "a.swc", "a.scores.tif", "--html", "b.html", "-o", "b.png")
    assert both == "b.png\nb.html\n" and (files / "b.png").exists()
    text = (files / "b.html").read_text()
    assert "image (maximum along z)" in text and "z (\\u00b5m)" in text
    succeed("view", "a.scores.tif", "a.swc", "--html", "c.html")  # in the order of the picture
    assert (files / "c.html").read_text() == text
    assert '"html": "d.html"' in succeed("view", "a.swc", "--html", "d.html", "--gold", "a.swc", "--json")


@needs_plotly
def test_a_table_of_another_tree_is_told_and_left_out(files):
    (files / "a.swc").write_text("1 0 1 1 1 1 -1\n2 0 9 1 1 1 1\n")
    result = run("view", "a.swc", "--html", "a.html")
    assert result.exit_code == 0 and "a.branches.csv: is not of a.swc" in result.stderr
    assert "confidence 0.9" not in (files / "a.html").read_text()


@needs_plotly
def test_units_of_a_tree_alone(files):
    (files / "um.swc").write_text("1 0 1 1 1 1 -1\n2 0 9 1 1 1 1\n")
    assert "needs a voxel size" in fail("view", "um.swc", "--html", "a.html", "--swc-units", "um")
    succeed("view", "um.swc", "--html", "a.html", "--swc-units", "um", "--voxel-size", "2,0.5,0.25")
    assert "x (\\u00b5m)" in (files / "a.html").read_text()
    (files / "said.swc").write_text("# All positions and radii in microns\n1 0 1 1 1 1 -1\n2 0 9 1 1 1 1\n")
    succeed("view", "said.swc", "--html", "b.html")
    assert "x (\\u00b5m)" in (files / "b.html").read_text()


def test_wrong_usage_is_one_line_and_nothing_is_written(files):
    before = names(files)
    assert fail("view", "a.swc").startswith("--output: expected a PNG file to write, or --html")
    assert "needs an image beside a.swc" in fail("view", "a.swc", "-o", "a.png")
    assert "got no tree" in fail("view", "a.scores.tif", "--html", "a.html")
    assert fail("view", "nowhere.swc", "--html", "a.html") == "nowhere.swc: no such file"
    assert "expected another file to write" in fail("view", "a.swc", "--html", "a.swc")
    (files / "broken.swc").write_text("1 2 3\n")
    if HAS_PLOTLY:
        assert fail("view", "broken.swc", "--html", "a.html").startswith("broken.swc:1: ")
        (files / "broken.swc").unlink()
        assert "got one twice" in fail("view", "a.swc", "a.scores.tif", "--html", "b", "-o", "b")
    else:
        (files / "broken.swc").unlink()
    assert names(files) == before


def test_without_plotly_one_line_says_how_to_get_it(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    said = fail("view", "a.swc", "--html", "a.html")
    assert said == "a tree that turns needs plotly: pip install neuron_vit3d[report]"
    assert not (files / "a.html").exists()
