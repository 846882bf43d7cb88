"""Measures `rasterize`, and sets swcgeom's `ToImageStack` beside it; writes benchmarks/results/rasterize.md.

python benchmarks/rasterize.py compare                   # this package alone; the report says so
pip install --target /tmp/peer swcgeom
python benchmarks/rasterize.py compare --peer /tmp/peer          # with swcgeom, which is no dependency

Every figure is of a fresh process. Memory is what the process needs at its peak above what it had before drawing.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer


app = typer.Typer(help=__doc__.splitlines()[0], add_completion=False)
LIMIT_SECONDS, LIMIT_TIMES_THE_MASK = 3.0, 2.0


@dataclass(frozen=True)
class Case:
    """A random neuron: branches of 1,000 nodes, each beginning on an earlier one.

    They wander and turn back at the sides.
    """

    name: str
    num_nodes: int
    side: int
    step: tuple[float, float]  # voxels between nodes
    radius: tuple[float, float]
    with_peer: bool

    def draw(self, seed: int = 0) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        length = min(1000, self.num_nodes)
        xyz, parents = np.empty((self.num_nodes, 3)), np.arange(-1, self.num_nodes - 1)
        for first in range(0, self.num_nodes, length):
            start = xyz[rng.integers(first)] if first else np.full(3, self.side / 2)
            if first:
                parents[first] = int(np.flatnonzero((xyz[:first] == start).all(axis=1))[0])
            heading = rng.normal(0, 1, 3) + 0.25 * rng.normal(0, 1, (length, 3)).cumsum(axis=0)
            heading *= rng.uniform(*self.step, (length, 1)) / np.linalg.norm(heading, axis=1, keepdims=True)
            walk = start + heading.cumsum(axis=0)
            last = self.side - 1
            xyz[first : first + length] = last - np.abs(last - np.mod(walk, 2 * last))  # mirrored at the sides
        return {"xyz": xyz, "radii": rng.uniform(*self.radius, self.num_nodes), "parents": parents}


CASES = [
    Case("a node a voxel, radii 1 to 3", 200_000, 512, (0.8, 1.2), (1, 3), False),
    Case("edges of 5 to 10 voxels, radii 1 to 6", 200_000, 512, (5, 10), (1, 6), False),
    Case("a node a voxel, radii 1 to 3", 2_000, 128, (0.8, 1.2), (1, 3), True),
    Case("edges of 5 to 10 voxels, radii 2 to 2", 2_000, 128, (5, 10), (2, 2), True),
    Case("edges of 5 to 10 voxels, radii 1 to 6", 2_000, 128, (5, 10), (1, 6), True),
    Case("a node a voxel, radii 1 to 3", 20_000, 256, (0.8, 1.2), (1, 3), True),
]


@app.command()
def compare(
    peer: Annotated[Path | None, typer.Option(help="Folder that swcgeom was installed into (pip --target).")] = None,
    output: Annotated[Path, typer.Option(help="Markdown file to write.")] = Path("benchmarks/results/rasterize.md"),
    rounds: Annotated[int, typer.Option(help="Processes of each kind, taken in turn; the quickest counts.")] = 3,
) -> None:
    """Time, memory and agreement."""
    load = os.getloadavg()[0]
    version = peer_version(peer)
    lines = [
        f"`benchmarks/rasterize.py`{' --peer' if version else ''} ({machine()}; best of {rounds} processes)",
        "",
        f"Load of the machine over the minute before, by others: {load:.1f} processes.",
        "",
        f"swcgeom {version} (`ToImageStack`) drew the same trees in the same run."
        if version
        else "swcgeom was not installed (see `--peer`), so nothing stands beside these figures.",
        "",
        "| tree | mask | drawn by | seconds (of the processor) | peak memory, MB (over the mask's size) | voxels "
        "inside | Dice with `rasterize` |",
        "|---|---|---|---|---|---|---|",
    ]
    where = []
    held = True
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            np.savez(Path(folder, "tree.npz"), side=case.side, **case.draw())
            programs = ["rasterize", *(["swcgeom"] if version and case.with_peer else [])]
            figures = {program: [] for program in programs}
            for _ in range(rounds):
                for program in programs:
                    figures[program].append(run(program, Path(folder), peer))
            masks = {program: np.load(Path(folder, f"{program}.npy")) for program in programs}
            ours = masks["rasterize"]
            for program in programs:
                seconds, busy = (min(figure[key] for figure in figures[program]) for key in ("seconds", "busy"))
                megabytes = max(figure["megabytes"] for figure in figures[program])
                memory = megabytes * 1e6 / ours.nbytes
                both = 2 * (ours & masks[program]).sum() / (ours.sum() + masks[program].sum())
                lines.append(
                    f"| {case.num_nodes:,} nodes, {case.name} | {case.side}^3 | {program} | {seconds:.2f} "
                    f"({busy:.2f}) | {megabytes:.0f} ({memory:.2f}) | {masks[program].sum():,} | "
                    f"{f'{both:.5f}' if program != 'rasterize' else ''} |"
                )
                if program == "rasterize" and case.num_nodes == 200_000:
                    held &= seconds <= LIMIT_SECONDS and memory <= LIMIT_TIMES_THE_MASK
                if program == "swcgeom":
                    where.append(f"{case.num_nodes:,} nodes, {case.name}: " + differences(case, ours, masks[program]))
            typer.echo(lines[-1])
    verdict = "holds" if held else "DOES NOT HOLD in this run"
    lines += [
        "",
        f"The aim for 200,000 nodes in 512^3, {LIMIT_SECONDS:.0f} s and {LIMIT_TIMES_THE_MASK:.0f} times the mask's "
        f"memory (the mask itself included): {verdict}.",
        "",
        *windows(rounds),
    ]
    if where:
        lines += ["", "## Where the two differ", ""]
        lines += [
            "A voxel is inside for `rasterize` by the radius at the nearest point of the axis. swcgeom draws round "
            "cones: all balls along an edge, which reach further beside a taper; an edge whose radius changes by more "
            "than its length (one "
            "ball inside the other) it does not draw as either. It keeps coordinates in single precision.",
            "",
            *[f"- {line}" for line in where],
        ]
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("\n".join(lines) + "\n")
    typer.echo("\n".join(lines))


@app.command(hidden=True)
def draw(program: str, folder: Path) -> None:
    """One program, one tree, in this process: the mask to a file, figures to the standard output."""
    data = np.load(folder / "tree.npz")
    side, xyz, radii, parents = int(data["side"]), data["xyz"], data["radii"], data["parents"]
    if program == "rasterize":
        from neuron_vit3d.morphology import Tree, rasterize

        tree = Tree.from_parents(xyz, radii, parents)
        rasterize(Tree.from_parents(xyz[:2], radii[:2], [-1, 0]), (8, 8, 8))  # imports

        def work() -> np.ndarray:
            return rasterize(tree, (side, side, side))
    else:
        from swcgeom.core import Tree as PeerTree
        from swcgeom.transforms import ToImageStack

        x, y, z = xyz.T.astype(np.float32)
        n = len(radii)
        tree = PeerTree(n, id=np.arange(n), type=np.full(n, 3), x=x, y=y, z=z, r=radii.astype(np.float32), pid=parents)

        def work() -> np.ndarray:
            # It samples at half a voxel from the corner it is given: these are the centers 0, 1, 2 ...
            corners = ((-0.5,) * 3, (side - 0.5,) * 3)
            mask = np.empty((side, side, side), dtype=bool)
            for z, frame in enumerate(ToImageStack(1).transform(tree, verbose=False, ranges=corners)):
                mask[z] = frame.T > 0  # frames are (x, y)
            return mask

    reset_peak_memory()
    before, busy, started = memory_of_this_process("VmRSS"), time.process_time(), time.perf_counter()
    mask = work()
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    figures = {"seconds": seconds, "busy": busy, "megabytes": memory_of_this_process("VmHWM") - before}
    np.save(folder / f"{program}.npy", mask)
    print(json.dumps(figures))


def run(program: str, folder: Path, peer: Path | None) -> dict[str, float]:
    environment = dict(os.environ)
    if program == "swcgeom" and peer is not None:
        environment["PYTHONPATH"] = str(peer)
    words = [sys.executable, __file__, "draw", program, str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{program} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def peer_version(peer: Path | None) -> str | None:
    """swcgeom's version, None where it cannot be imported."""
    environment = dict(os.environ) | ({"PYTHONPATH": str(peer)} if peer is not None else {})
    code = "import importlib.metadata as m; import swcgeom.transforms; print(m.version('swcgeom'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    if done.returncode and peer is not None:
        raise SystemExit(
            f"{peer}: expected swcgeom there (pip install --target), importing it failed:\n{done.stderr[-500:]}"
        )
    return None if done.returncode else done.stdout.strip()


