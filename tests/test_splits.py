"""The split: stable, by neuron or laboratory, and of about the sizes that were asked for."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_vit3d.data.splits import part_of


@given(name=st.text(min_size=1), seed=st.integers(0, 100), by=st.sampled_from(["neuron", "lab"]))
def test_always_the_same_part(name, seed, by):
    part = part_of(name, "a lab", by=by, seed=seed)
    assert part in ("train", "validation", "test") and part == part_of(name, "a lab", by=by, seed=seed)


def test_sizes_and_seeds():
    names = [f"group/neuron_{i}" for i in range(3000)]
    parts = Counter(part_of(name, None) for name in names)
    assert parts["train"] == pytest.approx(2400, abs=90) and parts["test"] == pytest.approx(300, abs=60)
    assert 0.55 < sum(part_of(name, None) == part_of(name, None, seed=1) for name in names) / 3000 < 0.75
    assert {part_of(name, None, fractions=(0, 0, 1)) for name in names} == {"test"}


def test_a_lab_stays_together():
    assert len({part_of(f"n{i}", "one lab", by="lab") for i in range(50)}) == 1
    assert len({part_of(f"n{i}", None, by="lab") for i in range(50)}) > 1
    assert len({part_of("n", f"lab {i}", by="lab") for i in range(50)}) == 3


def test_prefixes_and_extracts_of_one_stack_stay_together():
    one = part_of("g/err_hard_stack.v3draw.extract_3", None)
    assert all(part_of(f"g/stack.v3draw.extract_{i}", None) == one for i in range(30))
