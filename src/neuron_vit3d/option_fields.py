"""What an option is: a field of a frozen record that carries its default, its help, and the values it may have.

    @dataclass(frozen=True, kw_only=True, repr=False)
    class SegmentOptions(Options):
        flips: bool = option(False, "Average over mirror images: four times slower.", decides_scores=True)

Everything else follows from the field: the keyword in Python, the flag of the command line, the row in the docs, and
what an unfinished run is told by. Needs no library: a misspelt flag is told of before numpy has been imported.
"""

import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from typing import Any, ClassVar, Self


@dataclass(frozen=True)
class Number:
    """A finite number between limits."""

    above: float = -math.inf
    at_least: float = -math.inf
    at_most: float = math.inf

    def allows(self, value: Any) -> bool:
        """Whether it lies there; what is no number does not."""
        try:
            return bool(self.above < value and self.at_least <= value <= self.at_most and math.isfinite(value))
        except TypeError:
            return False

    @property
    def expected(self) -> str:
        """The limits in words: `a number above 0 and at most 1`."""
        limits = {"above": self.above, "at least": self.at_least, "at most": self.at_most}
        words = " and ".join(f"{word} {limit:g}" for word, limit in limits.items() if math.isfinite(limit))
        return f"a number {words}".rstrip()


@dataclass(frozen=True)
class OneOf:
    """One of a few words."""

    words: tuple[str, ...]

    def allows(self, value: Any) -> bool:
        """Whether it is one of them."""
        return value in self.words

    @property
    def expected(self) -> str:
        """The words in a sentence: `float32 or bfloat16`."""
        return " or ".join(self.words)


Check = Number | OneOf


def option(
    default: Any, help: str, *, more: str = "", check: Check | None = None, decides_scores: bool = False
) -> Any:
    """Makes the field of an option.

    Args:
        default: its value where none is given. None may always be given where it is the default.
        help: what it does, in one short sentence, as the command line shows it.
        more: what the docs tell besides.
        check: which values it may have. None: any.
        decides_scores: whether other values of it give other scores; a run that goes on then asks for the same one.
    """
    return field(
        default=default, metadata={"help": help, "more": more, "check": check, "decides_scores": decides_scores}
    )


class Options:
    """A record of options; it checks its values, and shows those that are not at their defaults.

    A record is a frozen dataclass whose fields are made by [`option`].
    """

    title: ClassVar[str]  # what the help and the docs call them

    def __post_init__(self) -> None:
        for one, value in self.wrong(vars(self)):
            raise self.error(one.name, one.metadata["check"], value)

    @classmethod
    def all(cls) -> tuple[Field, ...]:
        """Returns the fields of the options, in their order."""
        # This class is no dataclass, but each record made of it is one: what types cannot say.
        return fields(cls)  # type: ignore[arg-type]

    @classmethod
    def wrong(cls, values: Mapping[str, Any]) -> Iterator[tuple[Field, Any]]:
        """Yields the fields, with their values, whose values they may not have."""
        for one in cls.all():
            value, check = values[one.name], one.metadata["check"]
            if check is not None and not (value is None and one.default is None) and not check.allows(value):
                yield one, value

    @classmethod
    def error(cls, name: str, check: Check, value: Any) -> ValueError:
        """The error that says what was expected of an option."""
        return ValueError(f"{name}: expected {check.expected}, got {value!r}")

    def changed(self) -> dict[str, Any]:
        """Lists the options that are not at their defaults, in their order."""
        values = {one.name: (getattr(self, one.name), one.default) for one in self.all()}
        return {name: value for name, (value, default) in values.items() if value != default}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.changed().items())})"

    @classmethod
    def of(cls, asked_by: Callable, options: "Self | None", keywords: dict[str, Any]) -> Self:
        """Makes the record from what a function was given: a record, keywords, or a record that keywords change.

        Args:
            asked_by: the function, which the error names and whose own keywords are no options.
            options: a record; None: all are at their defaults.
            keywords: option -> value.

        Raises:
            TypeError: there is no option of this name; or `options` is no such record.
        """
        where = f"{getattr(asked_by, '__name__', asked_by)}()"
        if options is not None and not isinstance(options, cls):
            raise TypeError(f"{where}: options: expected {cls.__name__}, got {type(options).__name__}")
        names = [one.name for one in cls.all()]
        for name in keywords:
            if name not in names:
                parameters = inspect.signature(asked_by).parameters.values()
                own = [each.name for each in parameters if each.kind is not each.VAR_KEYWORD]
                raise TypeError(f"{where}: {no_such_option(name, name, names + own)}")
        return replace(options, **keywords) if options is not None else cls(**keywords)  # type: ignore[type-var]


def documented(record: type) -> type:
    """Adds what the fields of a record say of themselves to its docstring."""
    lines = []
    for one in fields(record):
        default = "" if one.default is MISSING or one.default is None else f" Default: {one.default}."
        lines.append(f"    {one.name}: {told(one)}{default}")
    record.__doc__ = "\n".join([(record.__doc__ or "").rstrip(), "", "Args:", *lines])
    return record


def told(one: Field) -> str:
    """All that a field says of its option."""
    return " ".join(filter(None, (one.metadata["help"], one.metadata["more"])))


def as_table(record: type) -> str:
    """The options of a record as a table in Markdown: flag, keyword, default, what it does."""
    rows = ["| Command line | Python | Default | |", "|---|---|---|---|"]
    for one in fields(record):
        default = "" if one.default is None else f"`{one.default}`"
        rows.append(f"| `{'`, `'.join(flags(one))}` | `{one.name}` | {default} | {told(one)} |")
    return "\n".join(rows)


def flags(one: Field) -> list[str]:
    """The flag of an option on the command line, and the one that switches it off where it is on by default."""
    flag = one.name.replace("_", "-")
    return [f"--{flag}", f"--no-{flag}"] if one.default is True else [f"--{flag}"]


def no_such_option(typed: str, name: str, known: Iterable[str]) -> str:
    """Says, of an option as it was typed, that there is none, and which of the known ones is nearest to its name."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"no such option: {typed}" + (f"; the nearest is {near[0]}" if near else "")
