"""The journal of a run: its history and its checkpoint, which only together say how far it is.

A unit of work (a draw, an epoch) is committed by appending its records to the history and then replacing the
checkpoint, which says how long the history was. Whatever kills the run, the checkpoint is whole and the history holds
at least what it knows of. Who resumes restores from the checkpoint and then accepts it: the rest of the history is
dropped and that work is done again. A checkpoint that turns out to fit nothing has dropped nothing.

This is the only place that appends to a history, writes a checkpoint, or takes a run up again.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from cpnas_cli.errors import CheckpointError, RunError
from cpnas_cli.runs.folder import HISTORY_BYTES, HISTORY_CHECKSUM, RunFolder
from cpnas_cli.storage.checksum import text_checksum
from cpnas_cli.storage.documents import advice_for, write_text
from cpnas_cli.storage.tensors import load_tensors, save_tensors

Notify = Callable[[Mapping[str, Any]], None]
"""Called with every history record; in between with {"event": "progress", ...} and {"event": "note", "text": ...}.

A note has "passing": true if it is about the moment alone.
"""

MOST_RECORDS = 2
"""Of one commit, unless a journal says otherwise. A longer history without a checkpoint is not what a kill leaves."""

BEGINNING = "budgets"
"""The event of a record that may stand before the first commit and is not counted: what the run decides by."""


def ignore(_: Mapping[str, Any]) -> None:
    """The `Notify` of a caller who does not watch."""


@dataclass(frozen=True)
class Saved:
    """What a run has committed.

    Attributes:
      tensors: of the checkpoint, on the CPU. state: beside them, plain JSON values.
      records: the history up to the checkpoint.
    """

    tensors: dict[str, Tensor]
    state: dict[str, Any]
    records: list[dict[str, Any]]

    def replay(self, notify: Notify) -> None:
        """Tell a watcher of every record, each with "resumed": true."""
        for record in self.records:
            notify({**record, "resumed": True})


class Journal:
    """The journal of one run.

    Args:
      run: whose folder it is in.
      schema: of the checkpoint.
      keys: what the checkpoint's state must hold.
      most_records: of one commit.
    """

    def __init__(
        self, run: RunFolder, *, schema: str, keys: Sequence[str] = (), most_records: int = MOST_RECORDS
    ) -> None:
        self.run, self.schema, self.keys, self.most_records = run, schema, (*keys, HISTORY_BYTES), most_records

    @property
    def checkpoint(self) -> Path:
        return self.run.checkpoint

    def commit(
        self, records: Sequence[Mapping[str, Any]], tensors: Mapping[str, Tensor], state: Mapping[str, Any]
    ) -> None:
        """Append what a unit of work has to say, at most `most_records`, and replace the checkpoint.

        Raises:
          RunError: one of them cannot be written; the checkpoint is that of the unit before.
          ValueError: a record is no JSON (it holds NaN, for one); nothing is written.
        """
        assert 1 <= len(records) <= self.most_records + (records[0].get("event") == BEGINNING)
        length = self._append("".join(map(_line, records)))
        self._save(tensors, state, _read(self.run.file(RunFolder.HISTORY))[:length])

    def resume(self) -> Saved | None:
        """What is committed, to be restored from and then accepted; None for a run that has committed nothing.

        What such a run has left of its first unit is dropped.

        Raises:
          CheckpointError: the checkpoint cannot be used. RunError: the history is damaged, or shorter than the
            checkpoint says, or such that there must have been a checkpoint; or it cannot be read or written.
        """
        saved = self.peek()
        if saved is None:
            self._start_again()
        return saved

    def accept(self, saved: Saved) -> None:
        """Go on from what `resume` has returned, once all of it is restored: drop what the history says beyond it.

        Raises:
          RunError: the history cannot be written.
        """
        self._cut(saved.state[HISTORY_BYTES])

    def peek(self) -> Saved | None:
        """What is committed, as `resume` returns it; nothing is changed."""
        return self._load() if self.checkpoint.exists() else None

    def begin(
        self,
        records: Sequence[Mapping[str, Any]],
        tensors: Mapping[str, Tensor] | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        """Make this the whole history, and with tensors also the checkpoint: of work that another run has done.

        With tensors `branch.json` (see `branch_document`) must be there already: the checkpoint is written last, a run
        without one has not started, and by `branch.json` `resume` knows what a kill in between has left. Without
        tensors there is no checkpoint, and no `branch.json` either: for work that is done again rather than resumed.

        Raises:
          RunError: one of them cannot be written.
        """
        text = "".join(map(_line, records))
        write_text(self.run.file(RunFolder.HISTORY), text)
        if tensors is not None:
            self._save(tensors, state or {}, text.encode())

    def _save(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any], history: bytes) -> None:
        """Replace the checkpoint by this one, which belongs to this history."""
        belongs = {HISTORY_BYTES: len(history), HISTORY_CHECKSUM: text_checksum(history)}
        save_tensors(self.checkpoint, tensors, schema=self.schema, state={**state, **belongs})

    def _load(self) -> Saved:
        tensors, state = load_tensors(self.checkpoint, schema=self.schema, keys=self.keys)
        history, length, size = self.run.file(RunFolder.HISTORY), state[HISTORY_BYTES], self._size()
        if type(length) is not int or length < 0:
            raise CheckpointError(
                f"{self.checkpoint} has {HISTORY_BYTES} {length!r}, expected a whole number; restore it, or "
                "start a new run"
            )
        if size < length:
            raise RunError(
                f"{history} does not fit {self.checkpoint}: it has {size} bytes of the {length}; start a new run"
            )
        committed = _read(history)[:length] if length else b""
        if length and not committed.endswith(b"\n"):  # as everything that was ever committed does
            raise RunError(
                f"{history} does not fit {self.checkpoint}: one is of another search or another network; restore it, "
                "or start a new run in another --out"
            )
        if state.get(HISTORY_CHECKSUM, known := text_checksum(committed)) != known:
            raise RunError(
                f"{history} is damaged: its content does not match the checksum in {self.checkpoint}; restore it, or "
                "start a new run in another --out"
            )
        return Saved(tensors, state, self.run.history(num_bytes=length))

    def _start_again(self) -> None:
        path = self.run.file(RunFolder.HISTORY)
        branch = self.run.file(RunFolder.BRANCH)
        text = _read(path) if path.exists() else b""
        beginning = json.dumps({"event": BEGINNING}).removesuffix("}").encode()
        num_records = text.count(b"\n") - text.startswith(beginning)  # a kill may leave half a line behind
        if num_records > self.most_records and not branch.exists():
            raise RunError(
                f"{self.checkpoint} is missing, and without it the {num_records} records of the history cannot be gone "
                f"on from; restore it, or remove {self.run.path}, or start a new run in another --out"
            )
        self._cut(0)
        try:
            branch.unlink(missing_ok=True)  # of a `begin` that was killed: nothing is inherited
        except OSError as error:
            raise RunError(f"cannot remove {branch}: {error.strerror or error}; {advice_for(error)}") from error

    def _append(self, lines: str) -> int:
        """Add these; returns the size of the history in bytes.

        Raises:
          RunError: they could not be written whole.
        """
        path = self.run.file(RunFolder.HISTORY)
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
                return file.tell()
        except OSError as error:
            raise RunError(f"cannot write {path}: {error.strerror or error}; {advice_for(error)}") from error

    def _cut(self, num_bytes: int) -> None:
        """Drop what was appended after this.

        Raises:
          RunError: the history cannot be written.
        """
        path = self.run.file(RunFolder.HISTORY)
        try:
            if self._size() > num_bytes:
                os.truncate(path, num_bytes)
        except OSError as error:
            raise RunError(f"cannot write {path}: {error.strerror or error}; {advice_for(error)}") from error

    def _size(self) -> int:
        """Of the history, bytes.

        Raises:
          RunError: it is there, and its size cannot be told.
        """
        path = self.run.file(RunFolder.HISTORY)
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise RunError(f"cannot read {path}: {error.strerror or error}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from error


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, allow_nan=False) + "\n"
