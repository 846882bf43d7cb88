"""How many edits make the default's trace of a real neuron right: python benchmarks/correction.py --output FILE.md

A scripted person who knows the gold tree corrects the embedded default's trace with the operations of the napari
plugin alone: `Delete` a branch, and `draw_between` two places that are clicked, along the scores. Each edit is the one
that raises wide F1 (`tree_distance`) the most, of the few that promise most. What a person needs beside that, to look
at branches and decide, is not counted.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from real_neurons_stacks import Stack, find_stacks
from scipy.spatial import cKDTree

from neuron_vit3d import Tree, segment, trace, tree_distance
from neuron_vit3d.apps.napari.drawing import draw_between
from neuron_vit3d.apps.napari.editing import Delete, Draw, Edit, EditError, apply, hanging_on
from neuron_vit3d.apps.napari.history import Session


GOALS = (0.9, 0.95, 0.98)
TOLERANCE = 2.0  # voxels, or the gold radius where that is larger: wide F1's
COARSE = 4.0  # voxels: what is wrong beyond is more than a line beside the gold one
SNAP = 3.0  # voxels, the plugin's
TRIED, MOST_TRIED = 4, 40  # edits that are made on trial at once, and in all, of each step
PARTS = 6  # missed parts of the gold tree that are looked at in each step, the largest first
PIECE = 12.0  # voxels: of a way that the scores do not follow, so long a piece is drawn
STACKS = ["rivulet_test", "tuff_intra_in40_tail", "tuff_sensory_primary_i3_3"]


@dataclass(frozen=True)
class Dense:
    """A tree cut into steps of about a voxel: points (n, 3), what each stands for, and how they hang together."""

    points: np.ndarray
    lengths: np.ndarray  # voxels
    radii: np.ndarray
    rows: np.ndarray  # of the node at the child's end of the edge that a point lies on
    above: np.ndarray  # the point before, towards the root; -1: none

    @classmethod
    def of(cls, tree: Tree) -> "Dense":
        parent = tree.parent_index
        points, lengths, radii, rows, above = [], [], [], [], []
        last = np.full(len(tree), -1)
        order = np.argsort([_depth(parent, row) for row in range(len(tree))], kind="stable")
        for row in order:
            up = parent[row]
            if up < 0:
                continue
            begin, along = tree.xyz[up], tree.xyz[row] - tree.xyz[up]
            length = float(np.linalg.norm(along))
            steps = max(1, round(length))
            for step in range(1, steps + 1):
                share = step / steps
                above.append(last[up] if step == 1 else len(points) - 1)
                points.append(begin + share * along)
                lengths.append(length / steps)
                radii.append(tree.radii[up] + share * (tree.radii[row] - tree.radii[up]))
                rows.append(row)
            last[row] = len(points) - 1
        return cls(np.array(points), np.array(lengths), np.array(radii), np.array(rows), np.array(above))


def _depth(parent: np.ndarray, row: int) -> int:
    depth = 0
    while parent[row] >= 0:
        row, depth = parent[row], depth + 1
    return depth


class Person:
    """Who knows the gold tree, and proposes edits.

    Args:
        gold: the tree drawn by hand.
        scores: (z, y, x), along which branches are drawn.
        voxel_size: z y x, or None.
    """

    def __init__(self, gold: Tree, scores: np.ndarray, voxel_size: tuple[float, float, float] | None):
        self.gold, self.scores, self.voxel_size = gold, scores, voxel_size
        self.dense = Dense.of(gold)
        self.reach = np.maximum(TOLERANCE, self.dense.radii)
        self.refused: set[tuple] = set()

    def f1(self, tree: Tree) -> float:
        return tree_distance(tree, self.gold)["f1_wide"]

    def proposals(self, tree: Tree) -> list[Edit]:
        """The edits that promise most, first those that promise more."""
        found = Dense.of(tree)
        away, nearest = cKDTree(self.dense.points).query(found.points)
        is_right = away <= self.reach[nearest]
        gap, owner = cKDTree(found.points).query(self.dense.points)
        is_found = gap <= self.reach
        right, length = found.lengths[is_right].sum(), found.lengths.sum()
        covered, whole = self.dense.lengths[is_found].sum(), self.dense.lengths.sum()

        def promised(right: float, length: float, covered: float) -> float:
            precision, recall = right / max(length, 1e-9), covered / whole
            return 2 * precision * recall / max(precision + recall, 1e-9)

        promising: list[tuple[float, Edit]] = []
        right_of = np.bincount(found.rows, found.lengths * is_right, len(tree))
        length_of = np.bincount(found.rows, found.lengths, len(tree))
        covers = np.bincount(found.rows[owner[is_found]], self.dense.lengths[is_found], len(tree))
        for branch in tree.branches:
            row = int(np.flatnonzero(tree.ids == branch.end)[0])
            first = row
            while tree.ids[tree.parent_index[first]] != branch.start and tree.parent_index[first] >= 0:
                first = int(tree.parent_index[first])
            gone = np.append(hanging_on(tree, first), first)
            left = (right - right_of[gone].sum(), length - length_of[gone].sum(), covered - covers[gone].sum())
            promising.append((promised(*left), Delete(int(branch.end))))
        for start, end, added in self._missed(tree, is_found, gap):
            key = (*start.round().tolist(), *end.round().tolist())
            if key in self.refused:
                continue
            try:
                edit = draw_between(
                    tree, start, end, self.scores.__getitem__, self.scores.shape, voxel_size=self.voxel_size, snap=SNAP
                )
                apply(tree, edit)
            except EditError:
                self.refused.add(key)
                continue
            promising.append((promised(right + added, length + added, covered + added), edit))
        promising.sort(key=lambda one: -one[0])
        return [edit for _, edit in promising[:MOST_TRIED]]

    def best(self, tree: Tree, before: float) -> tuple[float, Edit | None]:
        """The best of the first edits that raise wide F1 above what it was, and what it is then; None: none does."""
        proposals = self.proposals(tree)
        for first in range(0, len(proposals), TRIED):
            trials = [(self.f1(apply(tree, edit)), edit) for edit in proposals[first : first + TRIED]]
            best, edit = max(trials, key=lambda one: one[0])
            if best > before + 1e-6:
                return best, edit
        return before, None

    def _missed(
        self, tree: Tree, is_found: np.ndarray, gap: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
        """Of the largest missed parts of the gold tree: where a person clicks, and how long the way is."""
        dense, missed = self.dense, ~is_found
        count = len(dense.points)
        beside: list[list[int]] = [[] for _ in range(count)]
        for point in range(count):
            if dense.above[point] >= 0:
                beside[point].append(int(dense.above[point]))
                beside[int(dense.above[point])].append(point)
        todo, parts = set(np.flatnonzero(missed).tolist()), []
        while todo:
            part, stack = [], [todo.pop()]
            while stack:
                point = stack.pop()
                part.append(point)
                new = [other for other in beside[point] if other in todo]
                todo.difference_update(new)
                stack += new
            parts.append(part)
        parts.sort(key=lambda part: -dense.lengths[part].sum())
        for part in parts[:PARTS]:
            inside = set(part)
            doors = [point for point in part if any(other not in inside for other in beside[point])] or part[:1]
            begin = min(doors, key=lambda point: gap[point])
            way = _farthest(begin, inside, beside, dense.lengths)
            # An end that would hang on the piece that the path begins at would make a loop.
            while len(way) > 1 and gap[way[-1]] <= SNAP:
                way.pop()
            near = tree.xyz[int(((tree.xyz - dense.points[begin]) ** 2).sum(axis=1).argmin())]
            start = near if np.linalg.norm(near - dense.points[begin]) < 5 * TOLERANCE else dense.points[begin]
            gone = np.cumsum(dense.lengths[way])
            for length in (gone[-1], gone[-1] / 2, PIECE):
                last = min(int(np.searchsorted(gone, length)), len(way) - 1)
                if gap[way[last]] > SNAP and length <= gone[-1]:
                    yield start, dense.points[way[last]], float(gone[last])


def _farthest(begin: int, inside: set[int], beside: list[list[int]], lengths: np.ndarray) -> list[int]:
    """The longest way from a point within a part of a tree."""
    before, far = {begin: -1}, {begin: 0.0}
    stack = [begin]
    while stack:
        point = stack.pop()
        for other in beside[point]:
            if other in inside and other not in before:
                before[other], far[other] = point, far[point] + lengths[other]
                stack.append(other)
    way = [max(far, key=lambda point: far[point])]
    while before[way[-1]] >= 0:
        way.append(before[way[-1]])
    return way[::-1]


def corrected(stack: Stack, most: int) -> dict:
    """Corrects the default's trace of a stack; the course of wide F1, and what was done."""
    volume, gold = stack.load()
    began = time.perf_counter()
    scores = segment(volume)
    tree = trace(scores)
    seconds = time.perf_counter() - began
    person = Person(gold, scores.array, volume.voxel_size)
    with tempfile.TemporaryDirectory() as folder:
        session = Session.begin(tree, Path(folder), stack.name)
        course, kinds = [person.f1(session.tree)], []
        while course[-1] < GOALS[-1] and len(kinds) < most:
            best, edit = person.best(session.tree, course[-1])
            if edit is None:
                break
            session.do(edit)
            course.append(best)
            kinds.append("drawn" if isinstance(edit, Draw) else "deleted")
            print(f"{stack.name}: edit {len(kinds)}, {kinds[-1]}, wide F1 {best:.4f}", flush=True)
        coarse = tree_distance(session.tree, gold, threshold=COARSE)["f1"]
        session.close()
        again = Session.go_on(Path(folder), stack.name)
        assert again.num_edits == len(kinds) and np.array_equal(again.tree.xyz, session.tree.xyz)
        again.close()
    return {
        "stack": stack,
        "shape": volume.shape,
        "seconds": seconds,
        "course": course,
        "kinds": kinds,
        "coarse": coarse,
    }


