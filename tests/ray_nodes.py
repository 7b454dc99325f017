"""Ray nodes on this machine, which tests start, use and kill."""

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 300  # of a busy machine
    while time.monotonic() < until:
        if condition():
            return
        assert process.poll() is None, f"it ended with {process.returncode}"
        time.sleep(0.05)
    raise AssertionError("it did not get that far")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def processes() -> dict[int, tuple[int, str]]:
    """{process number: (that of its parent, its command line)} of this machine."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status, command = (folder / "status").read_text(), (folder / "cmdline").read_text()
        except OSError:
            continue
        parent = re.search(r"^PPid:\t(\d+)$", status, re.MULTILINE)
        found[int(folder.name)] = (int(parent[1]) if parent else 0, command.replace("\0", " "))
    return found


class Cluster:
    """Ray nodes of one CPU each, with their own ports and folder; other clusters of this machine stay as they are."""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="cpnas-"))  # a socket's path may have 107 characters
        self.environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_TMPDIR": str(self.folder),
            "RAY_worker_niceness": "0",
        }
        self.starters: list[subprocess.Popen[str]] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def add_node(self) -> int:
        """The process number of its raylet."""
        words = ["--num-cpus=1", "--num-gpus=0", "--node-ip-address=127.0.0.1", "--object-store-memory=80000000"]
        head = ["--head", f"--port={self.port}", "--disable-usage-stats", "--include-dashboard=false"]
        where = [f"--address={self.address}"] if self.starters else head
        starter = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", *where, *words, "--block"],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self.starters.append(starter)
        raylets: list[int] = []

        def up() -> bool:
            raylets[:] = [
                number
                for number, (parent, command) in processes().items()
                if parent == starter.pid and "raylet/raylet" in command
            ]
            return bool(raylets) and self._answers()

        wait_until(up, starter)
        return raylets[0]

    def begin(self, words: Sequence[str], folder: Path, **options: Any) -> subprocess.Popen[str]:
        """`cpnas WORDS` in the folder, on this cluster, with pipes for what it says."""
        return subprocess.Popen(
            [sys.executable, "-m", "cpnas_cli", *words, "--ray", self.address],
            cwd=folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        for starter in self.starters:
            starter.terminate()
        for starter in self.starters:
            try:
                starter.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(starter.pid, signal.SIGKILL)
                starter.wait()
        for number, (_, command) in processes().items():
            if str(self.folder) in command:  # what a killed raylet left
                os.kill(number, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


def ray_workers(*, of: int | None = None) -> dict[int, int]:
    """{process number: that of its raylet} of the Ray workers that run a task of an experiment just now.

    Args:
      of: the process that has started the cluster; without it those of every cluster, of other tests too.
    """
    running = processes()
    found = {number: parent for number, (parent, command) in running.items() if command.startswith("ray::run_task")}
    return (
        found if of is None else {number: parent for number, parent in found.items() if of in _above(number, running)}
    )


def _above(number: int, running: Mapping[int, tuple[int, str]]) -> Iterator[int]:
    """A process's parent, its parent, and so on."""
    while number in running:
        number = running[number][0]
        yield number
