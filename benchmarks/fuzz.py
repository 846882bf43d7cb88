"""Ten thousand damaged files: each is refused in one line, or read; no crash, no hang, no memory beyond its worth.

Small sound files of each kind (`fuzz_files.py`) are damaged with a seed: bits, bytes and numbers are changed, ranges
removed, inserted and repeated, ends cut off. Each is read twice, whole and by slices, in a process of its own that may
take little memory; after 10 seconds it is killed. A finding is whatever is neither a volume or tree nor one line of
this package's errors: another exception, a crash, a hang, too much memory, several lines, a warning that does not name
the file, or slices that are not those of the volume.

    python benchmarks/fuzz.py --output benchmarks/results/fuzz.md
    python benchmarks/fuzz.py --kind NRRD --count 2000 --seed 7      # more of one kind
"""

import json
import logging
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
from fuzz_files import KINDS, Kind, Sample, damaged

from neuron_vit3d import read_tree, read_volume
from neuron_vit3d.morphology.swc import SWCError
from neuron_vit3d.volumes import VolumeError, open_volume


SECONDS = 10  # a file that takes longer hangs
ROOM = 1 << 30  # bytes of addresses above those at the start, beyond which memory is refused
WORKING_MEMORY = 24 << 20  # of a reader, whatever the file: parsed metadata, buffers, libraries' pools
SHOWN = 20  # findings that are listed


class Result(NamedTuple):
    """What became of one file."""

    number: int
    outcome: str  # "read", "refused" or "finding"
    what: str
    seconds: float
    memory: int  # bytes above those before


