"""A Hub on the loopback, so that tests push and load through the unmodified clients, over real HTTP, without a
network.

It keeps repositories in memory and answers what huggingface_hub 2.4, transformers, datasets and evaluate ask for, with
the status codes and error headers of the real Hub. Content travels by the LFS protocol, not by Xet. The clients read
their settings once, at import: run them in a subprocess with `HubServer.environment`.
"""

import base64
import hashlib
import json
import os
import re
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit


# The namespaces that a token may write below. Any token reads everything; a writer may open a pull request anywhere.
TOKENS = {"writer": ("user", "org"), "reader": ()}
# The real Hub sends these, files with a zero byte and files above 10 MB to large file storage.
LFS_SUFFIXES = tuple(
    ".arrow .bin .bz2 .ckpt .gz .h5 .npy .npz .onnx .parquet .pkl .pt .pth .safetensors .tar .xz .zip .zst".split()
)
LICENSES = (
    "apache-2.0 mit bsd-3-clause gpl-3.0 cc0-1.0 cc-by-4.0 cc-by-sa-4.0 cc-by-nc-4.0 openrail other unknown".split()
)
RESULT = {"task": {"type": str}, "dataset": {"type": str, "name": str}, "metrics": [{"type": str, "value": object}]}
MODEL_INDEX = [{"name": str, "results": [RESULT]}]


class HubServer:
    """Repositories in memory behind a server on 127.0.0.1; use it as a context manager.

    Tokens: "writer" may write below "user/" and "org/", "reader" may only read, private repositories too; without a
    token public ones can be read. `requests` lists (method, path with query) of all requests in the order of their
    arrival.
    """

    def __init__(self):
        self.repos: dict[tuple[str, str], Repo] = {}
        self.requests: list[tuple[str, str]] = []
        self.failures: list[dict] = []
        self.lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "HubServer":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: Path, token: str | None = "writer") -> dict[str, str]:
        """Variables for a subprocess whose clients know this Hub only, with all their caches below `home`."""
        ours = re.compile(r"HF_|HUGGING|TRANSFORMERS_|XDG_CACHE_HOME|\w+_proxy$", re.IGNORECASE)
        kept = {name: value for name, value in os.environ.items() if not ours.match(name)}
        # evaluate counts loads at another server unless told not to.
        off = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0"}
        here = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "XDG_CACHE_HOME": str(home)}
        return kept | off | here | ({} if token is None else {"HF_TOKEN": token})

    def clear(self) -> None:
        """Forget all repositories."""
        with self.lock:
            self.repos.clear()

    def add_repo(self, repo_id: str, files: dict[str, bytes], repo_type="model", private=False, gated=False) -> None:
        """Put a repository there without HTTP: its only commit holds exactly these files."""
        repo = Repo(repo_id, repo_type, private, gated)
        blobs = {path: Blob(data, is_lfs(path, data, len(data))) for path, data in files.items()}
        repo.objects |= {blob.etag: blob.data for blob in blobs.values() if blob.lfs}
        repo.commit("refs/heads/main", [], blobs, "initial commit")
        with self.lock:
            self.repos[repo_type, repo_id] = repo

    def add_folder(self, repo_id: str, folder: Path, repo_type="model", private=False, gated=False) -> None:
        """`add_repo` with all files below a folder."""
        paths = [path for path in Path(folder).rglob("*") if path.is_file()]
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        self.add_repo(repo_id, files, repo_type, private, gated)

    def files(self, repo_id: str, revision="main", repo_type="model") -> dict[str, bytes]:
        """What the remote holds now at a branch, tag, pull request (refs/pr/N) or commit."""
        return self.commits(repo_id, revision, repo_type)[-1].files

    def commits(self, repo_id: str, revision="main", repo_type="model") -> list["Commit"]:
        """Commits up to a revision, oldest first. A client's create_repo makes the first one, with .gitattributes."""
        with self.lock:
            return list(self.repos[repo_type, repo_id].history(revision))

    def is_private(self, repo_id: str, repo_type="model") -> bool:
        return self.repos[repo_type, repo_id].private

    def fail(self, method: str, path_pattern: str, status: int | None = None, drop=False, times=1) -> None:
        """Let the next `times` requests whose method fits and whose path with query holds the regular expression go
        wrong.

        They are answered with `status`, or (`drop`) the connection is cut: in the middle of the request's body if it
        has one, else in the middle of the answer's. Failures are used up in the order in which they were asked for.
        """
        if (status is None) != drop:
            raise ValueError(f"either a status or drop is needed, not status={status} and drop={drop}")
        with self.lock:
            self.failures += [{"method": method, "pattern": path_pattern, "status": status, "drop": drop}] * times

    def begin(self, method: str, path: str) -> dict:
        """Note a request. Returns the failure that it shall meet, or an empty dict."""
        with self.lock:
            self.requests.append((method, path))
            for index, failure in enumerate(self.failures):
                if failure["method"] == method and re.search(failure["pattern"], path):
                    return self.failures.pop(index)
        return {}


