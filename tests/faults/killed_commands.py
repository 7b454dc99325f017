"""Commands killed at random moments, begun twice at once, or with a clock that is set back: the same bytes in the end.

The oracle is the run that nothing has happened to.
"""

import functools
import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import made_runs
from photos import make_photos

Digest = dict[str, Any]
WEIGHTS = ("model", "model.packed", "parent", "baseline")
SOURCE = ("*.c", "*.h")
KEPT = ("genotype.json", *(f"{name}.safetensors" for name in WEIGHTS), "*.onnx", *SOURCE, "accuracy.svg")
"""What neither holds a time nor is made from one."""


def digest(folder: Path) -> Digest:
    """Of a run, an experiment or a fit, what says what it has computed and no time; of a file its bytes."""
    if folder.is_file():
        return {"": folder.read_bytes()}
    found: Digest = {
        str(path.relative_to(folder)): path.read_bytes() for name in KEPT for path in sorted(folder.rglob(name))
    }
    if (folder / "experiment.json").exists():
        members = json.loads((folder / "experiment.json").read_text())["members"]
        found["members"] = [(each["name"], each["state"], each["accuracy_test"]) for each in members]
    if (folder / "frontier.json").exists():
        found |= _without_times(json.loads((folder / "frontier.json").read_text()))
    return found


def _without_times(frontier: dict[str, Any]) -> Digest:
    members = [(each["name"], each["state"], each["networks"]) for each in frontier["members"]]
    points = [
        {key: value for key, value in point.items() if "seconds" not in key} | {"timed": point["seconds_median"] > 0}
        for point in frontier["points"]
    ]
    return {"members": members, "points": points}


@dataclass(frozen=True)
class Command:
    """One that writes, and how it goes on.

    Attributes:
      words: of what is made beforehand and of the place that it writes to.
      resumes: what is typed besides where there is a run already.
      suffix: of the place, where the kind of file is told by it.
    """

    words: Callable[[Path, Path], list[str]]
    resumes: tuple[str, ...] = ()
    suffix: str = ""


def _search(made: Path, out: Path) -> list[str]:
    return made_runs.commands(out, made)[0]


def _train(made: Path, out: Path) -> list[str]:
    return made_runs.commands(made / "search", out)[1]


def _export(made: Path, out: Path, *, format_: str = "packed") -> list[str]:
    return ["export", str(made / "training"), "--format", format_, "--out", str(out)]


def _evaluate(made: Path, out: Path) -> list[str]:
    return ["evaluate", str(made / "training"), "--csv", str(out)]


def _show(made: Path, out: Path) -> list[str]:
    return ["show", str(made / "search"), "--out", str(out)]


def _efficiency(made: Path, out: Path) -> list[str]:
    return ["efficiency", "report", str(made / "search"), "--csv", str(out)]


def _figure(made: Path, out: Path) -> list[str]:
    undisturbed(made, "compare-strategies")
    return ["figure", str(place(made, "whole", "compare-strategies")), "--out", str(out)]


def _report(made: Path, out: Path) -> list[str]:
    return ["report", str(made / "training"), "--out", str(out)]


def _predict(made: Path, out: Path) -> list[str]:
    del out  # to standard output
    return ["predict", str(made / "training"), str(_photos(made)), "--csv"]


def _fit(made: Path, out: Path) -> list[str]:
    settings = ("data.image_size=16", "network.stem_stride=2", "network.stem_multiplier=1", "train.num_epochs=2")
    options = [word for setting in settings for word in ("--set", setting)]
    return ["fit", str(_photos(made)), "--time", "1h", "--max-size", "9KiB", *options, "--out", str(out)]


def _frontier(made: Path, out: Path) -> list[str]:
    words = ("--widths", "1", "--baseline-bytes", "2KiB", "--seeds", "0", *OPTIONS, "--set", "train.num_epochs=1")
    return ["frontier", str(made / "search"), *words, "--out", str(out)]


def _compare(made: Path, out: Path) -> list[str]:
    del made
    words = ("--strategies", "random", "--random-draws", "2", "--seeds", "0")
    return ["compare-strategies", *words, *OPTIONS, "--out", str(out)]


def _ablate(made: Path, out: Path) -> list[str]:
    del made
    return ["ablate-beta", "--betas", "0,1", "--seeds", "0", *OPTIONS, "--out", str(out)]


OPTIONS = made_runs.OPTIONS
COMMANDS = {
    "search": Command(_search, ("--resume",)),
    "train": Command(_train, ("--resume",)),
    "export": Command(_export),
    "export --format onnx": Command(functools.partial(_export, format_="onnx")),
    "export --format c": Command(functools.partial(_export, format_="c")),
    "predict": Command(_predict),
    "evaluate --csv": Command(_evaluate),
    "report": Command(_report),
    "show --out": Command(_show, suffix=".svg"),
    "efficiency report --csv": Command(_efficiency),
    "figure": Command(_figure),
    "fit": Command(_fit),
    "compare-strategies": Command(_compare),
    "ablate-beta": Command(_ablate),
    "frontier": Command(_frontier),
}
COSTLY = ("frontier", "fit", "compare-strategies", "export --format onnx", "ablate-beta", "figure")
"""They take longest: they are killed less often."""
OFTEN = ("search", "train")
"""Of the others, those that write most: they are killed twice as often."""


