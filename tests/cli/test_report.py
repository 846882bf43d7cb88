"""`report`: one page of what `segment` and `trace` left, and one line for what cannot be shown."""

import sys

import numpy as np
import pytest

from neuron_vit3d import Volume, write_volume
from support.program import fail, names, run, succeed


@pytest.fixture
def out(tmp_path, monkeypatch):
    """A folder with the trees of two volumes that were traced as a batch, and of one that could not be."""
    monkeypatch.chdir(tmp_path)
    scores = np.zeros((8, 24, 48), np.float32)
    scores[4, 12, 5:45] = 1
    (tmp_path / "in").mkdir()
    for name in "ab":
        write_volume(tmp_path / "in" / f"{name}.scores.tif", Volume(scores, (2.0, 0.5, 0.25)))
    write_volume(tmp_path / "in" / "empty.scores.tif", Volume(scores * 0))
    assert run("trace", "in", "-o", "out").exit_code == 1
    return tmp_path / "out"


def test_a_page_of_a_batch(out):
    assert succeed("report", "out", "--flat", "-o", "new/report.html") == "new/report.html\n"
    html = (out.parent / "new" / "report.html").read_text()
    assert html.count("<section") == 3 and "nothing to trace" in html and html.count("<svg") == 2
    assert '"images": 3, "shown": 3, "errors": []' in succeed("report", "out", "--flat", "--json")
    assert (out.parent / "report.html").read_text() == html


def test_of_many_some_are_shown_and_that_is_said(out):
    result = run("report", "out", "--flat", "--most", "1")
    assert result.exit_code == 0
    assert "2 of 3 images have a line each; --most 3 shows them with their pictures" in result.stderr


def test_a_broken_tree_is_one_line_and_the_others_are_shown(out):
    (out / "a.swc").write_text("# traced by neuron-vit3d from a.tif\n1 2 3\n")
    result = run("report", "out", "--flat")
    assert result.exit_code == 1 and "out/a.swc:2: " in result.stderr and result.stderr.count("\n") == 1
    (out / "b.swc").unlink()
    (out.parent / "report.html").unlink()
    assert fail("report", "out", "--flat").startswith("out/a.swc:2: ")
    assert not (out.parent / "report.html").exists()


def test_a_summary_of_another_program_is_left_out(out):
    (out / "summary.csv").write_text("a,b\n1,2\n")
    result = run("report", "out", "--flat")
    assert result.exit_code == 0 and "summary.csv: was not made by this program" in result.stderr


def test_what_is_no_folder_of_results_is_one_line(out):
    before = names(out.parent)
    (out.parent / "nothing").mkdir()
    assert fail("report", "nothing", "--flat").startswith("nothing: expected results of `neuron-vit3d segment`")
    (out.parent / "nothing").rmdir()
    assert fail("report", "nowhere", "--flat") == "nowhere: no such folder"
    assert "expected a folder of results, found a file" in fail("report", "in/a.scores.tif", "--flat")
    assert fail("report", "out", "--flat", "--most", "0").startswith("--most: expected a number at least 1")
    assert "expected another file to write" in fail("report", "out", "--flat", "-o", "out/a.swc")
    assert names(out.parent) == before


def test_without_plotly_one_line_says_how_to_get_it(out, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    assert fail("report", "out") == "a tree that turns needs plotly: pip install neuron_vit3d[report]"