def differences(case: Case, ours: np.ndarray, theirs: np.ndarray) -> str:
    """How many voxels each has alone, and how far these are from the surface by either definition."""
    from neuron_vit3d.morphology import Tree, rasterize

    data = case.draw()
    tree = Tree.from_parents(data["xyz"], data["radii"], data["parents"])
    surface = rasterize(tree, ours.shape, radius_scale=1 + 1e-5) & ~rasterize(tree, ours.shape, radius_scale=1 - 1e-5)
    cones = balls_along_edges(tree, ours.shape)
    child, parent = tree.segments.T
    length = np.linalg.norm(tree.xyz[child] - tree.xyz[parent], axis=1)
    steep = np.flatnonzero(np.abs(tree.radii[child] - tree.radii[parent]) >= length)
    in_steep = np.zeros(ours.shape, dtype=bool)
    if len(steep):
        ends = np.stack([child[steep], parent[steep]], axis=1).reshape(-1)
        row = np.arange(len(ends))
        pieces = Tree.from_parents(tree.xyz[ends], tree.radii[ends], np.where(row % 2, row - 1, -1))
        in_steep = rasterize(pieces, ours.shape)
    only_ours, only_theirs = ours & ~theirs, theirs & ~ours
    return (
        f"{only_ours.sum():,} voxels for `rasterize` alone ({(only_ours & in_steep).sum():,} of them inside edges "
        f"whose radius changes by more than their length); {only_theirs.sum():,} for swcgeom alone "
        f"({(only_theirs & cones).sum():,} of them in balls along the edges, {(only_theirs & surface).sum():,} "
        "within 1e-5 of the radius from the surface)"
    )


