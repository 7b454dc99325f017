"""Where tasks run: worker processes on this machine, or an existing Ray cluster (`ray_executor`)."""

import contextlib
import multiprocessing
import os
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Generic, Protocol, TypeVar

from cpnas_cli.distributed.launch import end_with_parent, how_ended
from cpnas_cli.experiments.tasks import TaskEnd, Work, run_task

T = TypeVar("T", bound=Work)


class Executor(Protocol[T]):
    """Runs tasks beside this process. A task that dies has failed, and takes no other with it."""

    def has_room(self) -> bool:
        """Whether a further task would start at once."""
        ...

    def submit(self, task: T) -> None: ...

    def wait(self, seconds: float) -> list[tuple[T, TaskEnd]]:
        """The tasks that ended since the last call; waits so long for one at most."""
        ...

    def close(self) -> None:
        """End every task that still runs."""
        ...


@dataclass
class _Worker(Generic[T]):
    process: BaseProcess
    connection: "Connection[T, TaskEnd]"
    task: T | None = None


class LocalExecutor(Generic[T]):
    """Worker processes on this machine, each with its share of the threads and, with several GPUs, one of them.

    A worker lives on between tasks (images and compiled kernels stay); one that dies is replaced.
    """

    def __init__(self, num_workers: int, *, num_threads: int, visible_gpus: tuple[str, ...] = ()) -> None:
        self.num_workers, self.num_threads, self.visible_gpus = num_workers, num_threads, visible_gpus
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker[T] | None] = [None] * num_workers

    def has_room(self) -> bool:
        return any(worker is None or worker.task is None for worker in self._workers)

    def submit(self, task: T) -> None:
        for slot, worker in enumerate(self._workers):
            if worker is None or worker.task is None:
                worker = self._workers[slot] = worker or self._start(slot)
                worker.task = task
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died idle: `wait` notices
                    worker.connection.send(task)
                return
        raise RuntimeError("every worker is busy")

    def wait(self, seconds: float) -> list[tuple[T, TaskEnd]]:
        busy = {worker.connection: slot for slot, worker in enumerate(self._workers) if worker and worker.task}
        ended = []
        for connection in wait(list(busy), timeout=seconds):
            slot = busy[connection]  # type: ignore[index]
            worker = self._workers[slot]
            assert worker is not None
            assert worker.task is not None
            task, worker.task = worker.task, None
            try:
                end = worker.connection.recv()
            except (EOFError, OSError):
                worker.process.join()
                self._workers[slot] = None
                end = TaskEnd("failed", f"its worker died ({how_ended(worker.process.exitcode)})")
            ended.append((task, end))
        return ended

    def close(self) -> None:
        for worker in self._workers:
            if worker is not None:
                worker.process.kill()
        for worker in self._workers:
            if worker is not None:
                worker.process.join()
                worker.connection.close()
        self._workers = [None] * self.num_workers

    def _start(self, slot: int) -> _Worker[T]:
        ours, theirs = self._context.Pipe()
        gpu = self.visible_gpus[slot % len(self.visible_gpus)] if self.visible_gpus else None
        process = self._context.Process(target=_serve, args=(theirs, self.num_threads, gpu), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)


def _serve(connection: "Connection[TaskEnd, Work]", num_threads: int, gpu: str | None) -> None:
    """A worker: run task after task until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the experiment ends its workers
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    end_with_parent()
    with contextlib.suppress(EOFError, OSError):
        while True:
            connection.send(run_task(connection.recv(), num_threads=num_threads))