@dataclass(frozen=True)
class Blob:
    """The content of a file, and whether large file storage has it (git itself then has a pointer)."""

    data: bytes
    lfs: bool

    @cached_property
    def entry(self) -> dict:
        """What the tree and paths-info answers say of it."""
        stored, size, more = self.data, len(self.data), {}
        if self.lfs:
            oid = hashlib.sha256(self.data).hexdigest()
            stored = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n".encode()
            more = {"lfs": {"oid": oid, "sha256": oid, "size": size, "pointerSize": len(stored)}}
        oid = hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()
        return {"type": "file", "oid": oid, "size": size} | more

    @property
    def etag(self) -> str:
        return self.entry["lfs"]["oid"] if self.lfs else self.entry["oid"]


@dataclass(frozen=True)
class Commit:
    """A state of a repository. `blobs` and `files` are all its files, not only those that the commit changed."""

    oid: str
    title: str
    description: str
    date: str
    blobs: dict[str, Blob]

    @property
    def files(self) -> dict[str, bytes]:
        return {path: blob.data for path, blob in self.blobs.items()}


@dataclass
class Repo:
    """A repository. `refs` maps refs/heads/NAME, refs/tags/NAME and refs/pr/N to commits, oldest first."""

    id: str
    type: str
    private: bool = False
    gated: bool = False
    refs: dict[str, list[Commit]] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)  # what was uploaded to large file storage, by sha256

    @property
    def path(self) -> str:
        return self.id if self.type == "model" else f"{self.type}s/{self.id}"

    def history(self, revision: str) -> list[Commit]:
        """Commits up to a branch, tag, pull request or commit (by at least 7 of its digits)."""
        for ref in (revision, f"refs/heads/{revision}", f"refs/tags/{revision}"):
            if ref in self.refs:
                return self.refs[ref]
        for commits in self.refs.values() if re.fullmatch("[0-9a-f]{7,40}", revision) else ():
            for count, commit in enumerate(commits, start=1):
                if commit.oid.startswith(revision):
                    return commits[:count]
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def commit(self, ref: str, history: list[Commit], blobs: dict[str, Blob], title: str, description="") -> Commit:
        """Let a ref be this history and a new state after it."""
        tree = {path: blob.etag for path, blob in sorted(blobs.items())}
        oid = hashlib.sha1(repr([self.path, [c.oid for c in history], tree, title, description]).encode()).hexdigest()
        commit = Commit(oid, title, description, f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.000Z}", blobs)
        self.refs[ref] = [*history, commit]
        return commit


class HubError(Exception):
    """An answer that is an error. `code` is the X-Error-Code by which clients tell errors apart."""

    def __init__(self, status: int, message: str, code: str | None = None, more: dict | None = None):
        super().__init__(message)
        self.status, self.answer = status, {"error": message} | (more or {})
        message = message.replace("\n", " ").encode("ascii", "replace").decode()
        self.headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})


def is_lfs(path: str, sample: bytes, size: int) -> bool:
    """Whether a file goes to large file storage, by its name, the beginning of its content and its size."""
    return size > 0 and (path.endswith(LFS_SUFFIXES) or b"\0" in sample[:512] or size > 10_000_000)


