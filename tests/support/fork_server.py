"""A process that has imported much, and gives each program that is asked for a copy of itself (a fork).

It is started as a script, with a socket's address and the modules to import first, and ends when its standard input
does. A request is `{"words": [...], "environment": {...}, "folder": "..."}` and three open files; the answers are the
number of the copy's process and, when it has ended, its exit status, a line each.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import socket
import sys
import threading
import types


def serve(address: str) -> list[str] | None:
    """Answers requests. Returns in each copy with the words that it is to run, and in the server when it is done."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(address)
    server.listen()
    print("ready", flush=True)
    while True:
        readable, _, _ = select.select([server, 0], [], [])
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if 0 in readable:
            with contextlib.suppress(ChildProcessError):
                while True:
                    os.wait()
            return None
        connection, _ = server.accept()
        if os.fork():
            connection.close()
            continue
        server.close()
        said, files, _, _ = socket.recv_fds(connection, 1 << 20, 3)
        while not said.endswith(b"\n"):
            said += connection.recv(1 << 20)
        copy = os.fork()
        if copy:
            for file in files:
                os.close(file)
            with contextlib.suppress(OSError):  # who asked is gone
                connection.sendall(b"%d\n" % copy)
                status = os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])
                connection.sendall(b"%d\n" % status)
            os._exit(0)
        connection.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        asked = json.loads(said)
        os.environ.clear()
        os.environ.update(asked["environment"])
        os.chdir(asked["folder"])
        paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        sys.path[:0] = [path for path in paths if path and path not in sys.path]
        return asked["words"]


def run(words: list[str]) -> None:
    """Runs what Python runs when it is started with these words."""
    if words[0] == "-m":
        sys.argv = words[1:]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        sys.path.insert(0, "")
        sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(words[1], "<string>", "exec"), vars(sys.modules["__main__"]))
    else:
        sys.argv = words
        sys.path.insert(0, os.path.dirname(os.path.abspath(words[0])))
        runpy.run_path(words[0], run_name="__main__")


def ended(words: list[str]) -> int:
    """Runs the words as far as to the exit handlers; the exit status."""
    try:
        run(words)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if status and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status & 0xFF


if __name__ == "__main__":
    sys.path.pop(0)  # this folder
    for name in sys.argv[2:]:
        module = importlib.import_module(name.removesuffix(":*"))
        for public in module.__all__ if name.endswith(":*") else ():
            getattr(module, public)
    gc.freeze()  # what is there is not looked at again, and so not copied
    to_run = serve(sys.argv[1])
    # To take all apart that was imported would take seconds.
    os._exit(0 if to_run is None else ended(to_run))
