"""Memory and time of what takes long, quarter by quarter: a search of many passes, an experiment of many members, a
prediction of many images.

Each is a command in a process of its own, with the tiniest network (3 cells, 4 channels) and few images, so that
what grows with the length of the run is not hidden behind what a step takes. Its memory is sampled twice a second
(Linux alone): private, what the process must have. Seconds are those of processors, of the command and all that it has
started: other programs on the machine matter little. If memory is flat and time linear, the four quarters are alike.
`python -m benchmarks.long_runs --passes 10 --members 200 --images 100000`
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.large_folder import memory_of
from benchmarks.predict import model_of, write_images
from benchmarks.predict_memory import link_images
from benchmarks.tables import Rows, print_environment, print_table
from cpnas_cli.deploy.packed_file import save_packed

TITLE = "long runs, quarter by quarter"
SETTINGS = (
    "data.num_train=60", "data.num_test=20", "network.num_cells=3", "network.num_channels=4",
    "network.stem_multiplier=1", "search.batch_size=30", "search.num_calibration_batches=1", "train.num_epochs=1",
    "train.batch_size=30",
)  # fmt: skip
OPTIONS = [word for setting in SETTINGS for word in ("--set", setting)]
NUM_QUARTERS = 4
_TICKS = os.sysconf("SC_CLK_TCK")


def children_of(pid: int) -> list[int]:
    """All that descend from it and live."""
    try:
        own = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [each for child in own for each in (child, *children_of(child))]


def processor_seconds(pids: Sequence[int]) -> float:
    """Of these processes and of those they have waited for."""
    ticks = 0
    for pid in pids:
        try:
            after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(map(int, after_name[11:15]))  # utime, stime and those of children
    return ticks / _TICKS


def watched(what: str, total: int, words: Sequence[str], work: Path, done: Callable[[], int]) -> Rows:
    """A row for each quarter of a command's work, which begins with the first unit: loading is not counted.

    Args:
      total: so many units in all. done: how many are done.
    """
    quarters = _Quarters(what, total)
    environment = {**os.environ, "CPNAS_CACHE_DIR": str(work / "cache"), "OMP_NUM_THREADS": "1"}
    command, ended = [sys.executable, "-m", "cpnas_cli", *words], _ended_seconds()
    with (
        (work / "out").open("wb") as out,
        (work / "errors").open("wb") as errors,
        subprocess.Popen(command, env=environment, stdout=out, stderr=errors) as process,
    ):
        while process.poll() is None:
            workers = children_of(process.pid)
            quarters.see("command", memory_of(process.pid))
            for worker in workers:
                quarters.see("largest worker", memory_of(worker))
            quarters.come_to(done(), processor_seconds([process.pid, *workers]))
            time.sleep(0.5)
    if process.returncode:
        sys.exit((work / "errors").read_text())
    quarters.come_to(done(), _ended_seconds() - ended)
    return quarters.rows


def _ended_seconds() -> float:
    """Of a processor, of all that this process has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class _Quarters:
    """Makes the rows."""

    def __init__(self, what: str, total: int) -> None:
        self.rows: Rows = []
        self._what, self._total, self._number, self._seconds = what, total, 0, 0.0
        self._peaks = {"command": 0.0, "largest worker": 0.0}

    def see(self, name: str, memory: Mapping[str, float]) -> None:
        self._peaks[name] = max(self._peaks[name], memory.get("private", 0))

    def come_to(self, number: int, seconds: float) -> None:
        """So many units are done, after so many seconds."""
        if number and not self._number:
            self._number, self._seconds = number, seconds
        if len(self.rows) == NUM_QUARTERS or number < self._total * (len(self.rows) + 1) // NUM_QUARTERS:
            return
        if number > self._number:
            self.rows.append(
                {
                    "run": self._what,
                    "units": f"{self._number + 1:,} to {number:,}",
                    "ms of a core each": (seconds - self._seconds) / (number - self._number) * 1000,
                    **{f"{name} MiB": mebibytes or None for name, mebibytes in self._peaks.items()},
                }
            )
            self._number, self._seconds, self._peaks = number, seconds, dict.fromkeys(self._peaks, 0.0)


def long_search(num_passes: int, work: Path) -> Rows:
    """Of the default strategy: its draws, which are all alike, none only scored, and none before a warm-up."""
    history = work / "run/history.jsonl"
    settings = (
        f"search.num_passes={num_passes}",
        "search.warmup_epochs=0",
        "search.scored_passes=0",
        "search.num_left=1",
    )
    words = ["search", *OPTIONS, *(word for each in settings for word in ("--set", each)), "--out", str(work / "run")]

    def done() -> int:
        return history.read_text().count('"event": "draw"') if history.exists() else 0

    return watched(f"search, T = {num_passes}", 35 * num_passes, words, work, done)


def long_experiment(num_members: int, work: Path) -> Rows:
    """Genotypes that are drawn at random, each trained for an epoch."""
    words = ["compare-strategies", "--strategies", "random", "--random-draws", str(num_members), "--seeds", "0"]

    def done() -> int:
        return sum(1 for _ in (work / "experiment").rglob("result.json"))

    words += [*OPTIONS, "--out", str(work / "experiment")]
    return watched(f"experiment, {num_members:,} members", num_members, words, work, done)


def long_prediction(num_images: int, work: Path) -> Rows:
    """Links to a thousand files, in one folder."""
    write_images(work / "files", 1000)
    link_images(sorted((work / "files").rglob("*.jpg")), work / "images", num_images, per_folder=num_images)
    save_packed(model_of("folder"), work / "packed")
    words = ["predict", str(work / "packed"), str(work / "images"), "--json", "--threads", "1"]
    lines = Counted(work / "out")
    return watched(f"predict, {num_images:,} images", num_images, words, work, lines)


class Counted:
    """Lines of a file that grows; what was counted is not read again."""

    def __init__(self, path: Path) -> None:
        self._path, self._place, self._count = path, 0, 0

    def __call__(self) -> int:
        with self._path.open("rb") as file:
            file.seek(self._place)
            more = file.read()
        self._place += len(more)
        self._count += more.count(b"\n")
        return self._count


def tabulate(*, passes: int, members: int, images: int) -> Rows:
    rows = []
    for number, run in ((passes, long_search), (members, long_experiment), (images, long_prediction)):
        if number:
            with tempfile.TemporaryDirectory(prefix="cpnas-long-") as name:
                own = run(number, Path(name))
            print(json.dumps(own), file=sys.stderr)  # of what takes so long nothing is lost
            rows += own
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passes", type=int, default=10, help="T of the search; 0: no search")
    parser.add_argument("--members", type=int, default=200, help="0: no experiment")
    parser.add_argument("--images", type=int, default=100_000, help="0: no prediction")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    rows = tabulate(passes=arguments.passes, members=arguments.members, images=arguments.images)
    if arguments.json:
        print(json.dumps({"benchmark": TITLE, "rows": rows}, indent=2))
        return
    print_table(TITLE, rows)
    print_environment()


if __name__ == "__main__":
    main()
