"""The Hub on the loopback, asked by the real clients, each in a process of its own: their settings freeze at
import."""

import hashlib
import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from support import processes
from support.hub_server import HubServer, check_card


WEIGHTS = (
    bytes(range(256)) * 2000
)  # large file storage takes it for its name; half a megabyte leaves in several packets
CARD = b"---\nlicense: apache-2.0\n---\n# A model\n"


@pytest.fixture
def hub():
    with HubServer() as server:
        yield server


@pytest.fixture
def client(hub, tmp_path):
    """Runs Python with a fresh cache, or that of the `home` of an earlier run; returns what it hands to `say`, in
    order."""
    count = iter(range(100))

    def run(code: str, token="writer", home: Path | None = None, **more) -> list:
        home = home or tmp_path / f"home{next(count)}"
        start = f"import json\ndef say(x): print('SAY', json.dumps(x))\nfolder = {str(tmp_path / 'folder')!r}\n"
        environment = hub.environment(home, token) | more
        done = processes.run(["-c", start + code], env=environment, timeout=120)
        assert done.returncode == 0, done.stderr
        return [json.loads(line[4:]) for line in done.stdout.splitlines() if line.startswith("SAY ")]

    return run


@pytest.fixture
def folder(tmp_path) -> dict[str, bytes]:
    """Files of a folder (named `folder` in what a client runs) with regular ones and ones for large file storage."""
    files = {"README.md": CARD, "config.json": b"{}", "sub folder/model.safetensors": WEIGHTS, "empty.bin": b""}
    for name, data in files.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(data)
    return files


def without_attributes(files: dict[str, bytes]) -> dict[str, bytes]:
    """The files but for the one that a new repository has."""
    assert ".gitattributes" in files
    return {path: data for path, data in files.items() if path != ".gitattributes"}


UPLOAD = """
from huggingface_hub import HfApi
api = HfApi()
api.create_repo("user/net", exist_ok=True)
api.upload_folder(repo_id="user/net", folder_path=folder, commit_message="Weights")
"""

# Runs a call that must fail; says the error's class, its status and what the server said.
ERRORS = """
from huggingface_hub import HfApi, hf_hub_download
api = HfApi()
def error(call, **arguments):
    try:
        say(f"no error: {call(**arguments)}")
    except Exception as e:
        say([type(e).__name__, getattr(getattr(e, "response", None), "status_code", None), str(e)])
def put(**more):
    return api.upload_file(**{"repo_id": "user/net", "path_or_fileobj": b"x", "path_in_repo": "x.txt"} | more)
def get(**more):
    return hf_hub_download(**{"repo_id": "user/net", "filename": "config.json"} | more)
"""


def test_upload_and_download(hub, client, folder):
    said = client(
        UPLOAD
        + """
from pathlib import Path
from huggingface_hub import hf_hub_download, snapshot_download
say(api.create_repo("user/net", exist_ok=True).repo_id)
say(api.whoami()["name"])
say(sorted(api.list_repo_files("user/net")))
say(Path(hf_hub_download("user/net", "sub folder/model.safetensors")).stat().st_size)
root = Path(snapshot_download("user/net"))
say({p.relative_to(root).as_posix(): p.stat().st_size for p in root.rglob("*") if p.is_file()})
info = api.repo_info("user/net", files_metadata=True)
say([info.sha, info.private, info.gated, {s.rfilename: [s.size, s.lfs and s.lfs.sha256] for s in info.siblings}])
say([[type(e).__name__, e.path] for e in api.list_repo_tree("user/net")])
say([[type(e).__name__, e.path] for e in api.list_repo_tree("user/net", "sub folder")])
say([[type(e).__name__, e.path] for e in api.get_paths_info("user/net", ["config.json", "sub folder", "none"])])
api.upload_folder(repo_id="user/net", folder_path=folder)  # nothing has changed: no commit
"""
    )
    repo_id, user, names, size, snapshot, info, root, below, some = said
    assert (repo_id, user, size) == ("user/net", "user", len(WEIGHTS))
    assert names == sorted([".gitattributes", *folder])
    held = hub.files("user/net")
    assert without_attributes(held) == folder
    assert snapshot == {path: len(data) for path, data in held.items()}
    first, second = hub.commits("user/net")
    assert [first.title, second.title] == ["initial commit", "Weights"]
    sha = hashlib.sha256(WEIGHTS).hexdigest()
    sizes = {path: [len(data), sha if data == WEIGHTS else None] for path, data in held.items()}
    assert info == [second.oid, False, False, sizes]
    files = [["RepoFile", name] for name in (".gitattributes", "README.md", "config.json", "empty.bin")]
    assert root == [*files, ["RepoFolder", "sub folder"]]
    assert below == [["RepoFile", "sub folder/model.safetensors"]]
    assert some == [["RepoFile", "config.json"], ["RepoFolder", "sub folder"]]
    methods = [method for method, path in hub.requests if path.startswith("/lfs/")]
    assert methods == ["PUT", "POST"]  # one upload, verified; the second push found it there
    assert sum("/commit/" in path for _, path in hub.requests) == 1


