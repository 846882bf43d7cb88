"""The options of `segment`, in one list: everything that decides how scores are made.

A new option is one field here, and the code in `segmenter.py`, or in what that calls, that uses it. Its keyword, its
flag, its docs, and the key that identifies unfinished runs follow from the field.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from ..option_fields import Check, Number, OneOf, Options, documented, option


# Options that are not in a key: the blocks that follow from them are there instead.
_AS_BLOCKS = ("tile_size", "tile_overlap", "slice_overlap")
# The first options are always in a key, under these names, so that older unfinished runs can go on. Later options are
# in it under their own names, if they are not at their defaults.
_ALWAYS = ("skip_background", "flips", "dtype")
_FIRST_WORDS: dict[str, Callable[[Any], str]] = {
    "skip_background": repr,
    "flips": repr,
    "dtype": str,
    "invert": lambda _: "'inverted'",
}


@documented
@dataclass(frozen=True, kw_only=True, repr=False)
class SegmentOptions(Options):
    """Options of `segment`, `segment_large` and `Segmenter`: how scores are made.

    They are given as a record, `segment(image, options=SegmentOptions(tile_size=512))`, or as keywords,
    `segment(image, tile_size=512)`.
    """

    title: ClassVar[str] = "Segmenting"

    # Overlaps are checked later, once the model and its image processor are known.
    tile_size: int | None = option(
        None,
        "Approximate side of a tile in pixels. Default: the model's.",
        more="The actual side is a multiple of the model's patch that divides the plane well.",
        check=Number(at_least=1),
        decides_scores=True,
    )
    tile_overlap: int | None = option(
        None, "Pixels that neighbouring tiles share. Default: the model's.", decides_scores=True
    )
    slice_overlap: int | None = option(
        None,
        "Slices that neighbouring blocks share. Default: the model's.",
        more="Only a model that labels several slices at once can have an overlap.",
        decides_scores=True,
    )
    batch_size: int | None = option(
        None, "Blocks per batch. Default: 8, on a GPU 32.", check=Number(at_least=1)
    )  # changes only the scores' last bits; less memory may need a smaller one
    device: str | None = option(None, "cpu, cuda or mps. Default: the fastest available.")
    dtype: str = option(
        "float32",
        "float32, or bfloat16: faster on recent hardware, nearly equal.",
        more="This is the type of the computation; scores are always float32. `torch.bfloat16` works, too.",
        check=OneOf(("float32", "bfloat16")),
        decides_scores=True,
    )
    skip_background: bool = option(
        True,
        "Skip tiles in which no neurite can be.",
        more="Their scores are 0. In volumes of fewer than 192 blocks no tile is skipped.",
        decides_scores=True,
    )
    invert: bool = option(
        False,
        "The image is dark on bright: read its negative.",
        more="A warning is given if an image looks dark on bright and is not inverted.",
        decides_scores=True,
    )
    flips: bool = option(
        False,
        "Average over mirror images: four times slower.",
        more="The scores of each block and of its three mirror images (in y, in x, in both) are averaged.",
        decides_scores=True,
    )
    compile: bool = option(
        False,
        "Compile the model; worth the time for large volumes.",
        more="`torch.compile` is used for batches that are at least half full. The first batch of each tile size "
        "takes up to some minutes, all others less time. On a CPU the weights become part of the compiled model, and "
        "must not be changed after that.",
    )

    def __post_init__(self) -> None:
        # As a word, so that records can be compared, sent to other processes, and made without torch.
        object.__setattr__(self, "dtype", str(self.dtype).removeprefix("torch."))
        if self.device is not None:
            object.__setattr__(self, "device", str(self.device))
        super().__post_init__()

    @classmethod
    def error(cls, name: str, check: Check, value: Any) -> ValueError:
        """Makes the error that says what was expected of an option."""
        if isinstance(check, Number):
            limits = check.expected.removeprefix("a number ")
            return ValueError(f"expected a {name.replace('_', ' ')} of {limits}, got {value}")
        return super().error(name, check, value)

    def deciding(self) -> dict[str, Any]:
        """Lists, for JSON, what decides the scores beside the blocks; a run can only go on with the same values."""
        changed = self.changed()
        names = [
            *_ALWAYS,
            *(one.name for one in fields(self) if one.metadata["decides_scores"] and one.name in changed),
        ]
        values = {name: getattr(self, name) for name in dict.fromkeys(names) if name not in _AS_BLOCKS}
        return values | {"dtype": f"torch.{self.dtype}"}

    def key(self) -> str:
        """Returns a text of what decides the scores beside the blocks; equal texts mean equal options."""
        values = self.deciding()
        first = [word(values.pop(name)) for name, word in _FIRST_WORDS.items() if name in values]
        return ", ".join([*first, *(f"{name}={value!r}" for name, value in values.items())])
