"""Processes of Python that import torch and transformers in no time: copies of processes that have done so.

To import them takes five seconds of work, a copy (a fork) next to none. `run` and `start` take the words that follow
`python`, and do what subprocess does with them: the copy has its own folder, environment, output and exit status.
What matters is that a process is a true one only in this: much is imported already. A test of imports, or of how a
program starts, therefore asks subprocess itself.

The libraries of Hugging Face read their settings at import: where an environment has other settings, only what else
is heavy is imported beforehand. Elsewhere than on Linux, and for more than one thread, processes are ordinary ones.
"""

import atexit
import contextlib
import functools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


SERVER = Path(__file__).with_name("fork_server.py")
SETTINGS = re.compile(r"HF_|HUGGING|TRANSFORMERS_|DATASETS_|XDG_", re.IGNORECASE)
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
# No library of Hugging Face, and none that imports one.
LIBRARIES = """
    scipy.ndimage scipy.optimize scipy.sparse.csgraph scipy.spatial scipy.stats skimage.measure skimage.morphology
    PIL.Image tifffile typer yaml tqdm torch torch._dynamo torch.distributed.fsdp torch.distributed.tensor
    torch.utils.data torch.nn.attention.flex_attention pyarrow.parquet pyarrow.dataset pandas jinja2 regex tokenizers
    safetensors.torch fsspec multiprocess dill xxhash requests networkx sympy
""".split()
EVERYTHING = (
    "transformers.pipelines transformers.trainer datasets accelerate evaluate neuron_vit3d:* neuron_vit3d.cli".split()
)


class Process:
    """A copy at work, with what of subprocess.Popen tests use."""

    def __init__(self, server: str, words: Sequence, environment: dict, folder, files: Sequence):
        self.args, self.returncode, self._said = list(words), None, b""
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(server)
        asked = {"words": list(map(str, words)), "environment": environment, "folder": str(folder)}
        socket.send_fds(self._connection, [json.dumps(asked).encode() + b"\n"], [file.fileno() for file in files])
        self.pid = int(self._line())
        self._files = files

    def _line(self, timeout: float | None = None) -> bytes:
        self._connection.settimeout(timeout)
        while b"\n" not in self._said:
            more = self._connection.recv(100)
            if not more:
                raise RuntimeError(f"the copy that was to run {self.args[:3]} is lost")
            self._said += more
        line, self._said = self._said.split(b"\n", 1)
        return line

    def poll(self) -> int | None:
        """The exit status, None while it runs."""
        try:
            return self.wait(1e-6)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the end; the exit status."""
        if self.returncode is None:
            try:
                self.returncode = int(self._line(timeout))
            except TimeoutError as error:
                raise subprocess.TimeoutExpired(self.args, timeout) from error
            self._connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(9)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Waits for the end; what was printed, of a process that `start` began without files."""
        self.wait(timeout)
        texts = []
        for file in self._files[1:]:
            file.seek(0)
            texts.append(file.read())
        return texts[0], texts[1]


def start(
    words: Sequence, *, env: dict | None = None, cwd=None, files: Sequence = (), server: str | None = None
) -> Process | subprocess.Popen:
    """Starts Python with these words, as subprocess.Popen does with pipes for its output.

    Args:
        words: what follows `python`: a script, or -c and code, or -m and a module; then what they are given.
        env, cwd: environment and folder. Default: those of the test.
        files: three open files, in place of nothing to read and of pipes.
        server: address of the process that is copied, where it is one of the caller's own.
    """
    environment = {name: str(value) for name, value in (os.environ if env is None else env).items()}
    words, folder = list(map(str, words)), os.getcwd() if cwd is None else cwd
    if sys.platform != "linux" or any(environment.get(name, "1") != "1" for name in THREADS):
        pipes = files or (subprocess.DEVNULL, subprocess.PIPE, subprocess.PIPE)
        return subprocess.Popen(
            [sys.executable, *words], env=environment, cwd=folder, text=True,
            stdin=pipes[0], stdout=pipes[1], stderr=pipes[2],
        )  # fmt: skip
    if not files:
        files = (open(os.devnull), tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+"))
    server = server or server_of(_settings(environment) == _settings(os.environ))
    return Process(server, words, environment, folder, files)


def run(words: Sequence, *, env=None, cwd=None, timeout: float = 300, check: bool = False, server: str | None = None):
    """Runs Python with these words, as subprocess.run does with `capture_output` and `text`."""
    process = start(words, env=env, cwd=cwd, server=server)
    try:
        out, err = process.communicate(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    done = subprocess.CompletedProcess(["python", *map(str, words)], process.returncode, out, err)
    if check and done.returncode:
        raise AssertionError(f"{done.args} ended with status {done.returncode}: {err[-3000:]}")
    return done


def run_ranks(count: int, words: Sequence, *, env: dict | None = None, timeout: float = 300) -> str:
    """Runs processes that find each other, as torchrun starts them on one machine. Returns what they print."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    given = (os.environ if env is None else env) | {name: str(value) for name, value in shared.items()}
    ranks = [start(words, env=given | {"RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(count)]
    end = time.monotonic() + timeout
    try:
        while any(rank.poll() is None for rank in ranks) and not any(rank.poll() for rank in ranks):
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(list(words), timeout)
            time.sleep(0.01)
    finally:
        for rank in ranks:
            rank.kill()
    outputs = [rank.communicate() for rank in ranks]
    assert not any(rank.returncode for rank in ranks), [err[-3000:] for _, err in outputs]
    return "".join(out for out, _ in outputs)


def _settings(environment) -> dict[str, str]:
    return {name: value for name, value in environment.items() if SETTINGS.match(name)}


@functools.cache
def server_of(everything: bool) -> str:
    """Starts the process that is copied, with everything or with the libraries. Its address."""
    if everything:
        return serve(EVERYTHING, os.environ, of=server_of(False))
    return serve(LIBRARIES, os.environ)


def serve(modules: Sequence[str], environment: Mapping[str, str], *, of: str | None = None) -> str:
    """Starts a process that has imported modules and can be copied; it ends when this one does.

    Args:
        modules: their names; of those that end with `:*` every public name is asked for.
        environment: with one thread; copies may have another, see above.
        of: address of such a process, of which it is a copy.

    Returns:
        Its address.
    """
    folder = tempfile.mkdtemp(prefix="copies")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    environment = {**environment, **dict.fromkeys(THREADS, "1")}
    words = [str(SERVER), f"{folder}/socket", *modules]
    (reading, writing), (told, tells) = os.pipe(), os.pipe()
    with open(reading) as stdin, open(tells, "w") as stdout, open(f"{folder}/stderr", "w") as stderr:
        if of is None:
            process = subprocess.Popen([sys.executable, *words], env=environment, stdin=stdin, stdout=stdout)
            atexit.register(_end, process)
        else:
            Process(of, words, environment, folder, (stdin, stdout, stderr))
    atexit.register(os.close, writing)
    with open(told) as said:
        assert said.readline() == "ready\n", Path(folder, "stderr").read_text()
    return f"{folder}/socket"


def _end(process: subprocess.Popen) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    process.kill()
