"""A run's folder: its files, its history, and how it is opened."""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpnas_cli.errors import CpnasError, RunError
from cpnas_cli.runs.lock import HOLDER, LOCK, locked
from cpnas_cli.search_space import EDGES, Genotype
from cpnas_cli.settings import Config, config_yaml, differing_settings, load_config
from cpnas_cli.storage.checksum import stated_in, text_checksum
from cpnas_cli.storage.documents import BRANCH_SCHEMA, VALIDATION_KEYS, read_document, write_json, write_text
from cpnas_cli.storage.genotype_file import GENOTYPE_FILE, parse_genotype, read_genotype

_FOLLOW = ("mean", "std", "skipped")  # of `dataset.json`

HISTORY_BYTES = "history_bytes"
"""In the state of a checkpoint: how long the history was, and under the other key its checksum up to there."""
HISTORY_CHECKSUM = "history_blake2b"
"""Checkpoints of older versions do not have it."""


def branch_document(source: "RunFolder", **inherited: int) -> dict[str, Any]:
    """`cpnas.branch/1`: which run of the same experiment a run goes on from, and how much of its work it inherits."""
    return {"schema": BRANCH_SCHEMA, "from": source.path.name, **inherited}


@dataclass(frozen=True)
class RunFolder:
    """A run's folder. `open_run` is the way to get one that may be written to, while it is open."""

    path: Path

    CONFIG = "config.yaml"
    ENVIRONMENT = "environment.json"
    HISTORY = "history.jsonl"
    GENOTYPE = GENOTYPE_FILE
    RESULT = "result.json"
    TRAINING = "training.json"
    DATASET = "dataset.json"
    BRANCH = "branch.json"
    MODEL = "model.safetensors"
    PARENT_MODEL = "parent.safetensors"
    BEST_MODEL = "best.safetensors"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint" / "state.safetensors"

    def file(self, name: str) -> Path:
        return self.path / name

    def config(self) -> Config:
        """The settings, also those that an older version wrote.

        Raises:
          UsageError: they cannot be read, or a value is not allowed. RunError: they were changed since.
        """
        check_settings(self.path)
        return load_config(self.file(self.CONFIG), stored=True)

    def history(self, *, num_bytes: int | None = None) -> list[dict[str, Any]]:
        """The records; with `num_bytes` those of the file's beginning, else what the checkpoint knows of is verified.

        Raises:
          RunError: the file is damaged, or cannot be read.
        """
        path = self.file(self.HISTORY)
        if not path.exists():
            return []
        try:
            content = path.read_bytes()
            records = [json.loads(line) for line in content[:num_bytes].decode().splitlines()]
        except OSError as error:
            raise RunError(f"cannot read {path}: {error.strerror or error}") from error
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path} is damaged ({error}); start a new run") from None
        for number, record in enumerate(records, start=1):
            if not isinstance(record, dict) or not isinstance(record.get("event"), str):
                raise RunError(f"{path} is damaged (line {number} is no record of an event); start a new run")
        if num_bytes is None:
            self._verify_history(content)
        return records

    def _verify_history(self, content: bytes) -> None:
        """By what the checkpoint says of it, where there is one; whether that is whole is checked where it is used."""
        try:
            state = stated_in(self.checkpoint)
        except (OSError, ValueError, RecursionError):
            return
        length, known = state.get(HISTORY_BYTES), state.get(HISTORY_CHECKSUM)
        if type(length) is int and known is not None and known != text_checksum(content[:length]):
            raise RunError(
                f"{self.file(self.HISTORY)} is damaged: its content does not match the checksum in {self.checkpoint}; "
                "restore it, or start a new run in another --out"
            )


