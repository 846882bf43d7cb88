"""The folder that a person's corrections lie in.

FOLDER/sessions/      trees under correction (`history`), and the scores they are drawn along
FOLDER/corrected/     the training set: NAME.tif and NAME.swc of every stack with a neuron that is done
FOLDER/model_3_4f2a/  a model that was taught 3 stacks; other stacks, or corrected ones, make another
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...files import rename
from ...morphology import read_swc
from ...morphology.swc import Tree
from ...volumes import Volume, VolumeError, open_volume, write_volume
from .editing import numbered
from .history import Session, unfinished
from .history import Stack as Place
from .layers import Box, Stack
from .segmenting import moved


# Larger scores are not kept beside a session: they take more than 1 GB, and what is drawn follows the image then.
MOST_KEPT_VOXELS = 1 << 28


class FolderError(ValueError):
    """The folder cannot take what was corrected; the message is one sentence."""


@dataclass(frozen=True)
class Folder:
    """A folder of corrections; it is made where it is not there."""

    path: Path

    @property
    def sessions(self) -> Path:
        return self.path / "sessions"

    @property
    def corrected(self) -> Path:
        return self.path / "corrected"

    def model_for(self, base_model: str) -> Path:
        """Where a model goes that is taught the stacks as they are now; the same again, for a teaching to go on."""
        digest = hashlib.sha256(base_model.encode())
        stacks = self.stacks()
        for name in stacks:
            image = (self.corrected / f"{name}.tif").stat()
            digest.update(f"{name} {image.st_size} {image.st_mtime_ns}".encode())
            digest.update((self.corrected / f"{name}.swc").read_bytes())
        return self.path / f"model_{len(stacks)}_{digest.hexdigest()[:4]}"

    def taught(self) -> Path | None:
        """The model that was taught last; None before."""
        done = [path.parent for path in self.path.glob("model_*/config.json")]
        return max(done, key=lambda folder: (folder / "config.json").stat().st_mtime, default=None)

    def unfinished(self) -> list[str]:
        """The names of sessions to go on with, the latest first."""
        return unfinished(self.sessions)

    def stacks(self) -> list[str]:
        """The names of the corrected stacks."""
        return sorted(path.stem for path in self.corrected.glob("*.swc") if path.with_suffix(".tif").is_file())

    def begin(
        self, tree: Tree, stack: Stack, box: Box, *, image: str, neuron: int = 1, scores: np.ndarray | None = None
    ) -> Session:
        """Begins to correct a tree of a box of an image; corrections of the same neuron that are done give way.

        Args:
            tree: in voxels of the image.
            stack, box: the image and the part that was segmented.
            image: its file, or the layer's name.
            neuron: the number of the neuron in the box, from 1.
            scores: of the box, which are kept beside the session.

        Raises:
            SessionError, SWCError: the tree is not sound, or there are unfinished corrections of this neuron.
            OSError: the folder cannot be written.
        """
        depth, height, width = (one.stop - one.start for one in box)
        place = Place(image, (box[0].start, box[1].start, box[2].start), (depth, height, width), stack.voxel_size)
        session = Session.begin(tree, self.sessions, f"{stack_name(stack, box)}.{neuron}", place)
        if scores is not None and scores.size <= MOST_KEPT_VOXELS:
            write_volume(self._scores_path(session.name), Volume(np.asarray(scores), stack.voxel_size))
        return session

    def discard(self, name: str) -> None:
        """Takes a session off the list of unfinished ones; its edits stay in a file beside it."""
        path = self.sessions / f"{name}.edits.jsonl"
        rename(path, path.with_name(f"{path.name}.discarded"))

    def go_on(self, name: str) -> tuple[Session, np.ndarray | None]:
        """Goes on with a session: it, and the scores that were kept with it, if any.

        Raises:
            SessionError: another program has it, or its files are damaged.
        """
        session = Session.go_on(self.sessions, name)
        path = self._scores_path(name)
        try:
            if path.is_file():
                with open_volume(path) as reader:
                    if session.stack.shape == reader.shape:
                        return session, reader.read(0, reader.shape[0])
        except (VolumeError, OSError):
            pass  # they were being written when it was killed; the image will do
        return session, None

    def done(self, session: Session, stack: Stack) -> Path:
        """Adds a neuron that is done to the training set, together with the others of its stack that are.

        Returns:
            The tree's file in the training set.

        Raises:
            FolderError: another image of this name is there, or nothing of the tree lies in the box.
            VolumeError, SWCError, OSError: something cannot be written.
        """
        box = box_of_session(session, stack)
        name = session.name.rsplit(".", 1)[0]
        self.corrected.mkdir(parents=True, exist_ok=True)
        image = self.corrected / f"{name}.tif"
        volume = stack.volume(box)
        if image.is_file():
            _check_same(image, volume)
        else:
            write_volume(image, volume)
        tree = inside(moved(session.tree, box, back=True), volume.shape)
        numbered(tree.parents_first()).write(self._done_path(session.name))
        one = re.compile(rf"{re.escape(name)}\.\d+\.swc")
        trees = [read_swc(path) for path in sorted(self.sessions.glob("*.swc")) if one.fullmatch(path.name)]
        written = together(trees).write(image.with_suffix(".swc"))
        session.done()
        return written

    def _done_path(self, name: str) -> Path:
        return self.sessions / f"{name}.swc"

    def _scores_path(self, name: str) -> Path:
        return self.sessions / f"{name}.scores.tif"


def stack_name(stack: Stack, box: Box) -> str:
    """A name for the files of a box of an image: the layer's, and where the box begins if it is not the whole."""
    name = plain_name(stack.name)
    if box == stack.whole:
        return name
    z, y, x = ((one.start, one.stop) for one in box)
    return f"{name}_z{z[0]}-{z[1]}_y{y[0]}-{y[1]}_x{x[0]}-{x[1]}"


