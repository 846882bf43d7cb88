"""How good are traces of real neurons? Compares the default, and the filters it must beat, with trees drawn by hand.

All go through one tracer.

python benchmarks/real_neurons.py                        # every real stack with a trace, and 12 synthetic neurons
python benchmarks/real_neurons.py --model FOLDER_OR_NAME --threshold 0.4
python benchmarks/real_neurons.py --thresholds 0.3 0.5 0.8     # is the tree sensitive to it?
python benchmarks/real_neurons.py --zero-off-center      # and without what the model learned from the slices beside
the center python benchmarks/real_neurons.py --peers-dir FOLDER     # and kimimaro, from a folder that it is installed
in python benchmarks/real_neurons.py --neurofly-dir FOLDER  # and NeuroFly's network, from a folder that its wheel was
unpacked in

A line of JSON is kept for each stack and method, with a fingerprint of code, model and data: what is there already is
not computed again. The real stacks lie in ../shared/data/neurons (or NEURON_VIT3D_SHARED): folders of image.tif and
trace.swc. kimimaro and NeuroFly are GPL-3, so they are no extras of this package: they run beside it, where they can
be imported.
"""

import argparse
import json
import logging
import math
import multiprocessing
import os
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from real_neurons_methods import (
    BACKGROUND,
    CENTER_ONLY,
    KIMIMARO,
    NEUROFLY,
    SATO,
    Scorer,
    has_kimimaro,
    kimimaro_tree,
    our_tree,
)
from real_neurons_stacks import PACKAGE, Stack, default_data_dir, digest_of, digest_of_files, find_stacks
from real_neurons_tables import head, tables


_HERE = Path(__file__).parent
RESULTS = _HERE / "results" / "real_neurons"


@dataclass(frozen=True)
class Output:
    """A tree to be made of a scorer's scores, and the name that its figures have."""

    method: str
    threshold: float | None  # None: the scorer's own
    by_kimimaro: bool = False


@dataclass(frozen=True)
class Task:
    """A stack and a scorer, with all trees that are still to be made of its scores."""

    stack: Stack
    scorer: Scorer
    outputs: tuple[Output, ...]
    cache: Path | None = None
    overlays: Path | None = None


def main(
    data_dir: Path | None = None,
    output: Path = RESULTS,
    model: str | None = None,
    threshold: float | None = None,
    thresholds: Sequence[float] = (),
    zero_off_center: bool = False,
    synthetic: int = 12,
    stacks: Sequence[str] = (),
    filters: bool = True,
    peers_dir: str | None = None,
    neurofly_dir: str | None = None,
    jobs: int = 2,
    cache: Path | None = None,
    overlays: Path | None = None,
    again: bool = False,
) -> None:
    """Measures all methods on all stacks and writes the table of them; what the options are is said by `--help`.

    Raises:
        SystemExit: a stack could not be measured by a method; all others were.
        ValueError: there are no stacks, or none of a name.
    """
    started = time.monotonic()
    found = find_stacks(data_dir or default_data_dir(), synthetic, list(stacks))
    name = Path(model).name if model else "default"
    plan = {Scorer(name, model, threshold=threshold): [Output(name, threshold)]}
    own = plan[Scorer(name, model, threshold=threshold)]
    own += [Output(f"{name} at {other:g}", other) for other in thresholds if other != threshold]
    if has_kimimaro(peers_dir):
        own.append(Output(KIMIMARO, threshold, by_kimimaro=True))
    if zero_off_center:
        plan[Scorer(name + CENTER_ONLY, model, True, threshold)] = [Output(name + CENTER_ONLY, threshold)]
    if neurofly_dir:
        plan[Scorer(NEUROFLY, threshold=0.5, neurofly_dir=neurofly_dir)] = [Output(NEUROFLY, 0.5)]
    if filters:
        plan |= {Scorer(one): [Output(one, None)] for one in (SATO, BACKGROUND)}

    lines_file = output.with_name(output.name + ".jsonl")
    known = {} if again else read_lines(lines_file)
    tasks = open_tasks(found, plan, known, cache, overlays)
    lines_file.parent.mkdir(parents=True, exist_ok=True)
    # Processes that are started now read them: one thread each, or they would fight for the cores.
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    context, failed = multiprocessing.get_context("spawn"), []
    with open(lines_file, "a") as file, ProcessPoolExecutor(jobs, context, begin, (os.getpid(), peers_dir)) as pool:
        running = {pool.submit(measure, task): task for task in tasks}
        for number, done in enumerate(as_completed(running), start=1):
            if done.exception() is not None:
                failed.append(f"{running[done].stack.name}, {running[done].scorer.name}: {done.exception()!r}")
                print(failed[-1], file=sys.stderr, flush=True)
                continue
            for line in done.result():
                file.write(to_json(line) + "\n")
                file.flush()
                print(
                    f"{number}/{len(tasks)} {line['stack']}, {line['method']}: F1 {line['f1']:.3f}, "
                    f"wide {line['f1_wide']:.3f}, traced in {line['trace_seconds']:.1f} s",
                    flush=True,
                )
    known = read_lines(lines_file)
    write_lines(lines_file, known)
    wanted = [(stack.name, one.method) for stack in found for outputs in plan.values() for one in outputs]
    lines = [known[key] for key in wanted if key in known]
    text = "\n".join([*head([stack.group for stack in found], name, threshold), *tables(lines, name)])
    output.with_name(output.name + ".md").write_text(text + "\n")
    print(text.split("## Stacks")[0])
    print(f"{len(tasks)} scores of stacks in {(time.monotonic() - started) / 60:.1f} minutes")
    if failed:
        raise SystemExit(f"{len(failed)} of {len(tasks)} failed: {'; '.join(failed)}")


