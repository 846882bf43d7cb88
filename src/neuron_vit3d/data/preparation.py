"""Makes rows of a dataset from one pair of image and tree: reads, checks, aligns, labels, cuts, writes.

Everything about one neuron happens here, in one process and with one volume in memory. `bigneuron.prepare` decides
which neurons are prepared, in how many processes, and what is done already.
"""

import contextlib
import json
import math
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from ..files import replacing, sweep
from ..morphology import Tree, read_swc
from ..morphology.units import VOXELS, expecting_micrometres, to_voxels
from ..volumes import Volume, check_finite, check_signal, read_volume
from .alignment import AS_IS, check_alignment
from .block_rows import cut_blocks
from .dataset_files import CONFIGS, PARTS, file_name, write_block_rows, write_volume_row
from .gold166 import Origin, read_pixel_size
from .labels import LabelPolicy, draw_labels, prepare_tree, signal_level
from .pairing import Candidate
from .preparation_report import PairReport, thumbnail
from .row_measures import as_cell, row_measures
from .sources import DataError, Source, one_line
from .splits import SPLIT_BY, part_of


FORMAT = 2  # of the files; another one makes everything anew
RECORDS = ".prepared"  # folder of what was done, beside the dataset's own
COMPLETE = "complete"  # file in there: all neurons are done
_SLICES_AT_ONCE = 16
_LARGEST_BLOCK = 1 << 28  # voxels


@dataclass(frozen=True)
class PreparationOptions:
    """The options of making a collection a dataset.

    Args:
        channel: channel of images that have several; None: the one that the tree fits best.
        labels: how a tree becomes labels.
        check_alignment: leave out pairs whose tree does not lie on the image's signal, and repair those that do after
            a flip, a swap or a change of units; False: take all trees as they are.
        block_shape: (z, y, x) of a row of "blocks".
        background: share of the blocks without a neuron in them.
        split_by: "neuron" or "lab"; see `splits.part_of`.
        fractions: of train, validation and test.
        seed: of the split and of the choice of blocks.
        licence: of images whose licence nothing else tells.
    """

    channel: int | None = None
    labels: LabelPolicy = field(default_factory=LabelPolicy)
    check_alignment: bool = True
    block_shape: tuple[int, int, int] = (9, 288, 288)
    background: float = 0.3
    split_by: str = "neuron"
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    seed: int = 0
    licence: str | None = None

    def __post_init__(self):
        if not isinstance(self.labels, LabelPolicy):
            raise ValueError(f"labels must be a LabelPolicy; got {self.labels!r}")
        for name, least in (("channel", 0), ("seed", None)):
            value = getattr(self, name)
            if not (_is_whole(value, least) or (name == "channel" and value is None)):
                raise ValueError(f"{name} must be a whole number{', at least 0' if least == 0 else ''}; got {value!r}")
        if len(self.block_shape) != 3 or not all(_is_whole(side, 1) for side in self.block_shape):
            raise ValueError(f"block_shape must be three positive sizes (z, y, x); got {self.block_shape}")
        if math.prod(self.block_shape) > _LARGEST_BLOCK:
            raise ValueError(f"block_shape must have at most {_LARGEST_BLOCK} voxels; got {self.block_shape}")
        if not 0 <= self.background < 1:
            raise ValueError(f"background must be in [0, 1); got {self.background}")
        if self.split_by not in SPLIT_BY:
            raise ValueError(f"split_by must be one of {', '.join(SPLIT_BY)}; got {self.split_by!r}")
        shares = self.fractions
        if len(shares) != 3 or not all(0 <= share <= 1 for share in shares) or abs(sum(shares) - 1) > 1e-6:
            raise ValueError(f"fractions must be three shares (train, validation, test) of 1; got {shares}")

    def key(self) -> dict:
        """Returns what the files of a neuron depend on. The split is not included: it only decides where they lie."""
        return {name: value for name, value in asdict(self).items() if name not in ("split_by", "fractions")}


@dataclass(frozen=True)
class Job:
    """One neuron to prepare: where its files lie, what is known about it, and where it comes from."""

    candidate: Candidate
    origin: Origin
    note: str | None  # what is odd about its origin
    stamps: dict[str, str]  # path -> Source.stamp: another one makes the neuron anew
    options: PreparationOptions
    folder: Path

    @property
    def part(self) -> str:
        options = self.options
        name, lab = self.candidate.neuron_id, self.origin.lab
        return part_of(name, lab, by=options.split_by, fractions=options.fractions, seed=options.seed)

    def fingerprint(self) -> dict:
        told = {
            "format": FORMAT,
            "options": self.options.key(),
            "origin": asdict(self.origin),
            "candidate": asdict(self.candidate),
            "stamps": self.stamps,
        }
        return json.loads(json.dumps(told))  # as it comes back from the record

    def file(self, config: str, part: str | None = None) -> Path:
        return self.folder / config / (part or self.part) / f"{file_name(self.candidate.neuron_id)}.arrow"

    def record(self, suffix: str = ".json") -> Path:
        return self.folder / RECORDS / f"{file_name(self.candidate.neuron_id)}{suffix}"


