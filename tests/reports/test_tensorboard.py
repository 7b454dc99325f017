"""`--tensorboard`: what TensorBoard itself reads there is what the history says."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from command_line import error_of, invoke
from conftest import TINY_OPTIONS

pytest.importorskip("tensorboard")


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return events


def records(folder: Path, event: str) -> list[dict[str, Any]]:
    lines = (folder / "history.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["event"] == event]


def values(events: Any, tag: str) -> list[float]:
    return [scalar.value for scalar in events.Scalars(tag)]


@pytest.mark.filterwarnings("ignore")  # of TensorBoard's own
def test_a_search_that_went_on_and_a_training(tmp_path: Path) -> None:
    search, training = tmp_path / "search", tmp_path / "training"
    assert invoke("search", *TINY_OPTIONS, "--tensorboard", "--out", search, "--max-time", "0.01s").exit_code == 75
    assert invoke("search", "--tensorboard", "--out", search, "--resume").exit_code == 0
    events, draws = read(search), records(search, "draw")
    for key in ("accuracy_child", "accuracy_parent", "z"):
        assert values(events, f"search/{key}") == pytest.approx([draw[key] for draw in draws])
    assert [scalar.step for scalar in events.Scalars("search/z")] == list(range(35))
    assert events.Tags()["images"] == ["cells"]

    words = ["--with-parent", "--set", "train.num_epochs=2", "--tensorboard", "--out", training]
    assert invoke("train", search, *words).exit_code == 0
    events, epochs = read(training), records(training, "epoch")
    for name in ("child", "parent"):
        losses = [epoch["loss"] for epoch in epochs if epoch["network"] == name]
        assert values(events, f"{name}/loss") == pytest.approx(losses)
    result = json.loads((training / "result.json").read_text())
    assert values(events, "accuracy_test") == pytest.approx([result["accuracy_test"]])
    assert "network.num_channels" in str(events.SummaryMetadata("_hparams_/session_start_info"))


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert invoke("search", *TINY_OPTIONS, "--out", run, "--max-time", "0.01s").exit_code == 75
    (run / "tensorboard").symlink_to(elsewhere)
    answer = invoke("search", "--tensorboard", "--out", run, "--resume")
    assert answer.exit_code == 1
    assert "tensorboard is a link; nothing outside the run's folder is written" in answer.stderr
    assert not list(elsewhere.iterdir())


def test_without_the_extra_one_line_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorboard" else found(name))
    answer = invoke("search", *TINY_OPTIONS, "--tensorboard", "--out", tmp_path / "run")
    assert error_of(answer, code=1).endswith("type: pip install 'cpnas[tensorboard]'")
    assert not (tmp_path / "run").exists()
