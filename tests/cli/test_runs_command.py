"""`cpnas runs`: the table, the record, and how little it needs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import permissions
import pytest
import yaml
from command_line import error_of, invoke

from cpnas_cli.cli.render.inventory import age, size


@pytest.fixture(autouse=True)
def _in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


def make_training(folder: Path, accuracy: float, **data: str) -> None:
    folder.mkdir(parents=True)
    settings = {"data": {"name": "digits", **data}, "search": {"strategy": "cpnas"}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    (folder / "training.json").write_text(json.dumps({"networks": ["child"]}))
    result = {"schema": "cpnas.result/1", "accuracy_test": accuracy, "accuracy_parent_test": 0.875, "size_bits": 245760}
    (folder / "result.json").write_text(json.dumps(result))


def test_a_real_search_is_listed(tiny_search: Path) -> None:
    (record,) = json.loads(invoke("runs", tiny_search.parent, "--json").stdout)["runs"]
    del record["changed"], record["age_seconds"]
    assert record == {
        "folder": "search", "kind": "search", "state": "done", "error": None, "data": "digits", "data_dir": None,
        "strategies": ["cpnas"], "network": None, "accuracy_test": None, "accuracy_parent_test": None,
        "size_bits": None, "best": False,
    }  # fmt: skip


def test_the_table(tmp_path: Path) -> None:
    make_training(tmp_path / "runs/a", 0.5)
    make_training(tmp_path / "runs/b", 0.75)
    make_training(tmp_path / "runs/c", 0.25, name="folder", dir="/photos/flowers")
    lines = invoke("runs", "--sort", "accuracy").stdout.splitlines()
    rows = [line.split() for line in lines[2:5]]
    assert [row[:5] for row in rows] == [
        ["train", "done", "digits", "75.00", "%*"],
        ["train", "done", "digits", "50.00", "%"],
        ["train", "done", "folder:flowers", "25.00", "%*"],
    ]
    assert [row[5:9] for row in rows] == [["87.50", "%", "30.0", "KiB"]] * 3
    assert [row[-1] for row in rows] == ["b", "a", "c"]
    assert "3 done in runs" in lines
    assert any(line.startswith("*: ") for line in lines)
    assert max(map(len, lines)) <= 80
    assert "strategy" not in lines[0]  # nobody has one


def test_names_and_reasons_do_nothing_to_the_terminal(tmp_path: Path) -> None:
    make_training(tmp_path / "runs/[red]a\x1b[31m", 0.5, name="\x1b]0;title\x07")
    make_training(tmp_path / "runs/b", 0.5)
    (tmp_path / "runs/b/result.json").write_text('{"schema": "\x1b[2J')
    result = invoke("runs")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "\x07" not in result.stdout
    assert "[red]a\\x1b[31m" in "".join(result.stdout.split())
    assert "damaged: b: cannot read runs/b/result.json" in result.stdout


@pytest.mark.parametrize("name", ["", "config.yaml", "training.json", "result.json"])
def test_a_run_that_may_not_be_read_is_not_called_damaged(name: str, tmp_path: Path) -> None:
    make_training(tmp_path / "runs/mine", 0.5)
    make_training(tmp_path / "runs/theirs", 0.75)
    (tmp_path / "runs/theirs" / name).chmod(0)
    try:
        with permissions.that_hold():
            shown = invoke("runs")
            recorded = invoke("runs", "--filter", "state=unreadable", "--json")
    finally:
        (tmp_path / "runs/theirs" / name).chmod(0o755)
    assert (shown.exit_code, recorded.exit_code) == (0, 0)
    (line,) = (line for line in shown.stdout.splitlines() if line.startswith("unreadable: theirs: "))
    assert "Permission denied" in line
    assert "1 unreadable" in shown.stdout
    assert "damaged" not in shown.stdout
    assert "50.00 %*" in shown.stdout  # the best of those that can be read
    (record,) = json.loads(recorded.stdout)["runs"]
    assert (record["folder"], record["state"], record["best"]) == ("theirs", "unreadable", False)


def test_nothing_to_list(tmp_path: Path) -> None:
    for folder in ([], ["there"]):
        (tmp_path / "there").mkdir(exist_ok=True)
        result = invoke("runs", *folder)
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr.startswith("no runs in ")
        assert result.stderr.count("\n") == 1
        assert json.loads(invoke("runs", *folder, "--json").stdout)["runs"] == []
    assert "no folder at absent" in error_of(invoke("runs", "absent"), code=1)
    make_training(tmp_path / "runs/a", 0.5)
    result = invoke("runs", "--filter", "state=running")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "none of the 1 runs" in result.stderr


@pytest.mark.parametrize("words", [["--sort", "beauty"], ["--filter", "state"], ["--filter", "state=asleep"]])
def test_wrong_options(words: list[str]) -> None:
    assert words[0] in error_of(invoke("runs", *words), code=2)


def test_it_needs_no_torch(tmp_path: Path) -> None:
    """What keeps it fast."""
    make_training(tmp_path / "runs/a", 0.5)
    (tmp_path / "runs/a/.lock.json").write_text("{}")
    (tmp_path / "runs/a/.lock").write_text("")
    code = (
        "import sys\n"
        "from cpnas_cli.cli.app import app\n"
        "try:\n    app(['runs'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'torchvision', 'lightning_fabric', 'sklearn', 'matplotlib', 'numba'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert answer.returncode == 0, answer.stderr
    assert "50.00 %" in answer.stdout


def test_a_thousand_runs_are_read_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three files of each, and no more."""
    for number in range(1000):
        make_training(tmp_path / f"runs/{number}", 0.5)
    opened = []
    read_text = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, **more: opened.append(path.name) or read_text(path, **more))
    assert len(json.loads(invoke("runs", "--json").stdout)["runs"]) == 1000
    assert {name: opened.count(name) for name in set(opened)} == dict.fromkeys(
        ["config.yaml", "training.json", "result.json"], 1000
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"), (172799, "47 h"), (172800, "2 d")],
)
def test_ages(seconds: int, text: str) -> None:
    assert age(seconds) == text


def test_sizes() -> None:
    assert (size(8192), size(8192 * 1024 * 3)) == ("1.0 KiB", "3.0 MiB")
