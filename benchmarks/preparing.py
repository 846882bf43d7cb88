"""Peak memory of preparing large volumes: a process must not need more than the volume that it is at.

    python benchmarks/preparing.py --output benchmarks/results/preparing.md

Makes ten volumes of 1 GB (as v3dpbd, which has to be decoded whole, and as v3draw, which is mapped) with a generated
tree each, runs scripts/prepare_bigneuron.py on them in one and in two processes, and watches every process's memory.
Needs 25 GB of disk.
"""

import os
import platform
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import outcome
import typer
from outcome import OutputOption


PREPARE = Path(__file__).resolve().parents[1] / "scripts" / "prepare_bigneuron.py"
LITERAL = 33  # voxels of the longest literal run of a v3dpbd file


def main(
    output: OutputOption = None,
    shape: Annotated[tuple[int, int, int], typer.Option(help="z y x of a volume.")] = (256, 2048, 2048),
    count: Annotated[int, typer.Option(help="Volumes.")] = 10,
    scratch: Annotated[Path | None, typer.Option(help="Where to put them for the time being.")] = None,
) -> None:
    """Peak memory of preparing large volumes."""
    size = int(np.prod(shape))
    rows = []
    with tempfile.TemporaryDirectory(dir=scratch) as temporary:
        folder = Path(temporary)
        small = measure(make(folder / "small", (shape[0] // 16, *shape[1:]), 2, "v3draw"), folder / "out", 1)
        shutil.rmtree(folder / "small")
        for suffix in ("v3dpbd", "v3draw"):
            root = make(folder / suffix, shape, count, suffix)
            for processes in (1, 2):
                peaks, seconds = measure(root, folder / "out", processes)
                used = [f"{peak / size:.2f}" for peak in sorted(peaks, reverse=True)[:processes]]
                rows.append(f"| {suffix} | {count} | {processes} | {', '.join(used)} | {seconds:.0f} |")
                print(rows[-1], flush=True)
            shutil.rmtree(root)
    lines = [
        f"# Memory of preparing {count} volumes of {size / 1e9:.2f} GB",
        "",
        f"`benchmarks/preparing.py`; uint8 volumes of {' x '.join(map(str, shape))}, a generated tree each; "
        f"{os.cpu_count()} threads, {platform.machine()}. Peak resident memory of a process (everything that it has "
        f"touched, mapped files included), over the volume's size. On volumes a 16th as large it is "
        f"{max(small[0]) / 1e9:.2f} GB, most of that the libraries.",
        "",
        "| format | volumes | processes | peak memory of each process / volume | seconds |",
        "|---|---|---|---|---|",
        *rows,
    ]
    text = "\n".join(lines) + "\n"
    outcome.write(text, output)


def make(folder: Path, shape: tuple[int, int, int], count: int, suffix: str) -> Path:
    """`count` samples whose images are one file under many names."""
    from neuron_vit3d.morphology import Tree, rasterize

    folder.mkdir()
    rng = np.random.default_rng(0)
    steps = np.cumsum(rng.normal(0, 0.2, (4000, 3)), axis=0)
    direction = np.stack([np.cos(steps[:, 0]), np.sin(steps[:, 0]), 0.1 * np.sin(steps[:, 1])], 1)
    xyz = np.cumsum(direction, axis=0) + np.array([shape[2] / 2, shape[1] / 2, shape[0] / 2])
    xyz = np.abs(xyz) % (np.array(shape[::-1]) - 1)
    far = np.linalg.norm(np.diff(xyz, axis=0, prepend=xyz[:1]), axis=1) > 3
    tree = Tree.from_parents(xyz, np.full(len(xyz), 2.0), np.where(far, -1, np.arange(len(xyz)) - 1))
    image = rasterize(tree, shape).view(np.uint8)
    image *= 150
    for z in range(shape[0]):
        image[z] += rng.integers(0, 60, shape[1:], dtype=np.uint8)
    first = folder / f"neuron_0.{suffix}"
    key = b"v3d_volume_pkbitdf_encod" if suffix == "v3dpbd" else b"raw_image_stack_by_hpeng"
    with first.open("wb") as file:
        file.write(key + b"L" + struct.pack("<h4i", 1, *shape[::-1], 1))
        if suffix == "v3draw":
            file.write(image.data)
        else:
            flat = image.reshape(-1)
            for start in range(0, len(flat), LITERAL << 20):
                piece = flat[start : start + (LITERAL << 20)]
                whole = len(piece) // LITERAL * LITERAL
                runs = np.full((whole // LITERAL, LITERAL + 1), LITERAL - 1, np.uint8)
                runs[:, 1:] = piece[:whole].reshape(-1, LITERAL)
                file.write(runs.data)
                rest = piece[whole:]
                file.write(bytes([len(rest) - 1]) + rest.tobytes() if len(rest) else b"")
    for index in range(count):
        if index:
            os.link(first, folder / f"neuron_{index}.{suffix}")
        tree.write(folder / f"neuron_{index}.swc")
    return folder


def measure(root: Path, output: Path, processes: int) -> tuple[list[int], float]:
    """Peak resident bytes of the processes that prepared, and the seconds it took."""
    shutil.rmtree(output, ignore_errors=True)
    started, peaks = time.monotonic(), {}
    words = [sys.executable, str(PREPARE), str(root), str(output), "--num-proc", str(processes)]
    run = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while run.poll() is None:
        for process in family(run.pid):
            peaks[process] = max(peaks.get(process, 0), peak_of(process))
        time.sleep(0.2)
    if run.returncode:
        raise SystemExit(run.stdout.read())
    shutil.rmtree(output)
    return list(peaks.values()), time.monotonic() - started


def family(process: int) -> list[int]:
    """A process and all that it has started."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return []
    return [process, *(one for child in children for one in family(int(child)))]


def peak_of(process: int) -> int:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(main)
    app()
