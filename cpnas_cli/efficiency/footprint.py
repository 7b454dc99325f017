"""The peak memory of a process: of this one, and of a fresh one that does one thing."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cpnas_cli.errors import CpnasError


def measure_process(module: str, words: Sequence[str], *, what: str) -> int:
    """Bytes of the largest resident set of `python -m MODULE WORDS`, which prints them itself (`peak_bytes`).

    Args:
      what: it does, for the line of an error.

    Raises:
      CpnasError: the process failed.
    """
    answer = subprocess.run([sys.executable, "-m", module, *words], capture_output=True, text=True, check=False)
    if answer.returncode:
        lines = answer.stderr.strip().splitlines() or ["no message"]
        raise CpnasError(f"the process that measures the memory of {what} failed: {lines[-1]}")
    return int(answer.stdout)


def peak_bytes() -> int:
    """Of this process since its program began; Linux's ru_maxrss still knows of the process that started it."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    import resource  # not on every platform

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
