"""A process that talks to the Hub on the loopback and answers a call a line, so that it imports its libraries once."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from support.hub_server import HubServer


@contextlib.contextmanager
def hub_client(hub: HubServer, folder: Path, program: str) -> Iterator[Callable[..., dict]]:
    """Runs a Python program that reads a JSON object a line and answers each with `SAY ` and a JSON object.

    Gives the function that asks it (keywords are the object); the program's standard error goes to `folder/stderr`.
    """
    log = folder / "stderr"
    with log.open("w") as stderr:
        words = [sys.executable, "-c", program]
        environment = hub.environment(folder / "home") | {"PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen(words, env=environment, stdin=-1, stdout=-1, stderr=stderr, text=True)

    def ask(**call) -> dict:
        process.stdin.write(json.dumps(call, default=str) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            if line.startswith("SAY "):
                return json.loads(line[4:])
        raise AssertionError(log.read_text()[-3000:])

    yield ask
    process.stdin.close()
    process.wait(timeout=60)
    process.stdout.close()
