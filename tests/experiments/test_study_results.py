"""Results of runs: a line each, whoever adds them; files of older versions count, and what is damaged is named."""

import json

import pytest

from neuron_vit3d.evaluation.report import Result
from support.places import REPOSITORY


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "experiments"))
    from study_results import StudyResults

    return StudyResults(tmp_path)


def result(dice: float) -> Result:
    return Result({"base": "b", "seed": 0}, {"max_steps": 1}, {"n": {"dice": dice}}, 0.5, 0.5)


def test_what_is_added_is_read_again_and_files_of_older_versions_count(results, tmp_path):
    assert results.read() == {}
    values = vars(result(0.1))
    (tmp_path / "b.json").write_text(json.dumps(values, indent=1))
    (tmp_path / "c.json").write_text(json.dumps(values, indent=1))
    results.add("c", result(0.2))
    results.add("a", result(0.3))
    assert results.read() == {"a": result(0.3), "b": result(0.1), "c": result(0.2)}
    assert list(results.read()) == ["a", "b", "c"] and len(results.path.read_text().splitlines()) == 2


def test_a_line_that_was_cut_off_is_no_result_and_gives_way(results, capsys):
    results.add("a", result(0.1))
    with results.path.open("a") as file:
        file.write('{"run": "b", "experi')
    assert list(results.read()) == ["a"]
    assert "results.jsonl: the last line was cut off" in capsys.readouterr().err
    results.add("b", result(0.2))
    assert results.read() == {"a": result(0.1), "b": result(0.2)} and capsys.readouterr().err == ""


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"run": "a", "more": 1}', ""])
def test_what_is_no_result_is_named(results, line):
    results.add("a", result(0.1))
    results.path.write_text(results.path.read_text() + line + "\n")
    with pytest.raises(ValueError, match=r"results.jsonl, line 2: expected the result of a run, found: "):
        results.read()


def test_a_result_needs_a_name(results):
    results.path.write_text(json.dumps(vars(result(0.1))) + "\n")
    with pytest.raises(ValueError, match="line 1: expected the name of the run as 'run', found none"):
        results.read()
