"""Units of length, as files of many programs spell them, in micrometres."""

import math
import warnings
from collections.abc import Iterable


_MICROMETRES = {
    1e-6: ("pm", "picometer", "picometre"),
    1e-4: ("å", "angstrom"),
    1e-3: ("nm", "nanometer", "nanometers", "nanometre", "nanometres"),
    1.0: ("um", "µm", "μm", r"\u00b5m", "micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres"),
    1e3: ("mm", "millimeter", "millimeters", "millimetre", "millimetres"),
    1e4: ("cm", "centimeter", "centimeters", "centimetre", "centimetres"),
    25400.0: ("in", "inch", "inches"),
    1e6: ("m", "meter", "meters", "metre", "metres"),
}
_BY_NAME = {name: length for length, names in _MICROMETRES.items() for name in names}


def micrometres(unit: str | None) -> float:
    """How many micrometres a unit is; NaN where it is none that is known."""
    return _BY_NAME.get(str(unit).strip().strip('"').lower(), math.nan)


def number(text: object) -> float:
    """A number as programs write it, also with a decimal comma; NaN where it is none.

    >>> number("0,25")
    0.25

    A comma may stand before thousands as well: "1,000" is NaN, as it may be either.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text)
    words = str(text).strip()
    if "," in words:
        whole, _, rest = words.partition(",")
        if "." in words or "," in rest or (len(rest) == 3 and whole.lstrip("+-").strip("0")):
            return math.nan
        words = f"{whole}.{rest}"
    try:
        return float(words)
    except ValueError:
        return math.nan


def voxel_size_of(sizes: Iterable[float]) -> tuple[float, float, float] | None:
    """Three lengths as a voxel size; None if any of them is unknown (NaN), infinite, zero or negative."""
    sizes = tuple(float(size) for size in sizes)
    return sizes if len(sizes) == 3 and all(0 < size < math.inf for size in sizes) else None


# No microscope has voxels so flat: stacks with skipped planes reach about 30. A file that says more has mixed up its
# units (z in nanometres, x and y in micrometres).
_MOST_UNEVEN = 100


def tell_of_uneven(voxel_size: tuple[float, float, float] | None, name: str) -> None:
    """Warns of a voxel size that a file states, whose sides cannot be of one voxel."""
    if voxel_size is not None and max(voxel_size) > _MOST_UNEVEN * min(voxel_size):
        sides = ", ".join(f"{axis} {side:.6g}" for axis, side in zip("zyx", voxel_size, strict=True))
        warnings.warn(
            f"{name}: says that a voxel is {sides} micrometres, sides that differ by more than {_MOST_UNEVEN} x; "
            "--voxel-size corrects it",
            stacklevel=4,
        )
