"""Old command lines of scripts that have moved: they run, and what lay in reports/ is found."""

import ast
import runpy
import sys

import pytest

from support.places import REPOSITORY


SCRIPTS = REPOSITORY / "scripts"
DOORS = sorted(path for path in SCRIPTS.glob("*.py") if path.read_text().startswith('"""Moved to '))
PAPER = {"reproduce_paper", "prepare_default_data", "embed_default"}
BENCHMARKS = {"loader", "model", "preparing", "rasterize", "reading", "segmenting", "tracing", "training"}


def test_every_old_script_has_a_door():
    assert {path.stem for path in DOORS} == {
        *PAPER, "benchmark", "check_alignment", *(f"benchmark_{name}" for name in BENCHMARKS),
    }  # fmt: skip


@pytest.mark.parametrize("path", DOORS, ids=lambda path: path.name)
def test_a_door_leads_to_a_script(path):
    (call,) = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    (script,) = (argument.value for argument in call.args)
    assert "__main__" in (REPOSITORY / script).read_text()
    assert ast.get_docstring(ast.parse(path.read_text())) == f"Moved to {script}."


@pytest.fixture
def moved(tmp_path, monkeypatch):
    """moved.py beside a repository with one script, which prints its options and what lies beside it."""
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "beside_it.py").write_text("NAME = __name__\n")
    script = "import sys\nimport beside_it\nprint(beside_it.NAME, *sys.argv[1:])\nsys.exit(3)\n"
    (tmp_path / "new" / "script.py").write_text(script)
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["scripts/old.py", *words])
        function = runpy.run_path(str(SCRIPTS / "moved.py"))["run"]
        monkeypatch.setitem(function.__globals__, "REPOSITORY", tmp_path)
        with pytest.raises(SystemExit) as ended:
            function("new/script.py")
        return ended.value.code

    return run


def test_a_script_that_has_moved_runs_and_says_where_it_is(moved, capfd):
    assert moved("paper", "--seeds", "0") == 3
    assert capfd.readouterr() == (
        "beside_it paper --seeds 0\n",
        "scripts/old.py: moved to new/script.py, which runs now\n",
    )


@pytest.mark.parametrize(
    ("word", "now"),
    [
        ("reports/tuff_split.json", "experiments/tuff_split.json"),
        ("reports/paper/results", "experiments/results/paper"),
        ("reports/paper_gpu", "experiments/results/paper_gpu"),
        ("--results-dir=reports/variants/results", "--results-dir=experiments/results/variants"),
        ("reports/loader.md", "benchmarks/results/loader.md"),
        ("reports", "benchmarks/results"),
        ("reports/", "benchmarks/results"),
        ("--output=reports/own/loader.md", "--output=reports/own/loader.md"),
        ("my/reports/x.md", "my/reports/x.md"),
        ("reports.md", "reports.md"),
    ],
)
def test_what_lay_in_reports_is_found(word, now, moved, capfd):
    moved(word)
    out, err = capfd.readouterr()
    assert out == f"beside_it {now}\n" and (word == now) == ("now " not in err.replace("runs now", ""))


def test_a_folder_of_reports_that_is_there_is_meant(moved, tmp_path, capfd):
    (tmp_path / "reports").mkdir()
    moved("reports/loader.md")
    assert capfd.readouterr().out == "beside_it reports/loader.md\n"


@pytest.mark.slow
def test_an_old_command_line_runs(monkeypatch, capfd, tmp_path):
    monkeypatch.setattr(sys, "path", [str(SCRIPTS), *sys.path])  # as `python scripts/embed_default.py` has it
    monkeypatch.setattr(sys, "argv", ["scripts/embed_default.py"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / "embed_default.py"), run_name="__main__")
    said = capfd.readouterr().err
    assert ended.value.code == 2 and "embed_default.py: expected one of --run-dir, --card-only and --picture" in said
