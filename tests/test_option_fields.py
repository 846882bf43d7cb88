"""Options are fields of frozen records; keyword, flag, check, docs and key follow from the field."""

import inspect
import math
from dataclasses import FrozenInstanceError, dataclass, fields
from typing import ClassVar

import pytest

from neuron_vit3d import SegmentOptions
from neuron_vit3d.option_fields import Number, OneOf, Options, as_table, documented, flags, option


@documented
@dataclass(frozen=True, kw_only=True, repr=False)
class Baking(Options):
    """How bread is baked."""

    title: ClassVar[str] = "Baking"
    degrees: float = option(
        220.0, "Heat.", more="In Celsius.", check=Number(above=0, at_most=300), decides_scores=True
    )
    flour: str = option("rye", "Kind of flour.", check=OneOf(("rye", "wheat")))
    steam: bool = option(True, "With steam.")
    rolls: int | None = option(None, "How many.", check=Number(at_least=1))


def bake(bread, options=None, *, oven=None, **keywords):
    return Baking.of(bake, options, keywords)


@pytest.mark.parametrize(
    ("limits", "inside", "outside", "expected"),
    [
        ({"above": 0, "at_most": 1}, (0.1, 1), (0, 1.1, math.nan), "a number above 0 and at most 1"),
        ({"at_least": 1}, (1, 9), (0, math.inf, "1", None), "a number at least 1"),
        ({}, (0, -1e300), (math.inf, -math.inf), "a number"),
    ],
)
def test_a_number_lies_between_its_limits(limits, inside, outside, expected):
    number = Number(**limits)
    assert all(map(number.allows, inside)) and not any(map(number.allows, outside)) and number.expected == expected


def test_a_record_is_made_of_keywords_or_of_a_record_that_they_change():
    assert bake("bread") == Baking()
    assert bake("bread", degrees=180) == bake("bread", Baking(degrees=180)) == bake("bread", Baking(), degrees=180)
    with pytest.raises(FrozenInstanceError):
        Baking().degrees = 5


def test_it_shows_what_is_not_at_its_default():
    assert repr(Baking()) == "Baking()"
    shown = Baking(degrees=180, steam=False)
    assert repr(shown) == "Baking(degrees=180, steam=False)" and eval(repr(shown)) == shown


@pytest.mark.parametrize(
    ("keywords", "told"),
    [
        ({"degress": 180}, r"bake\(\): no such option: degress; the nearest is degrees"),
        ({"ovne": 1}, r"bake\(\): no such option: ovne; the nearest is oven"),
        ({"xyzzy": 1}, r"bake\(\): no such option: xyzzy$"),
        ({"options": {"degrees": 180}}, r"bake\(\): options: expected Baking, got dict"),
    ],
)
def test_what_is_no_option_is_told_with_the_nearest(keywords, told):
    with pytest.raises(TypeError, match=told):
        bake("bread", **keywords)


@pytest.mark.parametrize(
    ("keywords", "told"),
    [
        ({"degrees": 301}, "degrees: expected a number above 0 and at most 300, got 301"),
        ({"flour": "oats"}, "flour: expected rye or wheat, got 'oats'"),
        ({"rolls": 0}, "rolls: expected a number at least 1, got 0"),
        ({"degrees": None}, "degrees: expected a number"),
    ],
)
def test_values_are_checked(keywords, told):
    with pytest.raises(ValueError, match=told):
        Baking(**keywords)


def test_docs_and_flags_follow_from_the_fields():
    assert "degrees: Heat. In Celsius. Default: 220.0." in inspect.getdoc(Baking)
    assert [flags(one) for one in fields(Baking)] == [
        ["--degrees"],
        ["--flour"],
        ["--steam", "--no-steam"],
        ["--rolls"],
    ]
    assert "| `--steam`, `--no-steam` | `steam` | `True` | With steam. |" in as_table(Baking).splitlines()


# -- SegmentOptions --------------------------------------------------------------------------------------------------


def test_the_key_of_a_run_has_what_decides_the_scores():
    assert SegmentOptions().key() == "True, False, torch.float32"
    assert SegmentOptions(batch_size=3, compile=True, device="cpu", tile_size=99).key() == SegmentOptions().key()
    assert SegmentOptions(invert=True, flips=True).key() == "True, True, torch.float32, 'inverted'"
    assert SegmentOptions(invert=True).deciding() == {
        "skip_background": True, "flips": False, "dtype": "torch.float32", "invert": True,
    }  # fmt: skip


def test_a_new_option_enters_the_key_where_it_is_not_at_its_default():
    @dataclass(frozen=True, kw_only=True, repr=False)
    class More(SegmentOptions):
        gamma: float = option(1.0, "Of the intensities.", decides_scores=True)

    assert More().key() == SegmentOptions().key() and More().deciding() == SegmentOptions().deciding()
    assert (
        More(gamma=0.5).key() == "True, False, torch.float32, gamma=0.5" and More(gamma=0.5).deciding()["gamma"] == 0.5
    )


def test_devices_and_types_of_torch_become_words():
    import torch

    options = SegmentOptions(device=torch.device("cpu"), dtype=torch.bfloat16)
    assert (options.device, options.dtype) == ("cpu", "bfloat16") and hash(options) == hash(options)
    with pytest.raises(ValueError, match="dtype: expected float32 or bfloat16, got 'float16'"):
        SegmentOptions(dtype=torch.float16)
