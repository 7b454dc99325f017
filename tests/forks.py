"""Commands in processes of their own that need not load torch again: each is a fork of a process that has loaded it.

That process does nothing else and holds nothing of ours, so a fork is as fresh as the `python -m cpnas_cli` that it
runs. What all forks share is what was drawn when Python began, the order of sets; the process of the tests has another
one. Where the beginning of a program is the point (options of Python, variables that a library reads when it is loaded,
what the streams are), there is `subprocess`.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

# What takes long to load of what most commands load. None of them begins a thread.
LIBRARIES = (
    "lightning_fabric",
    "llvmlite.binding",
    "matplotlib.pyplot",
    "numba",
    "pydantic",
    "rich.live",
    "rich.progress",
    "rich.table",
    "safetensors.torch",
    "sklearn.datasets",
    "sklearn.metrics",
    "torchvision.transforms.v2",
    "typer",
)
_NUMBER = struct.Struct("i")


class Fork:
    """A command that runs, to be used as a `subprocess.Popen` of texts is."""

    def __init__(self, pid: int, end: int, stdout: TextIO, stderr: TextIO) -> None:
        self.pid, self.stdout, self.stderr = pid, stdout, stderr
        self.returncode: int | None = None
        self._end = end  # of a pipe, in which its exit code will be
        self._output: tuple[str, str] | None = None

    def poll(self) -> int | None:
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"the command of process {self.pid}", timeout or 0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        if self._output is None:
            with self.stdout, self.stderr:
                self._output = self.stdout.read(), self.stderr.read()
        return self._output

    def send_signal(self, sent: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sent)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._end, selectors.EVENT_READ)
                if selector.select(timeout):
                    self.returncode = _read_number(self._end)
                    os.close(self._end)
        return self.returncode


def fork(
    folder: Path, words: Sequence[str | Path], *, environment: Mapping[str, str], program: str | None = None
) -> Fork:
    """Begin `python -m cpnas_cli WORDS` in the folder, or `python -c PROGRAM WORDS`.

    What it writes goes to files, so that nobody need read it while it runs.
    """
    request = {
        "folder": str(folder), "words": [*map(str, words)], "environment": {**environment}, "program": program
    }  # fmt: skip
    text = json.dumps(request).encode()
    streams = [_file() for _ in range(2)]
    end, told = os.pipe()
    given = [*(number for number, _ in streams), told]
    socket.send_fds(_server(), [_NUMBER.pack(len(text))], given)
    _server().sendall(text)
    for number in given:
        os.close(number)
    return Fork(_read_number(end), end, *(stream for _, stream in streams))


def _file() -> tuple[int, TextIO]:
    """A file without a name, to write and to read."""
    number, name = tempfile.mkstemp()
    stream = open(name, encoding="utf-8")  # noqa: SIM115
    os.unlink(name)
    return number, stream


def _read_number(file: int) -> int:
    return _NUMBER.unpack(os.read(file, _NUMBER.size))[0]


@functools.cache
def _server() -> socket.socket:
    """Begin the process of which all are forks; it ends when nobody can ask it any more."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


# ---------------------------------------------------------------- in that process


def serve(theirs: socket.socket) -> None:
    """Returns in every fork, when it is to be a command, and at the end in the process itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C ends the tests, and they end this
    while True:
        head, given, _, _ = socket.recv_fds(theirs, _NUMBER.size, 3)
        if not head:
            return
        (size,) = _NUMBER.unpack(head)
        request = json.loads(theirs.recv(size, socket.MSG_WAITALL))
        if os.fork() == 0:
            theirs.close()
            become(request, *given)
            return
        for number in given:
            os.close(number)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def become(request: dict[str, Any], stdout: int, stderr: int, told: int) -> None:
    """Watch a fork until it has ended; returns in that fork."""
    pid = os.fork()
    if pid:
        os.write(told, _NUMBER.pack(pid))
        _, status = os.waitpid(pid, 0)
        os.write(told, _NUMBER.pack(os.waitstatus_to_exitcode(status)))
        os._exit(0)
    for number, stream in ((stdout, 1), (stderr, 2)):
        os.dup2(number, stream)
        os.close(number)
    os.close(told)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    packages = os.environ.get("PYTHONPATH", "")
    sys.path[:1] = [os.getcwd(), *filter(None, packages.split(os.pathsep))]
    sys.argv = ["-c", *request["words"]]
    if request["program"] is None:
        runpy.run_module("cpnas_cli", run_name="__main__", alter_sys=True)
    else:
        exec(compile(request["program"], "<string>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.freeze()  # no fork looks for garbage in it, which would copy it
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        serve(connection)
