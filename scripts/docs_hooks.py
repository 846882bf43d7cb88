"""What mkdocs does for the site besides: results become pages, and the command line and the options write their own
reference."""

import os
import posixpath
import re
import subprocess
import sys
from pathlib import Path

from mkdocs.structure.files import File


REPOSITORY = Path(__file__).resolve().parents[1]
FOLDERS = ("benchmarks/results", "experiments/results")
PAGES = {
    "src/neuron_vit3d/assets/default/README.md": "default_card.md",
    "benchmarks/README.md": "benchmarks/README.md",
    "experiments/README.md": "experiments/README.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
OPTIONS = """
from neuron_vit3d import SegmentOptions, TraceOptions
from neuron_vit3d.option_fields import as_table

print("# Options\\n\\nOptions are the same on the command line and in Python: keywords, or fields of a record.")
for record in (SegmentOptions, TraceOptions):
    print(f"\\n## {record.title}: {record.__name__}\\n\\n{as_table(record)}")
"""
_LINK = re.compile(r"\]\(([^)#:\s]+)(#[^)]*)?\)")


def on_files(files, config):
    """Adds what lies outside of docs/."""
    for source, address in published().items():
        files.append(File.generated(config, address, abs_src_path=str(REPOSITORY / source)))
    files.append(File.generated(config, "reference/cli.md", content=command_line()))
    files.append(File.generated(config, "reference/options.md", content=output_of("-c", OPTIONS)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links as they are right in the repository lead to the same files in the site."""
    sources = published()
    here = {address: source for source, address in sources.items()}.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def moved(match: re.Match) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(here), match[1]))
        if target.startswith("docs/"):
            address = target.removeprefix("docs/")
        elif target in sources:
            address = sources[target]
        else:
            return match[0]
        return f"]({posixpath.relpath(address, posixpath.dirname(page.file.src_uri) or '.')}{match[2] or ''})"

    return _LINK.sub(moved, markdown)


def published() -> dict[str, str]:
    """Where files outside of docs/ go in the site: path in the repository -> address."""
    found = dict(PAGES)
    for folder in FOLDERS:
        for path in sorted((REPOSITORY / folder).rglob("*")):
            if path.suffix in (".md", ".png", ".csv"):
                found[path.relative_to(REPOSITORY).as_posix()] = path.relative_to(REPOSITORY).as_posix()
    return found


def command_line() -> str:
    """The reference of the command line, as typer writes it."""
    return output_of("-m", "typer", "neuron_vit3d.cli.program", "utils", "docs", "--name", "neuron-vit3d")


def output_of(*words: str) -> str:
    """What Python prints, with the package of this repository."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"a page could not be made of the package: {done.stderr}")
    return done.stdout
