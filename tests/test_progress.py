"""How far a long piece of work is: a bar on a terminal, a line every half minute elsewhere."""

import sys

import pytest

from neuron_vit3d import progress
from neuron_vit3d.progress import Progress


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """What time it is, in seconds."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_into_a_file_goes_a_line_every_half_minute_and_one_at_the_end(clock, capsys):
    with Progress("segment", 4000, unit="voxel", initial=1000) as bar:
        for _ in range(30):
            clock[0] += 4
            bar.update(100)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "segment: 1,800 of 4,000 voxels, 45% in 0:32, about 1:28 more",
        "segment: 2,600 of 4,000 voxels, 65% in 1:04, about 0:56 more",
        "segment: 3,400 of 4,000 voxels, 85% in 1:36, about 0:24 more",
        "segment: 4,000 of 4,000 voxels, 100% in 2:00",
    ]


def test_what_is_done_at_once_is_not_told_and_what_fails_does_not_end(clock, capsys):
    with Progress("segment", 10, unit="voxel") as bar:
        bar.update(10)
    with Progress("segment", 10, unit="voxel", shown=False) as bar:
        clock[0] += 99
        bar.update(10)
    assert capsys.readouterr().err == ""
    with pytest.raises(OSError), Progress("train", None, unit="step") as bar:
        clock[0] += 3700
        bar.tell(loss=0.5)
        bar.update()
        raise OSError
    assert capsys.readouterr().err == "train: 1 steps in 1:01:40, loss 0.5\n"


def test_a_terminal_has_a_bar_and_lines_above_it(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Progress("train", 4, unit="step") as bar:
        bar.tell(loss=0.5)
        bar.update(4)
        bar.write("a line")
    shown = capsys.readouterr().err
    assert "4.00/4.00" in shown and "\r" in shown and "loss=0.5" in shown and "a line\n" in shown
