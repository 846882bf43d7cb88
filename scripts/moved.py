"""Runs a script that has moved to benchmarks/ or experiments/, for its old command line."""

import os
import re
import runpy
import sys
from pathlib import Path


REPOSITORY = Path(__file__).resolve().parents[1]
# Where what lay in reports/ is now; the first that fits counts.
_REPORTS = (
    (r"reports/tuff_split\.json", "experiments/tuff_split.json"),
    (r"reports/(paper|paper_gpu|variants)(/results)?(?=/|$)", r"experiments/results/\1"),
    (r"reports/?(?!\w*/)", "benchmarks/results/"),
)


def run(script: str) -> None:
    """Says where a script is now, and runs it there with this process's options.

    Args:
        script: its path in the repository. A word of the command line that begins with `reports/`, or is `reports`,
            becomes the new place, unless there is such a folder.
    """
    print(f"{sys.argv[0]}: moved to {script}, which runs now", file=sys.stderr)
    path = REPOSITORY / script
    sys.argv = [str(path), *(word if os.path.isdir("reports") else _now(word) for word in sys.argv[1:])]
    sys.path.insert(0, str(path.parent))  # where a script finds what lies beside it
    runpy.run_path(str(path), run_name="__main__")


def _now(word: str) -> str:
    option, equals, place = word.rpartition("=") if word.startswith("-") else ("", "", word)
    if place.split("/")[0] != "reports":
        return word
    for old, new in _REPORTS:
        moved, count = re.subn(rf"\A{old}", new, place)
        if count:
            print(f"{place}: now {moved.rstrip('/')}", file=sys.stderr)
            return f"{option}{equals}{moved.rstrip('/')}"
    return word
