"""Tasks on an existing Ray cluster. The experiment's folder must be on a disk that all its nodes share."""

import contextlib
import importlib.util
import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from cpnas_cli.errors import CpnasError, UsageError
from cpnas_cli.experiments.tasks import Outcome, Task, run_task

CONNECT_SECONDS = 5
_START_LINE = "start one with `ray start --head`, or type --ray local for one on this machine"


class RayExecutor:
    """One Ray task per task of the experiment, each with its CPUs and GPUs.

    Args:
      address: "auto" (the cluster of this machine), "local" (a new one), or HOST:PORT.
      num_cpus: per task; also its number of threads.
      num_gpus: per task; may be a fraction.

    Raises:
      CpnasError: no cluster answers. UsageError: it is too small for one task.
    """

    def __init__(self, address: str, *, num_cpus: int, num_gpus: float) -> None:
        # read by the import; what the user has set stays
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", str(CONNECT_SECONDS))  # one second each
        import ray

        self._ray: Any = ray
        try:
            with _silent_stderr():
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
        except Exception as error:  # Ray raises what its parts raise
            reason = " ".join(str(error).split())[:200]
            raise CpnasError(f"no Ray cluster at {address} ({reason}); {_START_LINE}") from None
        resources = ray.cluster_resources()
        for name, wanted in (("CPU", num_cpus), ("GPU", num_gpus)):
            if resources.get(name, 0) < wanted:
                ray.shutdown()
                raise UsageError(
                    f"a task asks for {wanted:g} {name}, and the whole cluster has {resources.get(name, 0):g}; "
                    f"change --{name.lower()}s-per-task"
                )
        self.num_slots = _num_slots(resources, num_cpus=num_cpus, num_gpus=num_gpus)
        # retries are the experiment's, so that they are counted and reported
        remote: Any = ray.remote(run_task)
        self._remote = remote.options(num_cpus=num_cpus, num_gpus=num_gpus, max_retries=0)
        self._num_cpus = num_cpus
        self._running: dict[Any, Task] = {}

    def has_room(self) -> bool:
        return len(self._running) < self.num_slots

    def submit(self, task: Task) -> None:
        self._running[self._remote.remote(task, num_threads=self._num_cpus)] = task

    def wait(self, seconds: float) -> list[tuple[Task, Outcome]]:
        if not self._running:
            return []
        done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [(self._running.pop(reference), self._outcome(reference)) for reference in done]

    def _outcome(self, reference: Any) -> Outcome:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())
            return Outcome("failed", f"its Ray worker died ({type(error).__name__}: {reason[:200]})")

    def close(self) -> None:
        for reference in self._running:
            with contextlib.suppress(Exception):  # the cluster may be gone
                self._ray.cancel(reference, force=True)
        self._ray.shutdown()


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


def _num_slots(resources: Mapping[str, float], *, num_cpus: int, num_gpus: float) -> int:
    slots = resources.get("CPU", 0) // num_cpus
    return int(min(slots, resources.get("GPU", 0) // num_gpus) if num_gpus else slots)


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
