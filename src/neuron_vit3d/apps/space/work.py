"""What the Space does with a stack: checks it, segments it once, and traces its scores as often as somebody likes.

It knows nothing of the page. What is wrong with a stack is said in one sentence, which names no path of the server.
"""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...evaluation.found_results import Found
from ...evaluation.overlay import Projections, write_overlay
from ...evaluation.results_page import write_results_page
from ...evaluation.turning_tree import Turned, figure
from ...inference.segmenter import Segmenter
from ...morphology import Tree
from ...morphology.branch_table import branch_table_of
from ...morphology.branches import DOUBTFUL, branches_text
from ...morphology.critical_nodes import critical_nodes
from ...tracing import threshold_from_noise, trace
from ...volumes import Volume, open_volume, write_volume
from ...volumes.formats import vaa3d
from ...volumes.formats.registry import FORMATS, format_of, formats
from ...volumes.names import TRACED_BY, volume_stem


# Their headers say how large they are before a voxel is decoded, and they lie in one file.
READ = ("tiff", "vaa3d", "npy")
_READ_IN_WORDS = "TIFF, Vaa3D v3draw or v3dpbd, and .npy"
_KEPT_TRACES = 3  # folders of files; a browser may still fetch those of the one before


class SpaceError(ValueError):
    """What cannot be done with a stack, in a sentence for the one who sent it."""


@dataclass(frozen=True)
class Limits:
    """What one stack may take, so that the next one is served soon.

    Attributes:
        megabytes: of the file.
        voxels: of all channels. The default's scores of so many take 134 MB while somebody looks at them.
        seconds: to segment it.
    """

    megabytes: float = 100
    voxels: int = 1 << 25
    seconds: float = 600

    def in_words(self) -> str:
        """Says the limits."""
        return (
            f"at most {self.megabytes:g} MB, {self.voxels / 1e6:.1f} million voxels, {self.seconds / 60:.3g} minutes"
        )


@dataclass
class Kept:
    """A stack that was segmented: what is kept of it while somebody looks at it.

    Attributes:
        name: of the stack, without its suffix.
        scores: (z, y, x) float32. In half precision scores near 1 become 1, and the tree another one.
        projections: of the image.
        voxel_size: z, y, x in micrometres, or None.
        threshold: that follows from the noise of the scores.
        folder: for what can be downloaded.
        num_traces: how often the scores were traced.
    """

    name: str
    scores: np.ndarray
    projections: Projections
    voxel_size: tuple[float, float, float] | None
    threshold: float
    folder: Path
    num_traces: int = 0

    def new_folder(self) -> Path:
        """Makes a folder for the files of another trace, and deletes those of traces before the last few."""
        self.num_traces += 1
        shutil.rmtree(self.folder / str(self.num_traces - _KEPT_TRACES), ignore_errors=True)
        folder = self.folder / str(self.num_traces)
        folder.mkdir(parents=True)
        return folder

    def forget(self) -> None:
        """Deletes the files of this stack."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class Traced:
    """A tree of the kept scores: the tree or None, its picture, its 3D figure, and what is said of it."""

    tree: Tree | None
    threshold: float
    picture: Path
    figure: dict[str, Any] | None
    said: str


def check_stack(path: Path, limits: Limits) -> None:
    """Makes sure, by its header alone, that a file is an image within the limits.

    Raises:
        SpaceError: it is no image of a format that is read here, or too large.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise SpaceError("The stack is no longer here: send it again.") from error
    if size > limits.megabytes * 1e6:
        raise SpaceError(f"The file has {size / 1e6:.0f} MB; {limits.in_words()} are taken here.")
    try:
        found = format_of(path)
    except (ValueError, OSError) as error:
        raise SpaceError(f"This file cannot be read as an image stack: {_READ_IN_WORDS} are read here.") from error
    try:
        kind = next(name for name, one in zip(FORMATS, formats(), strict=True) if one is found)
        if kind not in READ:
            raise SpaceError(f"This is {FORMATS[kind].words}; {_READ_IN_WORDS} are read here.")
        if kind == "vaa3d":
            shape: tuple[int, ...] = vaa3d.read_header(path).shape
        else:
            with open_volume(path, 0) as reader:
                shape = (reader.num_channels, *reader.shape)
    except SpaceError:
        raise
    except (ValueError, OSError, MemoryError) as error:
        raise SpaceError(f"This file cannot be read as an image stack: {without_path(error, path)}") from error
    voxels = int(np.prod([int(side) for side in shape], dtype=object))
    if voxels > limits.voxels:
        sides = " x ".join(map(str, shape))
        raise SpaceError(f"The stack has {voxels / 1e6:.1f} million voxels ({sides}); {limits.in_words()} are taken.")