def test_names_of_revisions(hub, client):
    hub.add_repo("user/net", {"config.json": b"old", "gone/a.txt": b"", "gone/b.txt": b"", "kept.bin": WEIGHTS})
    said = client(
        ERRORS
        + """
from pathlib import Path
from huggingface_hub import CommitOperationCopy
api.create_branch("user/net", branch="a/b")
api.create_branch("user/net", branch="a/b", exist_ok=True)
api.create_tag("user/net", tag="v1")
error(api.create_tag, repo_id="user/net", tag="v1")
api.upload_file(path_or_fileobj=b"new", path_in_repo="config.json", repo_id="user/net", revision="a/b")
say([Path(get(revision=name)).read_text() for name in ("main", "v1", "a/b")])
api.delete_folder("gone", repo_id="user/net", revision="a/b")
error(api.delete_file, path_in_repo="none.txt", repo_id="user/net", revision="a/b")
error(put, revision="none")
api.create_commit("user/net", [CommitOperationCopy("kept.bin", "copy.bin")], commit_message="Copy", revision="a/b")
pull = api.upload_file(path_or_fileobj=b"asked", path_in_repo="config.json", repo_id="user/net", create_pr=True)
say([pull.pr_revision, pull.pr_num, Path(get(revision="refs/pr/1")).read_text()])
api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id="user/net", revision="refs/pr/1")
refs = api.list_repo_refs("user/net", include_pull_requests=True)
say([[ref.ref for ref in kind] for kind in (refs.branches, refs.tags, refs.pull_requests)])
head = api.repo_info("user/net").sha
put(parent_commit=head)
error(put, parent_commit=head, path_in_repo="y.txt")
say(Path(get(revision=head[:7])).read_text())
"""
    )
    tag, texts, deleted, missing, pull, refs, conflict, old = said
    assert tag[:2] == ["HfHubHTTPError", 409]
    assert texts == ["old", "old", "new"]
    assert deleted[:2] == ["RemoteEntryNotFoundError", 404]
    assert missing[:2] == ["RevisionNotFoundError", 404]
    assert pull == ["refs/pr/1", 1, "asked"]
    assert refs == [["refs/heads/main", "refs/heads/a/b"], ["refs/tags/v1"], ["refs/pr/1"]]
    assert conflict[:2] == ["HfHubHTTPError", 412] and "A commit has happened since" in conflict[2]
    assert old == "old"
    assert hub.files("user/net", "a/b") == {"config.json": b"new", "kept.bin": WEIGHTS, "copy.bin": WEIGHTS}
    assert hub.files("user/net", "refs/pr/1")["x.txt"] == b"x"
    assert hub.files("user/net")["config.json"] == b"old"
    assert [len(hub.commits("user/net", name)) for name in ("main", "v1", "a/b", "refs/pr/1")] == [2, 1, 4, 3]