def balls_along_edges(tree, shape: tuple[int, int, int], per_edge: int = 64) -> np.ndarray:
    """All balls along each edge, by many of them as lone nodes: the other definition, nearly."""
    from neuron_vit3d.morphology import Tree, rasterize

    child, parent = tree.segments.T
    share = np.linspace(0, 1, per_edge)[:, None, None]
    xyz = (tree.xyz[child] * (1 - share) + tree.xyz[parent] * share).reshape(-1, 3)
    radii = (tree.radii[child] * (1 - share[..., 0]) + tree.radii[parent] * share[..., 0]).reshape(-1)
    mask = np.zeros(shape, dtype=bool)
    for part in np.array_split(np.arange(len(radii)), max(len(radii) // 100_000, 1)):
        mask |= rasterize(Tree.from_parents(xyz[part], radii[part] * (1 + 1e-5), np.full(len(part), -1)), shape)
    return mask


def windows(rounds: int) -> list[str]:
    """Milliseconds for the labels of a training block, with a tree of 10,000 nodes."""
    from neuron_vit3d.data.labels import LabelPolicy, draw_labels
    from neuron_vit3d.morphology import Tree

    side, shape = 512, (5, 280, 280)
    data = Case("", 10_000, side, (0.8, 1.2), (1, 3), False).draw()
    tree = Tree.from_parents(data["xyz"], data["radii"], data["parents"])
    rng = np.random.default_rng(0)
    image = rng.integers(0, 60, (side, side, side), dtype=np.uint8)
    origins = rng.integers(0, side - np.array(shape), (100, 3)).tolist()
    policies = {
        "the mask": LabelPolicy(),
        "with a band of 1 voxel": LabelPolicy(edge_band=1),
        "with a band, untraced signal ignored": LabelPolicy(edge_band=1, ignore_untraced=True),
    }
    lines = [
        "| labels of 5 x 280 x 280 windows of a tree of 10,000 nodes in 512^3 | ms a window |",
        "|---|---|",
    ]
    for name, policy in policies.items():
        best = np.inf
        for _ in range(rounds + 1):
            started = time.perf_counter()
            for z, y, x in origins:
                part = image[z : z + shape[0], y : y + shape[1], x : x + shape[2]]
                draw_labels(tree, shape, policy, image=part, level=50.0, origin=(z, y, x))
            best = min(best, time.perf_counter() - started)
        lines.append(f"| {name} | {1000 * best / len(origins):.2f} |")
    return lines


def memory_of_this_process(key: str) -> float:
    """Megabytes; VmRSS now, VmHWM at the peak. Linux only."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024 / 1e6
    raise SystemExit(f"/proc/self/status does not tell {key}")


def reset_peak_memory() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def machine() -> str:
    import platform

    return (
        f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}, Python {platform.python_version()}, numpy "
        f"{np.__version__}"
    )


if __name__ == "__main__":
    app()