def report(results: list[dict]) -> str:
    goals = " | ".join(f"edits to {goal:g}" for goal in GOALS)
    lines = [
        "# Edits that make a trace right",
        "",
        "`python benchmarks/correction.py`. A scripted person who knows the gold tree corrects the embedded default's",
        "trace with the operations of the napari plugin: a branch is deleted with what hangs on it, or a path is",
        "drawn along the scores between two places. Each edit is the one, of those tried, that raises wide F1 most.",
        "",
        f"| stack | voxels z y x | wide F1 of the default | {goals} | deleted, drawn | at the end | "
        f"F1 within {COARSE:g} then |",
        "|---|---|---|" + "---|" * len(GOALS) + "---|---|---|",
    ]
    for one in results:
        course = np.array(one["course"])
        reached = [int(np.argmax(course >= goal)) if (course >= goal).any() else "-" for goal in GOALS]
        kinds = f"{one['kinds'].count('deleted')}, {one['kinds'].count('drawn')}"
        lines.append(
            f"| {one['stack'].name} | {' x '.join(map(str, one['shape']))} | {course[0]:.3f} | "
            f"{' | '.join(map(str, reached))} | {kinds} | {course[-1]:.3f} | {one['coarse']:.3f} |"
        )
    lines += ["", "Wide F1 after each edit:", ""]
    lines += [f"- {one['stack'].name}: {', '.join(f'{value:.3f}' for value in one['course'])}" for one in results]
    lines += [
        "",
        f"-: no edit of those tried raised it any more before. Where F1 within {COARSE:g} voxels is higher than that, "
        "what is left",
        "are lines beside the gold ones, which a path along the scores does not leave.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/neurons"))
    parser.add_argument("--stacks", nargs="+", default=STACKS)
    parser.add_argument("--most", type=int, default=200, help="edits of a stack")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    results = []
    for stack in find_stacks(arguments.data, 0, arguments.stacks):
        results.append(corrected(stack, arguments.most))
        arguments.output.write_text(report(results))


if __name__ == "__main__":
    main()
