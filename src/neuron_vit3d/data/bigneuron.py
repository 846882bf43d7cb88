"""Turns BigNeuron's release, or any images with trees, into a `datasets.DatasetDict`.

    dataset = load_bigneuron("gold166.zip", output="gold166")      # config "volumes"; again: it is there already
    blocks = load_bigneuron("gold166", "blocks")                   # what was prepared, by its folder

`neuron-vit3d prepare` does the same from the command line and in many processes.
"""

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from .dataset_files import CONFIGS, DATA_FILES, part_files, read_files, write_readme
from .gold166 import origin_of, read_origins
from .pairing import ANNOTATION_SUFFIX, TREE_SUFFIXES, find_candidates, is_image_name
from .preparation import COMPLETE, RECORDS, Job, PreparationOptions, earlier_report, left_out, prepare_neuron
from .preparation_report import PairReport, write_csv, write_pages
from .sources import DataError, Source, open_source


if TYPE_CHECKING:
    from datasets import DatasetDict


def load_bigneuron(
    root: str | os.PathLike,
    config: str = "volumes",
    *,
    output: str | os.PathLike | None = None,
    options: PreparationOptions | None = None,
    table: str | os.PathLike | None = None,
    num_proc: int = 1,
    strict: bool = False,
) -> "DatasetDict":
    """Loads images with trees as a memory-mapped `datasets.DatasetDict`, split by neuron.

    Args:
        root: the unpacked release (`gold166/`), `gold166.zip` itself, any folder or archive of images with SWC files,
            or a folder that was prepared before.
        config: "volumes", a row a neuron, or "blocks", a row a fixed-size piece with its labels; see `dataset_files`.
        output: folder to prepare into; None: one in the cache of `datasets`, found again by the same root and options.
        options, table, num_proc, strict: as in [`prepare`]; for a root that is not prepared yet.

    Returns:
        The parts "train", "validation" and "test", those that have a neuron.

    Raises:
        DataError: no such root or no usable pair in it; its preparation was not completed; with `strict`, the first
            pair that cannot be used.
        ValueError: no such config, or options for a root that is prepared already.
    """
    if config not in CONFIGS:
        raise ValueError(f"config must be one of {', '.join(CONFIGS)}; got {config!r}")
    root = Path(root)
    if is_prepared(root):
        given = {"output": output, "options": options, "table": table, "strict": strict or None}
        if told := [name for name, value in given.items() if value is not None]:
            raise ValueError(f"{root}: is prepared already, so {', '.join(told)} would change nothing")
        if not (root / RECORDS / COMPLETE).exists():
            raise DataError(f"{root}: its preparation was interrupted, or is going on; run it again to complete it")
    else:
        options = options or PreparationOptions()
        output = Path(output) if output is not None else _cache_folder(root, options)
        prepare(root, output, options=options, table=table, num_proc=num_proc, strict=strict)
        root = output
    loaded = read_files(part_files(root, config), config)
    if not loaded:
        raise DataError(f"{root}: holds no neuron; its report.csv says what became of each")
    return loaded


def is_prepared(folder: str | os.PathLike) -> bool:
    """Tells whether [`prepare`] has made a folder."""
    return Path(folder, RECORDS).is_dir()


