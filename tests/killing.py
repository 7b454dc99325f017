"""Commands that are started to be killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def start(folder: Path, *words: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cpnas_cli", *map(str, words)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
        # a shell's background job, as these tests may be, ignores it, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for_lines(process: subprocess.Popen[str], history: Path, count: int) -> None:
    """Until the history has this many lines (the process must still be running)."""
    for _ in range(6000):
        if history.exists() and history.read_text().count("\n") >= count:
            return
        assert process.poll() is None, f"ended before line {count}: {process.stderr and process.stderr.read()}"
        time.sleep(0.01)
    raise AssertionError("the run did not get that far")


def kill(process: subprocess.Popen[str], sent: signal.Signals) -> tuple[int, str]:
    process.send_signal(sent)
    _, stderr = process.communicate(timeout=60)
    return process.returncode, stderr


def without_seconds(history: Path) -> list[dict]:
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in history.read_text().splitlines()]
