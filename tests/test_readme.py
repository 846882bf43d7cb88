"""What the README and the pages of docs/ show works: code blocks run, tables are the reports', links lead
somewhere."""

import importlib.util
import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neuron_vit3d import Volume, synthetic_neuron, write_volume
from neuron_vit3d.data.synthetic import write_synthetic_pairs
from support.hub_server import HubServer
from support.places import REPOSITORY
from support.program import save_checkpoint
from support.tiny_models import write_dino_checkpoint
from support.warm import WarmProgram


PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
SMALL = " --max-steps 2 --batch-size 2 --tile-size 32 --num-workers 0"

# Blocks are run as they stand but for these: (what a line begins with, what is run instead, why).
TEACH = "neuron-vit3d train --data mine -o mine_model"
INSTEAD = [
    (TEACH, f"{TEACH}{SMALL} --synthetic-share 0", "teaching takes minutes"),
    (
        'taught = neuron_vit3d.teach("mine", "mine_model")',
        'taught = neuron_vit3d.teach("mine", "mine_model", max_steps=2, batch_size=2, tile_size=32, num_workers=0, '
        "synthetic_share=0.0)",
        "it finds what that command left",
    ),
    ("make demo", "make -C repository -n demo", "CI makes it itself"),
    ("make test", "make -C repository -n test", "it is what runs this test"),
    ("pip install .", "test -f repository/constraints.txt", "the tests run in what it installed"),
    *(
        (f"    --base-model {model} --output-dir runs/{name}",) * 2 + ("a thousand steps take an hour here",)
        for model, name in (
            ("facebook/dino-vitb16", "first"),
            ("facebook/dino-vitb16", "second"),
        )
    ),
    (
        "neuron-vit3d segment image.tif --model runs/first -o out/",
        "neuron-vit3d segment image.tif --model runs/first -o first/ --threshold 0.001",
        "after two steps a model holds all to be background, or none: its tree, if any, is no good to later blocks",
    ),
]
# What pages need of others: a dataset, a checkpoint, or results of `segment`, which are made without it here, for that
# is quick.
WITH_DATASET = ("docs/how-to/train.md",)
WITH_CHECKPOINT = ("docs/how-to/publish.md",)
WITH_RESULTS = (
    "docs/how-to/evaluate.md",
    "docs/how-to/measure.md",
    "docs/how-to/other-programs.md",
    "docs/how-to/report.md",
    "docs/how-to/trace.md",
)
# What pages need that the tests may have to do without.
NEEDS = {"docs/how-to/report.md": "plotly"}


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, code) of every fenced block with a language, in order."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def as_run(code: str) -> str:
    lines = []
    for line in code.splitlines():
        other = next((other for start, other, _ in INSTEAD if line.startswith(start)), None)
        if other is not None and other.startswith("    --base-model"):
            other = line + SMALL
        lines.append(line if other is None else other)
    return "\n".join(lines) + "\n"


def prepare(folder: Path) -> None:
    """What the pages take for granted: images, trees, a folder of pairs, a facts file, and the repository around
    it."""
    neuron = synthetic_neuron((8, 64, 64), seed=3, quality="clean")
    write_volume(folder / "image.tif", neuron.volume)
    write_volume(folder / "image.v3draw", neuron.volume)
    (folder / "image.v3draw").rename(folder / "image.v3dpbd")  # read by its content, as all files are
    np.save(folder / "image.npy", neuron.volume.array)
    write_volume(folder / "gold.mask.tif", Volume(neuron.mask))
    neuron.tree.write(folder / "gold.swc")
    for part, count in (("train", 4), ("validation", 1)):  # so many that one comes to be in the dataset's part "train"
        write_synthetic_pairs(folder / "neurons" / part, count, seed=count, shape=(6, 48, 48), quality="clean")
    write_synthetic_pairs(folder / "mine", 2, seed=5, shape=(6, 48, 48), quality="clean")
    (folder / "repository").symlink_to(REPOSITORY)
    (folder / "scripts").symlink_to(REPOSITORY / "scripts")
    for name in ("default.yaml", "default.png"):
        shutil.copy(REPOSITORY / "model_cards" / name, folder / name.replace("default.yaml", "facts.yaml"))
    for name in ("benchmarks", "experiments"):
        (folder.parent / name).symlink_to(REPOSITORY / name)


