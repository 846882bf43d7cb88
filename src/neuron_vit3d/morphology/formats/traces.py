"""SNT's `.traces`: XML, mostly gzipped, of paths that start on one another; read and written.

Written from SNT's own description of the format (https://imagej.net/plugins/snt/traces-file-format) and the document
type that stands at the head of its files. Points have `xd`, `yd`, `zd` in the units of `<samplespacing>`, and in older
files voxels `x`, `y`, `z` alone. A path that branches off names the path it starts on and the place; its first point
is mostly that place again, which is one node here.
"""

import gzip
import math
import warnings
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from ...files import write_whole
from ..soundness import check_tree
from ..swc import Tree
from ..units import told_voxel_size
from .format import TreeFileError, TreeFormat
from .xml_stream import parse_file


# As ImageJ spells them; what is no unit of length is a voxel.
_MICROMETRES = {
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometers", "micrometre"), 1.0),
    **dict.fromkeys(("micrometres",), 1.0),
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), 1e-3),
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), 1e3),
}
_VOXELS = ("", "pixel", "pixels", "voxel", "voxels", "unknown", "null")
# A first point this near to the place where its path branches off is that place: SNT writes both with all digits.
_SAME_PLACE = 1e-6  # of a voxel
_AXES = "xyz"


@dataclass
class _SNTPath:
    """A `<path>` as the file has it: points in voxels, x y z, and radii, NaN where there is none."""

    number: int
    type: int
    starts_on: int | None
    start: tuple[float, float, float] | None
    start_index: int | None
    fitted: int | None
    fit_of: int | None
    points: list[tuple[float, float, float]] = field(default_factory=list)
    radii: list[float] = field(default_factory=list)


class _Reader:
    """Takes the elements of a file as they come."""

    def __init__(self, path: Path):
        self.path = path
        self.paths: dict[int, _SNTPath] = {}
        self.spacing: tuple[float, float, float] | None = None
        self.voxel_size: tuple[float, float, float] | None = None
        self.open_path: _SNTPath | None = None
        self.ends_ignored = 0

    def start(self, name: str, attributes: dict[str, str], depth: int) -> None:
        """Is called with every element that begins."""
        if depth == 0 and name != "tracings":
            raise TreeFileError(f"{self.path}: expected SNT's <tracings>, got <{name[:40]}>")
        if name == "samplespacing" and depth == 1:
            self._take_spacing(attributes)
        elif name == "path" and depth == 1:
            self._begin_path(attributes)
        elif name == "point" and self.open_path is not None:
            self._take_point(attributes, self.open_path)

    def end(self, name: str) -> None:
        """Is called with every element that ends."""
        if name == "path":
            self.open_path = None

    def _take_spacing(self, attributes: dict[str, str]) -> None:
        sides = [self._number(attributes, axis, "samplespacing") for axis in _AXES]
        unit = attributes.get("units", "").strip()
        if not all(side > 0 for side in sides):
            raise TreeFileError(f"{self.path}: expected a sample spacing of positive numbers, got {sides}")
        self.spacing = (sides[0], sides[1], sides[2])
        scale = _MICROMETRES.get(unit.lower())
        if scale is None and unit.lower() not in _VOXELS:
            raise TreeFileError(f"{self.path}: expected a sample spacing in um, nm, mm or pixels, got {unit[:40]!r}")
        self.voxel_size = None if scale is None else (sides[2] * scale, sides[1] * scale, sides[0] * scale)

    def _begin_path(self, attributes: dict[str, str]) -> None:
        number = self._whole(attributes, "id", "path")
        if number is None:
            raise TreeFileError(f"{self.path}: expected a path with an id, got one without")
        if number in self.paths:
            raise TreeFileError(f"{self.path}: path {number} is there twice")
        if self.spacing is None:
            raise TreeFileError(f"{self.path}: expected <samplespacing> before the first path")
        place = f"path {number}"
        starts = [attributes.get(f"starts{axis}", attributes.get(f"start{axis}")) for axis in _AXES]
        start = None
        if all(starts):
            world = [self._number({"start": text or ""}, "start", place) for text in starts]
            start = tuple(value / side for value, side in zip(world, self.spacing, strict=True))
        self.ends_ignored += "endson" in attributes
        fitted = self._whole(attributes, "fitted", place)
        self.open_path = self.paths[number] = _SNTPath(
            number,
            self._whole(attributes, "swctype", place) or 0,
            self._whole(attributes, "startson", place),
            start,  # type: ignore[arg-type]  # three numbers, which zip does not say
            self._whole(attributes, "startsindex", place),
            fitted if attributes.get("usefitted") == "true" else None,
            self._whole(attributes, "fittedversionof", place),
        )

    def _take_point(self, attributes: dict[str, str], path: _SNTPath) -> None:
        place = f"path {path.number}, point {len(path.points)}"
        assert self.spacing is not None
        if "xd" in attributes:
            world = [self._number(attributes, f"{axis}d", place) for axis in _AXES]
            x, y, z = (value / side for value, side in zip(world, self.spacing, strict=True))
        else:
            x, y, z = (self._number(attributes, axis, place) for axis in _AXES)
        path.points.append((x, y, z))
        radius = self._number(attributes, "r", place) if "r" in attributes else math.nan
        path.radii.append(radius / min(self.spacing) if radius > 0 else math.nan)

    def _number(self, attributes: dict[str, str], name: str, place: str) -> float:
        text = attributes.get(name, "")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) and not (name == "r" and text):
            raise TreeFileError(f"{self.path}: {place}: {name} must be a finite number, got {text[:40]!r}")
        return value

    def _whole(self, attributes: dict[str, str], name: str, place: str) -> int | None:
        text = attributes.get(name)
        if text is None:
            return None
        if not text.strip().lstrip("-").isdecimal() or len(text) > 15:  # so that 64 bits hold it
            raise TreeFileError(f"{self.path}: {place}: {name} must be a whole number, got {text[:40]!r}")
        return int(text)


