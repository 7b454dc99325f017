"""What comes out of a run: JSON documents, the history, and the folder that holds them.

Every document names its schema. A file is written beside its place and renamed, so that a crash or a
full disk leaves the old one as it was.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpnas_cli.errors import GenotypeError, RunError
from cpnas_cli.search_space import CELL_KINDS, EDGES, Cell, Genotype, check_cell
from cpnas_cli.settings import Config, config_yaml, differing_settings, load_config

GENOTYPE_SCHEMA = "cpnas.genotype/1"
RESULT_SCHEMA = "cpnas.result/1"
EVALUATION_SCHEMA = "cpnas.evaluation/1"
TRAINING_SCHEMA = "cpnas.training/1"
MODEL_SCHEMA = "cpnas.model/1"
DATASET_SCHEMA = "cpnas.dataset/1"
EXPERIMENT_SCHEMA = "cpnas.experiment/1"
MEASUREMENT_SCHEMA = "cpnas.measurement/1"
BRANCH_SCHEMA = "cpnas.branch/1"
ENVIRONMENT_SCHEMA = "cpnas.environment/1"
EFFICIENCY_SCHEMA = "cpnas.efficiency/1"


ADVICE_FOR_RUNS = "what was saved before is intact: free some space and go on with --resume"


@contextlib.contextmanager
def replacing(path: Path, *, advice: str = ADVICE_FOR_RUNS) -> Iterator[Path]:
    """A temporary path beside `path`; when the block ends well, it takes the place of `path`.

    Args:
      advice: the end of the error's line, what to do about it.

    Raises:
      RunError: the disk is full or the folder cannot be written; `path` is as it was before.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}; {advice}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str, *, advice: str = ADVICE_FOR_RUNS) -> None:
    """See `replacing`."""
    with replacing(path, advice=advice) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(document, indent=2, allow_nan=False) + "\n")


