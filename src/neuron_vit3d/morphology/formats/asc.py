"""Neurolucida's `.asc`, read by MorphIO.

Its coordinates are micrometres, so the tree is one of voxels of 1 um. The soma, a contour, becomes one node in its
middle, and all neurites hang on it.
"""

import contextlib
import re
import warnings
from pathlib import Path

import numpy as np

from ..soundness import repair_radii
from ..swc import Tree
from ..units import told_voxel_size
from .format import TreeFileError, TreeFormat


_SOMA = 1  # SWC type
_COLOURS = re.compile("\x1b\\[[0-9;]*m")  # MorphIO writes for a terminal


def _read(path: Path, *, mend_structure: bool = False) -> Tree:
    with path.open("rb") as file:
        start = file.read(1 << 16)
    if not start.strip():
        raise TreeFileError(f"{path}: expected a Neurolucida .asc, got an empty file")
    if b"\0" in start:
        raise TreeFileError(f"{path}: expected a Neurolucida .asc, got a binary file")
    try:
        import morphio
    except ImportError:
        raise TreeFileError(
            f'{path}: Neurolucida .asc can be read where MorphIO is installed: pip install "neuron_vit3d[asc]"'
        ) from None
    morphio.set_maximum_warnings(0)  # it would print them, also those that it collects
    try:
        found = morphio.Morphology(str(path), warning_handler=morphio.WarningHandlerCollector())
    except Exception as error:  # its own, and those of the C++ library that it is made with
        said = " ".join(_COLOURS.sub("", str(error)).replace(str(path), "").split()).strip(": ")
        raise TreeFileError(f"{path}: no sound Neurolucida .asc: {said[:200]}") from None
    xyz: list[np.ndarray] = []
    radii: list[np.ndarray | list[float]] = []
    types: list[list[int]] = []
    parents: list[list[int]] = []
    contour = np.asarray(found.soma.points, float)
    comments = ["read from a Neurolucida .asc", told_voxel_size((1.0, 1.0, 1.0))]
    if len(contour):
        center = contour.mean(axis=0)
        radius = np.linalg.norm(contour - center, axis=1).mean() or np.mean(found.soma.diameters) / 2 or 1.0
        xyz.append(center[None])
        radii.append([radius])
        types.append([_SOMA])
        parents.append([-1])
        comments.append(f"the soma's contour of {len(contour)} points became one node")
    last: dict[int, int] = {}
    count = int(len(contour) > 0)
    for section in found.iter():
        points, diameters = np.asarray(section.points, float), np.asarray(section.diameters, float)
        above = 0 if len(contour) else -1
        if not section.is_root:
            above = last[section.parent.id]
            with contextlib.suppress(IndexError):  # a section repeats the last point of the one that it leaves
                if np.array_equal(points[0], np.asarray(section.parent.points[-1], float)):
                    points, diameters = points[1:], diameters[1:]
        xyz.append(points.reshape(-1, 3))
        radii.append(diameters / 2)
        types.append([int(section.type)] * len(points))
        parents.append([above, *range(count, count + len(points) - 1)][: len(points)])
        count += len(points)
        last[section.id] = count - 1 if len(points) else above
    if not all(np.isfinite(one).all() for one in (*xyz, *map(np.asarray, radii))):
        raise TreeFileError(f"{path}: NaN or infinite positions or diameters")
    if not count:
        raise TreeFileError(f"{path}: expected neurites or a soma, found none")
    places, rows = np.concatenate(xyz), np.concatenate(parents)
    columns = [np.arange(count), np.concatenate(types), places, np.concatenate(radii), rows]
    table = np.column_stack(columns).astype(float)
    done = repair_radii(table)
    if done:
        warnings.warn(f"{path}: {'; '.join(done)}", stacklevel=3)
    return Tree.from_parents(places, table[:, 5], rows, np.concatenate(types), comments)


FORMAT = TreeFormat(
    row="Neurolucida's `.asc`", suffixes=(".asc",), read=_read, extra="[MorphIO](https://github.com/BlueBrain/MorphIO)"
)