def prepare(
    root: str | os.PathLike,
    output: str | os.PathLike,
    *,
    options: PreparationOptions | None = None,
    table: str | os.PathLike | None = None,
    num_proc: int = 1,
    shard: tuple[int, int] = (0, 1),
    strict: bool = False,
    scratch: str | os.PathLike | None = None,
    progress: Callable[[PairReport, int, int], None] | None = None,
) -> list[PairReport]:
    """Prepares all pairs below a root.

    A neuron that was prepared before from the same files with the same options is kept.

    Leaves in `output` the files that `dataset_files` describes, `report.csv`, and `report-01.png` ... with a picture
    of every pair. Of two processes that prepare into one folder, the second waits, and then finds all done.

    Args:
        root: folder or zip archive; an archive is read in place, a file at a time.
        output: folder to write to. Files of neurons that are no longer in the root are removed.
        options: how; the defaults of [`PreparationOptions`] when None.
        table: CSV file of origins (species, lab, voxel size ...), see `gold166.read_origins`.
        num_proc: processes; each has one volume in memory at a time. A script that asks for several must do so below
            `if __name__ == "__main__":`, since they are spawned.
        shard: (i, n): only every n-th neuron from the i-th on, for n machines on one file system. The report then is
            of those alone, without pictures; one more run without shard, which finds all done, makes the whole one and
            completes the folder.
        strict: stop at the first pair that cannot be used, or half a pair, instead of leaving it out.
        scratch: folder for what is read out of an archive.
        progress: called after each neuron with its report, how many are done, and how many there are.

    Returns:
        A report of each pair and of each image or tree that is in none, in the order of their names.

    Raises:
        DataError: the root cannot be read or holds no pair; with `strict`, what is wrong with the first.
        OSError: the output cannot be written.
    """
    options, output = options or PreparationOptions(), Path(output)
    if output.exists() and not output.is_dir():
        raise DataError(f"{output}: expected a folder to write to, found a file")
    with open_source(root, scratch) as source:
        jobs, halves = _plan(source, output, options, table)
        if strict and halves:
            raise DataError(f"{halves[0].image or halves[0].swc}: {halves[0].note} (and strict was asked for)")
        if not jobs:
            raise DataError(
                f"{root}: expected images with SWC files beside them, found no pair"
                + (f"; {halves[0].image or halves[0].swc}: {halves[0].note}" if halves else "")
            )
        if output.is_dir() and any(output.iterdir()) and not is_prepared(output):
            raise DataError(f"{output}: holds something else; choose another folder, or remove it")
        (output / RECORDS).mkdir(parents=True, exist_ok=True)
        is_whole = shard == (0, 1)
        with _alone(output, "lock" if is_whole else f"lock-{shard[0]}-of-{shard[1]}"):
            if is_whole:
                _remove_strangers(output, jobs)
            (output / RECORDS / COMPLETE).unlink(missing_ok=True)
            mine = jobs[shard[0] :: shard[1]]
            reports = {}
            with contextlib.closing(_run(source, mine, num_proc, scratch)) as run:
                for job, report in run:
                    reports[job.candidate.neuron_id] = report
                    if strict and report.status == "left out":
                        raise DataError(f"{report.image}: {report.note} (and strict was asked for)")
                    if progress:
                        progress(report, len(reports), len(mine))
            done = sorted(
                [*reports.values(), *halves], key=lambda report: (report.neuron_id, report.image, report.swc)
            )
            if is_whole:
                write_readme(output)
                write_csv(output / "report.csv", done)
                write_pages(output, done, {job.candidate.neuron_id: job.record(".png") for job in mine})
                (output / RECORDS / COMPLETE).touch()
            else:
                write_csv(output / f"report.{shard[0]}-of-{shard[1]}.csv", done)
    return done


def _plan(source: Source, output: Path, options: PreparationOptions, table) -> tuple[list[Job], list[PairReport]]:
    """Lists what is to be prepared, and reports of what has no partner or is refused."""
    origins = None
    if table is not None:
        try:
            origins = read_origins(Path(table).read_text(encoding="utf-8-sig"), str(table))
        except UnicodeDecodeError as error:
            raise DataError(f"{table}: expected a table in UTF-8, found other text") from error
    annotations = {}
    for path in source.files:
        if path.lower().endswith(ANNOTATION_SUFFIX):
            with contextlib.suppress(DataError, PermissionError):  # nothing depends on it alone
                annotations[path] = source.read_text(path)
    source.leave_out_own_results()
    candidates, lone = find_candidates(source.files, annotations)
    lone |= {path: why for path, why in source.refused.items() if is_image_name(path) or _is_tree(path)}
    if origins and (strange := origins.unmatched(candidate.image for candidate in candidates)):
        warnings.warn(f"{table}: {len(strange)} rows are of no image here: {', '.join(strange[:3])} ...", stacklevel=3)
    jobs = []
    for candidate in candidates:
        origin, note = origin_of(candidate.image, origins)
        files = [candidate.image, *candidate.trees, *filter(None, [candidate.pixel_size])]
        stamps = {path: source.stamp(path) for path in files}
        jobs.append(Job(candidate, origin, note, stamps, options, output))
    halves = [
        left_out("", "" if _is_tree(path) else path, path if _is_tree(path) else "", why) for path, why in lone.items()
    ]
    return jobs, halves


