"""Which runs and experiments lie in a folder tree, how far they are and what they came to; needs no torch.

Of every run only small files are read: the sections of its settings that say what it is about, and what it came to.
"""

import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from cpnas_cli.errors import CpnasError, RunError, UsageError
from cpnas_cli.experiments.frontier.plan import FrontierFolder
from cpnas_cli.experiments.member_runs import DAMAGES
from cpnas_cli.experiments.plan import ExperimentFolder
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.runs.lock import is_locked
from cpnas_cli.storage.documents import EXPERIMENT_SCHEMA, FRONTIER_SCHEMA, RESULT_SCHEMA, RUNS_SCHEMA, read_document
from cpnas_cli.storage.genotype_file import provenance_of

Kind = Literal["search", "train", "experiment", "frontier"]
State = Literal["running", "stopped", "done", "failed", "damaged", "unreadable"]
SortKey = Literal["age", "accuracy", "size", "name"]
FilterKey = Literal["state", "kind", "data", "strategy"]

MAX_DEPTH = 4
"""How many folders below the one that was named a run may lie; links are not followed."""

_ONE_BIT = "1-bit"  # `deploy.deployed.ONE_BIT`, for which torch would be loaded

# What tells a run's config.yaml from that of another program
_BESIDE = {RunFolder.ENVIRONMENT, RunFolder.DATASET, RunFolder.GENOTYPE, RunFolder.HISTORY, RunFolder.TRAINING}
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where PyYAML has it


@dataclass(frozen=True)
class FoundRun:
    """A run or an experiment.

    Attributes:
      folder: below the one that was looked through, with / between its parts; "." is that one itself.
      kind: None: its folder cannot be looked into.
      state: running: a process holds its lock now; failed: it says so of one of its members; damaged: see `error`;
        unreadable: what is in it cannot be told, for it may not be read, or its disk does not answer.
      error: one line, why it is damaged or cannot be read, or which members failed.
      data: `data.name`. data_dir: `data.dir`, of one's own images.
      strategies: of the search; of an experiment those that it compares; of a training that of its genotype's origin.
      network: of a training, the one that was asked for: child, parent or baseline.
      accuracy_test: of that network; of an experiment of its best group (a mean), of a frontier of its best 1-bit
        network (a mean).
      accuracy_parent_test: of the Parent, where a training has one.
      size_bits: of the network of `accuracy_test`, for inference; None for an experiment, whose members differ.
      changed: seconds since 1970, when its files last changed.
      best: whether it is the training with the most accurate Child on its data.
    """

    folder: str
    kind: Kind | None
    state: State
    changed: float
    error: str | None = None
    data: str | None = None
    data_dir: str | None = None
    strategies: tuple[str, ...] = ()
    network: str | None = None
    accuracy_test: float | None = None
    accuracy_parent_test: float | None = None
    size_bits: int | None = None
    best: bool = False

    @property
    def accuracy_child(self) -> float | None:
        """Of 1-bit networks alone."""
        return self.accuracy_test if self.network in (None, "child") else None

    @property
    def data_label(self) -> str | None:
        """The name of the data set, with the folder of one's own images."""
        return self.data if self.data_dir is None else f"{self.data}:{os.path.basename(self.data_dir)}"


def find_runs(root: Path) -> list[FoundRun]:
    """All runs in this folder and below, in no order; what is in a run or an experiment is a part of it.

    Raises:
      RunError: there is no such folder.
    """
    if not root.is_dir():
        raise RunError(f"no folder at {root}; name one that holds runs")
    return _with_best(list(_found_below(root, root, MAX_DEPTH)))


def _found_below(folder: Path, root: Path, depth: int) -> Iterator[FoundRun]:
    try:
        with os.scandir(folder) as scanned:
            entries = list(scanned)
    except OSError as error:
        yield FoundRun(_name(folder, root), None, "unreadable", 0.0, error=f"cannot look into it: {error.strerror}")
        return
    files = {entry.name for entry in entries if _is_file(entry)}
    kind = _kind(files)
    if kind is not None:
        yield _read_run(folder, root, kind, files)
    elif depth:
        for entry in entries:
            if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                yield from _found_below(folder / entry.name, root, depth - 1)


def _is_file(entry: os.DirEntry[str]) -> bool:
    """A regular one: to open a pipe would wait for its writer."""
    try:
        return entry.is_file()
    except OSError:  # a link in a circle
        return False


def _kind(files: set[str]) -> Kind | None:
    """What a folder with these files holds; None: no run."""
    if RunFolder.CONFIG in files or RunFolder.ENVIRONMENT in files:
        if FrontierFolder.DOCUMENT in files:
            return "frontier"
        if ExperimentFolder.DOCUMENT in files:
            return "experiment"
    if RunFolder.TRAINING in files:
        return "train"
    return "search" if RunFolder.CONFIG in files and _BESIDE & files else None


def _name(folder: Path, root: Path) -> str:
    return folder.relative_to(root).as_posix()


# ---------------------------------------------------------------- one run


