"""A tree under correction: its edits can be undone, and are on disk as soon as they are made.

    session = Session.begin(tree, folder, "neuron_3")
    session.do(Delete(node=17))
    session.undo()
    session = Session.go_on(folder, "neuron_3")       # after the program was killed: nothing is lost

Two files keep a session: `NAME.start.npz`, the tree that it began with, and `NAME.edits.jsonl`, to which every edit
adds one line. A line is on disk before the edit shows, and one that was cut off is no edit. So nothing is written
twice, and saving takes as long for a tree of a million nodes as for a small one.
"""

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...files import append_line, locked, write_whole
from ...morphology.soundness import check_tree
from ...morphology.swc import SWCError, Tree
from .editing import Edit, EditError, apply, from_record, numbered, to_line


# Trees before earlier edits that are kept, to undo at once; others are made again from the tree that was first.
KEPT_BYTES = 1 << 29
_ARRAYS = ("ids", "types", "xyz", "radii", "parents", "scores", "bridged")
_VERSION = 1


class SessionError(ValueError):
    """A session cannot be begun or gone on with; the message is one sentence that names the file."""


@dataclass(frozen=True)
class Stack:
    """What a session's tree is of.

    Attributes:
        image: the image's file, or the name of its layer.
        offset: z y x of the first voxel of the box that was segmented, in the image.
        shape: (z, y, x) of the box; None where it is not known.
        voxel_size: z y x in micrometres, or None.
    """

    image: str = ""
    offset: tuple[int, int, int] = (0, 0, 0)
    shape: tuple[int, int, int] | None = None
    voxel_size: tuple[float, float, float] | None = None


class Session:
    """A tree under correction; made by `begin`, `go_on` or, for one that is nowhere kept, `in_memory`.

    Attributes:
        tree: as it is after the edits.
        name: of the session.
        stack: what the tree is of.
        is_done: whether a person has called the neuron done; an edit after that takes it back.
    """

    def __init__(self, tree: Tree, name: str, stack: Stack, path: Path | None, lock: BinaryIO | None):
        self.tree, self.name, self.stack, self.is_done = tree, name, stack, False
        self._path, self._lock = path, lock
        self._edits: list[Edit] = []
        self._position = 0
        self._kept = {0: tree}

    @classmethod
    def in_memory(cls, tree: Tree, name: str = "", stack: Stack | None = None) -> "Session":
        """Makes a session that leaves nothing on disk."""
        return cls(numbered(tree), name, stack or Stack(), None, None)

    @classmethod
    def begin(cls, tree: Tree, folder: Path, name: str, stack: Stack | None = None) -> "Session":
        """Begins a session; one of the same name that is done gives way.

        Raises:
            SessionError: the tree is not sound, another program has this session, or one of this name is unfinished.
            OSError: the folder cannot be written.
        """
        tree, stack = numbered(tree), stack or Stack()
        problems = check_tree(tree)
        if problems:
            raise SessionError(f"{name}: the tree cannot be corrected here, {problems[0]}")
        folder.mkdir(parents=True, exist_ok=True)
        if name in unfinished(folder):
            raise SessionError(f"{_edits_path(folder, name)}: holds unfinished corrections; go on with them, or done")
        lock = _lock(folder, name)
        content = _packed(tree)
        header = {"neuron_vit3d": _VERSION, "tree": hashlib.sha256(content).hexdigest(), **vars(stack)}
        path = _edits_path(folder, name)
        # The edits of a session that is done, of another tree, go before that tree does.
        path.unlink(missing_ok=True)
        write_whole(_start_path(folder, name), content, durable=True)
        write_whole(path, json.dumps(header) + "\n", durable=True)
        return cls(tree, name, stack, path, lock)

    @classmethod
    def go_on(cls, folder: Path, name: str) -> "Session":
        """Goes on with a session: its tree is what it was after the last edit, and all can still be undone.

        Raises:
            SessionError: another program has it, or its files are damaged.
            OSError: they cannot be read.
        """
        path, lock = _edits_path(folder, name), _lock(folder, name)
        try:
            records = _records(path)
            header = records[0] if records else {}
            if header.get("neuron_vit3d") != _VERSION:
                raise SessionError(f"{path}: expected corrections of version {_VERSION}, got {header!r:.80}")
            content = _start_path(folder, name).read_bytes()
            if hashlib.sha256(content).hexdigest() != header.get("tree"):
                raise SessionError(f"{_start_path(folder, name)}: is not the tree that {path.name} began with")
            session = cls(_unpacked(content, str(path)), name, _stack_of(header), path, lock)
            for number, record in enumerate(records[1:], start=2):
                try:
                    session._repeat(record)
                except (ValueError, TypeError, KeyError) as error:
                    raise SessionError(f"{path}:{number}: {error}") from error
            return session
        except BaseException:
            lock.close()
            raise

    @property
    def can_undo(self) -> bool:
        return self._position > 0

    @property
    def can_redo(self) -> bool:
        return self._position < len(self._edits)

    @property
    def num_edits(self) -> int:
        """How many edits led to the tree, without those that were undone."""
        return self._position

    def do(self, edit: Edit) -> Tree:
        """Makes an edit, and forgets those that were undone.

        Raises:
            EditError: it is not possible; nothing has changed.
            OSError: it could not be written; nothing has changed.
        """
        tree = apply(self.tree, edit)
        self._write(to_line(edit))
        self._did(edit, tree)
        return tree

    def undo(self) -> Tree:
        """Takes the last edit back.

        Raises:
            EditError: there is none.
            OSError: it could not be written; nothing has changed.
        """
        return self._move(-1)

    def redo(self) -> Tree:
        """Makes the edit again that was taken back last; raises as `undo`."""
        return self._move(1)

    def done(self) -> None:
        """Notes that the neuron is done; the session stays on disk, and can be gone on with.

        Raises:
            OSError: it could not be written.
        """
        self._write(json.dumps({"step": "done"}))
        self.is_done = True

    def close(self) -> None:
        """Lets other programs have the session."""
        if self._lock is not None:
            self._lock.close()

    def _move(self, step: int) -> Tree:
        position = self._position + step
        if not 0 <= position <= len(self._edits):
            raise EditError("there is nothing to undo" if step < 0 else "there is nothing to make again")
        tree = self._tree_at(position)
        self._write(json.dumps({"step": "undo" if step < 0 else "redo"}))
        self.tree, self._position, self.is_done = tree, position, False
        self._keep()
        return tree

    def _did(self, edit: Edit, tree: Tree) -> None:
        del self._edits[self._position :]
        self._kept = {position: kept for position, kept in self._kept.items() if position <= self._position}
        self._edits.append(edit)
        self._position += 1
        self.tree, self.is_done = tree, False
        self._keep()

    def _repeat(self, record: dict[str, Any]) -> None:
        """Does what a line says, which is written already."""
        path, self._path = self._path, None
        try:
            if "edit" in record:
                self.do(from_record(record))
            elif record.get("step") == "done":
                self.done()
            elif record.get("step") in ("undo", "redo"):
                self._move(-1 if record["step"] == "undo" else 1)
            else:
                raise ValueError(f"expected an edit or a step, got {record!r:.80}")
        finally:
            self._path = path

    def _tree_at(self, position: int) -> Tree:
        nearest = max(kept for kept in self._kept if kept <= position)
        tree = self._kept[nearest]
        for edit in self._edits[nearest:position]:
            tree = apply(tree, edit)
        return tree

    def _keep(self) -> None:
        """Keeps the tree, and of earlier ones so many that they fit: more of the later ones."""
        self._kept[self._position] = self.tree
        while len(self._kept) > 4 and sum(map(_bytes_of, self._kept.values())) > KEPT_BYTES:
            for position in sorted(self._kept)[1:-2:2]:
                del self._kept[position]

    def _write(self, line: str) -> None:
        if self._path is not None:
            append_line(self._path, line)


