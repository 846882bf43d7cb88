"""Where a run's time goes, told by a clock that the tests set."""

import pytest

from neuron_vit3d.training import clock as module
from neuron_vit3d.training.clock import Clock


@pytest.fixture
def hand(monkeypatch) -> list[float]:
    """The time, which only the tests change."""
    now = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return now


def test_seconds_are_counted_by_what_they_were_spent_on(hand):
    clock = Clock()
    for seconds, what in ((2.0, "model"), (1.0, "beside"), (3.0, "model")):
        with clock(what):
            hand[0] += seconds
    hand[0] += 4
    assert clock.lap() == {"model": 5.0, "waiting": 0.0, "beside": 1.0, "all": 10.0}
    hand[0] += 7
    assert clock.lap() == {"model": 0.0, "waiting": 0.0, "beside": 0.0, "all": 7.0}
    assert clock.total == 17.0


def test_what_ends_in_an_error_is_counted_too(hand):
    clock = Clock()
    with pytest.raises(KeyError), clock("model"):
        hand[0] += 2
        raise KeyError
    assert clock.lap()["model"] == 2.0


def test_waiting_is_the_time_until_an_item_is_there_and_no_more(hand):
    def items():
        for item in "ab":
            hand[0] += 1
            yield item
        hand[0] += 0.5

    clock, seen = Clock(), []
    for item in clock.waiting(items()):
        seen.append(item)
        hand[0] += 10
    assert seen == ["a", "b"] and clock.lap()["waiting"] == 2.5


def test_a_continued_run_adds_its_time_to_what_came_before(hand):
    clock = Clock()
    with clock("model"):
        hand[0] += 5
    clock.start(seconds_before=60.0)
    hand[0] += 2
    with clock("model"):
        hand[0] += 2
    assert clock.total == 64.0
    assert clock.lap() == {"model": 2.0, "waiting": 0.0, "beside": 0.0, "all": 4.0}  # since the start alone