@contextlib.contextmanager
def open_run(
    path: Path,
    config: Config,
    *,
    resume: bool,
    environment: Mapping[str, Any],
    owned: Mapping[str, Mapping[str, Any]] | None = None,
    wait_seconds: float = 0,
) -> Iterator[RunFolder]:
    """The folder of a new run, or of the same run again with `resume`; nobody else has it until the block ends.

    Args:
      owned: further files {name: JSON object} that define the run (the genotype of a training); a resumed run must hold
        the same, see `differences_of_owned`.
      wait_seconds: see `locked`.

    Raises:
      RunError: another process has the folder; it holds something and `resume` is not set; or it holds a run with
        other settings (the first one that differs is named) or of another kind. GenotypeError: that of the folder is
        damaged. Then it is as it was.
    """
    run, owned = RunFolder(path), owned or {}
    _check_folder(path)
    try:
        _check_usable(run, config, resume=resume, owned=owned)
    except CpnasError:  # the last word on a folder that was never locked; else another process may be half-way through
        if not run.file(LOCK).exists():
            raise
    _make_folder(path)
    with locked(path, command=environment.get("command"), wait_seconds=wait_seconds):
        _check_usable(run, config, resume=resume, owned=owned)
        if run.file(RunFolder.CONFIG).exists():
            _remove_leftovers(run, owned)
        if not run.file(RunFolder.CONFIG).exists():
            write_beginning(path, config, environment=environment, owned=owned)
        yield run


def _remove_leftovers(run: RunFolder, owned: Iterable[str]) -> None:
    """Of saves that were killed: the temporary files (see `replacing`) of what a run writes, and nobody else's.

    Raises:
      RunError: one cannot be removed.
    """
    names = {RunFolder.CONFIG, RunFolder.ENVIRONMENT, RunFolder.HISTORY, RunFolder.GENOTYPE, RunFolder.RESULT, HOLDER}
    names |= {RunFolder.TRAINING, RunFolder.DATASET, RunFolder.BRANCH, RunFolder.MODEL, RunFolder.PARENT_MODEL, *owned}
    names.add(RunFolder.BEST_MODEL)
    for file in [*map(run.file, names), run.checkpoint]:
        for leftover in file.parent.glob(f".{file.name}.*.tmp"):
            try:
                leftover.unlink(missing_ok=True)
            except OSError as error:
                raise RunError(f"cannot remove {leftover}: {error.strerror or error}; choose another --out") from None


def _check_folder(path: Path) -> None:
    try:
        if path.exists() and not path.is_dir():
            raise RunError(f"{path} is a file; --out expects a folder")
    except OSError as error:  # a name that is too long, for one
        raise RunError(f"cannot use {path}: {error.strerror or error}; choose another --out") from None


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make {path}: {error.strerror or error}; choose another --out") from None


def _check_usable(run: RunFolder, config: Config, *, resume: bool, owned: Mapping[str, Mapping[str, Any]]) -> None:
    """Whether the folder holds nothing, or, to be resumed, this run."""
    path = run.path
    if run.file(RunFolder.CONFIG).exists():
        if not resume:
            raise RunError(f"{path} already holds a run; add --resume to go on with it, or choose another --out")
        _check_same_run(run, config, owned)
        return
    # what a start that was killed can leave behind; hidden files are ours (temporary) or the system's
    ours = {RunFolder.ENVIRONMENT, RunFolder.CONFIG, *owned}
    unfinished = ours if run.file(RunFolder.ENVIRONMENT).exists() else set()
    if run.file(RunFolder.BRANCH).exists():  # prepared to go on from another run
        unfinished |= {*ours, RunFolder.BRANCH, RunFolder.HISTORY, run.checkpoint.parent.name}
    if path.is_dir() and any(not name.startswith(".") and name not in unfinished for name in os.listdir(path)):
        raise RunError(f"{path} is not empty and holds no run; choose another --out")


def _check_same_run(run: RunFolder, config: Config, owned: Mapping[str, Mapping[str, Any]]) -> None:
    if RunFolder.TRAINING not in owned and run.file(RunFolder.TRAINING).exists():
        raise RunError(f"{run.path} holds a training, not a search; choose another --out")
    # the same images may lie elsewhere by now
    moved = {"data.dir"} if RunFolder.DATASET in owned and run.file(RunFolder.DATASET).exists() else ()
    differences = differing_settings(run.config(), config, but=moved)
    if differences:
        more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
        raise RunError(f"{run.path} was started with other settings: {differences[0]}{more}; choose another --out")
    for name in owned:
        if not run.file(name).exists():
            raise RunError(f"{run.path} holds a run of another kind (it has no {name}); choose another --out")
    for name in differences_of_owned(run, owned):
        what = "other images" if name == RunFolder.DATASET else f"another {name}"
        raise RunError(f"{run.path} was started with {what}; choose another --out")


