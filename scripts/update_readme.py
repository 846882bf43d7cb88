"""Puts the tables of results into README.md and docs/, so that no number is typed.

They stand between `<!-- benchmarks/results/NAME.md -->`, or a path in experiments/results/, and `<!-- end -->`. The
tables of image formats and of tree formats, between `<!-- formats -->` or `<!-- tree formats -->` and `<!-- end -->`,
come from the package's lists of them.
"""

import os
import re
from pathlib import Path

from neuron_vit3d.morphology.formats.registry import as_table as trees_as_table
from neuron_vit3d.volumes.formats.registry import as_table


REPOSITORY = Path(__file__).resolve().parents[1]
_PLACE = re.compile(
    r"<!-- ((?:benchmarks|experiments)/results/\S+\.md|(?:tree )?formats) -->\n.*?<!-- end -->", re.DOTALL
)


def main() -> int:
    for path in pages():
        path.write_text(with_reports(path.read_text(), path))
    return 0


def pages() -> list[Path]:
    return [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]


def with_reports(text: str, page: Path) -> str:
    """Returns the text of a page with every report, and the table of formats, in its place.

    A report's own title is left out.
    """

    def filled(match: re.Match) -> str:
        if "formats" in match[1].split():
            table = as_table() if match[1] == "formats" else trees_as_table()
            return f"<!-- {match[1]} -->\n{table}\n<!-- end -->"
        report = REPOSITORY / match[1]
        beside = Path(os.path.relpath(report.parent, page.parent)).as_posix()  # where a report's links lead
        body = re.sub(r"\A# .*\n+", "", report.read_text()).strip().replace("](", f"]({beside}/")
        return f"<!-- {match[1]} -->\n{body}\n<!-- end -->"

    return _PLACE.sub(filled, text)


if __name__ == "__main__":
    raise SystemExit(main())
