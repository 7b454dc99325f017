"""Tasks on an existing Ray cluster. The experiment's folder must be on a disk that all its nodes share."""

import contextlib
import importlib.util
import logging
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from cpnas_cli.errors import CpnasError, UsageError
from cpnas_cli.experiments.tasks import LOST_NODE_SECONDS, TaskEnd, Work, run_task

CONNECT_SECONDS = 5
NODE_SECONDS = 60  # for a node to come back when none is left
_START_LINE = "start one with `ray start --head`, or type --ray local for one on this machine"
_TOKEN_LINE = "it asks for a token: set RAY_AUTH_MODE=token, and the token that its head has (see `ray get-auth-token`)"
_FOLDER_LINE = "set RAY_TMPDIR to a folder with a short name, such as /tmp"


T = TypeVar("T", bound=Work)


class RayExecutor(Generic[T]):
    """One Ray task per task of the experiment, each with its CPUs and GPUs.

    Nodes may be lost, and nodes that join are used.

    Args:
      address: "auto" (the cluster of this machine), "local" (a new one), or HOST:PORT.
      num_cpus: per task; also its number of threads.
      num_gpus: per task; may be a fraction.

    Raises:
      CpnasError: no cluster answers. UsageError: no node of it is large enough for one task.
    """

    def __init__(self, address: str, *, num_cpus: int, num_gpus: float) -> None:
        # read by the import; what the user has set stays
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", str(CONNECT_SECONDS))  # one second each
        import ray

        self._ray: Any = ray
        self._num_cpus, self._num_gpus = num_cpus, num_gpus
        if num_gpus > 1 and num_gpus % 1:
            raise UsageError(f"--gpus-per-task expects a part of one GPU or a whole number of them, got {num_gpus:g}")
        try:
            with _silent_stderr():
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
        except Exception as error:  # Ray raises what its parts raise
            reason = " ".join(str(error).split())[:200]
            if "AF_UNIX" in reason:  # the address is right, but a socket's name may have some hundred bytes only
                raise CpnasError(f"Ray cannot work among the temporary files here ({reason}); {_FOLDER_LINE}") from None
            advice = _TOKEN_LINE if _asks_for_token(error) else _START_LINE
            raise CpnasError(f"no Ray cluster at {address} ({reason}); {advice}") from None
        self.num_slots = self._slots()
        if self.num_slots == 0:
            largest = {name: _largest(ray.nodes(), name) for name in ("CPU", "GPU")}
            ray.shutdown()
            raise UsageError(
                f"a task asks for {num_cpus} CPU and {num_gpus:g} GPU of one node, and no node of the cluster has both "
                f"(at most {largest['CPU']:g} CPU, {largest['GPU']:g} GPU); change --cpus-per-task or --gpus-per-task"
            )
        # retries are the experiment's, so that they are counted and reported
        self._remote = self._ray.remote(run_task_alone).options(num_cpus=num_cpus, num_gpus=num_gpus, max_retries=0)
        self._running: dict[Any, T] = {}
        self._last_node = time.monotonic()
        # Ray prints what befalls its nodes to standard output, which is the record's
        self._output = contextlib.ExitStack()
        self._output.enter_context(contextlib.redirect_stdout(sys.stderr))

    def has_room(self) -> bool:
        return len(self._running) < self.num_slots

    def submit(self, task: T) -> None:
        self._running[self._remote.remote(task, num_threads=self._num_cpus)] = task

    def wait(self, seconds: float) -> list[tuple[T, TaskEnd]]:
        """See `Executor`.

        Raises:
          CpnasError: for a minute no node was left that could run a task.
        """
        self._count_nodes()
        if not self._running:
            if not self.num_slots:
                time.sleep(seconds)
            return []
        done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [(self._running.pop(reference), self._end(reference)) for reference in done]

    def _count_nodes(self) -> None:
        self.num_slots = self._slots()
        now = time.monotonic()
        if self.num_slots:
            self._last_node = now
        elif now - self._last_node > NODE_SECONDS:
            raise CpnasError("the Ray cluster has no node left that could run a task; type the command again with one")

    def _slots(self) -> int:
        return num_slots(self._ray.nodes(), num_cpus=self._num_cpus, num_gpus=self._num_gpus)

    def _end(self, reference: Any) -> TaskEnd:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())
            return TaskEnd("failed", f"its Ray worker died ({type(error).__name__}: {reason[:200]})")

    def close(self) -> None:
        for reference in self._running:
            with contextlib.suppress(Exception):  # the cluster may be gone
                self._ray.cancel(reference, force=True)
        self._ray.shutdown()
        self._output.close()


def run_task_alone(task: Work, *, num_threads: int, wait_seconds: float = LOST_NODE_SECONDS) -> TaskEnd:
    """`run_task` in a Ray worker, which is the only process of its task."""
    for name in ("SLURM_PROCID", "SLURM_NTASKS"):  # where srun started the node; a worker is none of srun's tasks
        os.environ.pop(name, None)
    return run_task(task, num_threads=num_threads, wait_seconds=wait_seconds)


def num_slots(nodes: Iterable[Mapping[str, Any]], *, num_cpus: int, num_gpus: float) -> int:
    """How many tasks the living nodes can run at once; none is spread over two nodes, or over parts of two GPUs.

    Args:
      nodes: see `ray.nodes`.
    """
    return sum(_slots_of(node["Resources"], num_cpus, num_gpus) for node in nodes if node["Alive"])


def _slots_of(resources: Mapping[str, float], num_cpus: int, num_gpus: float) -> int:
    slots = resources.get("CPU", 0) // num_cpus
    if num_gpus:
        gpus = resources.get("GPU", 0)
        # 1 // 0.2 is 4
        slots = min(slots, gpus // num_gpus if num_gpus >= 1 else gpus * int(1 / num_gpus + 1e-9))
    return int(slots)


def _largest(nodes: Iterable[Mapping[str, Any]], name: str) -> float:
    return max((node["Resources"].get(name, 0) for node in nodes if node["Alive"]), default=0)


def _asks_for_token(error: BaseException | None) -> bool:
    while error is not None:
        if "AuthToken" in str(error) or "AuthenticationError" in type(error).__name__:
            return True
        error = error.__cause__ or error.__context__
    return False


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Ray's own native code writes a line per attempt to the standard error of the process."""
    sys.stderr.flush()
    kept = os.dup(2)
    silent = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(silent, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(silent)


def check_ray(address: str) -> None:
    """Refuse in seconds what Ray itself would wait for minutes for.

    Raises:
      UsageError: the extra is not installed, or the address is none. CpnasError: the host does not answer.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError("--ray needs the ray extra, which is not installed; type: pip install 'cpnas[ray]'")
    if address in ("auto", "local"):
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not host or not port.isdecimal():
        raise UsageError(f"--ray expects auto, local or HOST:PORT, got {address!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise CpnasError(f"no Ray cluster at {address} ({error}); {_START_LINE}") from None