# ---------------------------------------------------------------- the settings, as they were written


def write_beginning(
    folder: Path,
    config: Config,
    *,
    environment: Mapping[str, Any],
    owned: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Write what defines a run, an experiment or a frontier: a folder that has `config.yaml`, the last, has everything.

    `environment.json` knows the checksum of the settings.

    Args:
      owned: further files {name: JSON object}.

    Raises:
      RunError: one of them cannot be written.
    """
    text = config_yaml(config)
    documents = {RunFolder.ENVIRONMENT: {**environment, SETTINGS_CHECKSUM: text_checksum(text.encode())}}
    for name, document in {**documents, **(owned or {})}.items():
        write_json(folder / name, document)
    write_text(folder / RunFolder.CONFIG, text)


def goes_on(folder: Path | None, *, resume: bool) -> bool:
    """Whether the folder holds a run that is resumed, which then has settings of its own."""
    return resume and folder is not None and (folder / RunFolder.CONFIG).exists()


def settings_beside(folder: Path) -> Path | None:
    """The settings of the run in this folder; None if it holds none.

    Raises:
      RunError: see `check_settings`.
    """
    path = folder / RunFolder.CONFIG
    if not path.exists():
        return None
    check_settings(folder)
    return path


SETTINGS_CHECKSUM = "config_blake2b"
"""In `environment.json`."""

_ALWAYS = ("seed", "data", "network", "search", "train")  # the sections that every version has written


def check_settings(folder: Path) -> None:
    """Refuse the settings of a run, an experiment or a frontier that are not those that it was started with.

    Of an older version, whose `environment.json` does not know their checksum, every section must be there. Settings
    without an environment are of no run: somebody has put them there.

    Raises:
      RunError: they were changed, are cut off, or cannot be read; or the environment cannot be read.
    """
    path, environment = folder / RunFolder.CONFIG, folder / RunFolder.ENVIRONMENT
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from None
    if not environment.exists():
        return
    known = read_document(environment).get(SETTINGS_CHECKSUM)
    if known is not None and known != text_checksum(content):
        raise RunError(
            f"{path} was changed since the run was started: its content does not match its checksum in {environment}; "
            "restore the file, or start a new run with --preset and the changed file"
        )
    lines = content.split(b"\n")
    for section in _ALWAYS:
        if known is None and not any(line.startswith(f"{section}:".encode()) for line in lines):
            raise RunError(f"{path} has no {section}: what a run has stored is complete; restore the file")


# ---------------------------------------------------------------- whether a run is the same


def differences_of_owned(run: RunFolder, owned: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """What tells a run from one that these documents define: {file name: ["key: old there, new now"]}.

    Of the images all counts but mean and deviation, which follow from the images up to the processor's rounding, and
    the files that were skipped; and, where the run has begun without images that validate, those (see
    `opening.open_run_for`). Of a genotype its operations count, not where it comes from. Of any other document all
    counts.

    Args:
      owned: {file name: JSON object}; the run has all these files.

    Raises:
      RunError, GenotypeError: a file cannot be read, or is damaged.
    """
    found: dict[str, list[str]] = {}
    for name, document in owned.items():
        if name == RunFolder.GENOTYPE:
            differences = differing_operations(read_genotype(run.file(name))[0], parse_genotype(document))
        else:
            there, now = read_document(run.file(name)), json.loads(json.dumps(document))
            ignored = _FOLLOW if name == RunFolder.DATASET else ()
            if name == RunFolder.DATASET and not there.keys() >= set(VALIDATION_KEYS):
                ignored += VALIDATION_KEYS
            differences = [
                f"{name.removesuffix('.json')}.{key}: {there.get(key)!r} there, {now.get(key)!r} now"
                for key in {**now, **there}
                if key not in ignored and there.get(key) != now.get(key)
            ]
        if differences:
            found[name] = differences
    return found


def differing_operations(there: Genotype, now: Genotype) -> list[str]:
    """ "genotype: kind source->node old there, new now" of every edge with another operation."""
    return [
        f"genotype: {kind} {source}->{node} {before} there, {after} now"
        for kind, cell in now.cells().items()
        for (source, node), before, after in zip(EDGES, there.cells()[kind], cell, strict=True)
        if before != after
    ]
