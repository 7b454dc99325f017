"""On how many threads a run computes."""

import json
from pathlib import Path

import pytest
import torch

from cpnas_cli.distributed.device import open_device
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.environment import differences
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.runs.opening import open_run_for
from cpnas_cli.runs.threads import threads_of_run
from cpnas_cli.settings import Config, load_config


@pytest.fixture(autouse=True)
def _three_threads(_isolated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine of three cores where the user has chosen nothing."""
    monkeypatch.delenv("OMP_NUM_THREADS")
    torch.set_num_threads(3)


SMALL = load_config("digits")
LARGE = load_config("cifar10")


@pytest.mark.parametrize("preset", ["digits", "fashion-mnist-small", "cifar10-small", "folder"])
def test_the_small_presets_take_one(preset: str) -> None:
    with threads_of_run(load_config(preset)):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


def test_a_large_network_takes_all_it_may_have() -> None:
    with threads_of_run(LARGE):
        assert torch.get_num_threads() == 3
    torch.set_num_threads(2)  # the share of one worker
    with threads_of_run(LARGE):
        assert torch.get_num_threads() == 2


def test_what_the_user_has_chosen_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with threads_of_run(SMALL):
        assert torch.get_num_threads() == 3


def test_networks_that_are_elsewhere_change_nothing() -> None:
    with threads_of_run(SMALL, device_type="cuda"):
        assert torch.get_num_threads() == 3


@pytest.mark.parametrize(("started", "here"), [(2, 2), (8, 3)])
def test_a_run_goes_on_with_those_that_it_was_started_with(tmp_path: Path, started: int, here: int) -> None:
    """Its bits depend on them; more than there are it cannot have."""
    (tmp_path / RunFolder.ENVIRONMENT).write_text(json.dumps({"num_threads": started}))
    with threads_of_run(SMALL, tmp_path):
        assert torch.get_num_threads() == here


@pytest.mark.parametrize("content", ["", "{", "[]", '{"num_threads": "many"}', '{"num_threads": 0}'])
def test_a_damaged_environment_is_not_its_to_judge(tmp_path: Path, content: str) -> None:
    (tmp_path / RunFolder.ENVIRONMENT).write_text(content)
    with threads_of_run(SMALL, tmp_path):
        assert torch.get_num_threads() == 1


def opened_with(config: Config, folder: Path, *, resume: bool) -> tuple[int, tuple[str, ...]]:
    opening = open_run_for(
        config,
        folder=folder,
        fabric=open_device("cpu"),
        resume=resume,
        deadline=Deadline(),
        check=lambda *_: None,
    )
    with opening as opened:
        return torch.get_num_threads(), opened.notes


def test_an_opened_run_computes_on_them_and_writes_them_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    assert opened_with(SMALL, run, resume=False) == (1, ())
    assert torch.get_num_threads() == 3
    environment = json.loads((run / RunFolder.ENVIRONMENT).read_text())
    assert environment["num_threads"] == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    number, notes = opened_with(SMALL, run, resume=True)
    assert number == 3
    assert notes == differences({**environment, "num_threads": 1}, {**environment, "num_threads": 3})
    assert "num_threads" in notes[0]