def _read(path: Path, *, mend_structure: bool = False) -> Tree:
    reader = _Reader(path)
    parse_file(path, reader.start, reader.end)
    paths = reader.paths
    if not any(one.points for one in paths.values()):
        raise TreeFileError(f"{path}: expected paths with points, found none")
    xyz: list[tuple[float, float, float]] = []
    radii: list[float] = []
    types: list[int] = []
    parents: list[int] = []
    rows: dict[int, range] = {}
    for one in _in_order(path, paths):
        shape = one if one.fitted is None else paths.get(one.fitted, one)
        points, of_points = shape.points or one.points, shape.radii or one.radii
        above = -1
        if one.starts_on is not None:
            above = _row_of_start(one, rows[one.starts_on], xyz, points)
            if above >= 0 and points and math.dist(points[0], xyz[above]) <= _SAME_PLACE:
                points, of_points = points[1:], of_points[1:]
        first = len(xyz)
        xyz += points
        types += [one.type] * len(points)
        parents += [above, *range(first, first + len(points) - 1)][: len(points)]
        for radius in of_points:  # one that is missing is that of the point before
            radii.append(radius if radius > 0 else radii[-1] if len(radii) > first else _at(radii, above))
        # A path of the one point that it starts from has none of its own; what starts on it starts there.
        rows[one.number] = range(first, len(xyz)) if points else range(above, above + 1)
    known = np.array(radii)
    missing = ~(known > 0)
    known[missing] = 1.0
    told = [f"{missing.sum()} of {missing.size} points have no radius, which became 1 voxel"] * bool(missing.any())
    if reader.ends_ignored:
        told.append(f"{reader.ends_ignored} path(s) end on another, a loop that no tree holds: left open")
    if told:
        warnings.warn(f"{path}: {'; '.join(told)}", stacklevel=3)
    if not np.isfinite(xyz).all():
        raise TreeFileError(f"{path}: the sample spacing makes positions infinite")
    return Tree.from_parents(np.array(xyz), known, np.array(parents), np.array(types), _comments(reader))


def _in_order(path: Path, paths: dict[int, _SNTPath]) -> list[_SNTPath]:
    """The paths that are drawn, each after the one that it starts on."""
    drawn = {number: one for number, one in paths.items() if one.fit_of is None}
    children: dict[int | None, list[_SNTPath]] = {}
    for one in drawn.values():
        if one.starts_on in paths and paths[one.starts_on].fit_of is not None:
            one.starts_on = paths[one.starts_on].fit_of
        if one.starts_on is not None and one.starts_on not in drawn:
            raise TreeFileError(f"{path}: path {one.number} starts on path {one.starts_on}, which is not there")
        children.setdefault(one.starts_on, []).append(one)
    ordered: list[_SNTPath] = []
    waiting = children.get(None, [])[::-1]
    while waiting:
        one = waiting.pop()
        ordered.append(one)
        waiting += children.get(one.number, [])[::-1]
    if len(ordered) < len(drawn):
        lost = min(drawn.keys() - {one.number for one in ordered})
        raise TreeFileError(f"{path}: path {lost} starts on a path that starts on it")
    return ordered


def _row_of_start(
    one: _SNTPath, above: range, xyz: list[tuple[float, float, float]], points: list[tuple[float, float, float]]
) -> int:
    """The row of the node that a path starts on: the one nearest to where it says, or -1 where that path is empty."""
    if not len(above) or above[0] < 0:
        return -1
    if one.start is None and one.start_index is not None and 0 <= one.start_index < len(above):
        return above[one.start_index]
    start = one.start or (points[0] if points else xyz[above[-1]])
    away = np.linalg.norm(np.array(xyz[above.start : above.stop]) - start, axis=1)
    return above[int(away.argmin())]


def _at(radii: list[float], row: int) -> float:
    return radii[row] if row >= 0 else math.nan


def _comments(reader: _Reader) -> list[str]:
    known = reader.voxel_size
    return ["read from SNT's .traces", *([told_voxel_size(known)] if known else [])]


# -- writing ----------------------------------------------------------------------------------------------------------