def unfinished(folder: Path) -> list[str]:
    """The names of the sessions in a folder that have edits and are not done, the latest first."""
    found = []
    for path in folder.glob("*.edits.jsonl") if folder.is_dir() else ():
        lines = path.read_bytes().split(b"\n")[1:-1]  # without the first, and one that was cut off
        if lines and lines[-1] != b'{"step": "done"}':
            found.append((path.stat().st_mtime, path.name.removesuffix(".edits.jsonl")))
    return [name for _, name in sorted(found, reverse=True)]


def _edits_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.edits.jsonl"


def _start_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.start.npz"


def _lock(folder: Path, name: str) -> BinaryIO:
    try:
        return locked(folder / f".{name}.lock")
    except BlockingIOError as error:
        raise SessionError(f"{_edits_path(folder, name)}: another window has these corrections open") from error


def _packed(tree: Tree) -> bytes:
    arrays = {name: getattr(tree, name) for name in _ARRAYS if getattr(tree, name) is not None}
    file = io.BytesIO()
    np.savez(file, comments=np.array(json.dumps(tree.comments)), **arrays)
    return file.getvalue()


def _unpacked(content: bytes, name: str) -> Tree:
    """The tree; its hash was that of its session, so it is as it was written."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            values = {key: arrays[key] for key in arrays.files}
        comments = tuple(json.loads(str(values.pop("comments"))))
        tree = Tree(comments=comments, **values)
    except (OSError, ValueError, KeyError, TypeError, SWCError, zipfile.BadZipFile) as error:
        raise SessionError(f"{name}: the tree that it began with cannot be read: {error}") from error
    problems = check_tree(tree)
    if problems:
        raise SessionError(f"{name}: the tree that it began with is not sound, {problems[0]}")
    return tree


def _records(path: Path) -> list[dict[str, Any]]:
    """The lines that were written whole."""
    content = path.read_bytes()
    records = []
    for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise SessionError(f"{path}:{number}: expected a line of JSON, got {line[:40]!r}") from error
        if not isinstance(record, dict):
            raise SessionError(f"{path}:{number}: expected a JSON object, got {line[:40]!r}")
        records.append(record)
    return records


def _stack_of(header: dict[str, Any]) -> Stack:
    def three(name: str, kind: type) -> Any:
        value = header.get(name)
        return None if value is None else tuple(kind(one) for one in value)

    return Stack(
        str(header.get("image", "")),
        three("offset", int) or (0, 0, 0),
        three("shape", int),
        three("voxel_size", float),
    )


def _bytes_of(tree: Tree) -> int:
    return sum(array.nbytes for name in _ARRAYS if (array := getattr(tree, name)) is not None)