def _read_run(folder: Path, root: Path, kind: Kind, files: set[str]) -> FoundRun:
    found = FoundRun(_name(folder, root), kind, "stopped", _changed(folder, files))
    try:
        found = _READERS[kind](found, folder, files)
    except DAMAGES as error:
        text = " ".join(str(error).split())
        reason = text if isinstance(error, CpnasError) else f"a file is damaged ({type(error).__name__}: {text})"
        return replace(found, state="unreadable" if _is_kept_from_us(error) else "damaged", error=reason)
    return replace(found, state="running") if is_locked(folder) else found


def _is_kept_from_us(error: Exception) -> bool:
    """Whether a file could not be opened or read, which says nothing about what is in it."""
    return isinstance(error, OSError) or isinstance(error.__cause__, OSError)


def _changed(folder: Path, files: set[str]) -> float:
    """Of the files that say how far it is; 0: none can be asked."""
    names = {RunFolder.CONFIG, RunFolder.HISTORY, RunFolder.GENOTYPE, RunFolder.RESULT, FrontierFolder.DOCUMENT}
    times = [0.0]
    for name in (names | {ExperimentFolder.DOCUMENT}) & files:
        try:
            times.append((folder / name).stat().st_mtime)
        except OSError:
            continue
    return max(times)


def _read_search(found: FoundRun, folder: Path, files: set[str]) -> FoundRun:
    settings = _sections(folder, files)
    if RunFolder.GENOTYPE in files:
        read_document(folder / RunFolder.GENOTYPE)
        found = replace(found, state="done")
    strategy = _text(settings["search"]["strategy"], "search.strategy")
    return replace(found, **_data_of(settings["data"]), strategies=(strategy,))


def _read_training(found: FoundRun, folder: Path, files: set[str]) -> FoundRun:
    settings = _sections(folder, files)
    networks = read_document(folder / RunFolder.TRAINING)["networks"]
    origin = read_document(folder / RunFolder.GENOTYPE) if RunFolder.GENOTYPE in files else {}
    strategy = provenance_of(origin).get("strategy")
    found = replace(
        found,
        **_data_of(settings["data"]),
        strategies=(strategy,) if isinstance(strategy, str) else (),
        network=_text(networks[0], "networks[0]"),
    )
    if RunFolder.RESULT not in files:
        return found
    result = _of_schema(folder / RunFolder.RESULT, RESULT_SCHEMA)
    parent = result.get("accuracy_parent_test")
    accuracy = _fraction(result["accuracy_test"], "accuracy_test")
    if parent is not None:
        parent = _fraction(parent, "accuracy_parent_test")
    elif found.network == "parent":
        parent = accuracy
    size_bits = int(_number(result["size_bits"], "size_bits"))
    return replace(found, state="done", accuracy_test=accuracy, accuracy_parent_test=parent, size_bits=size_bits)


def _read_experiment(found: FoundRun, folder: Path, files: set[str]) -> FoundRun:
    del files
    document = _of_schema(folder / ExperimentFolder.DOCUMENT, EXPERIMENT_SCHEMA)
    config = document["config"]
    groups = document["groups"] if document["kind"] == "comparison" else [config["search"]["strategy"]]
    means = [row["accuracy_test_mean"] for row in document["summary"] if row["num_runs"]]
    return replace(
        found,
        **_data_of(config["data"]),
        **_state_of(document["members"]),
        strategies=tuple(_text(group, "groups") for group in groups),
        accuracy_test=max((_fraction(mean, "accuracy_test_mean") for mean in means), default=None),
    )


def _read_frontier(found: FoundRun, folder: Path, files: set[str]) -> FoundRun:
    del files
    document = _of_schema(folder / FrontierFolder.DOCUMENT, FRONTIER_SCHEMA)
    config, asked = document["config"], document["asked_genotype"]
    strategy = config["search"]["strategy"] if asked is None else provenance_of(asked).get("strategy")
    found = replace(
        found,
        **_data_of(config["data"]),
        **_state_of(document["members"]),
        strategies=(strategy,) if isinstance(strategy, str) else (),
    )
    points = document["points"]
    if found.state == "done" and any(point["seconds_median"] is None for point in points):
        found = replace(found, state="stopped")  # before everything was timed
    binary = [point for point in points if point["family"] == _ONE_BIT]
    if not binary:
        return found
    best = max(binary, key=lambda point: _fraction(point["accuracy_test_mean"], "accuracy_test_mean"))
    size_bits = 8 * int(_number(best["bytes"], "bytes"))
    return replace(found, accuracy_test=float(best["accuracy_test_mean"]), size_bits=size_bits)


_READERS: Mapping[Kind, Callable[[FoundRun, Path, set[str]], FoundRun]] = {
    "search": _read_search,
    "train": _read_training,
    "experiment": _read_experiment,
    "frontier": _read_frontier,
}


