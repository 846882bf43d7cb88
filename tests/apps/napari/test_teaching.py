"""Teaching starts the command line, passes its output on, says why it failed, and can be stopped."""

import sys
import time

import pytest

from neuron_vit3d.apps.napari.teaching import TeachError, Training, command


def python(code: str) -> Training:
    return Training([sys.executable, "-u", "-c", code])


def test_it_is_the_command_that_a_person_would_type(tmp_path):
    words = command(tmp_path / "corrected", tmp_path / "model")
    assert words[:3] == [sys.executable, "-m", "neuron_vit3d.cli"]
    assert words[3:] == [
        *("train", "--data", str(tmp_path / "corrected"), "--base-model", "default"),
        *("-o", str(tmp_path / "model")),
    ]


def test_lines_come_as_they_are_printed():
    assert list(python("import sys; print('one'); print('two', file=sys.stderr); print()").lines()) == [
        *("one", "two", "")
    ]


def test_its_last_line_says_why_it_failed():
    lines = python("print('begun'); print('a.swc: no node in the file'); raise SystemExit(2)").lines()
    assert next(lines) == "begun"
    with pytest.raises(TeachError, match=r"a\.swc: no node in the file"):
        list(lines)
    with pytest.raises(TeachError, match="exit status 3"):
        list(python("raise SystemExit(3)").lines())
    with pytest.raises(TeachError, match="cannot be started"):
        list(Training(["/nowhere/python"]).lines())


@pytest.mark.parametrize("how", ["stop", "close"])
def test_it_can_be_stopped(how):
    training = python("print('begun')\nimport time\ntime.sleep(60)")
    lines = training.lines()
    assert next(lines) == "begun"
    began = time.monotonic()
    training.stop() if how == "stop" else lines.close()
    assert time.monotonic() - began < 15
    assert training._process.poll() is not None


def test_what_does_not_end_by_itself_is_killed():
    training = python(
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint(1)\nimport time\ntime.sleep(60)"
    )
    lines = training.lines()
    assert next(lines) == "1"
    training.stop(patience=0.2)
    assert training._process.poll() is not None
