"""One process at a time in a run's folder, whatever becomes of the one that has it."""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import invoke
from conftest import TINY_OPTIONS, TINY_SETTINGS, CpnasRun
from forks import Fork
from killing import kill, start, wait_for_lines, without_seconds

import cpnas_cli
from cpnas_cli.errors import RunError
from cpnas_cli.experiments.plan import ExperimentFolder, Plan
from cpnas_cli.experiments.tasks import Circumstances, SearchTask, TrainingTask, run_task
from cpnas_cli.runs.folder import open_run
from cpnas_cli.runs.lock import locked
from cpnas_cli.settings import load_config
from cpnas_cli.storage.documents import read_document

ROOT = Path(cpnas_cli.__file__).parents[1]

HOLD = """
import sys, time
from pathlib import Path
from cpnas_cli.runs.lock import locked

with locked(Path(sys.argv[1]), command=["/somewhere/bin/cpnas", "search", "--out", "a b"]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def refused(folder: Path) -> str:
    with pytest.raises(RunError) as caught, locked(folder):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_free(folder: Path) -> None:
    with locked(folder):
        pass


def test_who_is_refused_learns_who_has_it_and_what_to_do(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    before = time.time()
    message = refused(tmp_path)
    start_of_line = f"{tmp_path} is in use by process {holder.pid} on {socket.gethostname()} since "
    assert message.startswith(start_of_line)
    since, _, rest = message.removeprefix(start_of_line).partition(" (")
    assert abs(datetime.datetime.fromisoformat(since).timestamp() - before) < 60
    command, _, advice = rest.partition("); ")
    assert shlex.split(command) == ["cpnas", "search", "--out", "a b"]
    assert advice == "wait for it to end, or choose another --out"


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_dies_lets_it_go(tmp_path: Path, holder: subprocess.Popen[str], sent: signal.Signals) -> None:
    refused(tmp_path)
    holder.send_signal(sent)
    holder.wait(timeout=60)
    assert_free(tmp_path)


def test_who_waits_gets_it_when_the_other_ends(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    threading.Timer(0.3, holder.kill).start()
    with locked(tmp_path, wait_seconds=60):
        assert holder.wait(timeout=60) == -signal.SIGKILL


def test_it_is_held_once_in_one_process_too(tmp_path: Path) -> None:
    with locked(tmp_path):
        assert f"process {os.getpid()} on" in refused(tmp_path)
        refused(tmp_path)  # who was refused has not let it go
    assert_free(tmp_path)


def test_it_ends_with_the_block_however_that_ends(tmp_path: Path) -> None:
    for error in (ValueError("no"), KeyboardInterrupt()):
        with pytest.raises(type(error)), locked(tmp_path):
            raise error
        assert_free(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"command": 3, "pid": 1, "host": "", "since": ""}'])
def test_a_holder_that_says_nothing_still_holds_it(tmp_path: Path, holder: subprocess.Popen[str], text: str) -> None:
    (tmp_path / ".lock.json").write_text(text)
    assert "in use by another process; " in refused(tmp_path)


@pytest.mark.parametrize("broken", ["folder", "full"])
def test_what_cannot_be_locked_is_one_line(tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if broken == "folder":
        (tmp_path / ".lock").mkdir()
    else:

        def fail(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)
    message = refused(tmp_path)
    assert str(tmp_path / ".lock") in message
    assert message.startswith("cannot ")
    assert ("space" in message) == (broken == "full")
    if broken == "full":
        monkeypatch.undo()
        assert_free(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP])
def test_a_disk_without_locks_is_refused_and_not_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A mark would outlive a killed process."""

    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", fail)
        assert refused(tmp_path) == f"the disk of {tmp_path} has no file locks; choose an --out on another disk"
    assert_free(tmp_path)


# ---------------------------------------------------------------- opening