def check_card(content: str, repo_type: str) -> dict:
    """Errors and warnings about the YAML at the top of a README.md: a part of what the real Hub checks."""
    import yaml  # comes with huggingface_hub

    block = re.match(r"\s*---[\r\n]+([\S\s]*?)[\r\n]+---(\r\n|\n|$)", content)
    errors, data = [], {}
    try:
        data = yaml.safe_load(block[1]) if block else None
    except yaml.YAMLError as error:
        errors.append(f"YAML Metadata Error: {error}")
    warnings = [] if data is not None else ["empty or missing yaml metadata in repo card"]
    if not isinstance(data, dict | None):
        errors.append("YAML Metadata Error: the metadata must be a mapping")
    elif data:
        named = data.get("license", [])
        unknown = [name for name in (named if isinstance(named, list) else [named]) if name not in LICENSES]
        errors += [f'"license" must be one of {", ".join(LICENSES)}: {name!r}' for name in unknown]
        if repo_type == "model" and "model-index" in data:
            errors += misfits(data["model-index"], MODEL_INDEX, "model-index")
    return {"errors": [{"message": text} for text in errors], "warnings": [{"message": text} for text in warnings]}


def misfits(value, shape, where: str) -> list[str]:
    """Compare with a shape: a dict names what is required, a list holds the shape of its items, else it is a type."""
    kind = shape if isinstance(shape, type) else type(shape)
    if not isinstance(value, kind):
        return [f'"{where}" must be of type {({list: "array", dict: "object"}).get(kind, "string")}']
    if kind is list:
        return [text for i, item in enumerate(value) for text in misfits(item, shape[0], f"{where}[{i}]")]
    if kind is not dict:
        return []
    missing = [f'"{where}.{key}" is required' for key in shape if value.get(key) is None]
    given = [key for key in shape if value.get(key) is not None]
    return missing + [text for key in given for text in misfits(value[key], shape[key], f"{where}.{key}")]


ROUTES = []
TYPE, ID, REV = "(?P<kind>model|dataset|space)s", "(?P<id>[^/]+/[^/]+)", "(?P<rev>[^/]+)"
API, WEB = f"/api/{TYPE}/{ID}", f"/(?:{TYPE}/)?{ID}"


def route(method: str, pattern: str, access: str | None = "read"):
    """Let a method of the handler answer a path; it gets the repository, if the path names one, and the other groups.

    access: what the token must allow: "read", "write", "propose" (a pull request) or None (the address is the secret).
    """
    return lambda function: ROUTES.append((method, pattern, access, function)) or function


