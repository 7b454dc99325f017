"""A command on a real terminal, and what it shows there."""

import os
import pty
import subprocess
import sys
from pathlib import Path


def run_on_terminal(folder: Path, *words: str) -> tuple[int, str]:
    """Exit code and everything that the program wrote on a terminal that is 160 columns wide."""
    parent, child = pty.openpty()
    environment = {**os.environ, "COLUMNS": "160", "LINES": "50", "TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-m", "cpnas_cli", *words], cwd=folder, stdout=child, stderr=child, env=environment
    ) as process:
        os.close(child)
        parts = []
        while True:
            try:
                part = os.read(parent, 65536)
            except OSError:  # the terminal is closed when the program ends
                break
            if not part:
                break
            parts.append(part)
        os.close(parent)
        return process.wait(), b"".join(parts).decode(errors="replace")
