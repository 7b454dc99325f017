"""Starts the processes of a command on this machine, waits for them, and says how they ended."""

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from cpnas_cli.errors import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_MAX_TIME, EXIT_USAGE

GRACE_SECONDS = 10.0
"""What the processes have to end by themselves when one of them has failed, and again after SIGTERM."""


EXIT_LOST = 3
"""Of a process that lost another one; only the process that waits for them sees it."""


_SAID = (EXIT_ERROR, EXIT_USAGE, EXIT_MAX_TIME, EXIT_INTERRUPTED)  # the first process has said why


_OURS = "CPNAS_STARTED_BY_US"


@dataclass(frozen=True)
class ProcessesEnd:
    """How the processes of a command ended: the command's exit code, and what none of them could say."""

    exit_code: int
    message: str | None = None


def run_processes(target: Callable[..., int], *arguments: Any, num_processes: int) -> ProcessesEnd:
    """Run `target(*arguments)` in so many new processes, which find each other by their environment.

    They are a session of their own: Ctrl-C on a terminal reaches this process alone, which hands it on. They end
    when this process ends, whatever ends it.

    Args:
      target: of a module that can be imported without torch; returns the exit code.
    """
    context = multiprocessing.get_context("spawn")
    processes: list[BaseProcess] = [
        context.Process(target=_work, args=(target, arguments, environment))
        for environment in _environments(num_processes)
    ]
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        _start(processes)
        return _ending(processes, _wait(processes))
    except KeyboardInterrupt:
        _signal(processes, signal.SIGINT)
        _join(processes)
        return ProcessesEnd(EXIT_INTERRUPTED, "interrupted")
    except _Terminated:
        return ProcessesEnd(128 + signal.SIGTERM, "ended by SIGTERM")
    finally:
        _end(processes)
        signal.signal(signal.SIGTERM, before)


def _environments(num_processes: int) -> Iterator[dict[str, str]]:
    shared = {
        "WORLD_SIZE": str(num_processes),
        "LOCAL_WORLD_SIZE": str(num_processes),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        _OURS: "1",
    }
    if "OMP_NUM_THREADS" not in os.environ:
        shared["OMP_NUM_THREADS"] = str(max(_num_cores() // num_processes, 1))
    for rank in range(num_processes):
        yield {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class _Terminated(BaseException):
    """SIGTERM came."""


def _terminated(_signum: int, _frame: FrameType | None) -> None:
    raise _Terminated


def _start(processes: Sequence[BaseProcess]) -> None:
    # until they are a session of their own they are deaf to a terminal's Ctrl-C, which would interrupt an import
    resource_tracker.ensure_running()  # else the first start does it, and lifts the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        for process in processes:
            process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(target: Callable[..., int], arguments: Sequence[Any], environment: dict[str, str]) -> None:
    """One of the processes."""
    os.environ.update(environment)
    os.setsid()
    end_with_parent()
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        exit_code = target(*arguments)
    except KeyboardInterrupt:
        exit_code = EXIT_INTERRUPTED
    sys.exit(exit_code)


def _wait(processes: Sequence[BaseProcess]) -> list[BaseProcess]:
    """Those that ended by themselves, in that order; after the first failure the others have the grace."""
    running = {process.sentinel: process for process in processes}
    ended: list[BaseProcess] = []
    until: float | None = None
    while running:
        ready = wait(list(running), None if until is None else max(until - time.monotonic(), 0))
        if not ready:
            break
        for sentinel in ready:
            process = running.pop(sentinel)  # type: ignore[arg-type]
            process.join()
            ended.append(process)
            if process.exitcode != 0 and until is None:
                until = time.monotonic() + GRACE_SECONDS
    return ended


def _ending(processes: Sequence[BaseProcess], ended: Sequence[BaseProcess]) -> ProcessesEnd:
    codes = {process: process.exitcode or 0 for process in ended}
    if len(ended) == len(processes) and set(codes.values()) == {0}:
        return ProcessesEnd(0)
    killed = [process for process in ended if codes[process] < 0]
    first_code = codes.get(processes[0])
    if not killed and first_code in _SAID:
        return ProcessesEnd(first_code)
    failed = killed or [process for process in ended if codes[process] not in (0, EXIT_LOST)]
    if not failed:
        return ProcessesEnd(EXIT_ERROR, "the processes lost each other")
    process = failed[0]
    number = f"process {processes.index(process) + 1} of {len(processes)}"
    return ProcessesEnd(EXIT_ERROR, f"{number} {'died' if killed else 'ended'} ({how_ended(process.exitcode)})")


def _started(processes: Sequence[BaseProcess]) -> list[BaseProcess]:
    return [process for process in processes if process.pid is not None]


def _signal(processes: Sequence[BaseProcess], number: signal.Signals) -> None:
    for process in _started(processes):
        if process.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid or 0, number)


def _join(processes: Sequence[BaseProcess]) -> None:
    until = time.monotonic() + GRACE_SECONDS
    for process in _started(processes):
        process.join(max(until - time.monotonic(), 0))


def _end(processes: Sequence[BaseProcess]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        _signal(processes, number)
        _join(processes)


def how_ended(exit_code: int | None) -> str:
    """The signal that a process died of, else its exit code."""
    if exit_code is not None and exit_code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-exit_code).name
    return f"exit code {exit_code}"


def end_with_parent() -> None:
    """End this process when the one that started it is gone: a killed run must leave nobody who writes."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch(join: Callable[[], None] = parent.join) -> None:
        join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
