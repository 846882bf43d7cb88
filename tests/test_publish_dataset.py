"""A prepared dataset goes to the Hub and comes back, whole or streamed, for whoever does not have this package."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hub_server import HubServer
from huggingface_hub import DatasetCard
from release import NAMES, neuron, write_release

from neuron_vit3d.data.bigneuron import load_bigneuron
from neuron_vit3d.hub import PublishError, publish_dataset


SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "prepare_bigneuron.py"
READ = """
import json, sys
sys.modules["neuron_vit3d"] = None  # importing it fails
import numpy as np
from datasets import load_dataset
whole = load_dataset("user/neurons", "volumes")
images = {}
for part in whole.values():
    for row in part:
        images[row["source"]] = int(np.frombuffer(b"".join(row["image"]), row["dtype"]).reshape(row["shape"]).astype(int).sum())
streamed = {}
for row in load_dataset("user/neurons", "blocks", split="train", streaming=True):
    streamed[row["neuron_id"]] = streamed.get(row["neuron_id"], 0) + 1
stored = load_dataset("user/neurons", "blocks", split="train")
print(json.dumps({"images": images, "streamed": streamed, "stored": len(stored)}))
"""


def run(*words, env) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *map(str, words)], env=env, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_there_and_back(tmp_path):
    release = write_release(tmp_path / "release")
    with HubServer() as hub:
        env = hub.environment(tmp_path / "home")
        prepare = [SCRIPT, release, tmp_path / "out", "--block-shape", 8, 48, 48, "--fractions", 0.7, 0.1, 0.2]
        prepare += [
            "--licence",
            "CC-BY-4.0",
            "--push-to-hub",
            "user/neurons",
            "--private",
            "--hub-license",
            "cc-by-4.0",
        ]
        done = run(*prepare, env=env)
        assert done.returncode == 0, done.stderr
        assert hub.is_private("user/neurons", repo_type="dataset")
        files = hub.files("user/neurons", repo_type="dataset")
        done = run("-c", READ, env=hub.environment(tmp_path / "other_home"))
        assert done.returncode == 0, done.stderr
        again = run(*prepare, env=env)
        assert again.returncode == 0, again.stderr
    read = json.loads(done.stdout)
    expected = {
        f"gold166/{group}/{sample}/{image}": int(neuron(seed % 4).volume.array.astype(int).sum())
        for seed, (group, sample, image, _) in enumerate(NAMES)
    }
    assert read["images"] == expected
    blocks = load_bigneuron(tmp_path / "out", "blocks")
    assert read["stored"] == len(blocks["train"]) == sum(read["streamed"].values())
    assert set(read["streamed"]) == set(blocks["train"]["neuron_id"])

    card = DatasetCard(files["README.md"].decode())
    assert card.data.license == "cc-by-4.0" and {one["config_name"] for one in card.data.configs} == {
        "volumes",
        "blocks",
    }
    size = sum(len(content) for path, content in files.items() if path.endswith(".parquet"))
    assert f"{len(NAMES)} neurons, {size / 1e6:.1f} MB to download" in card.text
    for said in (
        "CC-BY-4.0",
        "Korea",
        "silkmoth, confocal, uint8, 8 x 96 x 96 voxels",
        "![example](figures/example.png)",
    ):
        assert said in card.text
    assert files["figures/example.png"].startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_token_that_may_not_write(tmp_path):
    from neuron_vit3d.data.bigneuron import PreparationOptions, prepare

    prepare(
        write_release(tmp_path / "in", NAMES[:1]),
        tmp_path / "out",
        options=PreparationOptions(block_shape=(8, 96, 96)),
    )
    with HubServer() as hub:
        words = [
            SCRIPT,
            tmp_path / "in",
            tmp_path / "out",
            "--block-shape",
            8,
            96,
            96,
            "--push-to-hub",
            "user/neurons",
        ]
        done = run(*words, env=hub.environment(tmp_path / "home", token="reader"))
    assert done.returncode == 2 and "user/neurons: the token may not write there" in done.stderr
    assert done.stderr.startswith("prepare_bigneuron.py: ") and done.stderr.count("\n") == 1


def test_what_is_known_before_the_hub_is_asked():
    with pytest.raises(PublishError, match="user/neurons: HF_HUB_OFFLINE=1"):
        publish_dataset({}, "user/neurons", title="x", license="other")
    with pytest.raises(PublishError, match="expected name/repository"):
        publish_dataset({}, "neurons", title="x", license="other")


def test_facts_are_counted_by_laboratory():
    from datasets import Dataset, DatasetDict

    from neuron_vit3d.data.dataset_files import features
    from neuron_vit3d.hub.facts import Recipe
    from neuron_vit3d.hub.publish_dataset import dataset_facts

    empty = dict.fromkeys(features("volumes"))
    rows = [
        empty | {"neuron_id": f"n{i}", "lab": "L" if i < 3 else None, "shape": [i + 1, 9, 9], "dtype": "uint8"}
        for i in range(4)
    ]
    parts = DatasetDict(
        {
            part: Dataset.from_list(some, features=features("volumes"))
            for part, some in (("train", rows[:2]), ("test", rows[2:]))
        }
    )
    facts = dataset_facts(
        {"volumes": parts}, title="t", license="other", picture=None, size_bytes=1, make_again=Recipe("", "")
    )
    lab, unknown = facts.data
    assert (lab.name, lab.volumes, lab.license, lab.split.train, lab.split.test) == (
        "L",
        3,
        "not stated",
        ["n0", "n1"],
        ["n2"],
    )
    assert lab.what == "uint8, 1-3 x 9 x 9 voxels (z x y x x)" and unknown.name == "laboratory not stated"
    assert facts.configs[0].rows.counts() == {"train": 2, "validation": 0, "test": 2}
    assert np.sum([source.volumes for source in facts.data]) == 4