def plain_name(name: str) -> str:
    """A layer's name without what file names should not have."""
    return re.sub(r"[^\w-]+", "_", name).strip("_") or "image"


def box_of_session(session: Session, stack: Stack) -> Box:
    """The box of an image that a session's tree is of.

    Raises:
        FolderError: it does not lie in this image.
    """
    shape = session.stack.shape or stack.shape
    z, y, x = (slice(first, first + side) for first, side in zip(session.stack.offset, shape, strict=True))
    if any(one.stop > side for one, side in zip((z, y, x), stack.shape, strict=True)):
        raise FolderError(
            f"{session.name}: was begun on a larger image than {stack.name}, {' x '.join(map(str, shape))} voxels "
            f"from {session.stack.offset}; choose the image that it was begun on ({session.stack.image})"
        )
    return z, y, x


def inside(tree: Tree, shape: tuple[int, int, int]) -> Tree:
    """What of a tree lies in a volume of a shape (z, y, x); where it comes in again it has a root of its own.

    Raises:
        FolderError: nothing does.
    """
    is_in = np.all((tree.xyz >= -0.5) & (tree.xyz <= np.array(shape[::-1]) - 0.5), axis=1)
    if is_in.all():
        return tree
    if not is_in.any():
        raise FolderError("nothing of the tree lies in the box that was corrected")
    parent = tree.parent_index
    parents = np.where((parent >= 0) & is_in[parent], tree.parents, -1)
    values: dict[str, Any] = {name: getattr(tree, name)[is_in] for name in ("ids", "types", "xyz", "radii")}
    return Tree(parents=parents[is_in], **values)


def together(trees: list[Tree]) -> Tree:
    """Several trees as one file's worth: a forest with ids from 1 on."""
    starts = np.cumsum([0, *(len(tree) for tree in trees)])
    parents = [
        np.where(tree.parent_index < 0, -1, tree.parent_index + start + 1)
        for tree, start in zip(trees, starts[:-1], strict=True)
    ]
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(tree, name) for tree in trees]) for name in ("types", "xyz", "radii")
    }
    return Tree(ids=np.arange(1, starts[-1] + 1), parents=np.concatenate(parents), **joined)


def _check_same(path: Path, volume: Volume) -> None:
    with open_volume(path) as reader:
        middle = volume.shape[0] // 2
        same = reader.shape == volume.shape and np.array_equal(
            reader.read(middle, middle + 1)[0], volume.array[middle]
        )
    if not same:
        raise FolderError(f"{path}: holds another image of this name; rename the image's layer and trace it again")
