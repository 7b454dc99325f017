"""An experiment of independent members with one worker against two: whole commands, in turn.

One worker has all threads of the machine, each of two its half. The bound to hold on two cores is 0.65.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def run(num_workers: int, *, num_members: int, num_epochs: int) -> float:
    """Seconds of a comparison of `random` alone, whose members share nothing."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["compare-strategies", "--strategies", "random", "--seeds", "0", "--random-draws", str(num_members)]
        words += ["--set", f"train.num_epochs={num_epochs}", "--workers", str(num_workers)]
        words += ["--out", str(Path(folder) / "experiment")]
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "cpnas_cli", *words], check=True, capture_output=True)
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--members", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=40)
    arguments = parser.parse_args()
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(arguments.repetitions):
        for num_workers, times in seconds.items():
            times.append(run(num_workers, num_members=arguments.members, num_epochs=arguments.epochs))
    ratio = statistics.median(two / one for one, two in zip(seconds[1], seconds[2], strict=True))
    rows = {f"seconds with {number}": times for number, times in seconds.items()}
    print(json.dumps({"members": arguments.members, "epochs": arguments.epochs, **rows, "ratio": ratio}, indent=2))


if __name__ == "__main__":
    main()
