"""The study of teaching: who is taught and tested, and what its report says."""

import json
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from neuron_vit3d.data.pairs import Pair
from support.places import REPOSITORY


@pytest.fixture
def study(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(REPOSITORY / "experiments"))
    monkeypatch.delitem(sys.modules, "teaching", raising=False)
    import teaching

    monkeypatch.setattr(teaching, "RESULTS", tmp_path / "teaching.jsonl")
    return teaching


def test_all_counts_of_a_draw_are_tested_on_the_same_unseen_stacks(study):
    names = [f"tuff_{i}" for i in range(12)] + ["rivulet_test", "rr30a_tp0", "rr30a_tp1"]
    pairs = {name: Pair(name, Path(name), Path(name)) for name in names}
    seen = set()
    for draw in range(3):
        plans = study.plans(pairs, [1, 2, 4, 8], draw)
        tested = {tuple(pair.name for pair in test) for _, test in plans}
        assert len(tested) == 1
        tuff = {name for name in next(iter(tested)) if name.startswith("tuff")}
        assert len(tuff) == study.TESTED
        taught = [[pair.name for pair in taught] for taught, _ in plans]
        assert [len(names) for names in taught] == [1, 2, 4, 8]
        assert all(small == large[: len(small)] for small, large in pairwise(taught))
        assert not tuff & set(taught[-1])
        seen.add(tuple(sorted(tuff)))
    assert len(seen) > 1


def test_the_report_compares_with_the_model_of_before(study, tmp_path):
    lines = []
    for stack, before, after in (("tuff_a", 0.5, 0.6), ("tuff_b", 0.7, 0.7), ("rivulet_test", 0.9, 0.8)):
        for count, share, value in ((0, 0.0, before), (4, 1.0, after)):
            cell = {
                "start": "default",
                "kind": "tuff",
                "count": count,
                "draw": 0,
                "share": share,
                "lowest": 0.0,
                "stack": stack,
            }
            lines.append(cell | dict.fromkeys(study.MEASURES, value))
    (tmp_path / "teaching.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    study.report()
    text = (tmp_path / "teaching.md").read_text()
    assert "| tuff | default | 4 | 1 | noise | 1 | 2 | 0.650 (+0.050, +0.000 to +0.100; worst +0.000)" in text
    assert "| tuff | default | 4 | 1 | noise | 1 | 1 | 0.800 (-0.100, -0.100 to -0.100; worst -0.100)" in text