def genotype_document(genotype: Genotype, *, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """`cpnas.genotype/1`: the edges of both cells in the order of `space.EDGES`."""
    cells = {
        kind: [{"from": source, "to": node, "op": op} for (source, node), op in zip(EDGES, cell, strict=True)]
        for kind, cell in genotype.cells().items()
    }
    return {"schema": GENOTYPE_SCHEMA, **cells, "provenance": dict(provenance)}


def branch_document(source: "RunFolder", **inherited: int) -> dict[str, Any]:
    """`cpnas.branch/1`: which run of the same experiment a run goes on from, and how much of its work it inherits."""
    return {"schema": BRANCH_SCHEMA, "from": source.path.name, **inherited}


def parse_genotype(document: Any) -> Genotype:
    """The genotype of a `cpnas.genotype/1` document.

    Raises:
      GenotypeError: another schema, an unknown operation, an edge that is missing, repeated or
        backwards, or a disconnected cell.
    """
    if not isinstance(document, dict):
        raise GenotypeError(f"expected a JSON object with schema {GENOTYPE_SCHEMA}, got {type(document).__name__}")
    if document.get("schema") != GENOTYPE_SCHEMA:
        raise GenotypeError(f"expected schema {GENOTYPE_SCHEMA!r}, got {document.get('schema')!r}")
    return Genotype(**{kind: _parse_cell(document.get(kind), kind) for kind in CELL_KINDS})


def _parse_cell(entries: Any, kind: str) -> Cell:
    if not isinstance(entries, list):
        raise GenotypeError(f"{kind!r} must be a list of {len(EDGES)} edges, got {type(entries).__name__}")
    operations: dict[tuple[int, int], str] = {}
    for entry in entries:
        if not isinstance(entry, dict) or {"from", "to", "op"} - entry.keys():
            raise GenotypeError(f"an edge of the {kind} cell must have from, to and op, got {entry!r}")
        edge = entry["from"], entry["to"]
        if any(type(node) is not int for node in edge):
            raise GenotypeError(f"from and to of an edge of the {kind} cell must be whole numbers, got {entry!r}")
        if edge not in EDGES:
            backwards = "it runs backwards; " if edge[::-1] in EDGES else ""
            raise GenotypeError(
                f"edge {edge[0]}->{edge[1]} of the {kind} cell does not exist: {backwards}"
                "edges run from a node (0..4) to a later intermediate node (2..5)"
            )
        if edge in operations:
            raise GenotypeError(f"edge {edge[0]}->{edge[1]} of the {kind} cell is given twice")
        if not isinstance(entry["op"], str):
            raise GenotypeError(f"op of edge {edge[0]}->{edge[1]} of the {kind} cell must be a text")
        operations[edge] = entry["op"]
    for edge in EDGES:
        if edge not in operations:
            raise GenotypeError(f"edge {edge[0]}->{edge[1]} of the {kind} cell is missing")
    return check_cell([operations[edge] for edge in EDGES], kind=kind)


def read_json(path: Path) -> Any:
    """The parsed file.

    Raises:
      OSError: it cannot be read. ValueError: it is not JSON in UTF-8 (truncated, for example).
    """
    return json.loads(path.read_text(encoding="utf-8"))


def read_document(path: Path) -> dict[str, Any]:
    """The JSON object of a run's own file.

    Raises:
      RunError: unreadable, damaged, or not an object; the message names the file.
    """
    try:
        document = read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"cannot read {path}: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise RunError(f"{path} is no JSON object; restore the file or start a new run")
    return document


def provenance_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Where a genotype comes from, as its document says; empty if it does not say in the usual way."""
    provenance = document.get("provenance")
    return provenance if isinstance(provenance, dict) else {}


def read_genotype(path: Path) -> tuple[Genotype, dict[str, Any]]:
    """Genotype and document of a genotype file, or of a run folder that holds one.

    Raises:
      GenotypeError: missing, truncated, or not a valid genotype; the message names the file.
    """
    try:
        if path.is_dir():
            path = path / RunFolder.GENOTYPE
        document = read_json(path)
    except FileNotFoundError:
        raise GenotypeError(f"no genotype at {path}; `cpnas search` writes one") from None
    except OSError as error:
        raise GenotypeError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise GenotypeError(f"{path} is not complete JSON ({error}); it may be truncated") from None
    try:
        return parse_genotype(document), document
    except GenotypeError as error:
        raise GenotypeError(f"{path}: {error}") from None


@dataclass(frozen=True)
class RunFolder:
    """A run's folder. `open_run` is the way to get one that may be written to."""

    path: Path

    CONFIG = "config.yaml"
    ENVIRONMENT = "environment.json"
    HISTORY = "history.jsonl"
    GENOTYPE = "genotype.json"
    RESULT = "result.json"
    TRAINING = "training.json"
    DATASET = "dataset.json"
    BRANCH = "branch.json"
    MODEL = "model.safetensors"
    PARENT_MODEL = "parent.safetensors"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint" / "state.safetensors"

    def file(self, name: str) -> Path:
        return self.path / name

    def config(self) -> Config:
        return load_config(self.file(self.CONFIG))

    def append_history(self, record: Mapping[str, Any]) -> int:
        """Add one line; returns the size of the history in bytes.

        Raises:
          RunError: the line could not be written whole.
        """
        line = json.dumps(record, allow_nan=False) + "\n"
        path = self.file(self.HISTORY)
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
                return file.tell()
        except OSError as error:
            raise RunError(f"cannot write {path}: {error.strerror or error}; go on later with --resume") from error

    def history(self, *, num_bytes: int | None = None) -> list[dict[str, Any]]:
        """The records; with `num_bytes` those of the file's beginning.

        Raises:
          RunError: the file is damaged.
        """
        path = self.file(self.HISTORY)
        if not path.exists():
            return []
        try:
            return [json.loads(line) for line in path.read_bytes()[:num_bytes].decode().splitlines()]
        except ValueError as error:
            raise RunError(f"{path} is damaged ({error}); start a new run") from None

    def write_history(self, records: Sequence[Mapping[str, Any]]) -> int:
        """Replace the whole history; returns its size in bytes."""
        text = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
        write_text(self.file(self.HISTORY), text)
        return len(text.encode())

    def truncate_history(self, num_bytes: int) -> None:
        """Drop what was appended after the checkpoint that is resumed."""
        path = self.file(self.HISTORY)
        size = path.stat().st_size if path.exists() else 0
        if size < num_bytes:
            raise RunError(
                f"{path} does not fit {self.checkpoint}: it has {size} bytes of the {num_bytes}; start a new run"
            )
        if size > num_bytes:
            os.truncate(path, num_bytes)


def open_run(
    path: Path, config: Config, *, resume: bool, environment: Mapping[str, Any], owned: Mapping[str, str] | None = None
) -> RunFolder:
    """The folder of a new run, or of the same run again with `resume`.

    Args:
      owned: further files {name: text} that define the run (the genotype of a training); a resumed
        run must hold the same.

    Raises:
      RunError: the folder holds something and `resume` is not set; or it holds a run with other
        settings (the first one that differs is named) or of another kind.
    """
    run = RunFolder(path)
    files = {**(owned or {}), RunFolder.CONFIG: config_yaml(config)}
    try:
        if path.exists() and not path.is_dir():
            raise RunError(f"{path} is a file; --out expects a folder")
    except OSError as error:  # a name that is too long, for one
        raise RunError(f"cannot use {path}: {error.strerror or error}; choose another --out") from None
    holds_run = run.file(RunFolder.CONFIG).exists()
    if holds_run:
        if not resume:
            raise RunError(f"{path} already holds a run; add --resume to go on with it, or choose another --out")
        _check_same_run(run, config, owned or {})
        for leftover in [*path.glob(".*.tmp"), *run.checkpoint.parent.glob(".*.tmp")]:  # of a save that was killed
            leftover.unlink(missing_ok=True)
        return run
    # what a start that was killed can leave behind; hidden files are ours (temporary) or the system's
    unfinished = {RunFolder.ENVIRONMENT, *files} if run.file(RunFolder.ENVIRONMENT).exists() else set()
    if run.file(RunFolder.BRANCH).exists():  # prepared to go on from another run
        unfinished |= {RunFolder.ENVIRONMENT, *files, RunFolder.BRANCH, RunFolder.HISTORY, run.checkpoint.parent.name}
    if path.is_dir() and any(not name.startswith(".") and name not in unfinished for name in os.listdir(path)):
        raise RunError(f"{path} is not empty and holds no run; choose another --out")
    # config.yaml last: a folder that has it has everything
    write_json(run.file(RunFolder.ENVIRONMENT), environment)
    for name, text in files.items():
        write_text(run.file(name), text)
    return run


def _check_same_run(run: RunFolder, config: Config, owned: Mapping[str, str]) -> None:
    if RunFolder.TRAINING not in owned and run.file(RunFolder.TRAINING).exists():
        raise RunError(f"{run.path} holds a training, not a search; choose another --out")
    differences = differing_settings(run.config(), config)
    if differences:
        more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
        raise RunError(f"{run.path} was started with other settings: {differences[0]}{more}; choose another --out")
    for name, text in owned.items():
        file = run.file(name)
        if not file.exists():
            raise RunError(f"{run.path} holds a run of another kind (it has no {name}); choose another --out")
        if file.read_text(encoding="utf-8") != text:
            what = "other images" if name == RunFolder.DATASET else f"another {name}"
            raise RunError(f"{run.path} was started with {what}; choose another --out")
