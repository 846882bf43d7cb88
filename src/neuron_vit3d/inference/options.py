"""The options of `segment`: the one list of what decides how scores are made.

A new option is one field here, and the line in `segmenter.py`, or in what that calls, where it acts. Its keyword, its
flag, its docs, and the key that identifies unfinished runs follow from the field.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from ..option_fields import Check, Number, OneOf, Options, documented, option


# The blocks that these lead to stand in a key in their place.
_AS_BLOCKS = ("tile_size", "tile_overlap", "slice_overlap")
# How the first options stand in a key, and which always do; runs that were begun before there were others go on. Later
# ones stand there by their names, where they are not at their defaults.
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
    """How scores are made: the options of `segment`, `segment_large` and `Segmenter`.

    They are given as a record, `segment(image, options=SegmentOptions(tile_size=512))`, or as keywords,
    `segment(image, tile_size=512)`.
    """

    title: ClassVar[str] = "Segmenting"

    # Overlaps are checked where the model and its image processor are known.
    tile_size: int | None = option(
        None,
        "Side of a tile in pixels, about. Default: the model's.",
        more="A multiple of the model's patch that divides the plane well is chosen near it.",
        check=Number(at_least=1),
        decides_scores=True,
    )
    tile_overlap: int | None = option(None, "Pixels tiles share. Default: the model's.", decides_scores=True)
    slice_overlap: int | None = option(
        None,
        "Slices blocks share. Default: the model's.",
        more="Only a model that labels several slices at once can have an overlap.",
        decides_scores=True,
    )
    batch_size: int | None = option(
        None, "Blocks at once. Default: 8, on a GPU 32.", check=Number(at_least=1)
    )  # changes no more than the scores' last bits, and memory may call for another one
    device: str | None = option(None, "cpu, cuda, mps. Default: the best there is.")
    dtype: str = option(
        "float32",
        "float32, or bfloat16: faster on recent hardware, nearly equal.",
        more="Of the computation; scores are float32 either way. `torch.bfloat16` is taken, too.",
        check=OneOf(("float32", "bfloat16")),
        decides_scores=True,
    )
    skip_background: bool = option(
        True,
        "Leave out tiles in which no neurite can be.",
        more="Their scores are 0. Volumes of fewer than 192 blocks are looked at as a whole.",
        decides_scores=True,
    )
    invert: bool = option(
        False,
        "The image is dark on bright: read its negative.",
        more="An image that looks so and is not inverted is told of by a warning.",
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
        "Compile the model; pays for large volumes.",
        more="By `torch.compile`, for batches that are at least half full: the first of each size of tile takes up to "
        "some minutes, all others less time. On a CPU the weights become part of what is compiled, and must not be "
        "changed after that.",
    )

    def __post_init__(self) -> None:
        # As words: a record can be compared, sent to other processes, and made before torch has been imported.
        object.__setattr__(self, "dtype", str(self.dtype).removeprefix("torch."))
        if self.device is not None:
            object.__setattr__(self, "device", str(self.device))
        super().__post_init__()

    @classmethod
    def error(cls, name: str, check: Check, value: Any) -> ValueError:
        """The error that says what was expected of an option."""
        if isinstance(check, Number):
            limits = check.expected.removeprefix("a number ")
            return ValueError(f"expected a {name.replace('_', ' ')} of {limits}, got {value}")
        return super().error(name, check, value)

    def deciding(self) -> dict[str, Any]:
        """Lists, for JSON, what decides the scores beside the blocks; a run that goes on must have the same."""
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
