"""The program for pages that run it often: a process that has imported all gives each command a copy of itself.

To import torch and transformers takes seconds of work, a copy (a fork) next to none. Where the environment of a
command is another than the warm process's, and on systems other than Linux, the command gets a process of its own.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path


# What a shell changes by itself from command to command.
OF_THE_SHELL = ("_", "OLDPWD", "PWD", "SHLVL")

# Its end of the socket reads {"words": [...], "codes": null or [...], "folder": ...} and three open files, and answers
# with the exit status. The copy leaves the loop by SystemExit, so that it ends as any process does.
SERVE = """
import json, os, signal, socket, sys
import neuron_vit3d, neuron_vit3d.cli
for name in neuron_vit3d.__all__:
    getattr(neuron_vit3d, name)
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("warm", flush=True)
while True:
    connection, _ = server.accept()
    if os.fork():
        connection.close()
        continue
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    server.close()
    said, files, _, _ = socket.recv_fds(connection, 1 << 20, 3)
    while not said.endswith(b"\\n"):
        said += connection.recv(1 << 20)
    asked = json.loads(said)
    child = os.fork()
    if child:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        connection.sendall(str(status).encode())
        os._exit(0)
    connection.close()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(asked["folder"])
    sys.argv = asked["words"]
    if asked["codes"] is None:
        sys.exit(neuron_vit3d.cli.main())
    sys.path.insert(0, "")
    for code in asked["codes"]:
        exec(compile(code, code, "exec"), {"__name__": "__main__"})
    sys.exit()
"""

# Stands for the program on PATH; `python -IS` starts in a hundredth of a second.
STUB = """#!{python} -IS
import json, os, socket, sys
environment = {{name: value for name, value in os.environ.items() if name not in {ignored!r}}}
if environment != {environment!r}:
    os.execv({program!r}, [{program!r}, *sys.argv[1:]])
connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
asked = json.dumps({{"words": sys.argv, "codes": None, "folder": os.getcwd()}}) + "\\n"
socket.send_fds(connection, [asked.encode()], [0, 1, 2])
status = int(connection.recv(16) or 1)
sys.exit(status if status >= 0 else 128 - status)
"""


class WarmProgram:
    """`neuron-vit3d` on the PATH of `environment`, and Python code, both run by copies of a warm process.

    With `cold_environment` the program is the installed one, and each command a process of its own.
    """

    def __init__(self, address: Path, environment: dict[str, str], cold_environment: dict[str, str]):
        self.address, self.environment, self.cold_environment = address, environment, cold_environment

    def run_python(self, codes: list[str], folder: Path) -> subprocess.CompletedProcess:
        """Runs pieces of code one after the other in one process, each with names of its own."""
        outputs = [(folder.parent / name).open("w+") for name in ("stdout", "stderr")]
        with socket.socket(socket.AF_UNIX) as connection, open(os.devnull) as nothing, outputs[0], outputs[1]:
            connection.connect(str(self.address))
            asked = json.dumps({"words": ["-c"], "codes": codes, "folder": str(folder)}) + "\n"
            socket.send_fds(connection, [asked.encode()], [nothing.fileno(), *(file.fileno() for file in outputs)])
            status = int(connection.recv(16) or 1)
            texts = [(file.seek(0), file.read())[1] for file in outputs]
        return subprocess.CompletedProcess(["python"], status, *texts)


@contextlib.contextmanager
def warm_program(folder: Path, environment: dict[str, str]) -> Iterator[WarmProgram]:
    """Starts a warm process with an environment, which is also that of what is run."""
    address, places = folder / "socket", folder / "bin"
    places.mkdir(parents=True)
    cold, environment = environment, environment | {"PATH": f"{places}{os.pathsep}{environment['PATH']}"}
    program = Path(sys.executable).with_name("neuron-vit3d")
    known = {name: value for name, value in environment.items() if name not in OF_THE_SHELL}
    stub = STUB.format(
        python=sys.executable, ignored=OF_THE_SHELL, environment=known, program=str(program), address=str(address)
    )
    (places / "neuron-vit3d").write_text(stub)
    (places / "neuron-vit3d").chmod(0o755)
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(address)], env=environment, stdout=-1, text=True)
    try:
        assert process.stdout.readline() == "warm\n"
        yield WarmProgram(address, environment, cold)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