def segment_stack(
    path: Path,
    folder: Path,
    segmenter: Segmenter,
    limits: Limits,
    *,
    channel: int | None = None,
    voxel_size: tuple[float, float, float] | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Kept:
    """Segments a stack.

    Args:
        path: the file.
        folder: for what can be downloaded; it is made.
        segmenter: the model.
        limits: what the stack may take.
        channel: from 0, where it has several.
        voxel_size: z, y, x in micrometres, where the file does not say.
        progress: is told the share that is done.

    Raises:
        SpaceError: the stack cannot be read or segmented, or takes too long.
    """
    check_stack(path, limits)
    begun = time.monotonic()
    try:
        with warnings.catch_warnings(), segmenter.open(path, channel) as source:
            warnings.simplefilter("ignore")
            size = voxel_size or source.voxel_size
            scores, projections = np.empty(source.shape, np.float32), Projections(source.shape, size)
            for z, slab in segmenter.slabs(source):
                scores[z : z + len(slab)] = slab
                projections.add(z, source.read(z, z + len(slab)).max(axis=0))
                progress((z + len(slab)) / source.shape[0])
                if time.monotonic() - begun > limits.seconds:
                    raise SpaceError(
                        f"This stack takes longer than {limits.seconds / 60:.3g} minutes here. Send a part of it, or "
                        "install neuron_vit3d, which has no limits."
                    )
    except SpaceError:
        raise
    except (ValueError, OSError, MemoryError) as error:
        raise SpaceError(f"This stack cannot be segmented: {without_path(error, path)}") from error
    name = volume_stem(path.name)
    name = path.stem if name == path.name else name
    folder.mkdir(parents=True)
    return Kept(name, scores, projections, size, threshold_from_noise(_volume(scores, size)), folder)


def trace_kept(kept: Kept, *, threshold: float, min_branch_length: float, min_confidence: float) -> Traced:
    """Traces kept scores anew, and draws the tree.

    Args:
        kept: the scores.
        threshold: scores at least this high are neuron.
        min_branch_length: shorter end branches are pruned, in voxels.
        min_confidence: less sure branches are cut off, from 0 to 1.
    """
    tree, said = None, ""
    try:
        tree = trace(
            _volume(kept.scores, kept.voxel_size),
            threshold=threshold,
            min_branch_length=min_branch_length,
            min_confidence=min_confidence,
        )
        tree = replace(tree, comments=(f"{TRACED_BY} from {kept.name}", *tree.comments))
        said = _said(tree, kept.voxel_size)
    except ValueError as error:
        said = f"There is no tree: {error}."
    # Each in a folder of its own: a browser shows again what it knows by its address.
    folder = kept.new_folder()
    picture = write_overlay(folder / f"{kept.name}.png", kept.projections, [] if tree is None else [tree])
    shown = None if tree is None else figure(Turned(tree, kept.voxel_size, projections=kept.projections))
    return Traced(tree, threshold, picture, shown, said)


def write_files(kept: Kept, traced: Traced) -> list[Path]:
    """Writes what can be downloaded: the tree, the table of its branches, mask, picture and report."""
    kept.folder.touch()  # it is in use
    folder = traced.picture.parent
    folder.mkdir(exist_ok=True, parents=True)
    mask = folder / f"{kept.name}.mask.tif"
    found = (kept.scores >= traced.threshold).astype(np.uint8) * np.uint8(255)
    write_volume(mask, Volume(found, kept.voxel_size))
    swc = folder / f"{kept.name}.swc"
    files = [mask, traced.picture]
    trees = []
    if traced.tree is not None:
        traced.tree.write(swc)
        branch_table_of(swc).write_text(branches_text(traced.tree.branches), encoding="utf-8")
        files, trees = [swc, branch_table_of(swc), *files], [swc]
    report = folder / f"{kept.name}.report.html"
    one = Found(kept.name, trees, traced.picture, mask)
    write_results_page(report, Path(kept.name), [one], voxel_size=kept.voxel_size)
    return [*files, report]


def without_path(error: Exception, path: Path) -> str:
    """The line of an error, with the name of the stack for its place on the server."""
    line = " ".join((str(error) or type(error).__name__).split())
    return line.replace(f"{path}: ", "").replace(str(path), path.name).replace(str(path.parent), "")


def _volume(scores: np.ndarray, voxel_size: tuple[float, float, float] | None) -> Volume:
    return Volume(scores, voxel_size, "scores")


def _said(tree: Tree, voxel_size: tuple[float, float, float] | None) -> str:
    """What there is to say of a tree."""
    branches, (child, parent) = tree.branches, tree.edges.T
    sides, unit = (np.ones(3), "voxels") if voxel_size is None else (np.array(voxel_size[::-1]), "µm")
    length = np.linalg.norm((tree.xyz[child] - tree.xyz[parent]) * sides, axis=1).sum()
    doubtful = int((branches.confidence < DOUBTFUL).sum())
    lines = [
        f"{length:,.0f} {unit} long, {len(branches)} branches ({doubtful} doubtful), "
        f"{len(critical_nodes(tree)[1])} tips, {len(tree)} nodes"
    ]
    lines += [line for line in tree.comments if line.startswith(("dropped", "kept"))]
    return "\n\n".join(lines)
