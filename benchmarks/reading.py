"""Measures the time and the peak memory of reading v3dpbd files, beside v3d-py-helper's.

Memory is counted above what the process had before.

python benchmarks/reading.py --output benchmarks/results/reading.md --peers folder

where the folder holds v3d-py-helper (MIT), installed outside the environment: pip install --target folder
v3d-py-helper
"""

import os
import platform
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import outcome
import typer
from outcome import OutputOption


# The encoder is the tests'.
_FILES = runpy.run_path(str(Path(__file__).resolve().parents[1] / "tests" / "support" / "pbd_files.py"))
PBD, encode_pbd, header = (_FILES[name] for name in ("PBD", "encode_pbd", "header"))

CHUNK = (8, 128, 128)  # is encoded once; its stream is repeated to fill the file
READERS = {
    "neuron_vit3d": "from neuron_vit3d.volumes import read_volume\ndef read(path): return read_volume(path).array",
    "v3d-py-helper": "from v3dpy.loaders import PBD\ndef read(path): return PBD().load(path)",
}
# Runs in a process of its own. VmHWM is the process's own peak; a first, tiny file takes imports out of both figures.
MEASURE = """
import sys, time, zlib
def peak(): return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024
read(sys.argv[2])
before, started, busy = peak(), time.perf_counter(), time.process_time()
array = read(sys.argv[1])
seconds, busy = time.perf_counter() - started, time.process_time() - busy
print(seconds, busy, (peak() - before) / array.nbytes, zlib.crc32(array.reshape(-1).data))
"""


def main(
    output: OutputOption = None,
    peers: Annotated[Path | None, typer.Option(help="Folder that v3d-py-helper was installed into.")] = None,
    side: Annotated[int, typer.Option(help="Slices, rows and columns of the volumes; a multiple of 128.")] = 512,
    rounds: int = 2,
) -> None:
    """Reads volumes of several kinds, 8 and 16 bit, and prints a table."""
    rows, worst = [], {"seconds": 0.0, "memory": 0.0}
    peer = peers is not None and peer_works(peers)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "large.v3dpbd")
        for dtype in (np.uint8, np.uint16):
            tiny = Path(folder, f"tiny{np.dtype(dtype).itemsize}.v3dpbd")
            tiny.write_bytes(header(PBD, (1, 4, 4, 4), np.dtype(dtype).itemsize) + encode_pbd(np.zeros(64, dtype)))
            for kind, stream, voxels in cases(dtype):
                shape = write(path, stream, voxels, dtype, side)
                ratio = path.stat().st_size / (np.prod(shape) * np.dtype(dtype).itemsize)
                figures = {name: [] for name in READERS if name == "neuron_vit3d" or peer}
                for _ in range(rounds):  # one after the other, so that whatever else the machine does falls on both
                    for name in figures:
                        figures[name].append(measure(name, path, tiny, peers))
                checks = {values[-1] for measured in figures.values() for values in measured}
                if len(checks) > 1:
                    raise SystemExit(f"{kind}: the readers disagree: {checks}")
                best = {
                    name: (min(v[0] for v in values), min(v[1] for v in values), max(v[2] for v in values))
                    for name, values in figures.items()
                }
                ours, theirs = best["neuron_vit3d"], best.get("v3d-py-helper")
                if not kind.startswith("hostile"):
                    worst = {"seconds": max(worst["seconds"], ours[0]), "memory": max(worst["memory"], ours[2])}
                cells = [
                    f"{times[0]:.2f} ({times[1]:.2f}) | {times[2]:.2f}" if times else "- | -"
                    for times in (ours, theirs)
                ]
                rows.append(f"| {8 * np.dtype(dtype).itemsize} | {kind} | {ratio:.2f} | {' | '.join(cells)} |")
                print(rows[-1], flush=True)
    version = f"{os.cpu_count()} cores, {platform.machine()}, numpy {np.__version__}"
    lines = [
        f"`benchmarks/reading.py` ({version}; {side} x {side} x {side} voxels; best time and largest peak of "
        f"{rounds})",
        "",
        "| bits | volume | file / array | seconds (of processor) | peak memory / array | v3d-py-helper: seconds (of "
        "processor) | peak memory / array |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        "Peak memory counts the array itself, so 1 is the least there can be. Both readers gave the same voxels."
        if peer
        else "v3d-py-helper was not installed, so it was not measured. Peak memory counts the array itself.",
        f"Longest but for the hostile streams: {worst['seconds']:.2f} s; most memory: {worst['memory']:.2f} x the "
        "array.",
        "Hostile streams are made of the shortest operations there are; no encoder writes them.",
    ]
    text = "\n".join(lines) + "\n"
    outcome.write(text, output)