def main(
    count: Annotated[int, typer.Option(help="How many files, of all kinds together.")] = 10_000,
    seed: Annotated[int, typer.Option(help="What the damage is drawn from.")] = 0,
    kind: Annotated[list[str] | None, typer.Option(help="Only this kind; repeat the option.")] = None,
    output: Annotated[Path | None, typer.Option(help="Markdown file. Default: standard output.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Folder to leave files with findings in.")] = None,
) -> None:
    """Damages files, reads them, and tells what became of them."""
    chosen = kind or list(KINDS)
    shares = [count // len(chosen) + (i < count % len(chosen)) for i in range(len(chosen))]
    results = {name: fuzz(name, share, seed, keep) for name, share in zip(chosen, shares, strict=True)}
    text = report(results, seed)
    print(text)
    if output is not None:
        output.write_text(text)
    if any(one.outcome == "finding" for found in results.values() for one in found):
        raise typer.Exit(1)


def fuzz(name: str, count: int, seed: int, keep: Path | None = None) -> list[Result]:
    """Reads damaged files of one kind, in processes that may crash."""
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        samples = list(KINDS[name].samples(Path(folder)))
        while len(results) < count:
            results += _one_process(name, samples, range(len(results), count), seed, Path(folder))
        for one in results:
            if one.outcome == "finding" and keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                sample, files = _file(name, samples, one.number, seed)
                _write(keep / f"{name.strip('.')}-{seed}-{one.number}{sample.suffix}", files)
    return results


def _one_process(name: str, samples: list[Sample], numbers: range, seed: int, folder: Path) -> list[Result]:
    """The results of one process: of all numbers, or up to the one that ended it."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        try:
            _work(name, samples, numbers, seed, folder, writing)
        finally:
            os._exit(0)
    os.close(writing)
    results: list[Result] = []
    pending, what = b"", ""
    while not what:
        if not select.select([reading], [], [], SECONDS + 60 * (not results))[0]:  # the first: libraries are loaded
            what = f"hangs: more than {SECONDS} s"
            os.kill(process, signal.SIGKILL)
        elif more := os.read(reading, 1 << 16):
            *lines, pending = (pending + more).split(b"\n")
            results += [Result(*json.loads(line)) for line in lines]
        else:
            what = "crashes"
    os.close(reading)
    _, status = os.waitpid(process, 0)
    if len(results) < len(numbers):
        if os.WIFSIGNALED(status) and what == "crashes":
            what += f" with signal {os.WTERMSIG(status)}"
        results.append(Result(numbers[len(results)], "finding", what, 0.0, 0))
    return results


def _work(name: str, samples: list[Sample], numbers: range, seed: int, folder: Path, pipe: int) -> None:
    """Reads the files of these numbers, and tells of each in a line of JSON."""
    kind = KINDS[name]
    logging.disable(logging.CRITICAL)  # tifffile logs what it finds odd, at length
    for sample in samples:  # libraries are imported, and sound files are read
        _write(folder / f"sound{sample.suffix}", sample.files)
        _read(folder / f"sound{sample.suffix}", kind)
    room = _status("VmSize") + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in numbers:
        sample, files = _file(name, samples, number, seed)
        path = folder / f"damaged{sample.suffix}"
        _write(path, files)
        result = _result(path, kind, number, sum(map(len, files.values())))
        os.write(pipe, json.dumps(result).encode() + b"\n")


def _file(name: str, samples: list[Sample], number: int, seed: int) -> tuple[Sample, dict[str, bytes]]:
    """The damaged file of a number: the same whenever it is asked for."""
    random = np.random.default_rng([seed, list(KINDS).index(name), number])
    sample = samples[number % len(samples)]
    return sample, damaged(sample, random)


def _write(path: Path, files: dict[str, bytes]) -> None:
    if list(files) == [""]:
        path.write_bytes(files[""])
        return
    shutil.rmtree(path, ignore_errors=True)
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)


def _result(path: Path, kind: Kind, number: int, size: int) -> Result:
    """Reads one file."""
    before = _forget_peak()
    outcome, what, begun = "read", "", time.perf_counter()
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            what = _read(path, kind)
        outcome = "finding" if what else "read"
        for one in told:
            if not issubclass(one.category, UserWarning) or not _is_told(str(one.message), path):
                outcome, what = "finding", f"warns {one.category.__name__}: {one.message}"
    except (VolumeError, SWCError) as error:
        outcome, what = "refused", str(error)
        if not _is_told(what, path):
            outcome, what = "finding", f"refuses in other words than one line with the file's name: {what}"
    except BaseException as error:
        outcome, what = "finding", f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - begun
    memory = max(0, _status("VmHWM") - before)
    if outcome != "finding" and memory > WORKING_MEMORY + kind.worth * size:
        outcome, what = "finding", f"takes {memory} bytes of memory for {size} of file"
    return Result(number, outcome, what[:300], seconds, memory)


def _is_told(words: str, path: Path) -> bool:
    return str(path) in words and "\n" not in words


def _read(path: Path, kind: Kind) -> str:
    """Reads a file whole and by slices; says what is wrong with what came, if anything."""
    if kind.is_tree:
        tree = read_tree(path)
        return "" if np.isfinite(tree.xyz).all() and (tree.radii > 0).all() else "a tree with odd numbers"
    volume = read_volume(path)
    whole = np.array(volume.channel(0).array)
    with open_volume(path, channel=0) as reader:
        slices = np.concatenate([reader.read(z, z + 1) for z in range(min(4, reader.shape[0]))])
        same = reader.voxel_size == volume.voxel_size and reader.shape == volume.shape
    same = same and np.array_equal(slices, whole[:4], equal_nan=whole.dtype.kind == "f")
    return "" if same else "slices that are not those of the volume"


def _forget_peak() -> int:
    """Bytes in use; the peak is counted from here on."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(key: str) -> int:
    """Bytes that the system tells of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) << 10
    raise RuntimeError(f"the system does not tell {key}")


def report(results: dict[str, list[Result]], seed: int) -> str:
    """Markdown: a row for each kind, one for all, and the findings."""
    total = [one for found in results.values() for one in found]
    lines = [
        "# Damaged files",
        "",
        f"`benchmarks/fuzz.py`: {len(total)} files, seed {seed}. Each is read whole and by slices, in processes with "
        f"{ROOM >> 20} MiB of addresses above what they begin with, {SECONDS} s for each file. Memory is what one "
        "file took above what was in use.",
        "",
        "| kind | tried | refused | read | findings | worst memory, MiB | worst time, s |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, found in (*results.items(), ("all", total)):
        counts = [sum(one.outcome == outcome for one in found) for outcome in ("refused", "read", "finding")]
        memory, seconds = max(one.memory for one in found), max(one.seconds for one in found)
        lines.append(
            f"| {name} | {len(found)} | {' | '.join(map(str, counts))} | {memory / 2**20:.1f} | {seconds:.2f} |"
        )
    findings = [(name, one) for name, found in results.items() for one in found if one.outcome == "finding"]
    if findings:
        lines += ["", "Findings:", ""]
        lines += [f"- {name} {one.number}: {' '.join(one.what.split())}" for name, one in findings[:SHOWN]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if not sys.platform.startswith("linux"):
        raise SystemExit("fuzz.py counts memory as Linux tells it")
    typer.run(main)
