"""Commands that are started to be killed."""

import json
import os
import signal
import time
from pathlib import Path

from forks import Fork, fork


def start(folder: Path, *words: str | Path) -> Fork:
    return fork(folder, words, environment={**os.environ, "COLUMNS": "200"})


def wait_for_lines(process: Fork, history: Path, count: int) -> None:
    """Until the history has this many lines (the process must still be running)."""
    for _ in range(6000):
        if history.exists() and history.read_text().count("\n") >= count:
            return
        assert process.poll() is None, f"ended before line {count}: {process.stderr.read()}"
        time.sleep(0.01)
    raise AssertionError("the run did not get that far")


def kill(process: Fork, sent: signal.Signals) -> tuple[int, str]:
    process.send_signal(sent)
    _, stderr = process.communicate(timeout=60)
    return process.wait(), stderr


def without_seconds(history: Path) -> list[dict]:
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in history.read_text().splitlines()]
