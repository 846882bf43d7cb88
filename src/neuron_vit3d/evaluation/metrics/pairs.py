"""Pairs of a prediction and its reference: `evaluate` stores them as bytes; they are scored singly, then averaged.

`evaluate` keeps what is added in Arrow files, whose columns cannot hold arrays of different shapes. So every
prediction and every reference is one `large_binary` value: a compressed .npz archive of plain number arrays (never
pickled objects), which for a mask is much smaller than its voxels.
"""

import io
import math
import os
from statistics import fmean
from typing import TYPE_CHECKING

import datasets
import numpy as np


FEATURES = datasets.Features({name: datasets.Value("large_binary") for name in ("predictions", "references")})


if TYPE_CHECKING:
    from evaluate import Metric
else:
    Metric = object


class StoredAsBytes(Metric):
    """Base class of the metric modules; it must stand before `evaluate.Metric` in the list of bases.

    A module defines `_packed(prediction, reference, names)`. It returns both as bytes, made by `pack`, or raises a
    ValueError that uses `names` for them.

    All input is checked when it is added; if a batch has an error, nothing of it is added.
    """

    def add_batch(self, *, predictions=None, references=None, **kwargs):
        """Adds a list of predictions and the list of their references. Raises ValueError if one is not as expected."""
        predictions, references = _list(predictions, "predictions"), _list(references, "references")
        if len(predictions) != len(references):
            raise ValueError(
                f"expected as many predictions as references, got {len(predictions)} predictions and "
                f"{len(references)} references"
            )
        if not predictions:
            raise ValueError("expected at least one prediction and its reference, got none")
        packed = [
            self._packed(*pair, (f"predictions[{i}]", f"references[{i}]"))
            for i, pair in enumerate(zip(predictions, references, strict=True))
        ]
        predictions, references = map(list, zip(*packed, strict=True))
        super().add_batch(predictions=predictions, references=references, **kwargs)

    def add(self, *, prediction=None, reference=None, **kwargs):
        """Adds one prediction and its reference. Raises ValueError if one is not as expected."""
        # `evaluate.combine` uses the plural names.
        prediction, reference = kwargs.pop("predictions", prediction), kwargs.pop("references", reference)
        prediction, reference = self._packed(prediction, reference, ("prediction", "reference"))
        super().add(prediction=prediction, reference=reference, **kwargs)

    def compute(self, *, predictions=None, references=None, **options):
        """Computes the scores of all pairs that were added, and of those given here."""
        if predictions is None and references is None and not len(self):
            raise ValueError("expected predictions and references, got none here and none were added before")
        return super().compute(predictions=predictions, references=references, **options)


def pack(**arrays: np.ndarray) -> bytes:
    """Packs arrays of numbers, by name, into one compressed .npz archive; dtypes and shapes are kept."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # savez has a keyword of that type, too
    return buffer.getvalue()


def unpack(packed: bytes) -> dict[str, np.ndarray]:
    """Returns the arrays that `pack` was given."""
    with np.load(io.BytesIO(packed), allow_pickle=False) as archive:
        return dict(archive)


def is_path(item) -> bool:
    return isinstance(item, str | os.PathLike)


def check_exists(path: str | os.PathLike, name: str) -> None:
    """Raises ValueError if there is no such file."""
    if not os.path.exists(path):
        raise ValueError(f"{name}: expected a file, and there is no {str(path)[:200]!r}")


def means(rows: list[dict[str, float]]) -> dict[str, float]:
    """Averages every key that all rows have, over the rows in which it is finite.

    If it is finite in no row, the mean is the value in the first row.
    """
    result = {}
    for key, first in rows[0].items():
        if not all(key in row for row in rows):
            continue
        finite = [row[key] for row in rows if math.isfinite(row[key])]
        result[key] = fmean(finite) if finite else first
    return result


def _list(items, name: str) -> list:
    if items is None:
        raise ValueError(f"expected predictions and references, got no {name}")
    if isinstance(items, str | bytes | os.PathLike):
        raise ValueError(f"expected a list of {name}, got one {type(items).__name__}")
    try:
        return list(items)
    except TypeError:
        raise ValueError(f"expected a list of {name}, got {type(items).__name__}") from None
