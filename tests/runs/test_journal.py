"""The journal: whatever is done to a run, it goes on from what was committed, or says why it cannot."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from forks import fork
from safetensors.numpy import load_file

import cpnas_cli
from cpnas_cli.errors import CheckpointError, CpnasError, RunError
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.runs.journal import MOST_RECORDS, Journal, Saved
from cpnas_cli.storage import documents
from cpnas_cli.storage.tensors import save_tensors

Records = list[dict[str, Any]]

SCHEMA = "cpnas.test-checkpoint/1"
# What a text may hold that some take for the end of a line, or that is several bytes long.
UNITS: list[Records] = [
    [{"event": "draw", "z": 0.5}],
    [{"event": "draw", "z": 1e-3}, {"event": "abandon", "text": "é\n\u2028\x85\r"}],
    [{"event": "draw", "z": -1.0}],
]


def journal_in(folder: Path) -> Journal:
    return Journal(RunFolder(folder), schema=SCHEMA, keys=("done",))


def commit(folder: Path, unit: int) -> None:
    journal_in(folder).commit(UNITS[unit], {"weight": torch.full((3,), float(unit))}, {"done": unit + 1})


@pytest.fixture
def two_done(tmp_path: Path) -> Path:
    """The folder of a run with two of the units."""
    folder = tmp_path / "run"
    folder.mkdir()
    commit(folder, 0)
    commit(folder, 1)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def go_on(folder: Path) -> Saved | None:
    """As who has restored all of it."""
    journal = journal_in(folder)
    saved = journal.resume()
    if saved is not None:
        journal.accept(saved)
    return saved


def num_done(folder: Path) -> int:
    """How many units the run goes on from, all of them whole; the journal and the files by themselves say the same."""
    saved = go_on(folder)
    lines = (folder / "history.jsonl").read_bytes().split(b"\n") if (folder / "history.jsonl").exists() else [b""]
    assert lines.pop() == b""
    records = [json.loads(line) for line in lines]
    if saved is None:
        assert records == []
        assert not (folder / "checkpoint" / "state.safetensors").exists()
        return 0
    done = saved.state["done"]
    assert saved.records == records == [record for unit in UNITS[:done] for record in unit]
    weight = load_file(folder / "checkpoint" / "state.safetensors")["weight"]
    assert weight.tolist() == saved.tensors["weight"].tolist() == [done - 1.0] * 3
    return done


def refused(folder: Path) -> str:
    """The one line with which the run is not gone on with; nothing is changed."""
    before = contents(folder)
    with pytest.raises(CpnasError) as caught:
        journal_in(folder).resume()
    assert contents(folder) == before
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---------------------------------------------------------------- committing


def test_every_unit_is_there_once_it_is_committed(tmp_path: Path) -> None:
    for unit, records in enumerate(UNITS):
        before = (tmp_path / "history.jsonl").read_bytes() if unit else b""
        commit(tmp_path, unit)
        after = (tmp_path / "history.jsonl").read_bytes()
        assert after.startswith(before)
        assert after[len(before) :].count(b"\n") == len(records)
        assert num_done(tmp_path) == unit + 1
    assert RunFolder(tmp_path).history() == [record for unit in UNITS for record in unit]


def test_a_run_without_anything_has_nothing_to_go_on_from(tmp_path: Path) -> None:
    assert journal_in(tmp_path).resume() is None
    assert journal_in(tmp_path).peek() is None
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("bad", [0, 1])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_json_leaves_everything_as_it_was(two_done: Path, bad: int, value: float) -> None:
    """Also where the record before it is good."""
    before = contents(two_done)
    records: Records = [{"event": "draw"}, {"event": "draw"}]
    records[bad]["z"] = value
    with pytest.raises(ValueError, match="JSON"):
        journal_in(two_done).commit(records, {}, {"done": 3})
    assert contents(two_done) == before


@pytest.mark.parametrize("count", [0, MOST_RECORDS + 1])
def test_a_commit_has_as_many_records_as_resume_counts_on(tmp_path: Path, count: int) -> None:
    with pytest.raises(AssertionError):
        journal_in(tmp_path).commit([{}] * count, {}, {"done": 1})


def test_a_history_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot write") as caught:
        commit(tmp_path / "none", 0)
    message = str(caught.value)
    assert str(tmp_path / "none" / "history.jsonl") in message
    assert "--resume" in message
    assert "space" not in message
    assert list(tmp_path.iterdir()) == []


# A file may grow to 8 KiB in this process, as on a disk that is nearly full.
WITHOUT_SPACE = """
import resource, signal, sys
from pathlib import Path
from cpnas_cli.errors import RunError
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.runs.journal import Journal