def test_who_may_do_what(hub, client):
    hub.add_repo("user/net", {"config.json": b"{}"})
    hub.add_repo("user/secret", {"config.json": b"{}"}, private=True)
    hub.add_repo("else/net", {"config.json": b"{}"})
    said = client(
        ERRORS
        + """
error(get, repo_id="user/secret", token=False)
get(repo_id="user/secret", token="reader"); get(token=False)
error(get, repo_id="user/none")
error(get, repo_id="user/none", token=False)
error(get, revision="none")
error(get, filename="none")
error(api.repo_info, repo_id="user/net", token="stolen")
error(api.whoami, token="stolen")
error(put, token=False)
error(put, token="reader")
error(put, repo_id="else/net")
error(api.create_repo, repo_id="else/new")
error(api.create_repo, repo_id="user/net")
error(api.create_repo, repo_id="user/new", token="reader")
error(api.delete_repo, repo_id="user/net", token="reader")
api.create_repo("org/hidden", private=True, repo_type="dataset")
api.create_repo("user/gone"); api.delete_repo("user/gone")
error(api.delete_repo, repo_id="user/gone")
say(put(repo_id="else/net", create_pr=True).pr_revision)
"""
    )
    *errors, pull = said
    assert [error[:2] for error in errors] == [
        ["RepositoryNotFoundError", 401],
        ["RepositoryNotFoundError", 404],
        ["RepositoryNotFoundError", 401],
        ["RevisionNotFoundError", 404],
        ["RemoteEntryNotFoundError", 404],
        ["HfHubHTTPError", 401],
        ["HfHubHTTPError", 401],
        ["RepositoryNotFoundError", 401],  # the real Hub's answer to a writer without a token reads so, too
        ["HfHubHTTPError", 403],
        ["HfHubHTTPError", 403],
        ["HfHubHTTPError", 403],
        ["HfHubHTTPError", 409],
        ["HfHubHTTPError", 403],
        ["HfHubHTTPError", 403],
        ["RepositoryNotFoundError", 404],
    ]
    assert "you must use a write token" in errors[8][2]
    assert "don't have the rights to create a model under the namespace" in errors[12][2]
    assert pull == "refs/pr/1"
    assert hub.is_private("org/hidden", "dataset") and hub.is_private("user/secret")
    assert ("model", "user/gone") not in hub.repos
    assert len(hub.commits("user/net")) == len(hub.commits("else/net")) == 1


def test_gated_weights(hub, client, folder, tmp_path):
    hub.add_folder("facebook/net", tmp_path / "folder", gated=True)
    assert hub.files("facebook/net") == folder
    said = client(
        ERRORS
        + """
say([api.repo_info("facebook/net", token=token).gated for token in ("reader", False)])
error(get, repo_id="facebook/net", token="reader")
error(get, repo_id="facebook/net", token=False)
get(repo_id="facebook/net")
"""
    )
    assert said[0] == ["manual", "manual"]  # what there is may be seen
    assert [error[:2] for error in said[1:]] == [["GatedRepoError", 403], ["GatedRepoError", 401]]
    assert "not in the authorized list" in said[1][2]


def test_a_card_is_checked_before_anything_is_uploaded(hub, client):
    hub.add_repo("user/net", {"config.json": b"{}"})
    said = client(
        ERRORS
        + """
import warnings
warnings.simplefilter("error")
error(put, path_or_fileobj=b"---\\nlicense: [mit\\n---\\n", path_in_repo="README.md")
error(put, path_or_fileobj=b"---\\nlicense: mine\\n---\\n", path_in_repo="README.md")
error(put, path_or_fileobj=b"# No metadata", path_in_repo="README.md")
"""
    )
    assert [error[0] for error in said] == ["ValueError", "ValueError", "UserWarning"]
    assert "YAML" in said[0][2] and '"license" must be one of' in said[1][2] and "empty or missing" in said[2][2]
    assert {path for _, path in hub.requests} <= {"/api/validate-yaml"}


RESULT = {"task": {"type": "a"}, "dataset": {"type": "b", "name": "c"}, "metrics": [{"type": "d", "value": 0.5}]}


@pytest.mark.parametrize(
    "index, error",
    [
        ([{"name": "net", "results": [RESULT]}], None),
        ({"name": "net"}, '"model-index" must be of type array'),
        ([{"results": []}], '"model-index[0].name" is required'),
        ([{"name": 1, "results": []}], '"model-index[0].name" must be of type string'),
        ([{"name": "net", "results": [RESULT | {"task": {}}]}], '"model-index[0].results[0].task.type" is required'),
        (
            [{"name": "net", "results": [RESULT | {"metrics": [{"type": "dice"}]}]}],
            '"model-index[0].results[0].metrics[0].value" is required',
        ),
    ],
)
def test_results_in_a_card(index, error):
    card = f"---\nmodel-index: {json.dumps(index)}\n---\n"
    assert check_card(card, "model")["errors"] == ([{"message": error}] if error else [])
    assert check_card(card, "dataset")["errors"] == []


def test_a_card_that_is_no_mapping():
    assert check_card("---\n- license\n---\n", "model")["errors"][0]["message"].endswith("must be a mapping")


# What goes wrong on the way


def test_the_client_gets_over_what_passes(hub, client, folder):
    hub.fail("POST", "/preupload/", status=503)
    hub.fail("PUT", "^/lfs/", drop=True)
    hub.fail("GET", "/resolve/.*safetensors", drop=True)
    code = (
        'from huggingface_hub import snapshot_download\nfrom pathlib import Path\nroot = snapshot_download("user/net")'
    )
    read = '\nsay(Path(root, "sub folder", "model.safetensors").read_bytes().hex())'
    (weights,) = client(UPLOAD + code + read)
    assert bytes.fromhex(weights) == WEIGHTS  # the second half was asked for by its range
    assert without_attributes(hub.files("user/net")) == folder
    wanted = [("POST", "/preupload/"), ("PUT", "/lfs/"), ("GET", ".safetensors")]
    assert [sum(m == method and part in path for method, path in hub.requests) for m, part in wanted] == [2, 2, 2]


