"""What additive effects promise of the best architecture, and what it is scored itself, at tiny size."""

import statistics
from pathlib import Path

import pytest

import cpnas_cli as cpnas
from benchmarks.additivity import main, rows_of

SETTINGS = {
    "search.strategy": "spos",
    "data.num_train": 64,
    "network.num_channels": 4,
    "network.group_width": 2,
    "network.stem_multiplier": 1,
    "search.batch_size": 16,
    "spos.num_epochs": 1,
    "spos.num_scored": 24,
    "spos.num_parents": 3,
}


def test_what_is_promised_and_scored_stands_beside_the_best_of_the_search(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = cpnas.search(out=tmp_path / "run", settings=SETTINGS)
    scores = [record for record in found.history() if record["event"] == "draw"]
    drawn = [record["z"] for record in scores if record["generation"] == 0]
    rows = rows_of(tmp_path / "run")
    assert [row["common part"] for row in rows] == ["yes", "no"]
    for row in rows:
        assert row["random architectures"] == len(drawn) == 8
        assert row["their mean"] == pytest.approx(statistics.fmean(drawn))
        assert row["best of the search above it"] == pytest.approx(
            max(r["z"] for r in scores) - statistics.fmean(drawn)
        )
        assert row["promised above it"] >= 0
        assert -1 < row["scored above it"] < 1
    main([str(tmp_path / "run")])
    assert "additive effects and whole scores" in capsys.readouterr().out
