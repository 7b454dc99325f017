"""Seconds from the start of a command: `cpnas --help`, and `cpnas search` up to its first draw.

The search is that of the digits preset, ended after its first draw. It runs with a view that says
when it is told of something; nothing else about the command is changed.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.tables import Rows, run_alone
from cpnas_cli.efficiency.timing import seconds_of

TITLE = "start of a command"
PYTHON = (sys.executable, "-c")
HELP = (sys.executable, "-m", "cpnas_cli", "--help")

# The command with `cpnas search`'s own view, which also prints the name of every event
WATCHED = """
import sys
from cpnas_cli.cli import app
from cpnas_cli.cli.views import runs as views
notify = views.SearchView.notify
def watched(view, record):
    print(record["event"], flush=True)
    notify(view, record)
views.SearchView.notify = watched
app.main()
"""


def seconds_to_lines(command: Sequence[str], *, lines: Sequence[str]) -> list[float]:
    """Seconds from the start of the command until it prints each of the lines, in this order; it is ended then.

    Raises:
      RuntimeError: it ended before; with the end of its standard error.
    """
    seconds: list[float] = []
    with tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=_environment())
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip() == lines[len(seconds)]:
                    seconds.append(time.perf_counter() - started)
                    if len(seconds) == len(lines):
                        return seconds
        finally:
            process.kill()
            process.communicate()
        errors.seek(0)
        raise RuntimeError(f"no line {lines[len(seconds)]!r} from {command[0]}: {errors.read()[-500:]}")


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, env=_environment())


def measure() -> dict[str, float]:
    """Seconds of each command, once."""
    with tempfile.TemporaryDirectory() as folder:
        words = ("search", "--preset", "digits", "--device", "cpu", "--out", str(Path(folder) / "search"))
        begins, ends = seconds_to_lines((*PYTHON, WATCHED, *words), lines=("progress", "draw"))
    return {
        "python -c 'import torch'": seconds_of(lambda: _run((*PYTHON, "import torch"))),
        "cpnas --help": seconds_of(lambda: _run(HELP)),
        "cpnas search, its first draw begins": begins,
        "cpnas search, its first draw ends": ends,
    }


def tabulate(*, repetitions: int, warmup: int = 1) -> Rows:
    """Warmed up, because the first start may read from the disk."""
    samples = [measure() for _ in range(warmup + repetitions)][warmup:]
    return [{"until": name, "seconds": statistics.median(each[name] for each in samples)} for name in samples[0]]


if __name__ == "__main__":
    run_alone(__doc__, TITLE, tabulate, repetitions=3)
