"""Joins what cannot be joined to a tree into fragments, each with its own root, in one skeleton."""

from collections.abc import Iterator

import numpy as np

from .bridging import Links, join_apart
from .skeleton import NO_PARENT, Skeleton


def join_groups(skeleton: Skeleton, links: Links, group: np.ndarray, wanted: np.ndarray) -> Iterator[Skeleton]:
    """Joins each of some groups of components into a skeleton of its own, rooted at its thickest node.

    Args:
        skeleton: all components.
        links: links between the components, without a loop.
        group: (number of components,) int, the group of each component.
        wanted: (g,) int, the groups to join, in this order. The work grows with the size of these groups, not with
            their number.
    """
    rows_of = _by_group(group[skeleton.component])
    links_of = _by_group(group[skeleton.component[links.nodes[:, 0]]])
    new_row = np.full(len(skeleton) + 1, NO_PARENT)  # the last row stands for "no parent"
    for one in wanted.tolist():
        rows = rows_of[one]
        new_row[rows] = np.arange(len(rows))
        component = np.unique(skeleton.component[rows], return_inverse=True)[1].astype(np.int64)
        part = Skeleton(
            skeleton.points[rows], skeleton.reach[rows], new_row[skeleton.parents[rows]], component, skeleton.spacing
        )
        own = links.subset(links_of.get(one, np.empty(0, np.int64)))
        own = Links(new_row[own.nodes], own.gap, own.cost)
        yield join_apart(part, own, [int(np.argmax(part.reach))])[0]


def side_by_side(skeletons: list[Skeleton]) -> Skeleton:
    """Puts several skeletons into one, without joining them: the rows of each follow those of the one before."""
    first = np.cumsum([0, *map(len, skeletons)])
    parents = [
        np.where(one.parents < 0, NO_PARENT, one.parents + start) for one, start in zip(skeletons, first, strict=False)
    ]
    return Skeleton(
        np.concatenate([one.points for one in skeletons]),
        np.concatenate([one.reach for one in skeletons]),
        np.concatenate(parents),
        np.repeat(np.arange(len(skeletons)), np.diff(first)),
        skeletons[0].spacing,
    )


def _by_group(group: np.ndarray) -> dict[int, np.ndarray]:
    """Lists the rows of each group, ascending."""
    order = np.argsort(group, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    return {int(group[rows[0]]): rows for rows in parts if len(rows)}