def _run(source: Source, jobs: list[Job], num_proc: int, scratch) -> Generator[tuple[Job, PairReport], None, None]:
    """Yields reports as they come.

    The largest volumes are begun first, so that at the end no process works on alone.
    """
    waiting = []
    for job in jobs:
        report = earlier_report(job)
        if report is None:
            waiting.append(job)
        else:
            yield job, report
    waiting.sort(key=lambda job: -source.files[job.candidate.image])
    if num_proc <= 1 or len(waiting) <= 1:
        for job in waiting:
            yield job, prepare_neuron(source, job)
        return
    import multiprocessing

    # Spawned, not forked: the parent may have threads (datasets, torch), which a fork does not bear.
    with ProcessPoolExecutor(min(num_proc, len(waiting)), multiprocessing.get_context("spawn")) as pool:
        running, finished = {}, 0
        try:
            for next_one in [*waiting, None]:
                if next_one is not None:
                    running[pool.submit(_in_process, source.name, scratch, next_one)] = next_one
                while len(running) > (num_proc if next_one is not None else 0):
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        report, finished = future.result(), finished + 1
                        yield running.pop(future), report
        except BrokenProcessPool as error:
            names = ", ".join(job.candidate.image for job in running.values())
            guard = "" if finished else ', or because the script has no `if __name__ == "__main__":`'
            raise DataError(
                f"a process ended suddenly, perhaps for want of memory{guard}, while one of these was prepared: "
                f"{names}"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _in_process(root: str, scratch, job: Job) -> PairReport:
    return prepare_neuron(_open_once(root, scratch), job)


@lru_cache(maxsize=1)
def _open_once(root: str, scratch) -> Source:
    return open_source(root, scratch, scan=False)


def _remove_strangers(output: Path, jobs: list[Job]) -> None:
    """Removes the files of neurons that are no longer in the collection: they would come back with the dataset.

    Raises:
        DataError: the folder holds neurons and none is of this collection, so it is another's.
    """
    known = {job.record().stem for job in jobs}
    held = {path.stem for path in output.glob(f"{RECORDS}/*.json")}
    if held and not held & known:
        raise DataError(
            f"{output}: holds {len(held)} neurons of another collection; choose another folder, or remove it"
        )
    for pattern in (f"{RECORDS}/neuron-*", *(f"{config}/*/{DATA_FILES}" for config in CONFIGS)):
        for path in output.glob(pattern):
            if path.stem not in known:
                path.unlink()


@contextlib.contextmanager
def _alone(output: Path, name: str) -> Iterator[None]:
    """Keeps other processes from preparing into the folder; waits for one that is at it."""
    from filelock import FileLock, Timeout

    lock = FileLock(output / RECORDS / name)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        warnings.warn(f"{output}: another process is preparing it: waiting", stacklevel=3)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _cache_folder(root: Path, options: PreparationOptions) -> Path:
    from datasets import config

    told = json.dumps([str(root.resolve()), options.key(), options.split_by, options.fractions])
    return Path(
        config.HF_DATASETS_CACHE, "neuron_vit3d", f"{root.stem}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
    )


def _is_tree(path: str) -> bool:
    return path.lower().endswith(TREE_SUFFIXES)
