"""A prepared dataset goes to the Hub and comes back, whole or streamed, for whoever does not have this package."""

import json
import subprocess
import sys

import numpy as np
import pytest
from huggingface_hub import DatasetCard, constants

from neuron_vit3d.data.bigneuron import load_bigneuron
from neuron_vit3d.hub import PublishError, publish_dataset
from neuron_vit3d.hub.publish_dataset import check_can_publish
from support import processes
from support.hub_client import hub_client
from support.hub_server import HubServer
from support.places import REPOSITORY
from support.release import NAMES, neuron, write_release


SCRIPT = REPOSITORY / "scripts" / "prepare_bigneuron.py"
READ = """
import json, sys
sys.modules["neuron_vit3d"] = None  # importing it fails
import numpy as np
from datasets import load_dataset
whole = load_dataset("user/neurons", "volumes")
images = {}
for part in whole.values():
    for row in part:
        voxels = np.frombuffer(b"".join(row["image"]), row["dtype"]).reshape(row["shape"])
        images[row["source"]] = int(voxels.astype(int).sum())
streamed = {}
for row in load_dataset("user/neurons", "blocks", split="train", streaming=True):
    streamed[row["neuron_id"]] = streamed.get(row["neuron_id"], 0) + 1
stored = load_dataset("user/neurons", "blocks", split="train")
shown = load_dataset("user/neurons", split="train")  # what is shown where no configuration is named
first = next(iter(load_dataset("user/neurons", split="train", streaming=True)))
told = [[row["thumbnail"].size, row["nodes"], row["length"], row["tips"], row["extent_um"]] for row in shown]
print(json.dumps({"images": images, "streamed": streamed, "stored": len(stored), "told": told,
    "first": [first["thumbnail"].size, first["nodes"]]}))
"""


def run(*words, env) -> subprocess.CompletedProcess:
    return processes.run(words, env=env)


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

    own = load_bigneuron(tmp_path / "out")["train"]
    told = [[list(row["thumbnail"].size), row["nodes"], row["length"], row["tips"], row["extent_um"]] for row in own]
    assert read["told"] == told and read["first"] == told[0][:2]

    card = DatasetCard(files["README.md"].decode())
    defaults = {one["config_name"] for one in card.data.configs if one.get("default")}
    assert defaults == {"volumes"}
    assert card.data.license == "cc-by-4.0" and {one["config_name"] for one in card.data.configs} == {
        "volumes",
        "blocks",
    }
    size = sum(len(content) for path, content in files.items() if path.endswith(".parquet"))
    assert "import numpy as np\nfrom datasets import load_dataset" in card.text
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


def test_what_is_known_before_the_hub_is_asked(monkeypatch):
    def refused(message, repo_id="user/neurons"):
        with pytest.raises(PublishError, match=message):
            publish_dataset({}, repo_id, title="x", license="other")
        with pytest.raises(PublishError, match=message):
            check_can_publish(repo_id, license="other")

    refused("user/neurons: HF_HUB_OFFLINE=1")
    refused("expected name/repository", "neurons")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(sys.modules["neuron_vit3d.hub.answers"], "get_token", lambda: None)
    refused("user/neurons: no token: log in with `hf auth login`")


# Answers a call a line, so that the libraries are imported once.
CLIENT = """
import json, sys, warnings
from datasets import DatasetDict, Dataset, are_progress_bars_disabled
from huggingface_hub import constants
from huggingface_hub.utils import are_progress_bars_disabled as are_hub_bars_disabled
from neuron_vit3d.data.dataset_files import features
from neuron_vit3d.hub.publish_dataset import check_can_publish, publish_dataset

def rows(config, ids):
    empty = dict.fromkeys(features(config))
    rows = [empty | {"neuron_id": name, "lab": "L", "shape": [2, 9, 9], "dtype": "uint8"} for name in ids]
    return Dataset.from_list(rows, features=features(config))

CONFIGS = {
    config: DatasetDict({"train": rows(config, "ab"), "test": rows(config, "c")}) for config in ("volumes", "blocks")
}

def ask(call, endpoint=None, **arguments):
    before, arguments = constants.ENDPOINT, {"license": "cc-by-4.0"} | arguments
    constants.ENDPOINT = endpoint or before
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            if call == "check":
                done = {"done": check_can_publish(**arguments)}
            else:
                configs = {name: CONFIGS[name] for name in arguments.pop("configs", CONFIGS)}
                done = {"done": publish_dataset(configs, title="Mine", **arguments)}
        except Exception as error:
            done = {"error": type(error).__name__, "message": str(error)}
        finally:
            constants.ENDPOINT = before
    bars = [not are_progress_bars_disabled(), not are_hub_bars_disabled()]
    return done | {"bars": bars, "warnings": [str(one.message) for one in caught if one.category is UserWarning]}

for line in sys.stdin:
    print("SAY", json.dumps(ask(**json.loads(line))), flush=True)
"""


