"""Puts the tables of reports/ into README.md, between `<!-- reports/NAME.md -->` and `<!-- end -->`: no number is typed."""

import re
from pathlib import Path


REPOSITORY = Path(__file__).resolve().parents[1]
_PLACE = re.compile(r"<!-- (reports/\S+\.md) -->\n.*?<!-- end -->", re.DOTALL)


def main() -> int:
    path = REPOSITORY / "README.md"
    path.write_text(with_reports(path.read_text()))
    return 0


def with_reports(text: str) -> str:
    """The text with every report in its place; a report's own title is left out."""

    def filled(match: re.Match) -> str:
        report = (REPOSITORY / match[1]).read_text()
        beside = Path(match[1]).parent.as_posix()  # where a report's links lead
        body = re.sub(r"\A# .*\n+", "", report).strip().replace("](", f"]({beside}/")
        return f"<!-- {match[1]} -->\n{body}\n<!-- end -->"

    return _PLACE.sub(filled, text)


if __name__ == "__main__":
    raise SystemExit(main())
