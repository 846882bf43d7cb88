"""Twenty stacks of which three are damaged, segmented by one command that is killed in the middle and started again.

Nothing of the results may depend on the kill: they are compared, file by file, with those of a run that nobody
disturbed.

    python benchmarks/batch.py --output benchmarks/results/batch.md
"""

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import typer
from basics import report
from outcome import OutputOption

from neuron_vit3d import synthetic_neuron, write_volume


app = typer.Typer(help=__doc__.splitlines()[0], add_completion=False)

STACKS, SHAPE, KILLED_AFTER = 20, (12, 128, 128), 8
SUFFIXES = (".tif", ".v3draw", ".npy")
DAMAGED = {3: "cut short", 9: "empty", 14: "not a number"}  # which stack -> what is wrong with it


@app.command()
def main(output: OutputOption = None, first_seed: int = 7000) -> None:
    """Makes the stacks, runs the command, kills it, runs it again, and runs it undisturbed elsewhere."""
    output = None if output is None else output.resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make_stacks(first_seed)
        killed, seconds = run_and_kill("out")
        after_kill = summary("out")
        again, seconds_again = run("out")
        whole, seconds_whole = run("undisturbed")
        lines = [
            f"{STACKS} synthetic stacks of {' x '.join(map(str, SHAPE))} voxels (z x y x x), seeds from {first_seed}; "
            f"{len(DAMAGED)} are damaged: "
            + ", ".join(f"n{number:02} ({what})" for number, what in DAMAGED.items())
            + ". `neuron-vit3d segment stacks -o out` with the embedded default.",
            "",
            f"1. Killed (SIGKILL) after {seconds:.1f} s, when {KILLED_AFTER} were done: exit status {killed}; "
            f"summary.csv then has {count(after_kill)}.",
            f"2. The same command again: exit status {again.returncode}, {seconds_again:.1f} s. It said",
            "",
            *as_code(again.stderr + again.stdout.splitlines()[-1]),
            "",
            f"3. Undisturbed, in another folder: exit status {whole.returncode}, {seconds_whole:.1f} s; "
            f"{count(summary('undisturbed'))}.",
            f"4. {differences()}",
            "",
            "summary.csv of the run that was killed and started again (without `made_with`):",
            "",
            *table(summary("out")),
        ]
    report("batch.py", lines, output)


def make_stacks(first_seed: int) -> None:
    """Writes the stacks in several formats, and damages some."""
    Path("stacks").mkdir()
    for number in range(STACKS):
        path = Path("stacks", f"n{number:02}{SUFFIXES[number % len(SUFFIXES)]}")
        volume = synthetic_neuron(SHAPE, seed=first_seed + number).volume
        if DAMAGED.get(number) == "not a number":
            array = volume.array.astype("float32")
            array[2, 3, 4] = float("nan")
            volume = type(volume)(array, volume.voxel_size)
        write_volume(path, volume)
        if DAMAGED.get(number) == "cut short":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        elif DAMAGED.get(number) == "empty":
            path.write_bytes(b"")


def command(folder: str) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "neuron_vit3d.cli", "segment", "stacks", "-o", folder, "--quiet"]


def run_and_kill(folder: str) -> tuple[int, float]:
    """Kills the command as soon as some stacks are done; returns its exit status and how long it ran."""
    begun = time.monotonic()
    process = subprocess.Popen(command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        if sum(row["status"] == "done" for row in summary(folder)) >= KILLED_AFTER:
            process.send_signal(signal.SIGKILL)
            process.wait()
        time.sleep(0.01)
    return process.returncode, time.monotonic() - begun


def run(folder: str) -> tuple[subprocess.CompletedProcess, float]:
    """Runs the command to its end."""
    begun = time.monotonic()
    done = subprocess.run(command(folder), capture_output=True, text=True, check=False)
    return done, time.monotonic() - begun


def summary(folder: str) -> list[dict[str, str]]:
    """The rows of the summary; none where it is not there yet."""
    path = Path(folder, "summary.csv")
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def count(rows: list[dict[str, str]]) -> str:
    """How many rows have each status."""
    found = {status: sum(row["status"] == status for row in rows) for status in ("done", "failed", "not begun")}
    return ", ".join(f"{number} {status}" for status, number in found.items())


def differences() -> str:
    """Compares all results of both folders; the summary but for seconds."""
    ours, theirs = ({path.name for path in Path(folder).iterdir()} for folder in ("out", "undisturbed"))
    # The scores' description tells what they were made of, which is the same for both.
    differ = [name for name in sorted(ours & theirs - {"summary.csv"}) if not same(name)]
    ignored = {"seconds", "made_with"}
    rows = [
        [{name: cell for name, cell in row.items() if name not in ignored} for row in summary(folder)]
        for folder in ("out", "undisturbed")
    ]
    words = [f"{len(ours & theirs) - 1} results in both folders, {len(ours ^ theirs)} in one alone"]
    words.append(f"{len(differ)} differ in a byte" + (f" ({', '.join(differ)})" if differ else ""))
    words.append(f"the summaries {'are equal' if rows[0] == rows[1] else 'differ'} (but for the seconds)")
    return "; ".join(words) + "."


def same(name: str) -> bool:
    """Whether a result is the same, byte for byte, in both folders."""
    return Path("out", name).read_bytes() == Path("undisturbed", name).read_bytes()


def as_code(text: str) -> list[str]:
    """The lines as a block of code."""
    return ["```", *text.splitlines(), "```"]


def table(rows: list[dict[str, str]]) -> list[str]:
    """The rows in Markdown."""
    names = [name for name in rows[0] if name not in ("made_with", "name")]
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    for row in rows:
        cells = (row[name].replace("|", "\\|") for name in names)
        lines.append(f"| {' | '.join(shorter(cell) for cell in cells)} |")
    return lines


def shorter(cell: str) -> str:
    """A number with at most six digits after the point."""
    try:
        return json.dumps(round(float(cell), 6)) if "." in cell else cell
    except ValueError:
        return cell


if __name__ == "__main__":
    app()
