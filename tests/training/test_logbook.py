"""What a run tells: its log, cut where it goes on; and trackers by name."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d.training.config import TrainingConfig, TrainingError
from neuron_vit3d.training.logbook import Logbook, check_trackers
from neuron_vit3d.training.trainer import train
from support.tiny_runs import hidden, log_of, run_of_a_test, stop_at


@pytest.fixture
def config(tmp_path) -> Iterator[TrainingConfig]:
    with run_of_a_test(tmp_path) as options:
        yield options


@pytest.fixture
def book(config, tmp_path) -> Logbook:
    return Logbook(replace(config, output_dir=str(tmp_path)), Accelerator(cpu=True))


@settings(max_examples=20, deadline=None)
@given(steps=st.integers(0, 8), step=st.integers(0, 9), torn=st.booleans())
def test_the_log_is_cut_where_a_run_goes_on(tmp_path_factory, steps, step, torn):
    folder = tmp_path_factory.mktemp("log")
    book = Logbook(TrainingConfig(output_dir=str(folder)), Accelerator(cpu=True))
    for number in range(1, steps + 1):
        book.write(number, loss=number / 3)
        book.write(number, dice=0.5)
    lines = book.path.read_text().splitlines() if steps else []
    if torn:  # killed in the midst of a line
        with open(book.path, "a") as log:
            log.write('{"step": 1, "lo')
    book.begin(step)
    kept = book.path.read_text().splitlines() if book.path.exists() else []
    assert kept == lines[: 2 * min(step, steps)] and not hidden(folder)
    book.write(step + 1, loss=1.0)
    assert [json.loads(line)["step"] for line in book.path.read_text().splitlines()][-1] == step + 1


def test_an_unknown_tracker_is_refused():
    with pytest.raises(TrainingError, match=r"report_to: expected some of .*tensorboard.*, wandb; got 'tensorbord'"):
        check_trackers(["tensorboard", "tensorbord"])


def test_a_missing_tracker_is_refused_before_anything_is_read(config, monkeypatch):
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", list)
    with pytest.raises(TrainingError, match="report_to wandb: is not installed here; pip install wandb"):
        train(replace(config, report_to=["wandb"], train_data=["nowhere"]))
    assert not Path(config.output_dir).exists()


@pytest.mark.parametrize("words", [[], ["none"], [""]])
def test_no_tracker_has_several_names(words, config):
    assert replace(config, report_to=words).report_to == []


@pytest.mark.slow
def test_tensorboard_is_told_each_step_once(config, monkeypatch):
    """Also after a resume: what was told after the checkpoint is taken back."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    split = {"names": ["neuron_0000"], "validation_names": ["neuron_0001"], "validation_data": config.train_data}
    config = replace(config, report_to=["tensorboard"], evaluation_steps=3, **split)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, 9)  # of step 5, asked for when step 3 has been told and step 2 is the checkpoint
        train(config)
    assert list(log_of(config.output_dir, "loss")) == [1, 2, 3]
    folder = train(config)
    events = accumulator.EventAccumulator(str(folder / "neuron_vit3d"))
    events.Reload()
    told = {event.step: event.value for event in events.Scalars("loss")}
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4, 5, 6]
    assert told == pytest.approx(log_of(folder, "loss"))
    for key in ("learning_rate", "dice", "best_threshold_dice"):
        expected = log_of(folder, key)
        assert [event.step for event in events.Scalars(key)] == list(expected)
        assert [event.value for event in events.Scalars(key)] == pytest.approx(list(expected.values()))
    by_volume = [event.value for event in events.Scalars("dice_by_volume/neuron_0001")]
    assert by_volume == pytest.approx([dice["neuron_0001"] for dice in log_of(folder, "dice_by_volume").values()])


def test_numbers_that_are_none_are_written_all_the_same(book):
    book.write(1, loss=math.nan)
    assert math.isnan(json.loads(book.path.read_text())["loss"])