def earlier_report(job: Job) -> PairReport | None:
    """Returns the report of an earlier run with the same input and options, if its files are still there.

    The files are moved to the right part of the split.
    """
    try:
        record = json.loads(job.record().read_text(encoding="utf-8"))
        if record["fingerprint"] != job.fingerprint():
            return None
        told = record["report"]
        told |= {
            name: tuple(told[name]) for name in ("shape", "voxel_size") if told[name] is not None
        }  # JSON has lists
        report = PairReport(**told)
        for config in CONFIGS if report.status != "left out" else ():
            found = next(path for part in PARTS if (path := job.file(config, part)).exists())
            job.file(config).parent.mkdir(parents=True, exist_ok=True)
            found.replace(job.file(config))
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return None  # nothing there, or nothing that can be relied on
    return report


def prepare_neuron(source: Source, job: Job) -> PairReport:
    """Writes the neuron's files, or leaves it out and says why.

    Whenever the work is stopped, the files that are there are whole.

    Raises:
        OSError: something cannot be written.
    """
    _remove_earlier(job)
    try:
        with source.local(job.candidate.image) as path:
            neuron = _read_neuron(source, path, job)
            picture = thumbnail(neuron.image, neuron.tree, neuron.report.status, dark=neuron.is_dark)
            if neuron.report.status != "left out":
                _write_neuron(neuron, job, picture)
            _write_picture(picture, job)
            report = neuron.report
    except (_Unreadable, MemoryError) as error:  # may be readable another time: no record
        return _left_out(job, error)
    except ValueError as error:
        _remove_earlier(job)
        report = _left_out(job, error)
    record = {"fingerprint": job.fingerprint(), "report": asdict(report)}
    job.record().parent.mkdir(parents=True, exist_ok=True)
    with replacing(job.record()) as temporary:  # last: it says that all else is there
        temporary.write_text(json.dumps(record, indent=1), encoding="utf-8")
    return report


class _Unreadable(Exception):
    """A file of the collection that the machine cannot read, for the reason it gives; its content is unknown."""


def _left_out(job: Job, error: Exception) -> PairReport:
    return left_out(job.candidate.neuron_id, job.candidate.image, job.candidate.trees[0], one_line(error))


def left_out(neuron_id: str, image: str, swc: str, reason: str) -> PairReport:
    """The report of a pair, or of half a pair, that is not in the dataset."""
    return PairReport(neuron_id=neuron_id, image=image, swc=swc, status="left out", note=reason)


@dataclass(frozen=True, eq=False)
class _Neuron:
    """A neuron that was read: image (z, y, x), the tree that the labels need, and the report."""

    image: np.ndarray
    tree: Tree
    voxel_size: tuple[float, float, float] | None
    policy: LabelPolicy
    level: float | None
    is_dark: bool
    report: PairReport


def _read_neuron(source: Source, path: Path, job: Job) -> _Neuron:
    """Image and tree, checked and aligned.

    Raises ValueError or _Unreadable, naming the file, where there is nothing to use.
    """
    options, candidate = job.options, job.candidate
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with _named(path, candidate.image):
            volume = read_volume(path, channel=options.channel)
        tree, swc, notes = _read_tree(source, candidate)
        size, size_note = _voxel_size(source, job, volume)
        image, channel, found = volume.array, options.channel, None
        if options.check_alignment:
            found = check_alignment(tree, image, size)
            channel = found.channel if channel is None else channel
            tree = to_voxels(found.tree, swc, size, VOXELS)  # the image says so, whatever the header does
        else:
            tree = to_voxels(tree, swc, size)
        if image.ndim == 4:
            image = image[channel or 0]
    told = [str(one.message).split(": ", 1)[-1] for one in caught]
    notes = [note for note in (job.note, *notes, size_note, *told) if note]
    image = image.view(np.uint8) if image.dtype == bool else image
    with _named(path, candidate.image):
        check_finite(Volume(image, source=str(path)))
        check_signal(Volume(image, source=str(path)))
    status, policy, level, neuron_voxels = "used", options.labels, None, 0
    is_dark = found is not None and found.is_dark
    if found is not None and found.fit != AS_IS:
        status = "repaired" if found.fit else "left out"
        notes.append(str(found))
    if status != "left out":
        level = signal_level(tree, image)
        if policy.ignore_untraced and (is_dark or not math.isfinite(level)):
            policy = replace(policy, ignore_untraced=False)
            notes.append(
                "untraced signal is not ignored: the neuron is darker than its surroundings, or not in the image"
            )
        level = level if math.isfinite(level) else None
        tree = prepare_tree(tree, image, policy)
        neuron_voxels = _count_neuron_voxels(image.shape, tree, policy)
        if not neuron_voxels:
            raise DataError(f"{swc}: marks no voxel of {candidate.image} with shape {image.shape} (z, y, x)")
    report = PairReport(
        neuron_id=candidate.neuron_id,
        image=candidate.image,
        swc=swc,
        status=status,
        fit=found.fit if found else None,
        figures=found.figures if found else {},
        channel=channel or 0,
        shape=tuple(image.shape),
        dtype=image.dtype.name,
        voxel_size=size,
        nodes=len(tree),
        neuron_voxels=neuron_voxels,
        note="; ".join(notes),
    )
    return _Neuron(image, tree, size, policy, level, is_dark, report)


