"""A process that talks to the Hub on the loopback and answers a call a line, so that it imports its libraries once."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from support import processes
from support.hub_server import HubServer


@contextlib.contextmanager
def hub_client(hub: HubServer, folder: Path, program: str) -> Iterator[Callable[..., dict]]:
    """Runs a Python program that reads a JSON object a line and answers each with `SAY ` and a JSON object.

    Gives the function that asks it (keywords are the object); the program's standard error goes to `folder/stderr`.
    """
    log = folder / "stderr"
    environment = hub.environment(folder / "home") | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    (asked, ask_by), (told_by, told) = os.pipe(), os.pipe()
    with open(asked) as stdin, open(told, "w") as stdout, log.open("w") as stderr:
        process = processes.start(["-c", program], env=environment, files=(stdin, stdout, stderr))

    with open(ask_by, "w") as calls, open(told_by) as answers:

        def ask(**call) -> dict:
            calls.write(json.dumps(call, default=str) + "\n")
            calls.flush()
            for line in answers:
                if line.startswith("SAY "):
                    return json.loads(line[4:])
            raise AssertionError(log.read_text()[-3000:])

        yield ask
        calls.close()
        process.wait(timeout=60)
