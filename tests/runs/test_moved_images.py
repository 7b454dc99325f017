"""The same images in another place: a run goes on with them; other images are refused as ever."""

import shutil
from pathlib import Path

import pytest
from command_line import error_of, invoke
from conftest import TINY_OPTIONS

OPTIONS = [
    *("--preset", "folder", "--set", "data.image_size=16", "--set", "network.group_width=4"),
    *(*TINY_OPTIONS, "--set", "data.num_train=null", "--set", "data.num_test=null", "--set", "search.strategy=cpnas"),
]


@pytest.fixture
def run(image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A search that was stopped after a draw; its images are gone from where they were."""
    monkeypatch.chdir(tmp_path)
    stopped = invoke("search", *OPTIONS, "--data-dir", image_folder, "--out", "run", "--max-time", "0.001s")
    assert stopped.exit_code == 75, stopped.stderr
    shutil.move(image_folder, tmp_path / "elsewhere")
    return tmp_path / "run"


def test_a_run_goes_on_with_images_that_were_moved(run: Path) -> None:
    before = (run / "history.jsonl").read_text()
    answer = invoke("search", "--resume", "--out", run, "--data-dir", "elsewhere", "--max-time", "0.001s")
    assert answer.exit_code == 75, answer.stderr
    after = (run / "history.jsonl").read_text()
    assert after.startswith(before)
    assert len(after) > len(before)


def test_other_images_are_refused(run: Path, tmp_path: Path) -> None:
    first = min((tmp_path / "elsewhere" / "train").rglob("*.png"))
    first.unlink()
    message = error_of(invoke("search", "--resume", "--out", run, "--data-dir", "elsewhere"), code=1)
    assert "other images" in message


def test_another_setting_is_refused_as_ever(run: Path) -> None:
    words = ["--data-dir", "elsewhere", "--set", "search.num_passes=2"]
    message = error_of(invoke("search", "--resume", "--out", run, *words), code=1)
    assert "search.num_passes" in message
