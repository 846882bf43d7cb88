"""Publishing: one commit that holds everything, over real HTTP to a Hub on the loopback; or one clear error and no
change."""

import json
import os
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from neuron_vit3d import NeuronViT3DForSegmentation, NeuronViT3DImageProcessor
from neuron_vit3d.hub import CardError, PublishError, assemble, publish
from neuron_vit3d.inference import DEFAULT_CHECKPOINT
from neuron_vit3d.model.loading import CheckpointError
from support import processes
from support.hub_client import hub_client
from support.hub_server import HubServer
from support.places import REPOSITORY
from support.program import fail, succeed
from support.tiny_cards import HOME, save_facts, save_run
from support.tiny_models import tiny_block


SCRIPTS = REPOSITORY / "scripts"
CODE = {path.name for path in Path(sys.modules["neuron_vit3d.model"].__file__).parent.glob("*.py")} - {"__init__.py"}
RECORD = {"README.md", "training_log.jsonl", "training_config.json", "figures/example.png"}
FILES = CODE | RECORD | {"config.json", "model.safetensors", "preprocessor_config.json"}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A trained checkpoint with its facts beside the weights."""
    folder = save_run(tmp_path_factory.mktemp("run"))
    save_facts(folder)
    return folder


@pytest.fixture
def other_run(run, tmp_path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(run, tmp_path / "other"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# -- on this machine -------------------------------------------------------------------------------------------------


def test_what_is_assembled_is_complete(run, tmp_path):
    folder = assemble(run, tmp_path / "assembled", repo_id="user/tiny")
    assert set(contents(folder)) == FILES
    model = NeuronViT3DForSegmentation.from_pretrained(folder)
    block, original = tiny_block(), NeuronViT3DForSegmentation.from_pretrained(run)
    assert torch.equal(model(block).logits, original(block).logits)
    assert NeuronViT3DImageProcessor.from_pretrained(folder).tile_size == 32
    assert {"AutoConfig", "AutoModel"} < set(json.loads((folder / "config.json").read_text())["auto_map"])
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_weights_keep_their_precision(other_run, tmp_path, dtype):
    model = NeuronViT3DForSegmentation.from_pretrained(other_run).to(dtype)
    model.save_pretrained(other_run)
    folder = assemble(other_run, tmp_path / "assembled")
    expected, found = load_file(other_run / "model.safetensors"), load_file(folder / "model.safetensors")
    assert {key: value.dtype for key, value in found.items()} == {key: value.dtype for key, value in expected.items()}
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_no_path_of_this_machine_leaks(run, other_run, tmp_path):
    config = json.loads((other_run / "config.json").read_text())
    config["_name_or_path"] = config["backbone_config"]["_name_or_path"] = f"{HOME}/weights/vit"
    (other_run / "config.json").write_text(json.dumps(config))
    found = contents(assemble(other_run, tmp_path / "assembled", repo_id="user/tiny"))
    for name, data in found.items():
        for place in (HOME, "alice", str(other_run), str(run), str(Path.home()) + "/"):
            if name not in CODE:
                assert place.encode() not in data, name
    options = json.loads(found["training_config.json"])
    assert (options["train_data"], options["base_model"], options["seed"]) == (["train"], "facebook/dino-vitb16", 7)
    assert [json.loads(line)["step"] for line in found["training_log.jsonl"].splitlines()] == [10, 20, 30]
    facts = save_facts(tmp_path / "facts", limits=f"See {other_run}/notes.txt")
    with pytest.raises(CardError, match=r"README\.md: names a folder of this machine"):
        assemble(other_run, tmp_path / "again", facts)
    assert not (tmp_path / "again").exists()


def test_what_does_not_belong_together_is_refused(other_run, tmp_path):
    def refused(error, message, checkpoint=other_run, folder=tmp_path / "assembled"):
        with pytest.raises(error, match=message) as caught:
            assemble(checkpoint, folder)
        assert "\n" not in str(caught.value) and not (tmp_path / "assembled").exists()

    refused(FileExistsError, "expected a new or an empty folder", folder=other_run)
    refused(CardError, r"nowhere: has no facts\.yaml: a card needs", checkpoint=tmp_path / "nowhere")
    weights = load_file(other_run / "model.safetensors")
    some = {key: value for key, value in weights.items() if "classifier" not in key}
    save_file(some, other_run / "model.safetensors", {"format": "pt"})
    refused(ValueError, "do not fit its config.json: 2 missing, first decoder.classifier.bias")
    save_file(weights | {"more": torch.ones(1)}, other_run / "model.safetensors", {"format": "pt"})
    refused(ValueError, "do not fit its config.json: 1 unexpected, first more")
    save_file(weights, other_run / "model.safetensors", {"format": "pt"})
    processor = json.loads((other_run / "preprocessor_config.json").read_text())
    (other_run / "preprocessor_config.json").write_text(json.dumps(processor | {"num_slices": 7}))
    refused(ValueError, "num_slices = 7, the model 3")
    (other_run / "preprocessor_config.json").unlink()
    refused(CheckpointError, "preprocessor_config.json")
    (other_run / "config.json").write_text('{"model_type": "vit"}')
    refused(ValueError, "expected a neuron_vit3d checkpoint, found a model of type 'vit'")


def test_what_is_known_before_the_hub_is_asked(run, monkeypatch):
    def refused(message, repo_id="user/tiny"):
        with pytest.raises(PublishError, match=f"^{repo_id}: {message}") as caught:
            publish(run, repo_id)
        assert "\n" not in str(caught.value)

    refused("HF_HUB_OFFLINE=1 forbids to ask the Hub: unset it")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(sys.modules["neuron_vit3d.hub.answers"], "get_token", lambda: None)
    refused("no token: log in with `hf auth login`, set HF_TOKEN, or pass token=")
    refused("no name on the Hub can be spelled like this", "user/a b")
    refused("expected name/repository", "tiny")


# -- on the Hub ------------------------------------------------------------------------------------------------------

# Answers a call a line, so that the libraries are imported once.
CLIENT = """
import json, sys
from huggingface_hub import constants
import torch
from neuron_vit3d import NeuronViT3DForSegmentation, publish

