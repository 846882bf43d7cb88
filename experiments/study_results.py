"""The results of a study's runs: one file of JSON, a line a run, which runs side by side may add to."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from neuron_vit3d.evaluation.report import Result
from neuron_vit3d.files import append_line


class StudyResults:
    """What is kept of finished runs, by their names.

    Args:
        folder: of `results.jsonl`. Files `<name>.json` beside it are of older versions, which wrote one a run. They
            count as well; where a run is in both, the line does.
    """

    def __init__(self, folder: Path):
        self.folder, self.path = folder, folder / "results.jsonl"

    def read(self) -> dict[str, Result]:
        """Returns all results, sorted by name.

        Raises:
            ValueError: a line or a file does not hold the result of a run.
        """
        found = {path.stem: _result(path.read_text(), str(path))[1] for path in self.folder.glob("*.json")}
        text = self.path.read_text() if self.path.exists() else ""
        *lines, rest = text.split("\n")
        if rest:
            print(f"{self.path}: the last line was cut off; its run is done again", file=sys.stderr)
        for number, line in enumerate(lines, 1):
            name, result = _result(line, f"{self.path}, line {number}")
            if not name:
                raise ValueError(f"{self.path}, line {number}: expected the name of the run as 'run', found none")
            found[name] = result
        return {name: found[name] for name in sorted(found, key=lambda name: f"{name}.json")}

    def add(self, name: str, result: Result) -> None:
        """Notes the result of a run; it is on disk when this returns."""
        self.folder.mkdir(parents=True, exist_ok=True)
        append_line(self.path, json.dumps({"run": name, **asdict(result)}))


def _result(text: str, place: str) -> tuple[str, Result]:
    """The name and the result of a run, from its JSON."""
    try:
        values = json.loads(text)
        return values.pop("run", ""), Result(**values)
    except (TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{place}: expected the result of a run, found: {error}") from error