def test_of_several_that_open_one_folder_at_once_one_has_it(tmp_path: Path) -> None:
    """With other settings each: the folder never holds those of one and the run of another."""
    for attempt in range(20):
        folder, barrier = tmp_path / str(attempt), threading.Barrier(4)
        accepted, messages = [], []

        def open_it(seed: int, folder: Path = folder, barrier: threading.Barrier = barrier) -> None:
            config = load_config(overrides=[f"seed={seed}"])
            barrier.wait()
            try:
                with open_run(folder, config, resume=False, environment={"seed": seed}) as run:
                    accepted.append(seed)  # noqa: B023
                    assert run.config() == config
                    barrier.wait()
            except RunError as error:
                messages.append(str(error))  # noqa: B023
                barrier.wait()

        threads = [threading.Thread(target=open_it, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert len(accepted) == 1
        assert len(messages) == 3
        assert all("is in use by " in message or "already holds a run" in message for message in messages)
        assert read_document(folder / "environment.json")["seed"] == accepted[0]


OPEN_AT_ONCE = """
import json, os, sys
from pathlib import Path
from cpnas_cli.errors import RunError
from cpnas_cli.runs.folder import open_run
from cpnas_cli.settings import load_config

root = Path(sys.argv[1])
configs = [load_config(overrides=[f"seed={seed}"]) for seed in range(4)]
for attempt in range(20):
    ready, go = os.pipe(), os.pipe()
    children = []
    for seed, config in enumerate(configs):
        child = os.fork()
        if child == 0:
            os.close(go[1])
            os.write(ready[1], b"x")
            os.read(go[0], 1)  # the end of the pipe, for all at once
            try:
                with open_run(root / str(attempt), config, resume=False, environment={"seed": seed}) as run:
                    os._exit(0 if run.config() == config else 3)
            except RunError:
                os._exit(1)
        children.append(child)
    for _ in children:
        os.read(ready[0], 1)
    os.close(go[1])
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]))
"""


def test_of_several_processes_that_open_one_folder_at_once_one_is_accepted(tmp_path: Path) -> None:
    """Each ends as soon as it has opened it, so that the next one finds a run."""
    done = subprocess.run(
        [sys.executable, "-c", OPEN_AT_ONCE, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 20
    for attempt, line in enumerate(lines):
        codes = json.loads(line)
        assert sorted(codes) == [0, 1, 1, 1]
        assert load_config(tmp_path / str(attempt) / "config.yaml").seed == codes.index(0)


# ---------------------------------------------------------------- commands


@contextlib.contextmanager
def running(folder: Path, *words: str | Path) -> Iterator[Fork]:
    """A command that is killed at the end of the block, where it has not ended by itself."""
    process = start(folder, *words)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=60)


def error_of(stderr: str) -> str:
    """The last line, the only one of an error."""
    assert "Traceback" not in stderr
    last = stderr.splitlines()[-1]
    assert stderr.count("error") == 1
    return last.removeprefix("cpnas: error: ")


@pytest.mark.slow
def test_a_second_resumption_is_refused_and_the_first_goes_on(
    cpnas: CpnasRun, tmp_path: Path, tiny_search: Path
) -> None:
    history = tmp_path / "run/history.jsonl"
    with running(tmp_path, "search", *TINY_OPTIONS, "--out", "run") as process:
        wait_for_lines(process, history, 2)
        process.send_signal(signal.SIGSTOP)  # that it does not end meanwhile
        second = cpnas("search", "--out", "run", "--resume")
        process.send_signal(signal.SIGCONT)
        assert second.returncode == 1
        assert second.stdout == ""
        message = error_of(second.stderr)
        assert message.startswith(f"run is in use by process {process.pid} on {socket.gethostname()} since ")
        assert "(cpnas search --set data.num_train=40 " in message
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
    assert without_seconds(history) == without_seconds(tiny_search / "history.jsonl")
    assert cpnas("search", "--out", "run", "--resume").returncode == 0


@pytest.mark.slow
def test_a_second_training_is_refused_and_one_after_a_kill_goes_on(cpnas: CpnasRun, tmp_path: Path) -> None:
    """On two processes, of which the first has the folder; when the one that started them is killed, so are they."""
    assert cpnas("search", *TINY_OPTIONS, "--strategy", "random", "--out", "search").returncode == 0
    settings = ["--set", "train.num_epochs=400", "--devices", "2"]
    with running(tmp_path, "train", "search", *settings, "--out", "run") as process:
        wait_for_lines(process, tmp_path / "run/history.jsonl", 1)
        holder = json.loads((tmp_path / "run/.lock.json").read_text())
        assert holder["schema"] == "cpnas.lock/1"
        assert holder["pid"] != process.pid
        second = cpnas("train", "search", "--out", "run", "--resume")
        assert second.returncode == 1
        assert f"run is in use by process {holder['pid']} on " in error_of(second.stderr)
        assert kill(process, signal.SIGKILL)[0] == -signal.SIGKILL
    with locked(tmp_path / "run", wait_seconds=60):  # those that it has started end as soon as they see it
        pass
    third = cpnas("train", "search", "--out", "run", "--resume", "--max-time", "0.01s")
    assert third.returncode == 75, third.stderr


def test_what_reads_a_run_does_not_wait_for_it(tmp_path: Path, tiny_search: Path) -> None:
    run = tmp_path / "run"
    with locked(tiny_search):
        assert invoke("show", tiny_search).exit_code == 0
        words = ["--set", "train.num_epochs=1", "--device", "cpu", "--out", run]
        assert invoke("train", tiny_search, *words).exit_code == 0
    with locked(run):
        for command in ("evaluate", "export"):
            answer = invoke(command, run)
            assert answer.exit_code == 0, answer.output


@pytest.mark.slow
def test_two_experiments_in_one_folder_are_refused(cpnas: CpnasRun, tmp_path: Path) -> None:
    words = ["compare-strategies", *TINY_OPTIONS, "--set", "search.num_passes=40"]
    words += ["--strategies", "random,cpnas", "--seeds", "0", "--out", "run"]
    with running(tmp_path, *words) as process:
        wait_for_lines(process, tmp_path / "run/searches/cpnas-seed-0/history.jsonl", 1)
        before = (tmp_path / "run/experiment.json").read_bytes()
        second = cpnas(*words)
        assert second.returncode == 1
        message = error_of(second.stderr)
        assert message.startswith(f"run is in use by process {process.pid} on {socket.gethostname()} since ")
        assert "(cpnas compare-strategies " in message
        member = cpnas("search", "--out", "run/searches/cpnas-seed-0", "--resume")  # a worker has it
        assert member.returncode == 1
        message = error_of(member.stderr)
        assert message.startswith("run/searches/cpnas-seed-0 is in use by process ")
        assert "(cpnas compare-strategies " in message
        assert (tmp_path / "run/experiment.json").read_bytes() == before


# ---------------------------------------------------------------- members of an experiment


def test_a_task_waits_for_its_folder_and_lets_it_go(tmp_path: Path) -> None:
    """However it ends; the next one may be in the same process."""
    config = load_config(overrides=[*TINY_SETTINGS, "train.num_epochs=1"])
    member = Plan("comparison", ("random",), (0,), config).members[0]
    circumstances = Circumstances(tmp_path, "cpu", ("cpnas", "compare-strategies"))
    folder = ExperimentFolder(tmp_path)
    for task, run in (
        (SearchTask(circumstances, member), folder.search(member.name)),
        (TrainingTask(circumstances, member), folder.training(member.name)),
    ):
        run.path.mkdir(parents=True)
        with locked(run.path):
            outcome = run_task(task, wait_seconds=0)
            assert outcome.state == "failed"
            assert f"{run.path} is in use by process {os.getpid()}" in (outcome.reason or "")
            assert [path.name for path in run.path.iterdir() if not path.name.startswith(".")] == []
        assert run_task(task, wait_seconds=0).state == "done"
        assert_free(run.path)
        (run.path / "config.yaml").write_text((run.path / "config.yaml").read_text().replace("seed: 0", "seed: 1"))
        assert run_task(task, wait_seconds=0).state == "failed"
        assert_free(run.path)


# ---------------------------------------------------------------- links out of the folder


@pytest.mark.parametrize(
    "name",
    [
        *("history.jsonl", "checkpoint", ".lock", "c", "trainings", "members", "members/cpnas-seed-0"),
        *("checkpoint/state", "logs", "search", "train"),
    ],
)
def test_a_link_out_of_the_folder_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    """`--resume` once cut a file that history.jsonl was a link to."""
    outside, folder = tmp_path / "outside", tmp_path / "run"
    target = outside / "kept"
    is_file = name in ("history.jsonl", ".lock", "checkpoint/state")
    outside.mkdir() if is_file else target.mkdir(parents=True)
    if is_file:
        target.write_bytes(b"x" * 20_000)
    (folder / name).parent.mkdir(parents=True)
    (folder / name).symlink_to(target)
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    with pytest.raises(RunError) as caught, locked(folder):
        pass
    assert str(caught.value) == (
        f"{folder / name} is a link to {target}, and nothing is written outside the folder of a run; "
        "put the file itself there, or choose another --out"
    )
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before
    assert target.is_dir() or target.read_bytes() == b"x" * 20_000


def test_the_folder_itself_and_what_is_not_ours_may_be_links(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "photos").symlink_to(tmp_path)
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    with locked(tmp_path / "run"):
        assert (tmp_path / "disk" / ".lock").exists()