journal = Journal(RunFolder(Path(sys.argv[1])), schema="cpnas.test-checkpoint/1", keys=("done",))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
try:
    journal.commit([{"a": "x" * 100_000}], {}, {"done": 3})
except RunError as error:
    sys.stdout.write(str(error))
"""


def run_python(program: str, *words: str | Path) -> str:
    process = fork(Path(cpnas_cli.__file__).parents[1], words, environment=os.environ, program=program)
    stdout, stderr = process.communicate(timeout=240)
    assert process.returncode == 0, stderr
    return stdout


def test_a_full_disk_leaves_what_was_committed(two_done: Path) -> None:
    before = contents(two_done)
    message = run_python(WITHOUT_SPACE, two_done)
    assert message.startswith(f"cannot write {two_done / 'history.jsonl'}: File too large; ")
    assert message.endswith("free some space and go on with --resume")
    assert "\n" not in message
    after = contents(two_done)
    assert after["history.jsonl"].startswith(before.pop("history.jsonl"))  # half a line may be there
    assert {name: after[name] for name in before} == before
    assert num_done(two_done) == 2


# ---------------------------------------------------------------- going on


def test_what_came_after_the_checkpoint_is_dropped_wherever_it_ends(two_done: Path, tmp_path: Path) -> None:
    """Killed in the middle of a line, between two, or before the checkpoint."""
    checkpoint = (two_done / "checkpoint/state.safetensors").read_bytes()
    committed = (two_done / "history.jsonl").read_bytes()
    commit(two_done, 2)
    whole = (two_done / "history.jsonl").read_bytes()
    assert whole.startswith(committed)
    for end in range(len(committed), len(whole) + 1):
        (two_done / "history.jsonl").write_bytes(whole[:end])
        (two_done / "checkpoint/state.safetensors").write_bytes(checkpoint)
        assert num_done(two_done) == 2
    commit(two_done, 2)  # and it goes on
    assert num_done(two_done) == 3
    assert (two_done / "history.jsonl").read_bytes() == whole


@pytest.mark.parametrize("unit", [0, 1])
def test_a_first_unit_without_its_checkpoint_has_not_happened(tmp_path: Path, unit: int) -> None:
    commit(tmp_path, unit)
    whole = (tmp_path / "history.jsonl").read_bytes()
    for end in range(len(whole) + 1):
        shutil.rmtree(tmp_path / "checkpoint", ignore_errors=True)
        (tmp_path / "history.jsonl").write_bytes(whole[:end])
        assert num_done(tmp_path) == 0


def test_what_came_after_the_checkpoint_stays_until_all_is_restored(two_done: Path) -> None:
    """A checkpoint that fits no network, as its user finds out, has cost nothing."""
    with (two_done / "history.jsonl").open("ab") as file:
        file.write(b'{"event": "draw"}\n{"event": "dr')
    before = contents(two_done)
    saved = journal_in(two_done).resume()
    assert saved is not None
    assert saved.records == [*UNITS[0], *UNITS[1]]
    assert contents(two_done) == before
    journal_in(two_done).accept(saved)
    assert contents(two_done)["history.jsonl"].count(b"\n") == 3
    assert num_done(two_done) == 2


@pytest.mark.parametrize("length", ["3", 3.0, None, True, -1, [1]])
def test_a_checkpoint_without_a_length_is_one_line(two_done: Path, length: Any) -> None:
    save_tensors(
        two_done / "checkpoint/state.safetensors", {}, schema=SCHEMA, state={"done": 2, "history_bytes": length}
    )
    message = refused(two_done)
    assert (
        f"{two_done / 'checkpoint/state.safetensors'} has history_bytes {length!r}, expected a whole number" in message
    )


@pytest.mark.parametrize("kept", [True, False])
def test_a_history_that_cannot_be_read_is_one_line(two_done: Path, kept: bool) -> None:
    """With a checkpoint and without."""
    (two_done / "history.jsonl").unlink()
    (two_done / "history.jsonl").mkdir()
    if not kept:
        shutil.rmtree(two_done / "checkpoint")
    else:
        save_tensors(
            two_done / "checkpoint/state.safetensors", {}, schema=SCHEMA, state={"done": 2, "history_bytes": 1}
        )
    assert refused(two_done).startswith(f"cannot read {two_done / 'history.jsonl'}: Is a directory")


def test_what_a_killed_beginning_has_left_and_cannot_be_removed_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "branch.json").write_text("{}")

    def fail(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", fail)
        assert refused(tmp_path).startswith(f"cannot remove {tmp_path / 'branch.json'}: Permission denied; ")


def test_peek_changes_nothing(two_done: Path) -> None:
    with (two_done / "history.jsonl").open("ab") as file:
        file.write(b'{"event": "dr')
    before = contents(two_done)
    saved = journal_in(two_done).peek()
    assert saved is not None
    assert saved.records == [*UNITS[0], *UNITS[1]]
    assert saved.state["done"] == 2
    assert contents(two_done) == before


def test_a_history_shorter_than_the_checkpoint_is_refused(two_done: Path) -> None:
    history = two_done / "history.jsonl"
    size = history.stat().st_size
    for end in (size - 1, 1, 0):
        os.truncate(history, end)
        assert f"{history} does not fit" in refused(two_done)
        assert f"it has {end} bytes of the {size}" in refused(two_done)
    history.unlink()
    assert f"it has 0 bytes of the {size}" in refused(two_done)


def test_a_damaged_history_is_refused(two_done: Path) -> None:
    history = two_done / "history.jsonl"
    size = history.stat().st_size
    history.write_bytes(b"{" * (size - 1) + b"\n")
    assert f"{history} is damaged" in refused(two_done)


def test_a_history_whose_lines_do_not_end_where_the_checkpoint_says_is_of_another_run(two_done: Path) -> None:
    history = two_done / "history.jsonl"
    history.write_bytes(history.read_bytes().replace(b"0.5", b"0.75") + b'{"event": "draw"}\n')
    message = refused(two_done)
    assert f"{history} does not fit {two_done / 'checkpoint/state.safetensors'}" in message
    assert "another search or another network" in message


def test_a_lost_checkpoint_is_no_full_disk(two_done: Path) -> None:
    shutil.rmtree(two_done / "checkpoint")
    message = refused(two_done)
    assert f"{two_done / 'checkpoint/state.safetensors'} is missing" in message
    assert "3 records" in message
    assert "space" not in message
    assert f"restore it, or remove {two_done}, or start a new run in another --out" in message  # also of a member


def test_another_checkpoint_is_refused(two_done: Path) -> None:
    with pytest.raises(CheckpointError, match="has schema"):
        Journal(RunFolder(two_done), schema="cpnas.other/1").resume()
    with pytest.raises(CheckpointError, match="lacks epoch"):
        Journal(RunFolder(two_done), schema=SCHEMA, keys=("epoch",)).resume()


def test_a_watcher_is_told_of_what_was_done(two_done: Path) -> None:
    saved, told = journal_in(two_done).resume(), []
    assert saved is not None
    saved.replay(told.append)
    assert told == [{**record, "resumed": True} for record in [*UNITS[0], *UNITS[1]]]


# ---------------------------------------------------------------- beginning with what another run has done


def begin(folder: Path) -> None:
    (folder / "branch.json").write_text("{}")
    records = [record for unit in UNITS for record in unit]
    journal_in(folder).begin(records, {"weight": torch.full((3,), 2.0)}, {"done": 3})


def test_a_run_that_begins_with_anothers_work_goes_on_from_it(tmp_path: Path) -> None:
    begin(tmp_path)
    assert num_done(tmp_path) == 3
    assert (tmp_path / "branch.json").exists()


def test_the_checkpoint_of_a_beginning_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    replace = Path.replace

    def noted(self: Path, target: Path) -> Path:
        written.append(target.name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", noted)
    begin(tmp_path)
    assert written == ["history.jsonl", "state.safetensors"]


def test_work_that_is_not_saved_in_between_has_no_checkpoint(tmp_path: Path) -> None:
    for _ in range(2):
        journal_in(tmp_path).begin(UNITS[0])
        assert RunFolder(tmp_path).history() == UNITS[0]
        assert list(contents(tmp_path)) == ["history.jsonl"]


# ---------------------------------------------------------------- a kill at every point


def kill_at_every_line(action: Callable[[Path], object], start: Path, root: Path) -> list[Path]:
    """What processes leave that are killed before a line of the journal's or the storage's code, one at every line.

    And at the end that of the one that was not killed. A copy of the folder as the kernel has it at that line: what was
    written is there, and a killed process flushes nothing more.
    """
    folder, left = root / "folder", list[Path]()
    shutil.copytree(start, folder)
    parts = ("cpnas_cli.runs", "cpnas_cli.storage")
    files = {module.__file__ for name, module in sys.modules.items() if name.startswith(parts)}

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        left.append(shutil.copytree(folder, root / str(len(left))))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action(folder)
    finally:
        sys.settrace(before)
    assert len(left) > 20  # lines of `commit` and of what it calls
    return [*left, folder]


@pytest.mark.parametrize("done", [0, 1, 2])
def test_a_commit_that_is_killed_anywhere_has_happened_or_not(tmp_path: Path, done: int) -> None:
    """The first, with two records, and a later one."""
    (tmp_path / "start").mkdir()
    for unit in range(done):
        commit(tmp_path / "start", unit)
    folders = kill_at_every_line(lambda folder: commit(folder, done), tmp_path / "start", tmp_path / "killed")
    found = [num_done(folder) for folder in folders]
    assert found == sorted(found)  # once it has happened it stays
    assert set(found) == {done, done + 1}
    for folder in folders[:: len(folders) // 4]:  # and the run goes on to the same files
        for unit in range(num_done(folder), done + 1):
            commit(folder, unit)
        names = ("history.jsonl", "checkpoint/state.safetensors")
        assert [contents(folder)[name] for name in names] == [contents(folders[-1])[name] for name in names]


def test_a_beginning_that_is_killed_anywhere_has_happened_or_not(tmp_path: Path) -> None:
    (tmp_path / "start").mkdir()
    folders = kill_at_every_line(begin, tmp_path / "start", tmp_path / "killed")
    found = [num_done(folder) for folder in folders]
    assert found == sorted(found)
    assert set(found) == {0, 3}
    for folder, number in zip(folders, found, strict=True):  # what has inherited nothing does not say so
        assert (folder / "branch.json").exists() == (number == 3)


def test_a_resumption_that_is_killed_anywhere_has_lost_nothing(two_done: Path, tmp_path: Path) -> None:
    with (two_done / "history.jsonl").open("ab") as file:
        file.write(b'{"event": "draw"}\n{"event": "dr')
    folders = kill_at_every_line(go_on, two_done, tmp_path / "killed")
    assert {num_done(folder) for folder in folders} == {2}


def test_a_resumption_after_a_killed_beginning_may_be_killed_too(tmp_path: Path) -> None:
    (tmp_path / "start").mkdir()
    begin(tmp_path / "start")
    shutil.rmtree(tmp_path / "start" / "checkpoint")
    folders = kill_at_every_line(go_on, tmp_path / "start", tmp_path / "killed")
    assert {num_done(folder) for folder in folders} == {0}
    assert not any((folder / "branch.json").exists() for folder in folders)


@pytest.mark.parametrize("name", ["fsync", "truncate"])
def test_a_disk_that_fails_is_one_line(two_done: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def fail(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    with (two_done / "history.jsonl").open("ab") as file:
        file.write(b'{"event": "dr')
    with monkeypatch.context() as patched:
        patched.setattr(os, name, fail)
        with pytest.raises(RunError, match=r"cannot write .*Input/output error; ") as caught:
            go_on(two_done) if name == "truncate" else commit(two_done, 2)
    assert "\n" not in str(caught.value)
    assert num_done(two_done) == 2


@pytest.mark.parametrize("step", ["mkstemp", "save", "fsync", "replace"])
def test_a_checkpoint_that_cannot_be_written_leaves_that_of_the_unit_before(
    two_done: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    fsync = os.fsync
    calls = iter([fsync, fail])  # of the history, of the checkpoint
    place = {
        "mkstemp": (documents.tempfile, "mkstemp", fail),
        "save": (sys.modules["cpnas_cli.storage.tensors"], "save_file", fail),
        "fsync": (os, "fsync", lambda number: next(calls)(number)),
        "replace": (Path, "replace", fail),
    }[step]
    with monkeypatch.context() as patched:
        patched.setattr(*place)
        with pytest.raises(RunError, match=r"No space left on device; .*free some space"):
            commit(two_done, 2)
    assert num_done(two_done) == 2
    assert not list(two_done.rglob("*.tmp"))
