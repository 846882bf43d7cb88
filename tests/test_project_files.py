"""Files beside the package agree with pyproject.toml: the citation, the workflows, the lists of tests, the lowest
versions."""

import re
import runpy
import tomllib

import pytest
import yaml

from support.places import REPOSITORY


PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
SCRIPT = runpy.run_path(str(REPOSITORY / "scripts" / "lowest_requirements.py"))
GITHUB = REPOSITORY / ".github"


@pytest.mark.parametrize(
    ("requirement", "lowest"),
    [
        ("scipy>=1.15.3", "scipy==1.15.3"),
        ("zarr>=3.1,<3.2", "zarr==3.1"),
        ("zarr <3.2, >= 3.1", "zarr==3.1"),
        ("dask[array]~=2026.7", "dask[array]==2026.7"),
        ("tomli>=2; python_version < '3.11'", "tomli==2; python_version < '3.11'"),
        ("npe2", "npe2"),
    ],
)
def test_a_requirement_becomes_its_lowest_version(requirement, lowest):
    assert SCRIPT["lowest"](requirement) == lowest


def test_a_requirement_that_is_none_is_refused():
    with pytest.raises(ValueError, match="cannot understand"):
        SCRIPT["lowest"](">=3")


def test_lowest_versions_are_those_of_the_dependencies_and_of_some_extras():
    lines = SCRIPT["lowest_requirements"](PYPROJECT, ["nrrd"], ["torch", "transformers"])
    assert len(lines) == len(PYPROJECT["project"]["dependencies"]) - 1
    assert all(re.fullmatch(r"[\w-]+==[\d.]+", line) for line in lines)
    assert not [line for line in lines if line.startswith(("torch==", "transformers=="))]


def test_the_citation_names_this_version():
    citation, project = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text()), PYPROJECT["project"]
    assert (citation["title"], citation["version"]) == (project["name"], project["version"])
    assert (citation["license"], citation["abstract"]) == (project["license"], project["description"])
    assert citation["preferred-citation"]["url"].endswith("/2405.02686")


def test_the_workflow_runs_the_pythons_that_are_promised():
    workflow = yaml.safe_load((GITHUB / "workflows" / "test.yml").read_text())
    told = [line.rsplit(" ", 1)[1] for line in PYPROJECT["project"]["classifiers"] if "Python :: 3." in line]
    assert workflow["jobs"]["quick"]["strategy"]["matrix"]["python"] == told
    (quick,) = re.findall(r"^QUICK := (.*)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    for job in ("quick", "lowest"):
        assert f'-m "{quick}"' in workflow["jobs"][job]["steps"][-1]["run"]


@pytest.mark.parametrize("path", sorted(GITHUB.rglob("*.yml")), ids=lambda path: path.name)
def test_files_for_the_forge_can_be_read(path):
    assert isinstance(yaml.safe_load(path.read_text()), dict)


@pytest.mark.parametrize("name", ["core.txt", "without_torch.txt"])
def test_lists_of_tests_name_files_that_exist(name):
    files = (REPOSITORY / "tests" / name).read_text().split()
    assert len(set(files)) == len(files) > 10
    assert [file for file in files if not (REPOSITORY / file).is_file()] == []


def test_what_the_tests_run_with_is_not_below_the_lowest():
    def parts(version: str) -> list[int]:
        return [int(part) for part in version.split(".")]

    with_versions = dict(line.split("==") for line in (REPOSITORY / "constraints.txt").read_text().splitlines()[1:])
    for line in SCRIPT["lowest_requirements"](PYPROJECT, list(PYPROJECT["project"]["optional-dependencies"]), []):
        name, _, lowest = line.partition("==")
        if name in with_versions:
            assert parts(with_versions[name]) >= parts(lowest), line


@pytest.mark.parametrize("name", ["benchmarks", "experiments"])
def test_scripts_and_results_are_listed_in_their_folder(name):
    """A script that is a part of another is named in that one's row."""
    folder = REPOSITORY / name
    text = (folder / "README.md").read_text()
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert [link for link in links if not (folder / link).exists()] == []
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.md")} - {"README.md"} <= set(links)
    scripts = {path.name for path in folder.glob("*.py") if not path.name.startswith("real_neurons_")}
    assert [script for script in scripts if f"`{script}`" not in text] == []
    pages = {path for path in (folder / "results").rglob("*.md") if path.stem != "summary"}
    listed = re.findall(rf"\]\(\.\./({name}/[^)]+)\)", (REPOSITORY / "docs" / "reports.md").read_text())
    assert {path.relative_to(REPOSITORY).as_posix() for path in pages} | {f"{name}/README.md"} == set(listed)
