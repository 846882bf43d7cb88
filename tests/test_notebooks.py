"""The notebooks of docs/notebooks run from their first cell to the last, and hold no outputs of another machine."""

import json

import pytest

from support.places import REPOSITORY


NOTEBOOKS = sorted((REPOSITORY / "docs" / "notebooks").glob("*.ipynb"))


def name_of(path) -> str:
    return path.stem


def test_there_are_three():
    assert [path.stem for path in NOTEBOOKS] == ["evaluate", "teach", "trace"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_no_output_of_another_machine_is_in_them(path):
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 3
    assert [cell["id"] for cell in code if cell["outputs"] or cell["execution_count"] is not None] == []
    assert path.stat().st_size < 10_000


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_notebooks_run(path, tmp_path):
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    done = client.execute()
    shown = [output for cell in done.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output for output in shown if output.output_type == "error"] == []
    assert [output for output in shown if "text/html" in output.get("data", {})], "no volume or tree was shown"