def cases(dtype):
    """Makes (name, stream, its voxels) of several kinds.

    They are what a greedy encoder makes of images, the worst it can be driven to, and worse than that.
    """
    import neuron_vit3d

    random = np.random.default_rng(0)
    wide = np.dtype(dtype).itemsize == 2
    image = neuron_vit3d.synthetic_neuron(CHUNK, seed=1).volume.array
    sparse = np.where(image > np.percentile(image, 97), image, 0).astype(int)
    most = np.iinfo(dtype).max
    yield "sparse neuron, dark background", encode_pbd(sparse.astype(dtype)), image.size
    for sigma in (3, 8):
        noisy = np.clip(sparse + (400 if wide else 40) + random.normal(0, sigma, CHUNK), 0, most).astype(dtype)
        yield f"the same with noise, sigma {sigma}", encode_pbd(noisy), image.size
    yield "random voxels", encode_pbd(random.integers(0, most, CHUNK, dtype, endpoint=True)), image.size
    values = short_operations(random, 40_000)
    yield "short operations: 1 voxel stored, 3 repeated, 4 differences", encode_pbd(values.astype(dtype)), len(values)
    shortest = [0, 32, 223] if wide else [0, 33, 128]
    stream = b""
    for kind in random.integers(0, 3, 1 << 16):
        stream += bytes([shortest[kind]]) + random.bytes(1 if kind == 1 or not wide else 2)
    yield "hostile: operations of 1 voxel", stream, 1 << 16


def short_operations(random: np.random.Generator, operations: int) -> np.ndarray:
    """Voxels of which a greedy encoder makes the shortest operations that pay."""
    voxels, value = [], 100
    for kind in random.integers(0, 3, operations):
        if kind == 0:
            value = int(random.integers(60, 190))
            voxels += [value] * 3
        elif kind == 1:
            value = (value + 30 + int(random.integers(60))) % 200 + 20
            voxels.append(value)
        else:
            for _ in range(4):
                value = min(max(value + int(random.integers(-1, 2)), 0), 250)
                voxels.append(value)
    return np.array(voxels)


def write(path: Path, stream: bytes, voxels: int, dtype, side: int) -> tuple[int, ...]:
    """Writes the stream as often as it fits into side ** 3 voxels, and returns the shape (c, z, y, x).

    The shape is one row where the stream does not fill a cube.
    """
    times = side**3 // voxels
    shape = (1, side, side, side) if times * voxels == side**3 else (1, 1, 1, times * voxels)
    with path.open("wb") as file:
        file.write(header(PBD, shape, np.dtype(dtype).itemsize))
        for _ in range(times):
            file.write(stream)
    return shape


def peer_works(peers: Path) -> bool:
    """Whether v3d-py-helper can be imported from that folder."""
    code = "from v3dpy.loaders import PBD"
    return subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(peers)}).returncode == 0


def measure(name: str, path: Path, tiny: Path, peers: Path | None) -> tuple[float, float, float, int]:
    """Seconds, those of the processor, peak memory over the array's bytes, and a checksum of the voxels."""
    env = os.environ | ({"PYTHONPATH": str(peers)} if name == "v3d-py-helper" else {})
    command = [sys.executable, "-c", READERS[name] + MEASURE, str(path), str(tiny)]
    *figures, check = subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout.split()
    return *map(float, figures), int(check)


if __name__ == "__main__":
    typer.run(main)
