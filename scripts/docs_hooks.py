"""What mkdocs does for the site besides: reports become pages, and the command line writes its own reference."""

import os
import posixpath
import re
import subprocess
import sys
from pathlib import Path

from mkdocs.structure.files import File


REPOSITORY = Path(__file__).resolve().parents[1]
FOLDERS = ("reports", "benchmarks/results", "experiments/results")
PAGES = {
    "src/neuron_vit3d/assets/default/README.md": "reports/default_card.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
_LINK = re.compile(r"\]\(([^)#:\s]+)(#[^)]*)?\)")


def on_files(files, config):
    """Adds what lies outside of docs/."""
    for source, address in published().items():
        files.append(File.generated(config, address, abs_src_path=str(REPOSITORY / source)))
    files.append(File.generated(config, "reference/cli.md", content=command_line()))
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
    command = [sys.executable, "-m", "typer", "neuron_vit3d.cli.program", "utils", "docs", "--name", "neuron-vit3d"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"typer wrote no reference of the command line: {done.stderr}")
    return done.stdout
