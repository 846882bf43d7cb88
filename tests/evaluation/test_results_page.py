"""The page of a folder of results: whole, escaped, the least sure first, and clear about what is missing."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from neuron_vit3d.evaluation.found_results import Found
from neuron_vit3d.evaluation.pages import ReportError
from neuron_vit3d.evaluation.results_page import write_results_page
from neuron_vit3d.morphology import Tree
from neuron_vit3d.morphology.branches import branches_text


@pytest.fixture
def swc(tmp_path) -> Path:
    """A fork whose second arm is doubtful, with the table of its branches."""
    points = np.array([(0, 0, 0), (10, 0, 0), (20, 0, 0), (30, 10, 0), (30, -10, 5)], float)
    said = ("traced by neuron-vit3d from a.tif", "dropped 3 components, 9 voxels: too small <b>")
    tree = Tree.from_parents(points, np.ones(5), np.array([-1, 0, 1, 2, 2]), comments=said)
    tree = dataclasses.replace(tree, scores=np.array([1, 1, 1, 0.8, 0.2]), bridged=np.zeros(5, bool))
    tree.write(tmp_path / "a.swc")
    (tmp_path / "a.branches.csv").write_text(branches_text(tree.branches))
    return tmp_path / "a.swc"


def written(results, folder, **how) -> str:
    write_results_page(folder / "report.html", folder, results, **{"turning": False, **how})
    return (folder / "report.html").read_text(encoding="utf-8")


def rows(html: str, kind: str) -> list[list[str]]:
    table = re.search(rf'<table class="{kind}">(.*?)</table>', html, re.DOTALL)[1]
    found = [
        re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in re.findall("<tr.*?</tr>", table, re.DOTALL)
    ]
    return [[re.sub(r"<.*?>|\s+", " ", cell).strip() for cell in row] for row in found]


def test_branches_are_listed_the_least_sure_first(swc, tmp_path):
    html = written([Found("a", [swc])], tmp_path)
    assert [row[0] for row in rows(html, "branches")] == ["confidence", "0.20", "0.80", "1.00"]
    assert [row[4] for row in rows(html, "branches")] == ["length (voxels)", "15.0", "14.1", "20.0"]
    assert rows(html, "overview")[1][:5] == ["a", "1", "49.14 voxels", "3", "1"]
    assert ["length", "49.14 voxels"] in rows(html, "figures")
    assert "dropped 3 components, 9 voxels: too small &lt;b&gt;" in html and "<svg" in html


def test_lengths_are_micrometres_where_the_voxel_size_is_known(swc, tmp_path):
    html = written([Found("a", [swc])], tmp_path, voxel_size=(1.0, 0.5, 0.5))
    assert rows(html, "branches")[3][4] == "10.0" and "length (µm)" in html


def test_what_a_batch_told_is_shown(tmp_path):
    told = {"status": "failed", "error": "b.tif: no <image>"}
    more = {"status": "done", "warnings": "more than neurons fill", "neuron_share": "0.2", "left_out": "dropped 2"}
    html = written([Found("b", told=told), Found("c", told=more), Found("d", told={"status": "not begun"})], tmp_path)
    assert "failed: b.tif: no &lt;image&gt;" in html and "20.000%" in html
    assert "more than neurons fill" in html and "dropped 2" in html and "not begun" in html
    assert html.count("There is no tree of it") == 3


def test_a_broken_tree_is_told_and_stops_no_other(swc, tmp_path):
    broken = tmp_path / "b.swc"
    broken.write_text("1 2 3\n")
    results = [Found("a", [swc]), Found("b", [broken])]
    errors = write_results_page(tmp_path / "report.html", tmp_path, results, turning=False)
    assert len(errors) == 1 and errors[0].startswith(f"{broken}:1: ")
    assert 'class="error"' in (tmp_path / "report.html").read_text()
    with pytest.raises(ReportError, match=r"b\.swc:1: "):
        write_results_page(tmp_path / "new.html", tmp_path, results[1:], turning=False)
    assert not (tmp_path / "new.html").exists()


def test_a_table_that_is_not_of_the_tree_is_told(swc, tmp_path):
    text = (tmp_path / "a.branches.csv").read_text()
    (tmp_path / "a.branches.csv").write_text(text.replace("20.0", "21.0"))
    html = written([Found("a", [swc])], tmp_path)
    assert "a.branches.csv is not of this tree as it is now" in html
    assert rows(html, "branches")[1][0] == "not known" and rows(html, "overview")[1][4] == ""
    (tmp_path / "a.branches.csv").write_text("something else")
    assert "a.branches.csv cannot be read" in written([Found("a", [swc])], tmp_path)


def test_of_many_images_the_first_have_pictures(swc, tmp_path):
    many = [Found(f"n{i}", [swc], told={"length": "49.1", "branches": "3"}) for i in range(5)]
    html = written(many, tmp_path, most=2)
    assert html.count("<section") == 2 and len(rows(html, "overview")) == 6
    assert rows(html, "overview")[4][:4] == ["n3", "1", "49 voxels", "3"]
    assert "of the first 2 images" in html


def test_names_are_escaped_and_pictures_are_pictures(swc, tmp_path):
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n and so on")
    name = "<script>alert(1)</script>\udcff\n"
    html = written([Found(name, [swc], picture)], tmp_path)
    assert "<script>" not in html and "&lt;script&gt;alert(1)&lt;/script&gt;\\udcff\\n" in html
    assert 'src="data:image/png;base64,iVBORw0KGgo' in html
    picture.write_bytes(b"<svg onload=alert(1)>")
    html = written([Found("a", [swc], picture)], tmp_path)
    assert "<img" not in html and "a.png is no PNG" in html


def test_lone_nodes_are_shown(tmp_path):
    (tmp_path / "dot.swc").write_text("1 0 1 1 1 1 -1\n")
    html = written([Found("dot", [tmp_path / "dot.swc"])], tmp_path)
    assert rows(html, "figures") == [["nodes", "1"]] and "<svg" in html


def test_trees_turn_and_the_page_asks_nobody(swc, tmp_path):
    pytest.importorskip("plotly", reason="plotly is not installed (extra report)")
    html = written([Found("a", [swc])], tmp_path, turning=True)
    figure = json.loads(re.search(r'id="figure-1-1">(.*?)</script>', html, re.DOTALL)[1])
    assert [trace["name"] for trace in figure["data"]][-2:] == ["doubtful (below 0.75)", "root"]
    assert "default-src 'none'" in html and not re.search(r"<(script|link|img)[^>]*(src|href)=\"(?!data:)", html)