_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE tracings [
  <!ELEMENT tracings (samplespacing,imagesize,path*,fill*)>
  <!ELEMENT samplespacing EMPTY>
  <!ELEMENT imagesize EMPTY>
  <!ELEMENT path (point+)>
  <!ELEMENT point EMPTY>
  <!ELEMENT fill (node*)>
  <!ELEMENT node EMPTY>
  <!ATTLIST samplespacing x CDATA #REQUIRED y CDATA #REQUIRED z CDATA #REQUIRED units CDATA #REQUIRED>
  <!ATTLIST imagesize width CDATA #REQUIRED height CDATA #REQUIRED depth CDATA #REQUIRED>
  <!ATTLIST path id CDATA #REQUIRED primary CDATA #IMPLIED name CDATA #IMPLIED swctype CDATA #IMPLIED
    startson CDATA #IMPLIED startsindex CDATA #IMPLIED startsx CDATA #IMPLIED startsy CDATA #IMPLIED
    startsz CDATA #IMPLIED usefitted (true|false) #IMPLIED reallength CDATA #IMPLIED>
  <!ATTLIST point x CDATA #REQUIRED y CDATA #REQUIRED z CDATA #REQUIRED xd CDATA #IMPLIED yd CDATA #IMPLIED
    zd CDATA #IMPLIED r CDATA #IMPLIED>
]>

<tracings>
"""


def _write(path: Path, tree: Tree, voxel_size: tuple[float, float, float] | None) -> None:
    problems = check_tree(tree)
    if problems:
        raise TreeFileError(f"{path}: not written, {problems[0]}")
    write_whole(path, gzip.compress(_text(tree, voxel_size, path.stem).encode(), 6, mtime=0))


def _text(tree: Tree, voxel_size: tuple[float, float, float] | None, name: str) -> str:
    sides = np.ones(3) if voxel_size is None else np.asarray(voxel_size, float)[::-1]
    unit = "pixel" if voxel_size is None else "um"
    world, radii = (tree.xyz * sides).tolist(), (tree.radii * sides.min()).tolist()
    whole = np.rint(tree.xyz).astype(np.int64).tolist()
    width, height, depth = (np.maximum(np.rint(tree.xyz.max(axis=0)), 0).astype(np.int64) + 1).tolist()
    spacing = " ".join(f'{axis}="{side!r}"' for axis, side in zip(_AXES, sides.tolist(), strict=True))
    lines = [
        f'  <samplespacing {spacing} units="{unit}"/>',
        f'  <imagesize width="{width}" height="{height}" depth="{depth}"/>',
    ]
    points = [
        f'    <point x="{x}" y="{y}" z="{z}" xd="{xd!r}" yd="{yd!r}" zd="{zd!r}" r="{r!r}"/>'
        for (x, y, z), (xd, yd, zd), r in zip(whole, world, radii, strict=True)
    ]
    paths = _paths(tree)
    place = {row: (number, i) for number, (_, rows) in enumerate(paths) for i, row in enumerate(rows)}
    for number, (above, rows) in enumerate(paths):
        drawn = rows if above < 0 else [above, *rows]
        length = sum(math.dist(world[one], world[two]) for one, two in pairwise(drawn))
        starts = ' primary="true"'
        if above >= 0:
            on, index = place[above]
            index += paths[on][0] >= 0  # the other path repeats the place it starts from, too
            at = " ".join(f'starts{axis}="{value!r}"' for axis, value in zip(_AXES, world[above], strict=True))
            starts = f' startson="{on}" {at} startsindex="{index}"'
        lines.append(
            f'  <path id="{number}" swctype="{tree.types[rows[0]]}"{starts} usefitted="false" '
            f'name={quoteattr(f"{name} {number}")} reallength="{length!r}">'
        )
        lines += [points[row] for row in drawn]
        lines.append("  </path>")
    return _HEAD + "\n".join(lines) + "\n</tracings>\n"


def _paths(tree: Tree) -> list[tuple[int, list[int]]]:
    """Divides a tree into SNT's paths: (row that it starts on or -1, rows), each after the one that it starts on.

    A path goes on along the child with the most nodes beyond it, as long as the type stays the same.
    """
    parent = tree.parent_index.tolist()
    children: list[list[int]] = [[] for _ in parent]
    for row, above in enumerate(parent):
        if above >= 0:
            children[above].append(row)
    order, waiting = [], tree.roots.tolist()[::-1]
    while waiting:
        row = waiting.pop()
        order.append(row)
        waiting += children[row][::-1]
    size = [1] * len(parent)
    for row in reversed(order):
        if parent[row] >= 0:
            size[parent[row]] += size[row]
    types = tree.types.tolist()
    paths: list[tuple[int, list[int]]] = []
    begins = [(-1, root) for root in tree.roots.tolist()[::-1]]
    while begins:
        above, row = begins.pop()
        rows: list[int] = []
        paths.append((above, rows))
        while True:
            rows.append(row)
            same = (child for child in children[row] if types[child] == types[row])
            onward = max(same, key=size.__getitem__, default=-1)
            begins += [(row, child) for child in children[row][::-1] if child != onward]
            if onward < 0:
                break
            row = onward
    return paths


FORMAT = TreeFormat(
    row="[SNT](https://imagej.net/plugins/snt/)'s `.traces`", suffixes=(".traces",), read=_read, write=_write
)
