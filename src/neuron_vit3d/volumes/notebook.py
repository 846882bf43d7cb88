"""What a notebook shows of a volume: its projection along z, its shape, voxels and voxel size."""

from __future__ import annotations

import base64
import io
import math
from html import escape
from typing import TYPE_CHECKING

import numpy as np


if TYPE_CHECKING:
    from .volume import Volume

_SIDE = 320  # pixels of the longer side of a picture
# So much is read at most, about a second's work: of larger volumes every second slice is taken, or third, and so on.
_MOST_BYTES = 1 << 29


def volume_html(volume: Volume) -> str:
    """Returns a volume's projection beside a table of what it is. Of mapped volumes a slice is held at a time."""
    depth, height, width = volume.shape
    step = max(1, math.ceil(volume.array.nbytes / _MOST_BYTES))
    size = volume.voxel_size
    rows = [("shape (z, y, x)", f"{depth} x {height} x {width}"), ("voxels", str(volume.dtype))]
    rows += [("channels", f"{volume.num_channels}, the first is shown")] if volume.num_channels > 1 else []
    rows.append(("voxel size", "not known" if size is None else f"{' x '.join(f'{side:.4g}' for side in size)} µm"))
    rows.append(("from", volume.source))
    rows += [("picture", f"maximum along z of every {step}th slice")] if step > 1 else []
    cells = "".join(f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return (
        '<div style="display: flex; gap: 1em; align-items: center">'
        f"{_picture(volume, step)}<table><caption>Volume</caption>{cells}</table></div>"
    )


def _picture(volume: Volume, step: int) -> str:
    """An `img` element of the maximum along z, small and stretched as voxels are; nothing without Pillow."""
    try:
        from PIL import Image
    except ImportError:
        return ""
    array = volume.array[0] if volume.array.ndim == 4 else volume.array
    # Rows and columns are thinned before they are looked at, so that a wide slice is no burden.
    thin = max(1, max(volume.shape[1:]) // (4 * _SIDE))
    shown = np.array(array[0, ::thin, ::thin], np.float32)
    for z in range(step, len(array), step):
        np.maximum(shown, array[z, ::thin, ::thin], out=shown, casting="unsafe")
    shown = np.nan_to_num(shown, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = np.percentile(shown, (1, 99.7))
    high = high if high > low else float(shown.max())
    gray = (np.clip((shown - low) / (high - low if high > low else 1.0), 0, 1) ** 0.7 * 255).astype(np.uint8)
    sides = volume.voxel_size or (1.0, 1.0, 1.0)
    extent = np.array([volume.shape[2] * sides[2], volume.shape[1] * sides[1]])
    across, down = (max(1, round(side)) for side in extent * (_SIDE / extent.max()))
    file = io.BytesIO()
    Image.fromarray(gray).resize((across, down), Image.Resampling.BOX).save(file, format="PNG")
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"/>'
