"""The time of an experiment grows with its members, and not with their square: its document is not always written."""

import itertools
import time
from pathlib import Path

import pytest
from played_experiments import PlayedExecutor, play, random_plan

from cpnas_cli.experiments import run
from cpnas_cli.experiments.pacing import Paced


class Clock:
    """Stands still unless it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("task_seconds", "save_seconds"), [(0.1, 0.3), (0.3, 0.3), (1.0, 0.01), (60.0, 2.0)])
def test_it_takes_a_twentieth_of_the_time_and_no_call_waits_longer(
    task_seconds: float, save_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, called = Clock(), list[float]()
    monkeypatch.setattr(time, "monotonic", clock)

    def save() -> None:
        called.append(clock.now)
        clock.now += save_seconds

    paced = Paced(save)
    for _ in range(1000):
        paced()
        clock.now += task_seconds
    assert called[0] == 0.0
    assert len(called) * save_seconds <= 0.05 * clock.now + save_seconds
    pauses = [later - sooner for sooner, later in itertools.pairwise(called)]
    assert max(pauses) <= 20 * save_seconds + task_seconds + 1e-6
    if task_seconds > 19 * save_seconds:
        assert len(called) == 1000


def test_documents_are_written_seldom_and_the_last_one_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """120 tasks that take no time; before, the document was written after each."""
    written, write = list[Path](), run.write_json
    monkeypatch.setattr(run, "write_json", lambda path, document: (written.append(path), write(path, document)))
    document, _ = play(random_plan(60), tmp_path / "run", PlayedExecutor())
    assert [member["state"] for member in document["members"]] == ["finished"] * 60
    assert len(written) < 60
