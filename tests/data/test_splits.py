"""The split: stable, by neuron or laboratory, and of about the sizes that were asked for."""

import csv
import re
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


def test_samples_in_folders_are_split_by_their_folders():
    for last in ("stack", "stack.tif", "image_1"):
        parts = Counter(part_of(f"n{i}/{last}", None) for i in range(1000))
        assert parts["train"] == pytest.approx(800, abs=60) and parts["test"] > 50 and parts["validation"] > 50


@pytest.mark.parametrize(
    "same",
    [
        ["x", "x/x", "done_x/x", "x/image", "err_hard_x/image", "x/image/image", "x/done_x", "x/x/x"],
        ["g/x", "g/x.extract_1/x.extract_1", "g/done_x.extract_22/x.extract_22", "g/x.extract_3", "sv_g/ho_x/x"],
        ["image", "hard_image"],
    ],
)
def test_one_neuron_under_all_its_names(same):
    for seed in range(20):
        assert len({part_of(name, None, seed=seed) for name in same}) == 1


@pytest.mark.real_data
def test_extracts_of_one_stack_stay_together_in_the_release(shared):
    stacks = {}
    with (shared / "data" / "gold166_layout.csv").open() as table:
        for row in csv.DictReader(table):
            path = row["checked3_path"].removeprefix("./").removesuffix(".v3dpbd")
            stacks.setdefault(re.sub(r".*/|\.extract_\d+$", "", path), []).append(path)
    assert any(len(paths) > 1 for paths in stacks.values()) and len(stacks) > 80
    for paths in stacks.values():
        assert len({tuple(part_of(path, None, seed=seed) for seed in range(9)) for path in paths}) == 1
