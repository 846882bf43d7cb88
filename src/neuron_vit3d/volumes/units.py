"""Units of length, as files of many programs spell them, in micrometres."""

import math
from collections.abc import Iterable


# Inches are missing on purpose: 72 or 300 "pixels per inch" come from image editors, not from microscopes.
_MICROMETRES = {
    1e-6: ("pm", "picometer", "picometre"),
    1e-4: ("å", "angstrom"),
    1e-3: ("nm", "nanometer", "nanometers", "nanometre", "nanometres"),
    1.0: ("um", "µm", "μm", r"\u00b5m", "micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres"),
    1e3: ("mm", "millimeter", "millimeters", "millimetre", "millimetres"),
    1e4: ("cm", "centimeter", "centimeters", "centimetre", "centimetres"),
    1e6: ("m", "meter", "meters", "metre", "metres"),
}
_BY_NAME = {name: length for length, names in _MICROMETRES.items() for name in names}


def micrometres(unit: str | None) -> float:
    """How many micrometres a unit is; NaN where it is none that is known."""
    return _BY_NAME.get(str(unit).strip().strip('"').lower(), math.nan)


def voxel_size_of(sizes: Iterable[float]) -> tuple[float, float, float] | None:
    """Three lengths as a voxel size; None if any of them is unknown (NaN), infinite, zero or negative."""
    sizes = tuple(float(size) for size in sizes)
    return sizes if len(sizes) == 3 and all(0 < size < math.inf for size in sizes) else None
