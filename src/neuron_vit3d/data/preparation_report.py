"""Reports on prepared pairs, for a human: a table with a row for each pair, and pages of pictures.

    write_csv("prepared/report.csv", rows)
    write_pages("prepared", rows, {"neuron": "prepared/neuron.png"})     # prepared/report-01.png ...

A pair's picture is made by `thumbnail` while its volume is in memory and kept as a small PNG, so that pages can be
made again without reading volumes.
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..files import replacing
from ..morphology import Tree
from .alignment import AS_IS, HYPOTHESES


COLOURS = {"used": (70, 205, 110), "repaired": (255, 165, 50), "left out": (255, 85, 75)}
_ORDER = tuple(reversed(COLOURS))  # on the pages: what needs a look comes first

COLUMNS = (
    *("neuron_id", "status", "fit"),
    *(f"figure {name}" for name in HYPOTHESES),
    *("channel", "slices", "height", "width", "dtype", "voxel_z_um", "voxel_y_um", "voxel_x_um"),
    *("nodes", "neuron_voxels", "image", "swc", "note"),
)

THUMBNAIL = 256  # pixels, of the longer side
PER_PAGE = 24
MOST_PAGES = 40
_IN_A_ROW = 6
_GAP, _CAPTION, _HEADER = 16, 78, 48
_PAGE, _CARD, _TEXT, _FAINT = (24, 26, 30), (12, 13, 15), (232, 234, 238), (150, 156, 166)
_LONGEST = 120  # letters: more never fit below a picture
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a cell that begins so is run as a formula by spreadsheets


@dataclass(frozen=True)
class PairReport:
    """What became of a pair of image and tree.

    Attributes:
        neuron_id: its name in the dataset.
        image, swc: the files, "" where there is none.
        status: "used", "repaired" (used, after the tree was moved as `fit` says) or "left out".
        fit: how the tree fits, see `alignment.Alignment`; None if it does not, or if that was not looked at.
        figures: hypothesis -> figure; empty if not looked at.
        channel, dtype: of the voxels used; None where unknown.
        shape: (z, y, x); None where unknown.
        voxel_size: z, y, x in micrometres; None where unknown.
        nodes, neuron_voxels: nodes of the tree, voxels labelled 1; None where unknown.
        note: why it was left out, and what else is to be known.
    """

    neuron_id: str
    image: str
    swc: str
    status: str
    fit: str | None = None
    figures: dict[str, float] = field(default_factory=dict)
    channel: int | None = None
    shape: Sequence[int] | None = None
    dtype: str | None = None
    voxel_size: Sequence[float] | None = None
    nodes: int | None = None
    neuron_voxels: int | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if self.status not in COLOURS:
            raise ValueError(f"{self.neuron_id}: expected status {', '.join(COLOURS)}, got {self.status!r}")


def write_csv(path: str | os.PathLike, rows: Iterable[PairReport]) -> Path:
    """Writes a row for each pair, in the order given, always with the columns `COLUMNS`. Returns the path.

    The file is UTF-8, with commas, and quotes where needed. No cell holds a line break, and text that a spreadsheet
    would run as a formula gets an apostrophe in front. Figures are rounded to four digits. The file appears whole or
    not at all.
    """
    path = Path(path)
    with (
        replacing(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        table = csv.DictWriter(file, COLUMNS, restval="")
        table.writeheader()
        table.writerows(_cells(row) for row in rows)
    return path


def thumbnail(image: np.ndarray, tree: Tree, status: str, *, dark: bool = False) -> Image.Image:
    """A small picture of a pair: the maximum projection along z with the tree drawn on in the colour of its status.

    Args:
        image: (z, y, x); read slice by slice, so that memory is that of a slice.
        tree: in voxels of the image; what lies outside is cut off.
        status: "used" (green), "repaired" (orange) or "left out" (red).
        dark: project the minimum instead: neurons are darker than their surroundings.

    Returns:
        RGB picture whose longer side is `THUMBNAIL` pixels; small images are enlarged.
    """
    height, width = image.shape[1:]
    scale = THUMBNAIL / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    gray = Image.fromarray(_contrast(_projection(image, size, dark=dark))).resize(size, Image.Resampling.BICUBIC)
    picture = gray.convert("RGB")
    # Lines are drawn twice as large and shrunk, and let the image through: they lie on what one wants to see.
    large = (2 * size[0], 2 * size[1])
    lines = Image.new("L", large, 0)
    _draw_tree(lines, tree, (large[0] / width, large[1] / height))
    picture.paste(COLOURS[status], mask=lines.resize(size, Image.Resampling.BOX))
    return picture


def write_pages(
    folder: str | os.PathLike,
    rows: Sequence[PairReport],
    pictures: Mapping[str, str | os.PathLike],
    *,
    per_page: int = PER_PAGE,
    most_pages: int = MOST_PAGES,
) -> list[Path]:
    """Writes contact sheets `report-01.png`, `report-02.png`, ...

    What was left out comes first, then what was repaired, then the rest.

    Args:
        folder: where to; pages of an earlier, longer report are removed from it.
        rows: all pairs.
        pictures: neuron_id -> PNG made by `thumbnail`. A pair without one (or whose file cannot be read) is shown by
            its name and note alone.
        per_page: pairs on a page.
        most_pages: pages at most; the last one says how many pairs have no place on them.

    Returns:
        The pages written; none if there are no rows.
    """
    folder = Path(folder)
    ordered = sorted(rows, key=lambda row: (_ORDER.index(row.status), row.neuron_id, row.image, row.swc))
    parts = [ordered[start : start + per_page] for start in range(0, len(ordered), per_page)]
    not_shown = sum(map(len, parts[most_pages:]))
    parts = parts[:most_pages]
    pages = []
    for number, part in enumerate(parts, start=1):
        told = f"page {number} of {len(parts)}"
        if not_shown and number == len(parts):
            told += f"; {not_shown} more are in report.csv alone"
        page = _page(part, pictures, _title(ordered), told)
        pages.append(folder / f"report-{number:02d}.png")
        with replacing(pages[-1]) as temporary:
            page.save(temporary, format="PNG")
    for path in folder.glob("report-*.png"):
        if re.fullmatch(r"report-\d+\.png", path.name) and path not in pages:
            path.unlink()
    return pages


def _cells(row: PairReport) -> dict[str, object]:
    shape: Sequence = row.shape or ("",) * 3
    voxel_size: Sequence = row.voxel_size or ("",) * 3
    cells: dict[str, object] = {f"figure {name}": round(figure, 4) for name, figure in row.figures.items()}
    cells |= dict(zip(("slices", "height", "width"), shape, strict=True))
    cells |= dict(zip(("voxel_z_um", "voxel_y_um", "voxel_x_um"), voxel_size, strict=True))
    for name in ("neuron_id", "status", "fit", "channel", "dtype", "nodes", "neuron_voxels", "image", "swc", "note"):
        value = getattr(row, name)
        cells[name] = "" if value is None else value
    return {name: _safe(value) if isinstance(value, str) else value for name, value in cells.items()}


def _safe(text: str) -> str:
    text = " ".join(text.split()) if any(character in text for character in "\r\n") else text
    return f"'{text}" if text.startswith(_FORMULA) else text


def _projection(image: np.ndarray, size: tuple[int, int], *, dark: bool) -> np.ndarray:
    """Projects an image along z onto at most `size` (width, height) pixels, float32.

    A pixel is the extreme of all its voxels, so that a neurite of one voxel stays visible in an image of thousands.
    """
    extreme = np.minimum if dark else np.maximum
    height, width = image.shape[1:]
    rows, columns = _starts(height, size[1]), _starts(width, size[0])
    projection: np.ndarray | None = None
    for plane in image:
        small = extreme.reduceat(extreme.reduceat(plane, rows, axis=0), columns, axis=1)
        projection = small.copy() if projection is None else extreme(projection, small, out=projection)
    assert projection is not None  # an image has slices
    return np.nan_to_num(projection.astype(np.float32), posinf=0, neginf=0)


def _starts(length: int, pixels: int) -> np.ndarray:
    """Returns where each of at most `pixels` equal parts of `length` voxels begins."""
    count = min(length, pixels)
    return np.arange(count) * length // count


def _contrast(projection: np.ndarray) -> np.ndarray:
    """Makes gray values, uint8: the few darkest and brightest pixels are clipped, and faint neurites are raised."""
    low, high = np.percentile(projection, (1, 99.7))
    high = high if high > low else float(projection.max())  # a neuron smaller than what the percentile leaves out
    span = high - low if high > low else 1.0
    return (np.clip((projection - low) / span, 0, 1) ** 0.7 * 255).astype(np.uint8)


def _draw_tree(lines: Image.Image, tree: Tree, scale: tuple[float, float]) -> None:
    """Draws edges, and nodes without any, as lines of two pixels."""
    draw = ImageDraw.Draw(lines)
    points = (tree.xyz[:, :2] + 0.5) * scale
    begin, end = points[tree.segments.T]
    seen = ((np.maximum(begin, end) >= 0) & (np.minimum(begin, end) <= lines.size)).all(axis=1)
    limit = 8 * max(lines.size)  # Pillow draws lines pixel by pixel, outside of the picture as well
    for x0, y0, x1, y1 in np.clip(np.concatenate([begin, end], axis=1)[seen], -limit, limit).tolist():
        if (x0, y0) == (x1, y1):
            draw.ellipse((x0 - 4, y0 - 4, x0 + 4, y0 + 4), fill=230)
        else:
            draw.line((x0, y0, x1, y1), fill=230, width=2)


def _title(rows: Sequence[PairReport]) -> list[tuple[str, tuple[int, int, int]]]:
    counts = Counter(row.status for row in rows)
    title = [(f"{len(rows)} pairs", _TEXT)]
    return title + [(f"{counts[status]} {status}", colour) for status, colour in COLOURS.items() if counts[status]]


def _page(part: Sequence[PairReport], pictures: Mapping, title: list, number: str) -> Image.Image:
    columns = min(_IN_A_ROW, max(len(part), 3))
    step_x, step_y = THUMBNAIL + _GAP, THUMBNAIL + _CAPTION + _GAP
    num_rows = -(-len(part) // columns)
    page = Image.new("RGB", (columns * step_x + _GAP, _HEADER + num_rows * step_y + _GAP), _PAGE)
    draw = ImageDraw.Draw(page)
    left = _GAP
    for text, colour in title:
        draw.text((left, _GAP), text, colour, _font(18))
        left += round(_font(18).getlength(text)) + 24
    draw.text((page.width - _GAP, _GAP + 3), number, _FAINT, _font(14), anchor="ra")
    for i, row in enumerate(part):
        origin = (_GAP + i % columns * step_x, _HEADER + _GAP // 2 + i // columns * step_y)
        _draw_pair(page, draw, row, pictures.get(row.neuron_id), origin)
    return page


def _draw_pair(page: Image.Image, draw: ImageDraw.ImageDraw, row: PairReport, picture, origin) -> None:
    left, top = origin
    bottom = top + THUMBNAIL
    colour = COLOURS[row.status]
    draw.rectangle((left, top, left + THUMBNAIL - 1, bottom - 1), fill=_CARD)
    shown = _opened(picture)
    if shown is None:
        draw.text((left + THUMBNAIL // 2, top + THUMBNAIL // 2), "no picture", _FAINT, _font(14), anchor="mm")
    else:
        page.paste(shown, (left + (THUMBNAIL - shown.width) // 2, top + (THUMBNAIL - shown.height) // 2))
    draw.rectangle((left, bottom, left + THUMBNAIL - 1, bottom + 3), fill=colour)
    name = row.neuron_id or row.image or row.swc
    draw.text((left, bottom + 9), _cut_middle(name, _font(14)), _TEXT, _font(14))
    draw.text((left, bottom + 28), _cut_end(_verdict(row), _font(13)), colour, _font(13))
    shape = " x ".join(map(str, row.shape)) + f" {row.dtype or ''}" if row.shape else ""
    last = (row.note or shape) if row.status == "left out" else shape
    for i, line in enumerate(_wrapped(last, _font(12), lines=2)):
        draw.text((left, bottom + 46 + 15 * i), line, _FAINT, _font(12))


def _verdict(row: PairReport) -> str:
    """Writes the line of a caption that says what became of a pair, with its figure."""
    if not row.figures:
        return row.status
    fit = row.fit or max(row.figures, key=row.figures.__getitem__)
    figure = f"{row.figures.get(fit, 0.5):.2f}"
    if row.fit is None:
        return f"{row.status}, at best {fit} {figure}"
    return f"{row.status}  {figure}" if fit == AS_IS else f"{row.status}: {fit}  {figure}"


def _opened(picture) -> Image.Image | None:
    """Opens a picture, no larger than its place; None if there is none or it cannot be read."""
    if picture is None:
        return None
    try:
        with Image.open(picture) as opened:
            shown = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError):  # what Pillow raises for damaged files
        return None
    shown.thumbnail((THUMBNAIL, THUMBNAIL))
    return shown


def _font(size: int):
    return ImageFont.load_default(size)


def _cut_middle(text: str, font) -> str:
    """Cuts out the middle of a text wider than a picture: names often differ in their last letters."""
    text = short = " ".join(text.split())
    keep = min(len(text), _LONGEST)
    while len(short) > _LONGEST or font.getlength(short) > THUMBNAIL:
        keep -= 1
        short = f"{text[: keep // 2]}...{text[len(text) - (keep - keep // 2) :]}"
    return short


def _cut_end(text: str, font) -> str:
    short = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    while font.getlength(short) > THUMBNAIL:
        short = f"{short.removesuffix('...')[:-1]}..."
    return short


def _wrapped(text: str, font, *, lines: int) -> list[str]:
    """Breaks the text into at most so many lines, and cuts off the last one."""
    done: list[str] = []
    words = text.split()
    while words and len(done) < lines - 1:
        line = words.pop(0)
        while words and font.getlength(f"{line} {words[0]}") <= THUMBNAIL:
            line = f"{line} {words.pop(0)}"
        done.append(_cut_end(line, font))
    rest = " ".join(words)
    return [*done, _cut_end(rest, font)] if rest else done
