"""A command on several processes: which of them this is, and the one that starts the others and waits for them.

Nothing here imports torch: a process has its number of threads in its environment before torch reads it.
"""

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
from typing import Any, Literal

from cpnas_cli.errors import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_MAX_TIME, EXIT_USAGE, UsageError

GRACE_SECONDS = 10.0
"""What the processes have to end by themselves when one of them has failed, and again after SIGTERM."""

EXIT_LOST = 3
"""Of a process that lost another one; only the process that waits for them sees it."""

_SAID = (EXIT_ERROR, EXIT_USAGE, EXIT_MAX_TIME, EXIT_INTERRUPTED)  # the first process has said why
_OURS = "CPNAS_STARTED_BY_US"


@dataclass(frozen=True)
class World:
    """This process among those that run one command together.

    Attributes:
      rank: from 0; the first one writes and speaks.
      size: how many they are; local_size: how many on each machine.
      launcher: who started them; None: this process is the only one.
    """

    rank: int = 0
    size: int = 1
    local_size: int = 1
    launcher: Literal["cpnas", "torchrun", "srun"] | None = None

    @property
    def is_first(self) -> bool:
        return self.rank == 0


def this_world() -> World:
    """As the environment says: torchrun's variables (ours are the same), else those of a step of srun."""
    numbers = [_number(name) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")]
    if None not in numbers:
        rank, size = numbers[0] or 0, numbers[2] or 1
        local_size = _number("LOCAL_WORLD_SIZE") or size
        return World(rank, size, local_size, "cpnas" if _OURS in os.environ else "torchrun")
    rank, size = _number("SLURM_PROCID"), _number("SLURM_NTASKS") or 1
    # a batch script has no step, and an interactive shell's step has one task
    if rank is None or "SLURM_STEP_ID" not in os.environ or size == 1 or _number("SLURM_STEP_NUM_TASKS") == 1:
        return World()
    return World(rank, size, _number("SLURM_NTASKS_PER_NODE") or 0, "srun")


def _number(variable: str) -> int | None:
    text = os.environ.get(variable, "")
    return int(text) if text.isascii() and text.isdecimal() else None


def check_shares(*, batch_size: int, num_parts: int, num_processes: int, num_images: int | None = None) -> None:
    """Refuse a batch that does not go to the processes in equal parts of two images or more.

    Args:
      batch_size: `train.batch_size`. num_parts: `train.gradient_accumulation_steps`, each cut over the processes.
      num_images: of the training set, where it is known; a smaller one than a batch is the batch.

    Raises:
      UsageError: see above.
    """
    batch = batch_size if num_images is None else min(batch_size, num_images)
    shares = num_parts * num_processes
    if batch % shares == 0 and batch // shares >= 2:
        return
    what = (
        f"train.batch_size={batch_size}"
        if batch == batch_size
        else f"the training set of {batch} images, which is one batch,"
    )
    ways = [f"{num_processes} processes"] if num_processes > 1 else []
    ways += [f"{num_parts} gradient accumulation steps"] if num_parts > 1 else []
    if not ways:
        raise UsageError(f"{what} has no batch statistics; at least 2 images are needed")
    advice = f"choose a multiple of {shares} from {2 * shares} up"
    if batch < batch_size:
        advice = "use fewer of them, or more training images"
    raise UsageError(f"{what} does not divide into {' times '.join(ways)} with 2 images each or more; {advice}")


@dataclass(frozen=True)
class Ending:
    """How the processes of a command ended: the command's exit code, and what none of them could say."""

    exit_code: int
    message: str | None = None


def run_processes(target: Callable[..., int], *arguments: Any, num_processes: int) -> Ending:
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
        return Ending(EXIT_INTERRUPTED, "interrupted")
    except _Terminated:
        return Ending(128 + signal.SIGTERM, "ended by SIGTERM")
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


def _ending(processes: Sequence[BaseProcess], ended: Sequence[BaseProcess]) -> Ending:
    codes = {process: process.exitcode or 0 for process in ended}
    if len(ended) == len(processes) and set(codes.values()) == {0}:
        return Ending(0)
    killed = [process for process in ended if codes[process] < 0]
    first_code = codes.get(processes[0])
    if not killed and first_code in _SAID:
        return Ending(first_code)
    failed = killed or [process for process in ended if codes[process] not in (0, EXIT_LOST)]
    if not failed:
        return Ending(EXIT_ERROR, "the processes lost each other")
    process = failed[0]
    number = f"process {processes.index(process) + 1} of {len(processes)}"
    return Ending(EXIT_ERROR, f"{number} {'died' if killed else 'ended'} ({how_ended(process.exitcode)})")


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