def _read_tree(source: Source, candidate: Candidate) -> tuple[Tree, str, list[str]]:
    """Reads the best tree that can be read. Returns it, its path, and notes about the others."""
    notes = [candidate.note] if candidate.note else []
    first: Exception | None = None
    for swc in candidate.trees:
        try:
            with source.local(swc) as path, _named(path, swc):
                with expecting_micrometres():
                    tree = read_swc(path, mend_structure=True)  # drawn by hand in fragments; what is mended is told
            break
        except (ValueError, _Unreadable) as error:
            first = first or error
            notes.append(f"passed over: {one_line(error)}")
    else:
        raise first or DataError(f"{candidate.image}: has no tree")
    others = [PurePosixPath(path).name for path in candidate.passed_over if path != swc]
    return tree, swc, notes + ([f"not taken: {', '.join(others)}"] if others else [])


def _voxel_size(source: Source, job: Job, volume: Volume) -> tuple[tuple[float, float, float] | None, str | None]:
    """Finds the voxel size (z, y, x) in um: in the file beside the image, the table of origins, or the image."""
    note = None
    if job.candidate.pixel_size:
        try:
            return read_pixel_size(source.read_text(job.candidate.pixel_size), job.candidate.pixel_size), None
        except (DataError, PermissionError) as error:
            note = one_line(error)
    return job.origin.voxel_size or volume.voxel_size, note


def _write_neuron(neuron: _Neuron, job: Job, picture: Image.Image) -> None:
    origin, image = job.origin, neuron.image
    row = {
        "neuron_id": job.candidate.neuron_id,
        "voxel_size": None if neuron.voxel_size is None else list(neuron.voxel_size),
        "swc": neuron.tree.to_text(),
        "thumbnail": as_cell(picture),
        **row_measures(neuron.tree, image.shape, neuron.voxel_size),
        "signal_level": neuron.level,
        "edge_band": neuron.policy.edge_band,
        "ignore_untraced": neuron.policy.ignore_untraced,
        "species": origin.species,
        "lab": origin.lab,
        "microscopy": origin.microscopy,
        "licence": origin.licence or job.options.licence,
        "source": job.candidate.image,
    }
    write_volume_row(job.file("volumes"), image, row)
    blocks = cut_blocks(
        job.candidate.neuron_id,
        image,
        neuron.tree,
        neuron.policy,
        neuron.level,
        lab=origin.lab,
        block_shape=job.options.block_shape,
        background=job.options.background,
        seed=job.options.seed,
    )
    write_block_rows(job.file("blocks"), blocks)


def _count_neuron_voxels(shape: tuple[int, int, int], tree: Tree, policy: LabelPolicy) -> int:
    """Counts the voxels labelled 1. Ignored signal is not among them, so the image is not needed."""
    policy, count = replace(policy, ignore_untraced=False), 0
    for z in range(0, shape[0], _SLICES_AT_ONCE):
        slab = (min(_SLICES_AT_ONCE, shape[0] - z), *shape[1:])
        count += int(np.count_nonzero(draw_labels(tree, slab, policy, origin=(z, 0, 0)) == 1))
    return count


def _write_picture(picture: Image.Image, job: Job) -> None:
    path = job.record(".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")


def _remove_earlier(job: Job) -> None:
    """Removes files of an earlier run, whole or not; the record goes first, since it vouches for the others."""
    files = [job.record(), job.record(".png")]
    files += [job.file(config, part) for config in CONFIGS for part in PARTS]
    for path in files:
        path.unlink(missing_ok=True)
        sweep(path)


@contextlib.contextmanager
def _named(local: Path, name: str) -> Iterator[None]:
    """Makes errors name a file as the collection does, and not the copy that was read."""
    try:
        yield
    except ValueError as error:
        raise DataError(str(error).replace(str(local), name)) from error
    except OSError as error:
        raise _Unreadable(f"{name}: cannot be read: {error.strerror or error}") from error


def _is_whole(value, least: int | None) -> bool:
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return is_whole and (least is None or value >= least)
