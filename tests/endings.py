"""What processes of the tests of `processes` do: end in all ways. Without torch, so that they start at once."""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from cpnas_cli.distributed.processes import this_world


def end_with(codes: Sequence[int]) -> int:
    """The process ends with its code; a negative one is a signal."""
    code = codes[this_world().rank]
    if code < 0:
        os.kill(os.getpid(), -code)
    return code


def refuse_to_end(ready: Path, first_code: int) -> int:
    """The first process ends; the other one hangs, deaf to SIGTERM."""
    if this_world().is_first:
        while not ready.exists():
            time.sleep(0.01)
        return first_code
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready.write_text("")
    time.sleep(600)
    return 0


def tell_and_sleep(folder: Path) -> int:
    """Writes its number and its number of threads into RANK.pid, and RANK.interrupted at its end by Ctrl-C."""
    (folder / f"{this_world().rank}.pid").write_text(f"{os.getpid()} {os.environ['OMP_NUM_THREADS']}")
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        (folder / f"{this_world().rank}.interrupted").write_text("")
        raise
    return 0
