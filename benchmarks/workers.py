"""An experiment of independent members with one worker against two: whole commands, in turn.

One worker has all threads of the machine, each of two its half. The bound to hold on two cores is 0.65.
"""

import argparse
import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from cpnas_cli.efficiency.timing import interleaved, paired_ratio, seconds_of


def run(num_workers: int, *, num_members: int, num_epochs: int) -> float:
    """Seconds of a comparison of `random` alone, whose members share nothing."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["compare-strategies", "--strategies", "random", "--seeds", "0", "--random-draws", str(num_members)]
        words += ["--set", f"train.num_epochs={num_epochs}", "--workers", str(num_workers)]
        words += ["--out", str(Path(folder) / "experiment")]
        command = [sys.executable, "-m", "cpnas_cli", *words]
        return seconds_of(lambda: subprocess.run(command, check=True, capture_output=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--members", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=40)
    arguments = parser.parse_args()
    commands = {
        f"seconds with {number}": functools.partial(
            run, number, num_members=arguments.members, num_epochs=arguments.epochs
        )
        for number in (1, 2)
    }
    seconds = interleaved(commands, repetitions=arguments.repetitions, warmups=0)
    ratio = paired_ratio(seconds["seconds with 2"], seconds["seconds with 1"]).median
    print(json.dumps({"members": arguments.members, "epochs": arguments.epochs, **seconds, "ratio": ratio}, indent=2))


if __name__ == "__main__":
    main()