@pytest.fixture(scope="module")
def hub():
    with HubServer() as server:
        yield server


@pytest.fixture(scope="module")
def client(hub, tmp_path_factory):
    """Calls `publish_dataset` or `check_can_publish` in a process whose Hub is the one on the loopback.

    Whatever happens, no bar is in its log, which is no terminal, and they are as they were afterwards.
    """
    folder = tmp_path_factory.mktemp("client")
    with hub_client(hub, folder, CLIENT) as answer_to:

        def ask(call: str, repo_id: str, **arguments) -> dict:
            answer, log = answer_to(call=call, repo_id=repo_id, **arguments), (folder / "stderr").read_text()
            assert answer["bars"] == [True, True] and "it/s" not in log and "%|" not in log
            return answer

        yield ask


def commits(hub, repo_id) -> int:
    return len(hub.commits(repo_id, repo_type="dataset")) if ("dataset", repo_id) in hub.repos else 0


def card_of(hub, repo_id) -> DatasetCard:
    return DatasetCard(hub.files(repo_id, repo_type="dataset")["README.md"].decode())


@pytest.mark.parametrize("call", ["check", "publish"])
@pytest.mark.parametrize(
    ("repo_id", "arguments", "message"),
    [
        ("user/new", {"license": "cc-by"}, 'the Hub refuses the card, correct the license: "license" must be one of'),
        ("user/new", {"token": "reader"}, "the token may not write there (it may only read): use one with write"),
        ("user/new", {"token": "stolen"}, "the Hub does not accept the token: log in again"),
        ("else/new", {}, "the token may not write there (it is of user): use one with write access to else"),
        ("user/new", {"endpoint": "http://127.0.0.1:9"}, "the Hub (http://127.0.0.1:9) cannot be reached"),
        ("user/open", {"private": True}, "is public already: make it private on its page, or publish without private"),
        ("user/broken", {}, "correct the metadata of its README.md there first: "),
    ],
)
def test_what_the_hub_would_refuse_is_found_before_anything_is_uploaded(
    hub, client, call, repo_id, arguments, message
):
    readmes = {"open": b"", "broken": b"---\n- a\n---\n"}
    if (name := repo_id.split("/")[1]) in readmes and ("dataset", repo_id) not in hub.repos:
        hub.add_repo(repo_id, {"README.md": readmes[name]}, repo_type="dataset")
    before = commits(hub, repo_id)
    answer = client(call, repo_id, **arguments)
    assert answer.get("error") == "PublishError" and answer["message"].startswith(f"{repo_id}: {message}"), answer
    assert "\n" not in answer["message"] and commits(hub, repo_id) == before
    assert not any("/lfs/" in path or "preupload" in path for _, path in hub.requests if f"{repo_id}" in path)


def test_local_mistakes_are_found_before_anything_is_uploaded(hub, client, tmp_path):
    answer = client("publish", "user/mistaken", picture=tmp_path / "none.png")
    assert answer["error"] == "ValueError" and "none.png" in answer["message"]
    answer = client("publish", "user/mistaken", configs=["blocks"])
    assert "expected the configuration 'volumes'" in answer["message"]
    assert not commits(hub, "user/mistaken")


def test_checking_changes_nothing(hub, client):
    assert client("check", "user/unborn") | {"bars": 0} == {"done": None, "bars": 0, "warnings": []}
    assert client("check", "org/unborn", private=True)["done"] is None
    assert not commits(hub, "user/unborn") and not commits(hub, "org/unborn")


