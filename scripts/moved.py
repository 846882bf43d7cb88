"""Runs a script that has moved to benchmarks/ or experiments/, for its old command line."""

import os
import re
import subprocess
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

    Raises:
        SystemExit: always, with the script's exit status.
    """
    print(f"{sys.argv[0]}: moved to {script}, which runs now", file=sys.stderr)
    words = sys.argv[1:] if os.path.isdir("reports") else map(_now, sys.argv[1:])
    # In a process of its own: processes that the script starts import it by its name.
    done = subprocess.run([sys.executable, str(REPOSITORY / script), *words], check=False)
    raise SystemExit(done.returncode)


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
