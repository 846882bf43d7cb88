"""Corrects the tree of a layer in a viewer, with or without a window: what the keys of the widget do.

A click chooses: the branch of the node that is nearest, and up to two places, the ends of what is cut, joined or
drawn. Everything is said in a sentence (`status`), and what cannot be done raises an error that is one.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ...morphology.swc import Tree
from .drawing import draw_between
from .editing import Cut, Delete, Edit, EditError, Join, Keep, Reroot, branch_rows, hanging_on
from .history import Session
from .layers import Box, Stack, show
from .walking import Walk, nearest_node, nearest_to_ray


# A click means a node within so many pixels of the screen, or voxels where that is more.
PIXELS, VOXELS = 10.0, 2.0
# The side of the window, in voxels, that a branch is shown in where it is shorter.
SHOWN = 100.0
CANVAS = 600.0  # pixels: about the side of napari's canvas, which plugins are not told
# So many slices on either side of the one that is shown, their lines are shown as well; of the image it is one.
THICKNESS = 3
CURRENT, CHOSEN = "branch to look at", "chosen places"


class Correction:
    """A tree that is corrected in a viewer.

    Args:
        viewer: napari's, or a ViewerModel.
        layer: the tree's, in voxels of the image, with the image's scale and place.
        stack: what scores (or, where there are none, intensities) are read from.
        box: the part of the image that `stack` holds, from which on its voxels count.
        session: holds the tree and its edits.

    Attributes:
        status: a sentence on where one is.
    """

    def __init__(self, viewer: Any, layer: Any, stack: Stack, box: Box, session: Session):
        self.viewer, self.layer, self.stack, self.session = viewer, layer, stack, session
        self.offset = np.array([one.start for one in box[::-1]], float)
        voxel_size = session.stack.voxel_size
        self.voxel_size = voxel_size
        self.spacing = np.ones(3) if voxel_size is None else np.array(voxel_size[::-1]) / min(voxel_size)
        self.places: list[np.ndarray] = []
        self.changed: Callable[[], None] = lambda: None
        self._walk = Walk(session.tree)
        self._place: int | None = None  # of the branch that is looked at, in the order of the walk
        self._walked = -1  # where the walk is, whatever was clicked meanwhile
        self._row: int | None = None  # the node that was clicked last
        self._place_node: list[int | None] = []
        self.status = f"{len(self._walk)} branches, {self._walk.num_doubtful} of them doubtful"
        show(layer, session.tree, self._walk)
        self._helpers()

    @property
    def tree(self) -> Tree:
        return self.session.tree

    @property
    def current(self) -> int | None:
        """The id of the last node of the branch that is looked at."""
        return None if self._place is None else self._walk[self._place].end

    def next(self) -> None:
        """Goes to the next branch, from the least sure one on."""
        self._go(self._walked + 1)

    def previous(self) -> None:
        """Goes back to the branch before, which is less sure."""
        self._go(self._walked - 1 if self._walked >= 0 else len(self._walk) - 1)

    def delete(self) -> None:
        """Deletes the branch that is looked at, with all that hangs on it; the next one is looked at then."""
        self._do(Delete(self._branch()), "deleted", stay=True)

    def keep(self) -> None:
        """Notes that the branch that is looked at is right, and looks at the next one."""
        self._do(Keep(self._branch()), "kept", stay=True)

    def cut(self) -> None:
        """Cuts the tree at the node that was clicked last."""
        self._do(Cut(self._node("at which to cut")), "cut")

    def reroot(self) -> None:
        """Makes the node that was clicked last the root of its piece."""
        self._do(Reroot(self._node("that shall be the root")), "moved the root")

    def join(self) -> None:
        """Joins the pieces of the two nodes that were clicked, by a straight line."""
        nodes = [node for node in self._place_node if node is not None]
        if len(nodes) < 2:
            raise EditError("click two nodes of two pieces, which are joined then")
        self._do(Join(nodes[1], nodes[0]), "joined")

    def draw(self) -> None:
        """Draws a branch between the two places that were clicked; it follows the scores."""
        if len(self.places) < 2:
            raise EditError("click where the missing branch begins and where it ends, which is drawn then")
        start, end = (place - self.offset for place in self.places)
        local = self.tree.xyz - self.offset
        here, shape = replace(self.tree, xyz=local), self.stack.shape
        edit = draw_between(here, start, end, self.stack.read, shape, voxel_size=self.voxel_size)
        points = np.array(edit.points).reshape(-1, 3) + self.offset
        self._do(replace(edit, points=tuple(map(tuple, points.tolist()))), "drawn")
        if len(points):
            self._place = self._walk.place_of_row(int(np.flatnonzero((self.tree.xyz == points[-1]).all(axis=1))[-1]))
            self._show_branch()
            self._tell("drawn")

    def undo(self) -> None:
        """Takes the last edit back."""
        self.session.undo()
        self._edited("taken back")

    def redo(self) -> None:
        """Makes the edit again that was taken back."""
        self.session.redo()
        self._edited("made again")

    def forget(self) -> None:
        """Forgets the places that were clicked."""
        self.places, self._place_node, self._row = [], [], None
        self._show_places()
        self._tell("no place is chosen")

    def click(self, position: np.ndarray, view_direction: np.ndarray | None = None) -> None:
        """Chooses what a click means.

        Args:
            position: in world coordinates.
            view_direction: of a viewer in 3D, in world coordinates; None in 2D.
        """
        point = np.array(self.layer.world_to_data(tuple(position)))[-3:][::-1]
        reach = max(VOXELS, PIXELS / max(self._pixels_per_voxel(), 1e-6))
        if view_direction is None:
            row = nearest_node(self.tree, point, self.spacing, reach)
        else:
            beyond = np.array(self.layer.world_to_data(tuple(np.array(position) + np.array(view_direction))))
            direction = beyond[-3:][::-1] - point
            row = nearest_to_ray(self.tree, point, direction, self.spacing, reach)
            if row is None:
                point = self._brightest(point, direction)
        self.choose(point if row is None else self.tree.xyz[row], row)

    def choose(self, point: np.ndarray, row: int | None) -> None:
        """Adds a place, x y z in voxels, and the branch of the node at a row, if there is one; a third begins anew."""
        if len(self.places) == 2:
            self.places, self._place_node = [], []
        self.places.append(np.asarray(point, float))
        self._place_node.append(None if row is None else int(self.tree.ids[row]))
        self._row = row
        self._show_places()
        if row is None:
            self._tell(f"place {len(self.places)} chosen, where no branch is")
            return
        place = self._walk.place_of_row(row)
        if place is not None:
            self._place = place
            self._show_branch()
        self._tell(f"node {self.tree.ids[row]} chosen")

    def close(self) -> None:
        """Takes the helping layers away, and lets others have the session."""
        for name in (CURRENT, CHOSEN):
            if name in self.viewer.layers:
                self.viewer.layers.remove(name)
        self.viewer.dims.margin_left, self.viewer.dims.margin_right = self._margins
        self.session.close()

    def _do(self, edit: Edit, word: str, stay: bool = False) -> None:
        before = len(self.tree)
        self.session.do(edit)
        new = len(self.tree) - before
        self._edited(f"{word}{f' ({new:+d} nodes)' if new else ''}", stay=stay)

    def _edited(self, word: str, stay: bool = False) -> None:
        end, was_walked = self.current, self._place is not None and self._place == self._walked
        self._walk = Walk(self.tree)
        show(self.layer, self.tree, self._walk)
        self.places, self._place_node, self._row = [], [], None
        self._show_places()
        self._walked = min(self._walked, len(self._walk) - 1)
        if stay and was_walked:  # what comes next has come to this place
            self._place = self._walked
            self._show_branch(move=True)
        else:
            self._place = None if end is None else self._walk.place_of(end)
            self._show_branch()
        self._tell(word)

    def _go(self, place: int) -> None:
        if not 0 <= place < len(self._walk):
            raise EditError("this was the last branch" if place > 0 else "this was the first branch")
        self._place = self._walked = place
        self._show_branch(move=True)
        self._tell("")

    def _branch(self) -> int:
        if self._place is None:
            raise EditError("no branch is chosen: go to the next one, or click one")
        return self._walk[self._place].end

    def _node(self, what: str) -> int:
        if self._row is None:
            raise EditError(f"click the node {what}")
        return int(self.tree.ids[self._row])

    def _tell(self, word: str) -> None:
        words = [word] if word else []
        if self._place is not None:
            branch = self._walk[self._place]
            sure = "not known" if np.isnan(branch.confidence) else f"{branch.confidence:.2f}"
            words.append(
                f"branch {self._place + 1} of {len(self._walk)}, confidence {sure}, {branch.length:.0f} voxels long"
            )
            below = self._hanging_on(branch.end)
            words += [f"{below:.0f} voxels hang on it"] if below else []
        words.append(f"{self._walk.num_doubtful} doubtful, {self.session.num_edits} edits")
        self.status = "; ".join(words)
        self.changed()

    def _hanging_on(self, end: int) -> float:
        """The length of what would go with a branch."""
        parent = self.tree.parent_index
        rows = hanging_on(self.tree, int(np.flatnonzero(self.tree.ids == end)[0]))
        return float(np.linalg.norm(self.tree.xyz[rows] - self.tree.xyz[parent[rows]], axis=1).sum())

    def _helpers(self) -> None:
        placed = {name: getattr(self.layer, name) for name in ("scale", "translate", "units")}
        width = 2 * float(np.max(self.layer.edge_width))
        active = self.layer
        for name in (CURRENT, CHOSEN):
            if name in self.viewer.layers:
                self.viewer.layers.remove(name)
        self._current = self.viewer.add_vectors(
            np.zeros((0, 2, 3)),
            ndim=3,
            name=CURRENT,
            edge_color="cyan",
            edge_width=width,
            vector_style="line",
            **placed,
        )
        self._current.opacity = 1.0
        self._chosen = self.viewer.add_points(
            np.zeros((0, 3)), ndim=3, name=CHOSEN, face_color="white", border_color="black", size=3, **placed
        )
        self.viewer.layers.selection.active = active
        dims = self.viewer.dims
        self._margins = dims.margin_left, dims.margin_right
        thick = [0.0] * dims.ndim
        thick[-3:] = (THICKNESS * np.abs(self.layer.scale[-3:])).tolist()
        dims.margin_left, dims.margin_right = tuple(thick), tuple(thick)

    def _show_branch(self, move: bool = False) -> None:
        if self._place is None:
            self._current.data = np.zeros((0, 2, 3))
            return
        rows = branch_rows(self.tree, int(self._walk[self._place].rows[0]))
        above = np.where(self.tree.parent_index[rows] < 0, rows, self.tree.parent_index[rows])
        points, ends = self.tree.xyz[rows][:, ::-1], self.tree.xyz[above][:, ::-1]
        self._current.data = np.stack([points, ends - points], axis=1)
        if move:
            self._look_at(points)

    def _look_at(self, points: np.ndarray) -> None:
        """Moves the viewer to points (n, 3) z y x, such that they are seen, and not from too far away."""
        middle = points[len(points) // 2] if self.viewer.dims.ndisplay == 2 else points.mean(axis=0)
        world = self.layer.data_to_world(tuple(middle))
        dims = self.viewer.dims
        for axis, value in zip(range(dims.ndim - 3, dims.ndim), world[-3:], strict=True):
            dims.set_point(axis, value)
        self.viewer.scene.camera.center = tuple(world[-3:])
        scale = float(min(np.abs(self.layer.scale[-3:])))
        side = max(SHOWN, 1.5 * float(np.ptp(points * (self.spacing[::-1]), axis=0).max()))
        self.viewer.scene.camera.zoom = CANVAS / (side * scale)

    def _show_places(self) -> None:
        self._chosen.data = np.array(self.places).reshape(-1, 3)[:, ::-1]

    def _pixels_per_voxel(self) -> float:
        return float(self.viewer.scene.camera.zoom) * float(min(np.abs(self.layer.scale[-3:])))

    def _brightest(self, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """The place with the highest score on a ray, x y z in voxels."""
        if not isinstance(self.stack.data, np.ndarray):
            raise EditError(
                "no branch is there; in an image on disk, turn to 2D to choose a place beside the branches"
            )
        shape = np.array(self.stack.shape[::-1], float)
        steps = np.arange(-2 * shape.max(), 2 * shape.max(), 0.5)[:, None]
        along = direction / np.linalg.norm(direction)
        # From the middle of the volume, as a click may be far in front of it.
        middle = self.offset + shape / 2
        nearest = origin + along * ((middle - origin) @ along)
        points = np.round(nearest + steps * along - self.offset).astype(int)
        points = points[((points >= 0) & (points < shape)).all(axis=1)]
        if not len(points):
            raise EditError("the click lies beside the image")
        values = self.stack.data[(..., *points[:, ::-1].T)].reshape(-1)
        return points[values.argmax()] + self.offset
