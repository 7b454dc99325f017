"""The memory of processes: of this one, and of fresh ones that do one thing and nothing else.

A peak is the kernel's mark for the process (VmHWM in /proc/self/status on Linux). Where there is no such
file `getrusage`'s ru_maxrss stands in: it can not be reset, and a process may inherit that of the one that
started it, so that what comes above a mark of its own may be too small there.

`python -m cpnas_cli.efficiency.process_memory [MODULE:FUNCTION [ARGUMENT...]]` calls the function and prints the
peak in bytes. So this module imports only what any Python has at hand.
"""

import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

from cpnas_cli.errors import CpnasError

STATUS = Path("/proc/self/status")
VMHWM, RU_MAXRSS = "VmHWM", "ru_maxrss"

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Resident(NamedTuple):
    """Resident memory of this process in bytes: now, and at its peak."""

    now: int
    peak: int


def resident(status: Path = STATUS) -> Resident:
    """Where the system does not tell the first, both are the peak."""
    try:
        lines = (line.split() for line in status.read_text(encoding="ascii").splitlines())
        kib = {words[0]: int(words[1]) for words in lines if words[0] in ("VmRSS:", "VmHWM:")}
        return Resident(1024 * kib["VmRSS:"], 1024 * kib["VmHWM:"])
    except (OSError, KeyError):
        import resource  # not on every platform

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak = peak if sys.platform == "darwin" else 1024 * peak
        return Resident(peak, peak)


def peak_source(status: Path = STATUS) -> str:
    """Where `resident` takes the peak from."""
    return VMHWM if status.exists() and "VmHWM:" in status.read_text("ascii") else RU_MAXRSS


def reset_peak() -> None:
    """Let the peak be what is resident now, where the system can."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def peak_memory_of(target: str | None, *arguments: str) -> int:
    """Bytes of the largest resident set of a process of its own, from its start to its end.

    Args:
      target: "module:function", imported and called there; without it the process is Python and nothing else.
      arguments: of the function.

    Raises:
      CpnasError: the process failed.
    """
    words = [] if target is None else [target, *arguments]
    command = [sys.executable, "-m", "cpnas_cli.efficiency.process_memory", *words]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        lines = answer.stderr.strip().splitlines() or ["no message"]
        name = "Python" if target is None else target.partition(":")[2]
        raise CpnasError(f"the process that measures the memory of {name} failed: {lines[-1]}")
    return int(answer.stdout.split()[-1])


def in_fresh_process(
    function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """What the function returns in a new interpreter, which has imported no more than the function needs."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        return executor.submit(function, *args, **kwargs).result()


def main() -> None:
    if len(sys.argv) > 1:
        module, _, function = sys.argv[1].partition(":")
        getattr(import_module(module), function)(*sys.argv[2:])
    sys.stdout.write(f"{resident().peak}\n")


if __name__ == "__main__":
    main()
