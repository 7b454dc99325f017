"""The folder of a command without --out: one of its own, and none that is left empty."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import DOCUMENT, error_of, invoke
from conftest import TINY_OPTIONS
from killing import start

import cpnas_cli
from cpnas_cli.cli import options
from cpnas_cli.errors import RunError


@pytest.fixture(autouse=True)
def _in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


AT_ONCE = """
import os, sys
sys.path.insert(0, sys.argv[1])
from cpnas_cli.cli.options import new_folder
import cpnas_cli.distributed.processes

for attempt in range(20):
    ready, go, answer = os.pipe(), os.pipe(), os.pipe()
    for _ in range(8):
        if os.fork() == 0:
            os.close(go[1])
            os.write(ready[1], b"x")
            os.read(go[0], 1)  # the end of the pipe, for all at once
            os.write(answer[1], f"{new_folder(f'run{attempt}')}\\n".encode())
            os._exit(0)
    for _ in range(8):
        os.read(ready[0], 1)
    os.close(go[1])
    for _ in range(8):
        os.wait()
    sys.stdout.write(os.read(answer[0], 65536).decode())
"""


def test_all_who_choose_a_name_at_once_get_folders_of_their_own() -> None:
    root = Path(cpnas_cli.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", AT_ONCE, str(root)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = {f"runs/run{attempt}{end}" for attempt in range(20) for end in ("", *(f"-{n}" for n in range(2, 9)))}
    assert sorted(done.stdout.splitlines()) == sorted(expected)
    assert {str(path) for path in Path("runs").iterdir()} == expected


@pytest.mark.slow
def test_four_commands_at_once_make_four_runs(tmp_path: Path) -> None:
    (tmp_path / "g.json").write_text(json.dumps(DOCUMENT))
    settings = [*TINY_OPTIONS, "--set", "train.num_epochs=1"]
    processes = [start(tmp_path, "train", "g.json", *settings, "--seed", "1") for _ in range(4)]
    for process in processes:
        _, stderr = process.communicate(timeout=240)
        assert process.returncode == 0, stderr
    runs = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert runs == ["g-seed1-train", *(f"g-seed1-train-{number}" for number in (2, 3, 4))]
    assert all((tmp_path / "runs" / run / "result.json").exists() for run in runs)


def test_a_name_that_is_taken_is_counted_on_from() -> None:
    Path("runs").mkdir()
    Path("runs/a").write_text("mine")  # whatever it is
    Path("runs/a-2").symlink_to("nowhere")
    assert options.new_folder("a") == Path("runs/a-3")
    assert options.new_folder("a") == Path("runs/a-4")
    assert options.new_folder("b") == Path("runs/b")


def test_no_folder_to_make_it_in_is_one_line() -> None:
    with pytest.raises(RunError, match=r"cannot make runs/xxx.*File name too long; .*--out"):
        options.new_folder("x" * 300)
    Path("runs").rmdir()
    Path("runs").write_text("mine")
    with pytest.raises(RunError, match=r"cannot make runs/a: .*--out"):
        options.new_folder("a")


def test_of_the_processes_of_a_launcher_the_first_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    folder = options.new_folder("a")
    assert not Path("runs").exists()
    folder.mkdir(parents=True)  # by the first one
    with options.removed_if_unused(folder, is_new=True):
        pass
    assert folder.exists()
    monkeypatch.setenv("RANK", "0")
    assert options.new_folder("a") == Path("runs/a-2")


@pytest.mark.parametrize("devices", [[], pytest.param(["--devices", "2"], marks=pytest.mark.slow)])
def test_a_command_that_fails_before_its_run_leaves_no_folder(tmp_path: Path, devices: list[str]) -> None:
    (tmp_path / "g.json").write_text(json.dumps(DOCUMENT))
    folder = ["--preset", "folder", "--data-dir", tmp_path / "nowhere"]
    words = ["train", "g.json", *folder, *devices]
    if devices:
        process = start(tmp_path, *words)
        _, stderr = process.communicate(timeout=240)
        assert process.returncode == 1, stderr
        assert "nowhere" in stderr.splitlines()[-1]
    else:
        for command in (words, ["search", *folder]):
            assert "nowhere" in error_of(invoke(*command), code=1)
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["g.json"]


def test_a_folder_of_the_users_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    error_of(invoke("search", "--preset", "folder", "--data-dir", "nowhere", "--out", "mine"), code=1)
    assert (tmp_path / "mine").is_dir()
