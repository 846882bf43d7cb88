"""Pairs of a prediction and its reference: stored by `evaluate` as bytes, scored one by one, their scores averaged.

`evaluate` keeps what is added in Arrow files, whose columns hold no arrays of differing shapes. So every prediction
and every reference is one `large_binary` value: a compressed .npz archive of plain number arrays (never pickled
objects), which for a mask is a small part of its voxels.
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
    """Comes before `evaluate.Metric` among the bases of a module, which defines

    `_packed(prediction, reference, names)`: the two as bytes by `pack`, or a ValueError that calls them by `names`.

    All input is checked when it is added, and of a batch with an error nothing is added.
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
        # `evaluate.combine` calls them by their plural names.
        prediction, reference = kwargs.pop("predictions", prediction), kwargs.pop("references", reference)
        prediction, reference = self._packed(prediction, reference, ("prediction", "reference"))
        super().add(prediction=prediction, reference=reference, **kwargs)

    def compute(self, *, predictions=None, references=None, **options):
        """Scores of all that was added, and of what is given here."""
        if predictions is None and references is None and not len(self):
            raise ValueError("expected predictions and references, got none here and none were added before")
        return super().compute(predictions=predictions, references=references, **options)


def pack(**arrays: np.ndarray) -> bytes:
    """Arrays of numbers by name as one compressed .npz archive; dtypes and shapes are kept."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # it has a keyword of its own
    return buffer.getvalue()


def unpack(packed: bytes) -> dict[str, np.ndarray]:
    """The arrays that `pack` was given."""
    with np.load(io.BytesIO(packed), allow_pickle=False) as archive:
        return dict(archive)


def is_path(item) -> bool:
    return isinstance(item, str | os.PathLike)


def check_exists(path: str | os.PathLike, name: str) -> None:
    """Raises ValueError where there is no such file."""
    if not os.path.exists(path):
        raise ValueError(f"{name}: expected a file, and there is no {str(path)[:200]!r}")


def means(rows: list[dict[str, float]]) -> dict[str, float]:
    """Averages every key that all rows have over the rows in which it is finite.

    Where it is in none, the mean is what the first row has.
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
