"""The verdict keeps what is better on unseen stacks, and says so."""

from hypothesis import given
from hypothesis import strategies as st

from neuron_vit3d.teaching.judging import Figures
from neuron_vit3d.teaching.verdict import BEFORE, LEAST_GAIN, speak


def of(*values: float) -> dict[str, Figures]:
    return {f"s{i}": Figures(value, value, value, value) for i, value in enumerate(values)}


def test_a_gain_on_most_stacks_is_told_with_its_figures():
    verdict = speak({BEFORE: of(0.7, 0.8, 0.6), "0.5": of(0.75, 0.85, 0.65), "1": of(0.8, 0.9, 0.7)})
    assert verdict.is_better and verdict.model == "1" and (verdict.better, verdict.unseen) == (3, 3)
    assert verdict.text == "better on 3 of 3 unseen stacks: F1 0.70 -> 0.80, wide F1 0.70 -> 0.80, AP 0.70 -> 0.80"


def test_no_gain_keeps_the_model_of_before():
    verdict = speak({BEFORE: of(0.7, 0.8), "1": of(0.705, 0.8)})
    assert not verdict.is_better and verdict.text.startswith("not better (1 of 2 unseen stacks: F1 0.75 -> 0.75")
    assert verdict.text.endswith("the model of before is kept; two more traced stacks may help")
    assert not speak({BEFORE: of(0.7, 0.8, 0.8), "1": of(0.9, 0.79, 0.79)}).is_better, "better on one of three only"


def test_a_stack_that_lost_much_and_a_lone_stack_are_told():
    text = speak({BEFORE: of(0.5, 0.8, 0.5), "1": of(0.9, 0.7, 0.9)}).text
    assert text.endswith("; worse on s1 by 0.10")
    text = speak({BEFORE: of(0.5, 0.5), "1": of(0.9, 0.7)}, of_halves=True).text
    assert "2 of 2 unseen halves" in text and text.endswith("one stack says little: teach it a second one")


def test_masks_are_judged_by_dice():
    masks = {BEFORE: {"a": Figures(None, None, 0.5, 0.5)}, "1": {"a": Figures(None, None, 0.4, 0.7)}}
    assert speak(masks).text == "better on 1 of 1 unseen stacks: AP 0.50 -> 0.40"


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8))
def test_what_is_kept_is_never_worse_on_the_whole(values):
    before, half, whole = zip(*values, strict=True)
    figures = {BEFORE: of(*before), "0.5": of(*half), "1": of(*whole)}
    verdict = speak(figures)
    means = {model: sum(one.deciding for one in by.values()) / len(by) for model, by in figures.items()}
    if verdict.is_better:
        assert means[verdict.model] >= means[BEFORE] + LEAST_GAIN - 1e-9
        assert means[verdict.model] == max(means.values())
