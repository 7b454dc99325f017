"""What a run has stored of its settings is complete and unchanged, or it is refused; also of its history."""

import json
from pathlib import Path

import pytest
from command_line import DOCUMENT, error_of, invoke
from conftest import TINY_OPTIONS
from older_versions import drop_checksums

OPTIONS = [*TINY_OPTIONS, "--set", "train.num_epochs=2", "--set", "network.num_cells=3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With `search/`, and `training/` that was stopped after one of its two epochs."""
    folder = tmp_path_factory.mktemp("stored")
    (folder / "g.json").write_text(json.dumps(DOCUMENT))
    assert invoke("search", "--strategy", "random", *OPTIONS, "--out", folder / "search").exit_code == 0
    stopped = invoke("train", folder / "g.json", *OPTIONS, "--out", folder / "training", "--max-time", "0.01s")
    assert stopped.exit_code == 75
    return folder


@pytest.fixture
def restored(folder: Path):
    """The folder, whose files are as they were after the test."""
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    yield folder
    for path, content in files.items():
        path.write_bytes(content)


@pytest.mark.parametrize("section", ["network", "search", "pcdarts", "train"])
def test_settings_that_were_cut_off_are_refused(restored: Path, section: str) -> None:
    for name, words in (
        ("training", ["train", "--out", restored / "training", "--resume"]),
        ("search", ["train", restored / "search", "--out", restored / "new"]),
        ("search", ["show", restored / "search"]),
        ("search", ["estimate-efficiency", restored / "search"]),
    ):
        config = restored / name / "config.yaml"
        text = config.read_text()
        config.write_text(text[: text.index(f"\n{section}:") + 1])
        message = error_of(invoke(*words), code=1)
        assert message.startswith(f"{config} was changed since the run was started: its content does not match")
        config.write_text(text)
    assert not (restored / "new").exists()


def test_one_changed_digit_is_refused(restored: Path) -> None:
    config = restored / "training/config.yaml"
    config.write_text(config.read_text().replace("num_epochs: 2", "num_epochs: 3"))
    assert "was changed since" in error_of(invoke("train", "--out", restored / "training", "--resume"), code=1)


def test_of_an_older_run_every_section_must_be_there(restored: Path) -> None:
    drop_checksums(restored)
    config = restored / "training/config.yaml"
    text = config.read_text()
    config.write_text(text[: text.index("\ntrain:") + 1])
    message = error_of(invoke("train", "--out", restored / "training", "--resume"), code=1)
    assert message == f"{config} has no train: what a run has stored is complete; restore the file"
    config.write_text(text)
    assert invoke("show", restored / "training").exit_code == 0


def test_a_history_that_was_changed_is_refused(restored: Path) -> None:
    history = restored / "training/history.jsonl"
    text = history.read_text()
    history.write_text(text.replace('"epoch": 0', '"epoch": 1'))
    message = error_of(invoke("train", "--out", restored / "training", "--resume"), code=1)
    assert message.startswith(f"{history} is damaged: its content does not match the checksum in ")
    history.write_text("[1]\n" + text[4:])
    assert "is damaged" in error_of(invoke("train", "--out", restored / "training", "--resume"), code=1)


def test_nothing_of_it_is_in_the_way_of_a_run_that_is_whole(restored: Path) -> None:
    assert invoke("train", "--out", restored / "training", "--resume").exit_code == 0