@pytest.mark.parametrize(
    "failures",
    [
        [("PUT", {"drop": True}), ("PUT", {"status": 403})],  # the client's second attempt finds the address expired
        [("POST /commit/", {"drop": True})],
        [("POST /commit/", {"status": 500})],
    ],
    ids=["upload dropped", "commit dropped", "commit refused"],
)
def test_an_interrupted_push_leaves_the_remote_as_it_was(hub, client, folder, failures):
    old = {"config.json": b"old", "README.md": CARD}
    hub.add_repo("user/net", old)
    for where, how in failures:
        method, _, part = where.partition(" ")
        hub.fail(method, part, **how)
    attempt = UPLOAD.replace("api.upload_folder(", "error(api.upload_folder, ").replace("api = HfApi()", ERRORS)
    (error,) = client(attempt)
    assert error[0] in ("RuntimeError", "RemoteProtocolError", "ReadError", "WriteError", "HfHubHTTPError"), error
    assert not hub.failures  # all of them were met
    assert hub.files("user/net") == old and len(hub.commits("user/net")) == 1
    client(UPLOAD)
    assert hub.files("user/net") == folder
    assert [commit.title for commit in hub.commits("user/net")] == ["initial commit", "Weights"]


def ask(hub, method: str, path: str, body=b"", **headers) -> tuple[int, bytes, dict]:
    """A request by hand: status, body and headers of the answer."""
    headers = {"Authorization": "Bearer writer"} | {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(hub.url + path, data=body or None, method=method, headers=headers)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read(), dict(error.headers)


def test_nothing_is_taken_unseen(hub):
    hub.add_repo("user/net", {"config.json": b"{}"})
    sha = hashlib.sha256(WEIGHTS).hexdigest()
    place = f"/lfs/models/user/net/{sha}/{len(WEIGHTS)}"
    assert ask(hub, "PUT", place, WEIGHTS[:-1] + b"x")[0] == 400
    assert ask(hub, "PUT", place, WEIGHTS[:-1])[0] == 400
    asked = json.dumps({"oid": sha, "size": len(WEIGHTS)}).encode()
    assert ask(hub, "POST", "/lfs/models/user/net/verify", asked, Content_Type="application/json")[0] == 404
    lines = [
        {"key": "header", "value": {"summary": "s"}},
        {"key": "file", "value": {"path": "new.txt", "content": "eA==", "encoding": "base64"}},
        {"key": "lfsFile", "value": {"path": "w.bin", "algo": "sha256", "oid": sha, "size": len(WEIGHTS)}},
    ]
    commit = "/api/models/user/net/commit/main", "\n".join(map(json.dumps, lines)).encode()
    status, body, _ = ask(hub, "POST", *commit, Content_Type="application/x-ndjson")
    assert status == 400 and b"does not exist" in body
    assert hub.files("user/net") == {"config.json": b"{}"}  # the line before the bad one is not there either
    assert ask(hub, "PUT", place, WEIGHTS)[0] == 200
    assert ask(hub, "POST", *commit, Content_Type="application/x-ndjson")[0] == 200
    assert hub.files("user/net") == {"config.json": b"{}", "new.txt": b"x", "w.bin": WEIGHTS}


@pytest.mark.parametrize(
    "asked, status, part, told",
    [
        ("bytes=0-3", 206, slice(0, 4), "bytes 0-3/512000"),
        ("bytes=511990-", 206, slice(511990, None), "bytes 511990-511999/512000"),
        ("bytes=-5", 206, slice(-5, None), "bytes 511995-511999/512000"),
        ("bytes=512000-", 416, slice(0, 0), "bytes */512000"),
    ],
)
def test_ranges(hub, asked, status, part, told):
    hub.add_repo("user/net", {"w.bin": WEIGHTS})
    answer = ask(hub, "GET", "/user/net/resolve/main/w.bin", Range=asked)
    assert (answer[0], answer[1], answer[2]["Content-Range"]) == (status, WEIGHTS[part], told)


def test_a_failure_is_one_thing(hub):
    with pytest.raises(ValueError, match="either a status or drop"):
        hub.fail("GET", "/", status=500, drop=True)


def test_environment(hub, monkeypatch, tmp_path):
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_CACHE", "TRANSFORMERS_OFFLINE", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("KEPT", "1")
    environment = hub.environment(tmp_path, token=None)
    names = {
        name for name in environment if name.upper().startswith(("HF_", "TRANSFORMERS_")) or "proxy" in name.lower()
    }
    off = {"HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY", "HF_UPDATE_DOWNLOAD_COUNTS"}
    assert names == {"HF_ENDPOINT", "HF_HOME", *off}
    assert environment["KEPT"] == "1" and environment["HF_ENDPOINT"] == hub.url
    assert hub.environment(tmp_path)["HF_TOKEN"] == "writer"


# The other clients


@pytest.mark.slow
def test_command_line_of_the_hub(hub, folder, tmp_path):
    hf, environment = Path(sys.executable).with_name("hf"), hub.environment(tmp_path / "home")

    def run(*arguments):
        return subprocess.run([hf, *arguments], env=environment, capture_output=True, text=True, timeout=60)

    made = run("upload", "org/net", tmp_path / "folder", "--private", "--commit-message", "By hand")
    assert made.returncode == 0, made.stderr
    assert without_attributes(hub.files("org/net")) == folder and hub.is_private("org/net")
    assert hub.commits("org/net")[-1].title == "By hand"
    taken = run("download", "org/net", "--local-dir", tmp_path / "taken")
    assert taken.returncode == 0, taken.stderr
    assert (tmp_path / "taken" / "sub folder" / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.slow
def test_transformers(hub, client, tmp_path):
    load = """
from transformers import AutoModel
model = AutoModel.from_pretrained("user/vit")
say(sum(float(weight.double().sum()) for weight in model.state_dict().values()))
"""
    make = """
from transformers import ViTConfig, ViTModel
sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
sizes |= dict(image_size=16, patch_size=8)
model = ViTModel(ViTConfig(**sizes))
say(sum(float(weight.double().sum()) for weight in model.state_dict().values()))
model.push_to_hub("user/vit", private=True)
"""
    pushed, loaded = client(make + load, home=tmp_path / "home")
    assert pushed == loaded
    assert hub.is_private("user/vit")
    assert set(without_attributes(hub.files("user/vit"))) == {"README.md", "config.json", "model.safetensors"}
    seen = len(hub.requests)
    assert client(load, home=tmp_path / "home", HF_HUB_OFFLINE="1") == [loaded]
    assert len(hub.requests) == seen


@pytest.mark.slow
def test_datasets(hub, client):
    said = client(
        """
from datasets import Dataset, load_dataset
rows = [{"name": "a", "size": 1}, {"name": "b", "size": 2}]
Dataset.from_list(rows).push_to_hub("user/neurons", split="train")
Dataset.from_list(rows[:1]).push_to_hub("user/neurons", split="test")
loaded = load_dataset("user/neurons")
say({split: loaded[split].to_list() for split in loaded})
say(list(load_dataset("user/neurons", split="train", streaming=True)))
"""
    )
    rows = [{"name": "a", "size": 1}, {"name": "b", "size": 2}]
    assert said == [{"train": rows, "test": rows[:1]}, rows]
    parquet = [path for path in hub.files("user/neurons", repo_type="dataset") if path.endswith(".parquet")]
    assert sorted(parquet) == ["data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"]


# One import a line: evaluate reads `import a, b` as a package named "a,".
METRIC = b"""
import datasets
import evaluate

class Same(evaluate.Metric):
    def _info(self):
        features = {name: datasets.Value("int64") for name in ("predictions", "references")}
        return evaluate.MetricInfo(description="", citation="", features=datasets.Features(features))

    def _compute(self, predictions, references):
        return {"same": sum(a == b for a, b in zip(predictions, references))}
"""


@pytest.mark.slow
def test_evaluate(hub, client):
    """evaluate asks for NAME.py of the space user/NAME at the tag of its own version, then, that missing, at main."""
    hub.add_repo("user/same", {"same.py": METRIC, "README.md": b"---\nsdk: gradio\n---\n"}, repo_type="space")
    code = 'import evaluate\nmetric = evaluate.load("user/same")\n'
    assert client(code + "say(metric.compute(predictions=[1, 2], references=[1, 3]))") == [{"same": 1}]
    paths = [path for _, path in hub.requests if path.startswith("/spaces/user/same/resolve/")]
    assert [path.split("/resolve/")[1] for path in paths][-2:] == ["main/same.py"] * 2