def test_our_card_is_made_again_until_somebody_edits_it(hub, client):
    foreign = {"more/a.parquet": bytes(5_000_000), "a.parquet": bytes(5_000_000)}
    hub.add_repo("user/kept", foreign | {"README.md": b"---\nlanguage: en\n---\n"}, repo_type="dataset")
    repo = hub.repos["dataset", "user/kept"]

    def edit(old: str, new: str) -> None:
        blobs = dict(repo.history("main")[-1].blobs)
        text = blobs["README.md"].data.decode()
        assert old in text
        blobs["README.md"] = type(blobs["README.md"])(text.replace(old, new).encode(), False)
        repo.commit("refs/heads/main", repo.history("main"), blobs, "by hand")

    assert client("publish", "user/kept")["warnings"] == []
    card, files = card_of(hub, "user/kept"), hub.files("user/kept", repo_type="dataset")
    size = sum(len(content) for path, content in files.items() if path.startswith(("volumes/", "blocks/")))
    assert f"3 neurons, {size / 1e6:.1f} MB to download" in card.text  # foreign files are not ours to count
    assert (card.data.language, card.data.license, card.data.pretty_name) == ("en", "cc-by-4.0", "Mine")
    edit("language: en", "language: de")
    assert client("publish", "user/kept", needs="Patience.")["warnings"] == []
    again = card_of(hub, "user/kept")
    assert "Patience." in again.text and again.data.language == "de"

    edit("Patience.", "My own words.")
    edit("pretty_name: Mine", "pretty_name: Hers")
    edited = card_of(hub, "user/kept")
    for call in ("check", "publish"):
        (warning,) = client(call, "user/kept", license="other")["warnings"]
        assert warning.startswith("user/kept: has a README.md with a text of its own, which is kept")
    after = card_of(hub, "user/kept")
    assert after.text == edited.text and "My own words." in after.text
    assert (after.data.pretty_name, after.data.license) == ("Hers", "other")


def test_a_readme_of_somebody_else_keeps_its_text(hub, client, tmp_path):
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"png")
    text = "# Neurons\r\n\r\nMy own words.\r\n"
    hub.add_repo("user/words", {"README.md": text.encode()}, repo_type="dataset")
    answer = client("publish", "user/words", picture=picture)
    assert "no card is made (delete it to get one)" in answer["warnings"][0]
    files, card = hub.files("user/words", repo_type="dataset"), card_of(hub, "user/words")
    assert files["README.md"].decode().endswith(f"\n---\n{text}") and "figures/example.png" not in files
    assert card.data.license == "cc-by-4.0" and len(card.data.configs) == len(card.data.dataset_info) == 2


def test_an_upload_that_was_cut_off_is_completed_by_the_next(hub, client):
    hub.fail("POST", "validate-yaml", status=500)
    assert client("check", "user/cut")["message"].endswith("(asked to fail); nothing was uploaded; run the same again")
    hub.fail("PUT", "^/lfs/datasets/user/cut", status=403)
    message = client("publish", "user/cut")["message"]
    assert message.startswith(
        "user/cut: the upload was cut off (403); what was uploaded stays there, and until the rest"
    )
    assert "a neuron may be in test of one configuration and in train of another; run the same again" in message
    assert client("publish", "user/cut")["done"].startswith(f"{hub.url}/datasets/user/cut/commit/")
    assert len(card_of(hub, "user/cut").data.configs) == 2


@pytest.mark.parametrize(
    ("theirs", "shown"),
    [("", ["volumes"]), ("default", []), ("masks\n  default: true", ["masks"]), ("masks", ["volumes"])],
)
def test_volumes_are_shown_first_unless_somebody_chose_another(hub, client, theirs, shown):
    repo_id = f"user/shown-{len(theirs)}"
    if theirs:
        readme = f"---\nconfigs:\n- config_name: {theirs}\n  data_files: x/*.parquet\n---\n"
        hub.add_repo(repo_id, {"README.md": readme.encode()}, repo_type="dataset")
    for _ in range(2):
        assert "error" not in client("publish", repo_id)
        configs = card_of(hub, repo_id).data.configs
        assert [one["config_name"] for one in configs if one.get("default")] == shown
        assert len(configs) == 2 + bool(theirs)


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