def logits(repo_id, block, **where):
    model = NeuronViT3DForSegmentation.from_pretrained(repo_id, **where)
    return {"logits": model(torch.tensor(block)).logits.flatten()[:5].tolist()}

def ask(call, endpoint=None, **arguments):
    before = constants.ENDPOINT
    constants.ENDPOINT = endpoint or before
    try:
        done = logits(**arguments) if call == "logits" else publish(**arguments)
        return done if call == "logits" else {"oid": done.oid, "pull_request": done.pr_url, "url": done.commit_url}
    except Exception as error:
        return {"error": type(error).__name__, "message": str(error)}
    finally:
        constants.ENDPOINT = before

for line in sys.stdin:
    print("SAY", json.dumps(ask(**json.loads(line))), flush=True)
"""


@pytest.fixture(scope="module")
def hub():
    with HubServer() as server:
        yield server


@pytest.fixture(scope="module")
def client(hub, tmp_path_factory):
    """Calls `publish` (or loads, and returns logits) in a process whose Hub is the one on the loopback."""
    with hub_client(hub, tmp_path_factory.mktemp("client"), CLIENT) as answer_to:
        yield lambda call="publish", **arguments: answer_to(call=call, **arguments)


@pytest.fixture
def published(client, run):
    """Publishes the run; anything but success fails the test."""

    def ask(repo_id: str, **arguments) -> dict:
        done = client(**{"checkpoint": run, "repo_id": repo_id} | arguments)
        assert "error" not in done, done
        return done

    return ask


@pytest.fixture
def refused(client, run, hub):
    """Publishes the run, which must fail and change nothing; the message."""

    def ask(repo_id: str, error="PublishError", **arguments) -> str:
        before = {key: {ref: commits[-1].oid for ref, commits in repo.refs.items()} for key, repo in hub.repos.items()}
        done = client(**{"checkpoint": run, "repo_id": repo_id} | arguments)
        assert done.get("error") == error and "\n" not in done["message"], done
        for key, refs in before.items():
            assert {ref: commits[-1].oid for ref, commits in hub.repos[key].refs.items()} == refs
        return done["message"]

    return ask


def test_one_commit_holds_everything(hub, client, published, run, tmp_path):
    done = published("user/whole")
    first, second = hub.commits("user/whole")
    assert (second.oid, second.title) == (done["oid"], "Checkpoint, code and card")
    assert done["url"].endswith(f"/user/whole/commit/{done['oid']}")
    assert second.files == first.files | contents(assemble(run, tmp_path / "assembled", repo_id="user/whole"))
    assert set(first.files) == {".gitattributes"} and not hub.is_private("user/whole")
    model = NeuronViT3DForSegmentation.from_pretrained(run)
    expected = model(tiny_block()).logits.flatten()[:5].tolist()
    assert client("logits", repo_id="user/whole", block=tiny_block().tolist())["logits"] == pytest.approx(
        expected, abs=1e-5
    )
    again, proposed = published("user/whole"), published("user/whole", create_pr=True)  # nothing has changed
    assert (again["oid"], proposed["oid"], proposed["pull_request"]) == (done["oid"], done["oid"], None)
    assert len(hub.commits("user/whole")) == 2


def test_what_an_earlier_version_left_is_removed_and_nothing_else(hub, published):
    stale = ["old_code.py", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "pytorch_model.bin"]
    stale += ["figures/example.jpg"]
    kept = [".gitattributes", "LICENSE", "notes/plot.py", "figures/mine.png", "other.safetensors"]
    hub.add_repo("user/older", {name: name.encode() for name in [*stale, *kept, "config.json"]})
    published("user/older", commit_message="A better one")
    assert set(hub.files("user/older")) == FILES | set(kept)
    assert all(hub.files("user/older")[name] == name.encode() for name in kept)
    assert [commit.title for commit in hub.commits("user/older")] == ["initial commit", "A better one"]


def test_private_branch_and_pull_request(hub, published, refused):
    published("org/hidden", private=True)
    assert hub.is_private("org/hidden")
    hub.add_repo("org/net", {"config.json": b"{}"})
    message = refused("org/net", private=True)
    assert message.startswith("org/net: is public already: make it private")
    published("org/net", revision="v1")
    published("org/net", revision="v1")
    assert set(hub.files("org/net", "v1")) == FILES and len(hub.commits("org/net", "v1")) == 2
    done = published("org/net", create_pr=True)
    assert done["pull_request"].endswith("/org/net/discussions/1")
    assert set(hub.files("org/net", "refs/pr/1")) == FILES
    assert hub.files("org/net") == {"config.json": b"{}"}
    assert "has no branch v2 to open a pull request against" in refused("org/net", create_pr=True, revision="v2")


def test_whoever_may_not_write_can_propose(hub, published, refused):
    hub.add_repo("else/net", {"config.json": b"{}"})
    message = refused("else/net")
    assert message.startswith("else/net: the token may not write there (Forbidden")
    assert message.endswith(
        "use one with write access to else, or, if the repository exists, propose the checkpoint by create_pr=True"
    )
    assert published("else/net", create_pr=True)["pull_request"]
    assert "the token may not write there" in refused("else/net", token="reader", create_pr=True)


@pytest.mark.parametrize(
    ("repo_id", "arguments", "message"),
    [
        ("else/new", {}, "the token may not write there (You don't have the rights to create a model under"),
        ("user/new", {"token": "reader"}, "the token may not write there"),
        ("user/new", {"token": "stolen"}, "the Hub does not accept the token: log in again with `hf auth login`"),
        ("user/new", {"create_pr": True}, "no such repository to open a pull request in"),
        ("user/new", {"endpoint": "http://127.0.0.1:9"}, "the Hub (http://127.0.0.1:9) cannot be reached"),
        ("user/a..b", {}, "no name on the Hub can be spelled like this"),
    ],
)
def test_no_repository_is_made_in_vain(hub, refused, repo_id, arguments, message):
    assert refused(repo_id, **arguments).startswith(f"{repo_id}: {message}")
    assert ("model", repo_id) not in hub.repos


def test_local_mistakes_are_found_before_the_hub_is_asked(hub, refused, tmp_path):
    count = len(hub.requests)
    facts = save_facts(tmp_path)
    facts.write_text(facts.read_text().replace("limits:", "limit:"))
    assert refused("user/new", "CardError", facts=facts) == f"{facts}: limits is missing"
    assert "expected the folder of a checkpoint" in refused(
        "user/new", "FileNotFoundError", checkpoint=tmp_path / "nowhere", facts=save_facts(tmp_path)
    )
    assert len(hub.requests) == count


def test_a_card_that_the_hub_refuses(hub, refused, tmp_path):
    message = refused("user/new", facts=save_facts(tmp_path, license="apache"))
    assert message.startswith('user/new: the Hub refuses the card, correct the facts: "license" must be one of')
    assert ("model", "user/new") not in hub.repos


@pytest.mark.parametrize(
    ("failures", "message"),
    [
        ([("POST", "/commit/", {"drop": True})], "the connection was cut off; the whole checkpoint is there or "
                                                 "nothing"),
        ([("POST", "/commit/", {"status": 500})], "the Hub answered 500 (asked to fail); the whole"),
        ([("POST", "/commit/", {"status": 412})], "somebody else changed the repository meanwhile"),
        # The client tries again by itself, and finds that the address has expired.
        ([("PUT", "^/lfs/", {"drop": True}), ("PUT", "^/lfs/", {"status": 403})], "the upload was cut off (403); the"),
    ],
    ids=["dropped", "server error", "conflict", "weights dropped"],
)  # fmt: skip
def test_an_upload_that_was_cut_off_is_completed_by_the_next(hub, published, refused, request, failures, message):
    repo_id = f"user/{request.node.callspec.id.replace(' ', '-')}"
    hub.add_repo(repo_id, {"config.json": b"old", "old.py": b""})
    for method, pattern, how in failures:
        hub.fail(method, pattern, **how)
    assert refused(repo_id).startswith(f"{repo_id}: {message}")
    assert not hub.failures
    published(repo_id)
    assert set(hub.files(repo_id)) == FILES and len(hub.commits(repo_id)) == 2


def test_a_tag_cannot_be_written_to(hub, refused):
    hub.add_repo("user/tagged", {"config.json": b"{}"})
    repo = hub.repos["model", "user/tagged"]
    repo.refs["refs/tags/v1"] = repo.refs["refs/heads/main"]
    assert "the revision is no branch that can be written to" in refused("user/tagged", revision="v1")


# Where the package is not installed.
REMOTE_CODE = """
import sys
sys.modules["neuron_vit3d"] = None
import numpy as np
from transformers import pipeline
pipe = pipeline("neuron-segmentation", model="user/alone", trust_remote_code=True)
result = pipe(np.random.default_rng(0).random((4, 40, 40)))
print(type(pipe).__module__, result["scores"].shape, result["mask"].dtype)
"""


@pytest.mark.slow
def test_what_was_published_needs_no_package(hub, published, tmp_path):
    published("user/alone")
    environment = hub.environment(tmp_path, token=None)
    done = processes.run(["-c", REMOTE_CODE], env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    module, *rest = done.stdout.split()
    assert module.startswith("transformers_modules.") and " ".join(rest) == "(4, 40, 40) bool"


# -- the scripts -----------------------------------------------------------------------------------------------------


def run_script(name: str, monkeypatch, capsys, *words) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / name), run_name="__main__")
    return ended.value.code, *capsys.readouterr()


def test_the_script_shows_what_it_would_publish(run, monkeypatch, capsys, tmp_path):
    folder = tmp_path / "seen"
    code, out, err = run_script("push_to_hub.py", monkeypatch, capsys, run, "user/tiny", "--dry-run", folder)
    assert (code, out, err) == (0, f"{folder}\n", "")
    assert set(contents(folder)) == FILES
    code, out, err = run_script("push_to_hub.py", monkeypatch, capsys, run, "user/tiny")
    assert (code, out) == (2, "")
    assert err == "push_to_hub.py: user/tiny: HF_HUB_OFFLINE=1 forbids to ask the Hub: unset it\n"


def test_the_program_shows_what_it_would_publish(run, tmp_path, monkeypatch):
    folder = tmp_path / "seen"
    assert succeed("publish", run, "user/tiny", "--dry-run", folder) == f"{folder}\n"
    assert set(contents(folder)) == FILES
    other = tmp_path / "again"
    assert json.loads(succeed("publish", run, "user/tiny", "--dry-run", other, "--json")) == {"folder": str(other)}
    assert fail("publish", run, "user/tiny") == "user/tiny: HF_HUB_OFFLINE=1 forbids to ask the Hub: unset it"
    assert fail("publish", run, "user/tiny", "--pirvate").startswith(
        "no such option: --pirvate; the nearest is --private"
    )
    assert "has no facts.yaml" in fail("publish", tmp_path, "user/tiny", "--dry-run", tmp_path / "other")
    shutil.copytree(DEFAULT_CHECKPOINT, tmp_path / "alone")  # as it is installed, without the repository
    monkeypatch.setattr("neuron_vit3d.inference.DEFAULT_CHECKPOINT", tmp_path / "alone", raising=False)
    assert succeed("publish", "default", "user/x", "--dry-run", tmp_path / "x") == f"{tmp_path / 'x'}\n"
    assert set(contents(tmp_path / "x")) == FILES


@pytest.mark.slow
def test_the_script_publishes_the_embedded_default(hub, tmp_path):
    words = [SCRIPTS / "push_to_hub.py", "default", "user/default", "--private", "--revision", "v1"]
    done = processes.run(words, env=hub.environment(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == f"{hub.url}/user/default/commit/{hub.commits('user/default', 'v1')[-1].oid}"
    assert set(hub.files("user/default", "v1")) == FILES | {".gitattributes"}
    assert set(hub.files("user/default")) == {".gitattributes"} and hub.is_private("user/default")


def test_a_run_becomes_the_embedded_default(run, monkeypatch, tmp_path):
    script = runpy.run_path(str(REPOSITORY / "experiments" / "embed_default.py"))
    target = tmp_path / "assets" / "default"
    target.mkdir(parents=True)
    (target / "old.txt").write_text("")
    for name, value in {"DEFAULT_CHECKPOINT": target, "REPOSITORY": tmp_path}.items():
        monkeypatch.setitem(script["embed"].__globals__, name, value)
    script["embed"](run, run / "facts.yaml")
    code_and_picture = CODE | {"figures/example.png"}
    card = {"facts.yaml", "tiny.json", "tiny.PNG"}
    assert set(contents(target)) == FILES - code_and_picture | card and os.listdir(target.parent) == ["default"]
    assert "auto_map" not in (target / "config.json").read_text() + (target / "preprocessor_config.json").read_text()
    assert all(
        value.dtype in (torch.float16, torch.int64) for value in load_file(target / "model.safetensors").values()
    )
    assert "float16 safetensors" in (target / "README.md").read_text() and HOME not in str(contents(target))