class _Handler(BaseHTTPRequestHandler):
    """Answers a connection. A request is read whole before anything is looked up or changed, and all under one lock.

    Routes return what is sent as JSON, or (status, bytes, headers), or raise HubError.
    """

    hub: HubServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave together: as two packets they would wait for each other

    def log_message(self, *_) -> None:
        pass

    def do_GET(self) -> None:
        failure = self.hub.begin(self.command, self.path)
        drop, length = failure.get("drop", False), int(self.headers.get("Content-Length", 0))
        self.body = self.rfile.read(length // 2 if drop else length)
        if len(self.body) < length or (drop and self.command == "HEAD"):  # cut on purpose, or the client went away
            self.close_connection = True
            return
        try:
            if failure.get("status"):
                raise HubError(failure["status"], "asked to fail")
            with self.hub.lock:
                answer = self.dispatch()
            status, content, headers = answer if isinstance(answer, tuple) else (200, json.dumps(answer).encode(), {})
        except HubError as error:
            status, content, headers = error.status, json.dumps(error.answer).encode(), error.headers
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(content), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if drop else content)
        self.close_connection = self.close_connection or drop

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def dispatch(self):
        url = urlsplit(self.path)
        self.query = {name: values[-1].lower() for name, values in parse_qs(url.query).items()}
        self.token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
        if self.token not in (None, *TOKENS):
            raise HubError(401, "Invalid credentials in Authorization header")
        is_json = "json" in self.headers.get("Content-Type", "")
        self.lines = [json.loads(line) for line in self.body.splitlines() if line.strip()] if is_json else []
        self.asked = self.lines[0] if self.lines else {}
        for method, pattern, access, function in ROUTES:
            if method == self.command and (match := re.fullmatch(pattern, url.path)):
                groups = {name: unquote(text) for name, text in match.groupdict().items() if text is not None}
                if "id" not in groups:
                    return function(self, **groups)
                repo = self.find(groups.pop("kind", "model"), groups.pop("id"), access)
                return function(self, repo, **groups)
        raise HubError(404, "Sorry, we can't find the page you are looking for.")

    def allowed(self) -> tuple[str, ...]:
        """The namespaces that the token of the request may write below; 401 without a token."""
        if self.token is None:
            raise HubError(401, "Invalid username or password.")
        return TOKENS[self.token]

    def find(self, kind: str, repo_id: str, access: str | None) -> Repo:
        """A repository that may be accessed so. One that may not be read answers like one that does not exist."""
        repo = self.hub.repos.get((kind, repo_id))
        if repo is None or (repo.private and access is not None and self.token is None):
            raise HubError(404 if self.token else 401, "Repository not found", "RepoNotFound")
        if access in ("write", "propose") and self.token is None:
            # Over https a client takes any 401 for a repository like this; over http it needs the code.
            raise HubError(401, "Invalid username or password.", "RepoNotFound")
        if access in ("write", "propose") and not self.allowed():
            raise HubError(403, "Forbidden: you must use a write token to upload to a repository")
        if access == "write" and repo_id.split("/")[0] not in self.allowed():
            raise HubError(403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")
        return repo

    # Accounts, cards, repositories

    @route("GET", "/api/whoami-v2")
    def whoami(self):
        name, role = ("user", "write") if self.allowed() else ("reader", "read")
        orgs = [{"type": "org", "name": org} for org in self.allowed() if org != name]
        auth = {"type": "access_token", "accessToken": {"displayName": self.token, "role": role}}
        return {"type": "user", "name": name, "fullname": name, "orgs": orgs, "auth": auth}

    @route("POST", "/api/validate-yaml")
    def validate_yaml(self):
        found = check_card(self.asked["content"], self.asked.get("repoType", "model"))
        return 400 if found["errors"] else 200, json.dumps(found).encode(), {}

    @route("POST", "/api/repos/create")
    def create_repo(self):
        namespace, private = self.asked.get("organization") or "user", self.asked.get("visibility") == "private"
        repo = Repo(f"{namespace}/{self.asked['name']}", self.asked.get("type") or "model", private)
        answer = {"url": f"{self.hub.url}/{repo.path}", "name": repo.id}
        if namespace not in self.allowed():
            raise HubError(
                403, f'You don\'t have the rights to create a {repo.type} under the namespace "{namespace}"'
            )
        if (repo.type, repo.id) in self.hub.repos:
            raise HubError(409, f"You already created this {repo.type} repo", more=answer)
        attributes = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES)
        repo.commit("refs/heads/main", [], {".gitattributes": Blob(attributes.encode(), False)}, "initial commit")
        self.hub.repos[repo.type, repo.id] = repo
        return answer

    @route("DELETE", "/api/repos/delete")
    def delete_repo(self):
        repo_id = f"{self.asked.get('organization') or 'user'}/{self.asked['name']}"
        repo = self.find(self.asked.get("type") or "model", repo_id, "write")
        del self.hub.repos[repo.type, repo.id]
        return {}

    # Revisions

    @route("GET", f"{API}/refs")
    def list_refs(self, repo: Repo):
        answer = {"branches": [], "tags": [], "converts": [], "pullRequests": []}
        for ref, commits in repo.refs.items():
            kind, name = ref.removeprefix("refs/").split("/", 1)
            place = {"heads": "branches", "tags": "tags", "pr": "pullRequests"}[kind]
            answer[place].append({"name": name, "ref": ref, "targetCommit": commits[-1].oid})
        return answer

    @route("POST", f"{API}/(?P<what>branch|tag)/{REV}", "write")
    def create_ref(self, repo: Repo, what: str, rev: str):
        ref, start = f"refs/heads/{rev}", self.asked.get("startingPoint", "main")
        if what == "tag":
            ref, start = f"refs/tags/{self.asked['tag']}", rev
        commits = repo.history(start)
        if ref in repo.refs:
            raise HubError(409, f"Reference {ref} already exists")
        repo.refs[ref] = commits
        return {}

    # Reading

    @route("GET", f"{API}(/revision/{REV})?")
    def info(self, repo: Repo, rev: str = "main"):
        head, siblings = repo.history(rev)[-1], []
        for path, blob in sorted(head.blobs.items()):
            more = {"size": len(blob.data), "blobId": blob.entry["oid"], "lfs": blob.entry.get("lfs")}
            siblings.append({"rfilename": path} | (more if self.query.get("blobs") == "true" else {}))
        answer = {
            "id": repo.id,
            "author": repo.id.split("/")[0],
            "sha": head.oid,
            "lastModified": head.date,
            "tags": [],
        }
        return answer | {"siblings": siblings, "private": repo.private, "gated": "manual" if repo.gated else False}

    @route("GET", f"{API}/tree/{REV}(/(?P<path>.+))?")
    def tree(self, repo: Repo, rev: str, path: str = ""):
        entries, above = self.entries(repo, rev), f"{path.strip('/')}/" if path else ""
        below = [entry for entry in entries.values() if entry["path"].startswith(above)]
        if path and not below:
            raise HubError(404, f'{path} does not exist on "{rev}"', "EntryNotFound")
        deep = self.query.get("recursive") == "true"
        return [entry for entry in below if deep or "/" not in entry["path"][len(above) :]]

    @route("POST", f"{API}/paths-info/{REV}")
    def paths_info(self, repo: Repo, rev: str):
        entries = self.entries(repo, rev)
        return [entries[path] for path in parse_qs(self.body.decode()).get("paths", []) if path in entries]

    def entries(self, repo: Repo, rev: str) -> dict[str, dict]:
        """Files and folders of a revision by path."""
        found = {}
        for path, blob in sorted(repo.history(rev)[-1].blobs.items()):
            for folder in [parent.as_posix() for parent in Path(path).parents][-2::-1]:
                oid = hashlib.sha1(f"{repo.history(rev)[-1].oid} {folder}".encode()).hexdigest()
                found[folder] = {"type": "directory", "path": folder, "oid": oid, "size": 0}
            found[path] = blob.entry | {"path": path}
        return found

    @route("HEAD", f"{WEB}/resolve/{REV}/(?P<path>.+)")
    @route("GET", f"{WEB}/resolve/{REV}/(?P<path>.+)")
    def resolve(self, repo: Repo, rev: str, path: str):
        head = repo.history(rev)[-1]
        if repo.gated and self.token != "writer":
            told = "you are not in the authorized list" if self.token else "you must be authenticated to access it"
            message = f"Access to {repo.type} {repo.id} is restricted and {told}. Ask for access at {repo.path}."
            raise HubError(403 if self.token else 401, message, "GatedRepo")
        if path not in head.blobs:
            error = HubError(404, "Entry not found", "EntryNotFound")
            error.headers["X-Repo-Commit"] = head.oid  # clients remember the absence in this commit
            raise error
        data = head.blobs[path].data
        headers = {"X-Repo-Commit": head.oid, "ETag": f'"{head.blobs[path].etag}"', "Accept-Ranges": "bytes"}
        headers["Content-Type"] = "application/octet-stream"
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            return 200, data, headers
        start = int(asked[1]) if asked[1] else max(len(data) - int(asked[2]), 0)
        stop = min(int(asked[2]) + 1, len(data)) if asked[1] and asked[2] else len(data)
        if start >= len(data):
            return 416, b"", {"Content-Range": f"bytes */{len(data)}"}
        return 206, data[start:stop], headers | {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}

    # Writing

    def branch(self, repo: Repo, rev: str) -> tuple[str, list[Commit]]:
        """The branch or pull request to write to and its commits, if the token may."""
        ref = rev if rev.startswith("refs/pr/") else f"refs/heads/{rev.removeprefix('refs/heads/')}"
        if not ref.startswith("refs/pr/") and self.query.get("create_pr") != "1":
            self.find(repo.type, repo.id, "write")
        if ref not in repo.refs:
            raise HubError(404, f"Invalid rev id: {rev}", "RevisionNotFound")
        return ref, repo.refs[ref]

    @route("POST", f"{API}/preupload/{REV}", "propose")
    def preupload(self, repo: Repo, rev: str):
        blobs, answer = self.branch(repo, rev)[1][-1].blobs, []
        for file in self.asked["files"]:
            mode = "lfs" if is_lfs(file["path"], base64.b64decode(file["sample"]), file["size"]) else "regular"
            oid = blobs[file["path"]].etag if file["path"] in blobs else None
            answer.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": answer}

    @route("POST", f"{WEB}\\.git/info/lfs/objects/batch", "propose")
    def lfs_batch(self, repo: Repo):
        place, answer = f"{self.hub.url}/lfs/{repo.type}s/{repo.id}", []
        for file in self.asked["objects"]:
            href = {"upload": {"href": f"{place}/{file['oid']}/{file['size']}"}, "verify": {"href": f"{place}/verify"}}
            answer.append(file if file["oid"] in repo.objects else file | {"actions": href})
        return {"transfer": "basic", "objects": answer}

    @route("PUT", f"/lfs/{TYPE}/{ID}/(?P<oid>[0-9a-f]+)/(?P<size>[0-9]+)", None)
    def lfs_upload(self, repo: Repo, oid: str, size: str):
        if hashlib.sha256(self.body).hexdigest() != oid or len(self.body) != int(size):
            raise HubError(400, "The SHA256 or the size of the body is not the one that was announced")
        repo.objects[oid] = self.body
        return 200, b"", {"ETag": f'"{oid}"'}

    @route("POST", f"/lfs/{TYPE}/{ID}/verify", "propose")
    def lfs_verify(self, repo: Repo):
        if len(repo.objects.get(self.asked["oid"], b"")) != self.asked["size"]:
            raise HubError(404, "The object was not uploaded, or has another size")
        return {}

    @route("POST", f"{API}/commit/{REV}", "propose")
    def commit(self, repo: Repo, rev: str):
        ref, history = self.branch(repo, rev)
        header, *changes = self.lines
        parent, proposed = header["value"].get("parentCommit"), self.query.get("create_pr") == "1"
        if proposed:
            history = repo.history(parent) if parent else history
        elif parent and not history[-1].oid.startswith(parent):
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        blobs = dict(history[-1].blobs)
        for change in changes:
            self.apply(repo, blobs, change["key"], change["value"])
        number = 1 + sum(name.startswith("refs/pr/") for name in repo.refs)
        ref = f"refs/pr/{number}" if proposed else ref
        made = repo.commit(ref, history, blobs, header["value"]["summary"], header["value"].get("description", ""))
        page = f"{self.hub.url}/{repo.path}"
        answer = {"success": True, "commitOid": made.oid, "commitUrl": f"{page}/commit/{made.oid}"}
        return answer | ({"pullRequestUrl": f"{page}/discussions/{number}"} if proposed else {})

    def apply(self, repo: Repo, blobs: dict[str, Blob], key: str, value: dict) -> None:
        """Apply a line of a commit to a copy of the files, so that an error leaves the repository as it was."""
        path = value["path"]
        if key == "file":
            blobs[path] = Blob(base64.b64decode(value["content"]), False)
            errors = check_card(blobs[path].data.decode(), repo.type)["errors"] if path == "README.md" else []
            if errors:
                raise HubError(400, "Invalid metadata in README.md", more={"errors": errors})
        elif key == "lfsFile":
            data = repo.objects.get(value["oid"])
            if data is None or len(data) != value.get("size", len(data)):
                raise HubError(400, f"LFS pointer pointed to a file that does not exist: {path}")
            blobs[path] = Blob(data, True)
        elif key in ("deletedFile", "deletedFolder"):
            folder = f"{path.rstrip('/')}/" if key == "deletedFolder" else None
            gone = [name for name in blobs if (name.startswith(folder) if folder else name == path)]
            if not gone:
                raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
            for name in gone:
                del blobs[name]
        else:
            raise HubError(400, f"Unknown operation in a commit: {key}")
