"""How many epochs a Child gets when its teacher is trained: from seconds made up, by arithmetic on paper."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cpnas_cli.fit.folder import Asked, FitFolder
from cpnas_cli.fit.run import Fit

PLANNED = 50


def fit_whose_teacher_took(seconds: list[float], folder: Path, *, settings: tuple[str, ...] = ()) -> Fit:
    """15 minutes for all, 60 s spent; an epoch has 10 steps, of the teacher of 0.5 s each, of the Child of 0.7 s."""
    (folder / "train").mkdir()
    records = [{"event": "epoch", "network": "parent", "epoch": k, "seconds": s} for k, s in enumerate(seconds)]
    (folder / "train/history.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    width = {"num_channels": 16, "bytes": 1, "seconds_per_image": None, "seconds_of_answer": 0.0}
    document = {
        "choices": [],
        "widths": [{**width, "seconds_of_step": {"parent": 0.5, "child": 0.7}}],
        "seconds": {"check": 60.0, "search": None},
    }
    asked = Asked("/photos", time="15m", settings=settings)
    return Fit(FitFolder(folder), asked, document, SimpleNamespace(), SimpleNamespace(say=lambda _: None))  # type: ignore[arg-type]


def child_epochs(fit: Fit) -> int | None:
    config = fit.asked.config([{"setting": "train.num_epochs", "value": PLANNED}])
    dataset: Any = SimpleNamespace(train=range(10 * config.train.batch_size), test=range(8))
    return fit._child_epochs(config, dataset)


def test_as_planned_where_the_machine_is_as_it_was(tmp_path: Path) -> None:
    """50 epochs of 5 s, and 50 of 7 s are to come: 660 s of 900."""
    assert child_epochs(fit_whose_teacher_took(PLANNED * [5.0], tmp_path)) is None
    assert not (tmp_path / "fit.json").exists()


def test_fewer_where_it_became_slower(tmp_path: Path) -> None:
    """25 epochs of 5 s, 25 of 10 s: now twice as slow, so 14 s for an epoch; 900 - 60 - 375 - 2 * 5 s are left."""
    fit = fit_whose_teacher_took(25 * [5.0] + 25 * [10.0], tmp_path)
    assert child_epochs(fit) == int(0.95 * 455 / 14) == 30
    assert json.loads((tmp_path / "fit.json").read_text())["child_epochs"] == 30
    assert child_epochs(fit) == 30


@pytest.mark.parametrize("seconds", [100.0, 1e6])
def test_never_none_at_all(seconds: float, tmp_path: Path) -> None:
    fit = fit_whose_teacher_took(9 * [seconds], tmp_path)
    found = child_epochs(fit)
    assert found is not None
    assert found == 1 + fit.asked.config().train.warmup_epochs


def test_epochs_that_were_asked_for_stay(tmp_path: Path) -> None:
    asked = ("train.num_epochs=50",)
    assert child_epochs(fit_whose_teacher_took(PLANNED * [10.0], tmp_path, settings=asked)) is None