def place(made: Path, kind: str, name: str) -> Path:
    """Where this command writes to."""
    return made / f"{kind}-{name.replace(' ', '')}{COMMANDS[name].suffix}"


def _photos(made: Path) -> Path:
    return made / "photos" if (made / "photos").exists() else make_photos(made / "photos", count=6, size=16)


def turns(num_kills: int) -> list[str]:
    """Which command is killed when: of the costly ones another in every round, the others once or twice in it."""
    cheap = [name for name in COMMANDS if name not in COSTLY]
    cycle = [name for costly in COSTLY for name in (*cheap, *OFTEN, costly)]
    return [cycle[number % len(cycle)] for number in range(num_kills)]


# ---------------------------------------------------------------- undisturbed


@dataclass(frozen=True)
class Undisturbed:
    """What a command leaves and prints that nothing has happened to, and its seconds."""

    digest: Digest
    output: str
    seconds: float


def _outcome(log: Path, out: Path) -> tuple[Digest, str]:
    printed = Path(f"{log}.out").read_text()
    return (digest(out) if out.exists() else {}), "" if out.exists() else printed


@functools.cache
def undisturbed(made: Path, name: str) -> Undisturbed:
    """Of this command, in a place of its own."""
    log, out = made / "log", place(made, "whole", name)
    begun = time.monotonic()
    ended = made_runs.run(log, *COMMANDS[name].words(made, out))
    assert ended.code == 0, ended.stderr
    found = Undisturbed(*_outcome(log, out), time.monotonic() - begun)
    assert found.digest or found.output
    return found


# ---------------------------------------------------------------- kills


def kill_and_go_on(
    made: Path, *, seed: int, names: Sequence[str], say: Callable[[str], object] = lambda _: None
) -> dict[str, Counter[str]]:
    """Kill these commands in turn, each at a random moment of its time, and go on.

    Args:
      say: is told of every kill.

    Returns:
      Of each command how many were killed, how many had ended before, how many ended as undisturbed, and how many
      otherwise ("DIFFERENT"); also the temporary files that were left behind.
    """
    generator = random.Random(seed)
    found: dict[str, Counter[str]] = {name: Counter() for name in dict.fromkeys(names)}
    lasts: dict[str, float] = {}  # at most; a machine that was busy before need not be now
    for number, name in enumerate(names, start=1):
        whole = undisturbed(made, name)
        after = generator.uniform(0, lasts.get(name, whole.seconds))
        if not _kill_once(made, name, whole, after=after, found=found[name]):
            lasts[name] = after
        say(f"{number} of {len(names)}, {name}: {dict(found[name])}")
    return found


def _kill_once(made: Path, name: str, whole: Undisturbed, *, after: float, found: Counter[str]) -> bool:
    """Whether it had not ended before."""
    command, log, out = COMMANDS[name], made / "log", place(made, "killed", name)
    words = command.words(made, out)
    remove(out)
    ended = made_runs.end(made_runs.start(log, *words), log, after=after)
    found["killed" if ended.code < 0 else "had ended"] += 1
    assert ended.code in (-9, 0), ended.stderr
    goes_on = command.resumes if (out / "config.yaml").exists() else ()
    again = made_runs.run(log, *words, *goes_on)
    assert again.code == 0, f"{name}: {again.stderr}"
    kept = _outcome(log, out) == (whole.digest, whole.output)
    found["as undisturbed" if kept else "DIFFERENT"] += 1
    found["left behind"] += len(list((out if out.is_dir() else made).rglob(".*.tmp")))
    return ended.code < 0


def remove(out: Path) -> None:
    if out.is_dir():
        shutil.rmtree(out)
    else:
        out.unlink(missing_ok=True)


# ---------------------------------------------------------------- two at once


REFUSALS = ("is in use by", "already holds a run")


def two_at_once(made: Path, names: Sequence[str]) -> dict[str, Counter[str]]:
    """Two of each command in one place at the same moment: one works, or one after the other; never both at once."""
    found = dict[str, Counter[str]]()
    for name in names:
        whole, out = undisturbed(made, name), place(made, "twice", name)
        words, logs = COMMANDS[name].words(made, out), [made / "log-0", made / "log-1"]
        numbers = [made_runs.start(log, *words) for log in logs]
        ends = [made_runs.end(number, log) for number, log in zip(numbers, logs, strict=True)]
        counted = found[name] = Counter[str]()
        for log, each in zip(logs, ends, strict=True):
            refused = each.code == 1 and any(reason in each.stderr for reason in REFUSALS)
            counted["worked" if each.code == 0 else "refused" if refused else "OTHERWISE"] += 1
            if each.code == 0:
                same = _outcome(log, out) == (whole.digest, whole.output)
                counted["as undisturbed" if same else "DIFFERENT"] += 1
    return found


# ---------------------------------------------------------------- the clock


def clock_set_back(made: Path) -> bool:
    """Whether a training is the same after its clock went back a year in the middle."""
    real, run = time.time, made / "clock"
    words = _train(made, run)
    first = made_runs.run(made / "log", *words, "--max-time", "0.01s")
    assert first.code == 75, first.stderr

    def set_back() -> None:
        time.time = lambda: real() - 365 * 86400

    second = made_runs.run(made / "log", *words, "--resume", prepare=set_back)
    assert second.code == 0, second.stderr
    return digest(run) == {name: text for name, text in digest(made / "training").items() if "packed" not in name}
