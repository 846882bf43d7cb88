"""What the README shows works: its code blocks run, its tables are the reports', and what it points to is there."""

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
from hub_server import HubServer
from program import save_checkpoint
from tiny_models import write_dino_checkpoint

from neuron_vit3d import Volume, synthetic_neuron, write_volume
from neuron_vit3d.data.synthetic import write_synthetic_pairs


REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text()

# Blocks are run as they stand but for these: (what a line begins with, what is run instead, why).
INSTEAD = [
    ("make demo", "make -C repository -n demo", "CI makes it itself"),
    ("make test", "make -C repository -n test", "it is what runs this test"),
    ("pip install .", "test -f repository/constraints.txt", "the tests run in what it installed"),
    (
        "    --base-model facebook/dino-vitb16 --output-dir runs/first",
        "    --base-model facebook/dino-vitb16 --output-dir runs/first --max-steps 2 --batch-size 2 --tile-size 32 --num-workers 0",
        "a thousand steps take an hour here",
    ),
    (
        "    --base-model facebook/dino-vitb16 --output-dir runs/second",
        "    --base-model facebook/dino-vitb16 --output-dir runs/second --max-steps 2 --batch-size 2 --tile-size 32 --num-workers 0",
        "a thousand steps take an hour here",
    ),
    (
        "neuron-vit3d segment image.tif --model runs/first -o out/",
        "neuron-vit3d segment image.tif --model runs/first -o first/ --threshold 0.001",
        "after two steps a model holds all to be background, or none: its tree, if any, is no good to later blocks",
    ),
]


def blocks() -> list[tuple[str, str]]:
    """(language, code) of every fenced block with a language, in order."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def as_run(code: str) -> str:
    lines = []
    for line in code.splitlines():
        lines.append(next((other for start, other, _ in INSTEAD if line.startswith(start)), line))
    return "\n".join(lines) + "\n"


def prepare(folder: Path) -> None:
    """What the README takes for granted: images, trees, a folder of pairs, a facts file, and the repository around it."""
    neuron = synthetic_neuron((8, 64, 64), seed=3, quality="clean")
    write_volume(folder / "image.tif", neuron.volume)
    write_volume(folder / "image.v3draw", neuron.volume)
    (folder / "image.v3draw").rename(folder / "image.v3dpbd")  # read by its content, as all files are
    np.save(folder / "image.npy", neuron.volume.array)
    write_volume(folder / "gold.mask.tif", Volume(neuron.mask))
    neuron.tree.write(folder / "gold.swc")
    for part, count in (("train", 4), ("validation", 1)):  # so many that one comes to be in the dataset's part "train"
        write_synthetic_pairs(folder / "neurons" / part, count, seed=count, shape=(6, 48, 48), quality="clean")
    (folder / "repository").symlink_to(REPOSITORY)
    (folder / "scripts").symlink_to(REPOSITORY / "scripts")
    for name in ("default.yaml", "default.png"):
        shutil.copy(REPOSITORY / "model_cards" / name, folder / name.replace("default.yaml", "facts.yaml"))
    (folder.parent / "reports").symlink_to(REPOSITORY / "reports")


@pytest.mark.slow
def test_its_code_blocks_run_one_after_the_other(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    prepare(folder)
    (tmp_path / "dino").mkdir()
    write_dino_checkpoint(tmp_path / "dino", hidden_size=32, layers=4, heads=2, image_size=32, patch_size=8)
    found = blocks()
    assert {language for language, _ in found} == {"bash", "python"} and len(found) >= 12
    with HubServer() as hub:
        hub.add_folder("facebook/dino-vitb16", tmp_path / "dino")
        hub.add_folder("user/checkpoint", save_checkpoint(tmp_path / "checkpoint"))
        environment = hub.environment(tmp_path / "home")
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        for language, group in itertools.groupby(found, key=lambda block: block[0]):
            codes = [as_run(code) for _, code in group]
            if language == "bash":
                command = ["bash", "-euxo", "pipefail", "-c", "".join(codes)]
            else:  # each with names of its own, in one process, for importing takes long
                program = (
                    f"for code in {codes!r}:\n    exec(compile(code, code, 'exec'), {{'__name__': '__main__'}})\n"
                )
                command = [sys.executable, "-c", program]
            done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        commits = hub.commits("user/my-neurons")
        assert hub.is_private("user/my-neurons")
        assert len([commit for commit in commits if "model.safetensors" in commit.files]) == 1
        assert hub.files("user/my-neurons", revision="v1") == hub.files("user/my-neurons")
    assert {"image.scores.tif", "image.mask.tif", "image.swc", "image.png"} <= set(os.listdir(folder / "out"))
    assert {"README.md", "model.safetensors", "modeling_neuron_vit3d.py"} <= set(os.listdir(folder / "look"))


def test_what_is_run_instead_is_still_in_it():
    lines = [line for _, code in blocks() for line in code.splitlines()]
    for start, _, _ in INSTEAD:
        assert any(line.startswith(start) for line in lines), start


def test_its_tables_are_those_of_the_reports():
    spec = importlib.util.spec_from_file_location("update_readme", REPOSITORY / "scripts" / "update_readme.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert README.count("<!-- reports/") == README.count("<!-- end -->") >= 5
    assert script.with_reports(README) == README


def test_its_links_lead_somewhere():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if not link.startswith("http")]
    assert links
    assert [link for link in links if not (REPOSITORY / link).exists()] == []


def test_its_tree_names_files_that_exist():
    tree = README[README.index("## The tree of files") :]
    for name in set(re.findall(r"\b(\w+\.py)\b", tree)):
        places = [REPOSITORY / "src", REPOSITORY / "scripts", REPOSITORY / "tests"]
        assert [found for place in places for found in place.rglob(name)], name
