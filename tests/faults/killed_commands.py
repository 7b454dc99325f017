"""Commands killed at random moments, begun twice at once, or with a clock that is set back: the same bytes in the end.

The oracle is the run that nothing has happened to.
"""

import random
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import made_runs

COMPARED = ("genotype.json", "model.safetensors")


def digest(run: Path) -> dict[str, bytes]:
    """The files of a run whose bytes say what it has computed, and no time."""
    return {name: (run / name).read_bytes() for name in COMPARED if (run / name).exists()}


PARTS = ("search", "training", "export")


def kill_and_go_on(folder: Path, *, seed: int, num_kills: int, parts: Sequence[str] = PARTS) -> Counter[str]:
    """Kill these commands in turn, each at a random moment of its time, and go on.

    Returns:
      How many were killed, how many had ended before, and how many ended otherwise than undisturbed ("DIFFERENT").
    """
    generator, found = random.Random(seed), Counter[str]()
    log, search, training = folder / "log", folder / "killed-search", folder / "killed-training"
    seconds = {}
    for part, words in zip(("search", "training"), made_runs.commands(search, training), strict=True):
        begun = time.monotonic()
        ended = made_runs.run(log, *words)
        assert ended.code == 0, ended.stderr
        seconds[part] = time.monotonic() - begun
    whole = digest(training)
    assert whole == digest(folder / "training")
    found_by_search = digest(search)
    assert found_by_search == digest(folder / "search")
    for number in range(num_kills):
        part = parts[number % len(parts)]
        run = search if part == "search" else training
        words = made_runs.commands(search, training)[0 if part == "search" else 1]
        if part == "export":
            words = ["export", str(training)]
        else:
            shutil.rmtree(run, ignore_errors=True)  # killed before there was one
        after = generator.uniform(0, seconds.get(part, 0.5))
        ended = made_runs.end(made_runs.start(log, *words), log, after=after)
        found["killed" if ended.code < 0 else "had ended"] += 1
        assert ended.code in (-9, 0), ended.stderr
        goes_on = part != "export" and (run / "config.yaml").exists()
        again = made_runs.run(log, *words, *(["--resume"] if goes_on else []))
        assert again.code == 0, again.stderr
        kept = digest(training) == whole and digest(search) == found_by_search
        leftovers = list(run.rglob(".*.tmp"))
        found["as undisturbed" if kept else "DIFFERENT"] += 1
        found["left behind"] += len(leftovers)
    return found


def two_at_once(folder: Path) -> Counter[str]:
    """Two of each command in one folder at the same moment: one works, or one after the other; never both at once."""
    found = Counter[str]()
    whole = digest(folder / "training")
    search, training = folder / "twice-search", folder / "twice-training"
    for words in made_runs.commands(search, training):
        logs = [folder / "log-0", folder / "log-1"]
        numbers = [made_runs.start(log, *words) for log in logs]
        ends = [made_runs.end(number, log) for number, log in zip(numbers, logs, strict=True)]
        for each in ends:
            refused = each.code == 1 and ("is in use by" in each.stderr or "already holds a run" in each.stderr)
            found["worked" if each.code == 0 else "refused" if refused else "OTHERWISE"] += 1
    found["as undisturbed" if digest(training) == whole else "DIFFERENT"] += 1
    return found


def clock_set_back(folder: Path) -> bool:
    """Whether a training is the same after its clock went back a year in the middle."""
    real = time.time
    run = folder / "clock"
    _, words = made_runs.commands(folder / "search", run)
    first = made_runs.run(folder / "log", *words, "--max-time", "0.01s")
    assert first.code == 75, first.stderr

    def set_back() -> None:
        time.time = lambda: real() - 365 * 86400

    second = made_runs.run(folder / "log", *words, "--resume", prepare=set_back)
    assert second.code == 0, second.stderr
    return digest(run) == digest(folder / "training")
