"""The program for pages that run it often: each command is a copy of a process that has imported all.

Where the environment of a command is another than the warm process's, and on systems other than Linux, the command
gets a process of its own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from support import processes


# What a shell changes by itself from command to command.
OF_THE_SHELL = ("_", "OLDPWD", "PWD", "SHLVL")

# Stands for the program on PATH; `python -IS` starts in a hundredth of a second.
STUB = """#!{python} -IS
import json, os, socket, sys
environment = {{name: value for name, value in os.environ.items() if name not in {ignored!r}}}
if environment != {environment!r}:
    os.execv({program!r}, [{program!r}, *sys.argv[1:]])
connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
words = ["-m", "neuron_vit3d.cli", *sys.argv[1:]]
asked = json.dumps({{"words": words, "environment": dict(os.environ), "folder": os.getcwd()}}) + "\\n"
socket.send_fds(connection, [asked.encode()], [0, 1, 2])
_, status = map(int, connection.makefile())
sys.exit(status if status >= 0 else 128 - status)
"""

# Each piece with names of its own.
PIECES = """
import json, sys
for code in json.loads(sys.argv[1]):
    exec(compile(code, code, "exec"), {"__name__": "__main__"})
"""


class WarmProgram:
    """`neuron-vit3d` on the PATH of `environment`, and Python code, both run by copies of a warm process."""

    def __init__(self, folder: Path, environment: dict[str, str]):
        places = folder / "bin"
        places.mkdir(parents=True)
        self.environment = environment | {"PATH": f"{places}{os.pathsep}{environment['PATH']}"}
        program = Path(sys.executable).with_name("neuron-vit3d")
        if sys.platform != "linux":
            (places / "neuron-vit3d").symlink_to(program)
            return
        self.address = processes.serve(processes.EVERYTHING, self.environment, of=processes.server_of(False))
        known = {name: value for name, value in self.environment.items() if name not in OF_THE_SHELL}
        stub = STUB.format(
            python=sys.executable,
            ignored=OF_THE_SHELL,
            environment=known,
            program=str(program),
            address=self.address,
        )
        (places / "neuron-vit3d").write_text(stub)
        (places / "neuron-vit3d").chmod(0o755)

    def run_python(self, codes: list[str], folder: Path) -> subprocess.CompletedProcess:
        """Runs pieces of code one after the other in one process, each with names of its own."""
        words = ["-c", PIECES, json.dumps(codes)]
        if sys.platform != "linux":
            return processes.run(words, env=self.environment, cwd=folder)
        return processes.run(words, env=self.environment, cwd=folder, server=self.address)