def open_tasks(
    stacks: list[Stack], plan: dict[Scorer, list[Output]], known: dict, cache: Path | None, overlays: Path | None
) -> list[Task]:
    """What has no line of the same fingerprint, or no picture where one is asked for; the largest images first."""
    tasks = []
    for stack in stacks:
        for scorer, outputs in plan.items():
            kept = cache / f"{scorer.fingerprint(stack)}.npy" if cache else None
            missing = tuple(
                one
                for one in outputs
                if known.get((stack.name, one.method), {}).get("fingerprint") != fingerprint(stack, scorer, one)
                or (overlays is not None and not picture_of(overlays, stack, one).exists())
            )
            if missing:
                tasks.append(Task(stack, scorer, missing, kept, overlays))
    return sorted(tasks, key=lambda task: -image_bytes(task.stack))


def image_bytes(stack: Stack) -> int:
    return (stack.folder / "image.tif").stat().st_size if stack.folder else 0


def fingerprint(stack: Stack, scorer: Scorer, output: Output) -> str:
    """Changes with whatever a line's figures depend on."""
    code = [
        *sorted((PACKAGE / "morphology").glob("*.py")),
        *sorted((PACKAGE / "tracing").glob("*.py")),
        PACKAGE / "evaluation" / "ranking.py",
    ]
    code += [_HERE / "real_neurons_figures.py", _HERE / "real_neurons_methods.py"]
    return digest_of(scorer.fingerprint(stack), digest_of_files(*code), output.threshold, output.by_kimimaro)