def _state_of(members: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """State and error of an experiment by its members'."""
    failed = [str(member["name"]) for member in members if member["state"] == "failed"]
    if failed:
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        return {"state": "failed", "error": f"of {len(members)} members failed {failed[0]}{more}"}
    return {"state": "done" if all(member["state"] == "finished" for member in members) else "stopped"}


def _sections(folder: Path, files: set[str]) -> dict[str, Any]:
    """The sections `data` and `search` of a run's settings; the whole file takes too long for a thousand runs.

    Raises:
      RunError: they are not there, or are no YAML.
    """
    path = folder / RunFolder.CONFIG
    if RunFolder.CONFIG not in files:
        raise RunError(f"it has no {RunFolder.CONFIG}")
    try:
        text = path.read_text(encoding="utf-8")
        wanted = "".join(re.findall(r"(?m)^(?:data|search):.*\n(?:[ #].*\n?|\n)*", text))
        found = yaml.load(wanted, Loader=_LOADER)
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise RunError(f"cannot read {path}: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict) or not all(isinstance(found.get(key), dict) for key in ("data", "search")):
        raise RunError(f"{path} is damaged: expected the sections data and search")
    return found


def _data_of(section: Mapping[str, Any]) -> dict[str, Any]:
    folder = section.get("dir") if section["name"] == "folder" else None
    return {"data": _text(section["name"], "data.name"), "data_dir": None if folder is None else str(folder)}


def _of_schema(path: Path, schema: str) -> dict[str, Any]:
    document = read_document(path)
    if document.get("schema") != schema:
        raise RunError(f"{path}: expected schema {schema!r}, got {document.get('schema')!r}")
    return document


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise RunError(f"expected a text in {key}, got {value!r}")
    return value


def _number(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise RunError(f"expected a number in {key}, got {value!r}")
    return value


def _fraction(value: Any, key: str) -> float:
    if _number(value, key) > 1:
        raise RunError(f"expected a fraction in {key}, got {value!r}")
    return float(value)


def _with_best(found: Sequence[FoundRun]) -> list[FoundRun]:
    """With the best training of each data set marked; of equal ones all."""
    highest: dict[tuple[str | None, str | None], float] = {}
    candidates = [run for run in found if _may_be_best(run)]
    for run in candidates:
        key = (run.data, run.data_dir)
        highest[key] = max(highest.get(key, -math.inf), run.accuracy_test or 0.0)
    return [
        replace(run, best=_may_be_best(run) and run.accuracy_test == highest[run.data, run.data_dir]) for run in found
    ]


def _may_be_best(run: FoundRun) -> bool:
    """Experiments are not: their numbers are means."""
    return run.kind == "train" and run.network == "child" and run.accuracy_test is not None and run.error is None


# ---------------------------------------------------------------- which of them, and in what order


def sorted_runs(found: Sequence[FoundRun], key: str) -> list[FoundRun]:
    """By age the youngest first, by accuracy the best, by size the smallest; those without any last, equals by name.

    Raises:
      UsageError: it is no `SortKey`.
    """
    orders: dict[str, Callable[[FoundRun], float]] = {
        "age": lambda run: -run.changed,
        "accuracy": lambda run: math.inf if run.accuracy_test is None else -run.accuracy_test,
        "size": lambda run: math.inf if run.size_bits is None else run.size_bits,
        "name": lambda _: 0,
    }
    if key not in orders:
        raise UsageError(f"--sort expects {_choices(SortKey)}, got {key!r}")
    order = orders[key]
    return sorted(found, key=lambda run: (order(run), run.folder))


def filtered_runs(found: Sequence[FoundRun], filters: Sequence[str]) -> list[FoundRun]:
    """Those that fit every key of the filters "KEY=VALUE"; a key that is given twice may have either value.

    Raises:
      UsageError: it is no such filter, or a state or a kind that does not exist.
    """
    wanted: dict[str, set[str]] = {}
    for text in filters:
        key, separator, value = text.partition("=")
        if not separator or key not in get_args(FilterKey):
            raise UsageError(f"--filter expects KEY=VALUE with a KEY of {_choices(FilterKey)}, got {text!r}")
        known = {"state": State, "kind": Kind}.get(key)
        if known is not None and value not in get_args(known):
            raise UsageError(f"--filter {key}= expects {_choices(known)}, got {value!r}")
        wanted.setdefault(key, set()).add(value)
    return [run for run in found if all(values & _values(run, key) for key, values in wanted.items())]


def _values(run: FoundRun, key: str) -> set[str | None]:
    return {
        "state": {run.state},
        "kind": {run.kind},
        "data": {run.data, run.data_label},
        "strategy": set(run.strategies),
    }[key]


def _choices(names: Any) -> str:
    *others, last = get_args(names)
    return f"{', '.join(others)} or {last}"


def runs_document(root: Path, found: Sequence[FoundRun], *, now: float | None = None) -> dict[str, Any]:
    """`cpnas.runs/1`.

    Args:
      now: seconds since 1970; without it the clock's.
    """
    now = time.time() if now is None else now
    return {"schema": RUNS_SCHEMA, "folder": str(root), "runs": [_record(run, now) for run in found]}


def _record(run: FoundRun, now: float) -> dict[str, Any]:
    changed = datetime.fromtimestamp(run.changed).astimezone().isoformat(sep=" ", timespec="seconds")
    return asdict(run) | {
        "strategies": list(run.strategies),
        "changed": changed,
        "age_seconds": max(round(now - run.changed), 0),
    }