def save_results(folder: Path) -> None:
    """What `segment` would leave of a perfect model."""
    neuron = synthetic_neuron((8, 64, 64), seed=3, quality="clean")
    folder.mkdir()
    write_volume(folder / "image.scores.tif", Volume(np.where(neuron.mask, 0.9, 0.001).astype(np.float32)))
    write_volume(folder / "image.mask.tif", Volume(neuron.mask))
    neuron.tree.write(folder / "image.swc")


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A Hub, and the program beside it; pages other than the README share both, for each start of the program takes
    long."""
    folder = tmp_path_factory.mktemp("warm")
    with HubServer() as hub:
        environment = hub.environment(folder / "home")
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        yield hub, WarmProgram(folder, environment)


@pytest.fixture
def place(tmp_path, warm):
    """A folder in which a page's blocks can run, a Hub that knows only what a page takes for granted, and the
    program."""
    folder = tmp_path / "work"
    folder.mkdir()
    prepare(folder)
    (tmp_path / "dino").mkdir()
    write_dino_checkpoint(tmp_path / "dino", hidden_size=32, layers=4, heads=2, image_size=32, patch_size=8)
    hub, program = warm
    hub.clear()
    hub.add_folder("facebook/dino-vitb16", tmp_path / "dino")
    hub.add_folder("user/checkpoint", save_checkpoint(tmp_path / "checkpoint"))
    shutil.rmtree(program.environment["HF_HOME"], ignore_errors=True)
    return folder, hub, program


def run(command: list[str], environment: dict[str, str], folder: Path) -> None:
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    succeeded(done)


def succeeded(done: subprocess.CompletedProcess) -> None:
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=name_of)
def test_code_blocks_of_a_page_run_one_after_the_other(page, place):
    if name_of(page) in NEEDS:
        pytest.importorskip(NEEDS[name_of(page)], reason=f"{NEEDS[name_of(page)]} is not installed")
    folder, hub, program = place
    environment = program.environment
    if name_of(page) in WITH_CHECKPOINT:
        save_checkpoint(folder / "runs" / "first")
    if name_of(page) in WITH_RESULTS:
        save_results(folder / "out")
    if name_of(page) in WITH_DATASET:
        run([sys.executable, "scripts/prepare_bigneuron.py", "neurons", "prepared"], environment, folder)
    assert {language for language, _ in blocks(page)} <= {"bash", "python"}
    for language, group in itertools.groupby(blocks(page), key=lambda block: block[0]):
        codes = [as_run(code) for _, code in group]
        if language == "bash":
            command = ["bash", "-euxo", "pipefail", "-c", "".join(codes)]
            run(command, environment, folder)
        else:
            succeeded(program.run_python(codes, folder))
    if name_of(page) == "docs/how-to/publish.md":
        commits = hub.commits("user/my-neurons")
        assert hub.is_private("user/my-neurons")
        assert len([commit for commit in commits if "model.safetensors" in commit.files]) == 1
        assert hub.files("user/my-neurons", revision="v1") == hub.files("user/my-neurons")
        assert {"README.md", "model.safetensors", "modeling_neuron_vit3d.py"} <= set(os.listdir(folder / "look"))
    if page.name == "README.md":
        assert {"image.scores.tif", "image.mask.tif", "image.swc", "image.png"} <= set(os.listdir(folder / "out"))


def test_blocks_are_found():
    assert len(blocks(PAGES[0])) >= 6
    assert sum(len(blocks(page)) for page in PAGES[1:]) >= 20


def test_what_is_run_instead_is_still_there():
    lines = [line for page in PAGES for _, code in blocks(page) for line in code.splitlines()]
    for start, _, _ in INSTEAD:
        assert any(line.startswith(start) for line in lines), start


def test_tables_are_those_of_the_reports_and_of_the_list_of_formats():
    spec = importlib.util.spec_from_file_location("update_readme", REPOSITORY / "scripts" / "update_readme.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.pages() == PAGES
    places = 0
    for page in PAGES:
        text = page.read_text()
        tables = len(re.findall("<!-- (?:benchmarks|experiments)/results/", text))
        assert tables + text.count("formats -->") == text.count("<!-- end -->")
        assert script.with_reports(text, page) == text, f"{name_of(page)}: run scripts/update_readme.py"
        places += tables
    assert places >= 15


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    links = [link for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text) if not link.startswith("http")]
    made = {"cli.md", "options.md"}  # when the site is built
    assert [link for link in links if not (page.parent / link).exists() and Path(link).name not in made] == []


def test_the_readme_is_short_and_lines_are_too():
    assert len(PAGES[0].read_text().splitlines()) <= 160
    for page in PAGES:
        prose = re.sub(
            r"<!-- (?:benchmarks|experiments)/results/.*?<!-- end -->", "", page.read_text(), flags=re.DOTALL
        )
        long = [line for line in prose.splitlines() if len(line) > 119 and not line.startswith(("|", "!["))]
        assert long == [], name_of(page)


def test_every_page_is_in_the_menu():
    menu = (REPOSITORY / "mkdocs.yml").read_text()
    for page in PAGES[1:]:
        assert f": {page.relative_to(REPOSITORY / 'docs').as_posix()}\n" in menu


def test_the_tree_of_files_names_files_that_exist():
    tree = (REPOSITORY / "docs" / "reference" / "source.md").read_text()
    for name in set(re.findall(r"\b(\w+\.py)\b", tree)):
        places = [REPOSITORY / folder for folder in ("src", "scripts", "benchmarks", "experiments", "tests")]
        assert [found for place in places for found in place.rglob(name)], name