def begin(parent: int, peers_dir: str | None) -> None:
    """Readies a process: it finds kimimaro, and it ends when its parent has been killed."""
    has_kimimaro(peers_dir)
    logging.getLogger("neuron_vit3d").setLevel(logging.ERROR)  # what each tree leaves out is not to be told

    def end_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(2)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def measure(task: Task) -> list[dict]:
    """The lines of a task: runs in a process of its own, whose one thread's time is what the seconds are."""
    import torch
    from real_neurons_figures import score_figures, tree_figures

    torch.set_num_threads(1)
    is_kept = task.cache is not None and task.cache.exists()
    volume, gold = task.stack.load()
    started = time.process_time()
    scores = task.scorer.scores(volume, task.cache)
    score_seconds = None if is_kept else time.process_time() - started
    of_scores = score_figures(scores, gold)
    lines = []
    for output in task.outputs:
        threshold = task.scorer.own_threshold(scores) if output.threshold is None else output.threshold
        started = time.process_time()
        if output.by_kimimaro:
            tree = kimimaro_tree(scores >= threshold)
        else:
            tree = our_tree(scores, threshold, volume, is_probability=not task.scorer.is_filter)
        line = {
            "stack": task.stack.name,
            "group": task.stack.group,
            "method": output.method,
            "fingerprint": fingerprint(task.stack, task.scorer, output),
            "threshold_of_scores": threshold,
            "score_seconds": score_seconds,
            "trace_seconds": time.process_time() - started,
        }
        lines.append(line | of_scores | tree_figures(tree, gold, scores.shape))
        if task.overlays is not None:
            draw(picture_of(task.overlays, task.stack, output), volume.array, tree, gold)
    return lines


def picture_of(folder: Path, stack: Stack, output: Output) -> Path:
    return folder / f"{stack.name}.{output.method.replace(' ', '_').replace(',', '')}.png"


def draw(path: Path, image, tree, gold) -> None:
    """A PNG of the image's projections, and of what agrees, was missed and is extra."""
    from neuron_vit3d.evaluation.overlay import Projections, write_tree_difference

    path.parent.mkdir(parents=True, exist_ok=True)
    projections = Projections(image.shape)
    projections.add(0, image)
    write_tree_difference(path, projections, tree, gold)


def to_json(line: dict) -> str:
    """JSON knows neither infinity nor NaN: they become null."""
    return json.dumps(
        {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in line.items()}
    )


def read_lines(path: Path) -> dict[tuple[str, str], dict]:
    """The last line of each stack and method; a line that was cut off by an interruption is left out."""
    known = {}
    for text in path.read_text().splitlines() if path.exists() else ():
        try:
            line = json.loads(text)
        except ValueError:
            warnings.warn(f"{path}: a line that is no JSON is left out", stacklevel=2)
            continue
        known[line["stack"], line["method"]] = {
            key: math.nan if value is None else value for key, value in line.items()
        }
    return known


def write_lines(path: Path, known: dict[tuple[str, str], dict]) -> None:
    """The file again, one line for each stack and method, in their order."""
    partial = path.with_suffix(".partial")
    partial.write_text("".join(to_json(known[key]) + "\n" for key in sorted(known)))
    partial.replace(path)


def options() -> dict:
    """What the command line says, for `main`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data-dir", type=Path, help="folder of the real stacks; without it, beside the checkout")
    add("--output", type=Path, default=RESULTS, help="where the results go, without .jsonl and .md")
    add("--model", help="checkpoint (a folder, or a name on the Hub) instead of the embedded default")
    add("--threshold", type=float, help="of the model's scores; without it, that of their noise, as `trace` takes it")
    add("--thresholds", type=float, nargs="+", default=(), help="trace the model's scores at each of these, too")
    add("--zero-off-center", action="store_true", help="measure it with its center kernel alone, too")
    add("--synthetic", type=int, default=12, help="how many synthetic neurons")
    add("--stacks", nargs="+", default=(), help="names of stacks; all without it")
    add(
        "--no-filters", dest="filters", action="store_false", help="leave Sato's filter and background subtraction out"
    )
    add("--peers-dir", help="folder that kimimaro is installed in")
    add("--neurofly-dir", help="folder that NeuroFly's wheel was unpacked in (8 s of CPU for a million voxels)")
    add("--jobs", type=int, default=2, help="processes, each with one thread")
    add("--cache", type=Path, help="folder in which scores are kept, 4 bytes a voxel")
    add("--overlays", type=Path, help="folder for a PNG of each stack and method")
    add("--again", action="store_true", help="compute what is there already, too")
    return vars(parser.parse_args())


if __name__ == "__main__":
    try:
        main(**options())
    except ValueError as error:
        sys.exit(f"error: {error}")
