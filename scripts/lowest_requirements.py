"""Prints the lower bounds of pyproject.toml as exact requirements, one a line: what `make test-lowest` installs.

python scripts/lowest_requirements.py --extras zarr nrrd nifti > lowest.txt

A library without a lower bound is printed by its name, or not at all where it is among `--without`: its newest version
is as good as any.
"""

import argparse
import re
import tomllib
from pathlib import Path


PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)\s*(?P<extras>\[.*?\])?\s*(?P<bounds>[^;]*)(?P<marker>;.*)?")


def lowest(requirement: str) -> str:
    """A requirement with its lower bound as the only version: `scipy>=1.15.3,<2` becomes `scipy==1.15.3`.

    Raises:
        ValueError: where the requirement cannot be understood.
    """
    match = REQUIREMENT.fullmatch(requirement.strip())
    if match is None:
        raise ValueError(f"cannot understand the requirement {requirement!r}")
    bounds = [bound.strip() for bound in match["bounds"].split(",") if bound.strip()]
    versions = [bound[2:].strip() for bound in bounds if bound[:2] in (">=", "==", "~=")]
    pinned = "".join(f"=={version}" for version in versions[:1])
    return f"{match['name']}{match['extras'] or ''}{pinned}{match['marker'] or ''}"


def lowest_requirements(pyproject: dict, extras: list[str], without: list[str]) -> list[str]:
    """The lowest versions of the dependencies and of some extras.

    Args:
        pyproject: What pyproject.toml holds.
        extras: Names of extras to add.
        without: Names of libraries to leave out.
    """
    project = pyproject["project"]
    asked = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    names = {line: re.match(r"[A-Za-z0-9._-]+", line)[0] for line in asked}
    return [lowest(line) for line in dict.fromkeys(asked) if names[line] not in without]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--extras", nargs="*", default=[], metavar="EXTRA", help="extras to add")
    parser.add_argument("--without", nargs="*", default=[], metavar="LIBRARY", help="libraries to leave out")
    arguments = parser.parse_args()
    pyproject = tomllib.loads(PYPROJECT.read_text())
    print(*lowest_requirements(pyproject, arguments.extras, arguments.without), sep="\n")


if __name__ == "__main__":
    main()
