"""--max-size, --max-ops and --max-latency: what is refused, and what is said of what is found."""

import json
from pathlib import Path

import pytest
from command_line import error_of, invoke
from conftest import TINY_OPTIONS

from cpnas_cli.deploy import latency

RANDOM = ("search", "--strategy", "random", *TINY_OPTIONS)


@pytest.fixture(autouse=True)
def _in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CPNAS_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--max-size", "64"], "search.max_size: expected a size above 0 such as 64KiB"),
        (["--max-size", "0KiB"], "search.max_size: expected"),
        (["--max-size", "-5KiB"], "search.max_size: expected"),
        (["--max-ops", "nan"], "search.max_ops: expected a number of operations above 0 such as 5M"),
        (["--max-latency", "2"], "search.max_latency: expected a time above 0 such as 2ms"),
        (["--max-latency", "2parsecs"], "got '2parsecs'"),
        (["--max-size", "1KiB"], "--max-size 1KiB: the smallest network of these settings takes"),
        (["--max-ops", "10"], "--max-ops 10: the smallest network of these settings takes"),
    ],
)
def test_what_is_no_budget_or_cannot_be_met_is_refused_at_once(words: list[str], said: str) -> None:
    result = invoke(*RANDOM, *words)
    assert said in error_of(result, code=2)
    assert result.stderr.count("\n") == 1
    assert list(Path().iterdir()) == []


def test_an_experiment_is_refused_as_a_search_is() -> None:
    words = ("--strategies", "random,pcdarts", "--seeds", "0", "--set", "search.max_size=1KiB")
    assert "--max-size 1KiB: the smallest network" in error_of(
        invoke("compare-strategies", *words, *TINY_OPTIONS), code=2
    )
    assert list(Path().iterdir()) == []


def test_what_was_asked_and_what_it_is_stands_in_genotype_settings_and_summary() -> None:
    result = invoke(*RANDOM, "--max-size", "5 KiB", "--max-ops", "1M", "--out", "run")
    assert result.exit_code == 0, result.stderr
    reports = json.loads(Path("run/genotype.json").read_text())["provenance"]["budgets"]
    assert (reports["max_size"]["asked"], reports["max_size"]["limit"]) == ("5KiB", 5120)
    assert (reports["max_ops"]["asked"], reports["max_ops"]["limit"]) == ("1M", 1_000_000)
    assert f"--max-size 5KiB: packed file {reports['max_size']['found'] / 1024:.4g} KiB\n" in result.stdout
    assert f"--max-ops 1M: OPs for one image {reports['max_ops']['found'] / 1000:.4g} k\n" in result.stdout
    assert "max_size: 5KiB" in Path("run/config.yaml").read_text()
    again = invoke(*RANDOM, "--max-size", "6KiB", "--max-ops", "1M", "--out", "run", "--resume")
    assert "search.max_size" in error_of(again, code=1)


@pytest.mark.slow
def test_a_latency_is_predicted_and_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Briefly: nothing is said of how long anything takes."""
    monkeypatch.setattr(latency, "TABLE_SECONDS", 0.0)
    monkeypatch.setattr(latency, "NETWORK_SECONDS", 0.0)
    monkeypatch.setattr(latency, "MOST_TABLES", 1)
    monkeypatch.setattr(latency, "_MADE", {})
    result = invoke(*RANDOM, "--max-latency", "10s", "--out", "run")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith("measuring the packed engine's operations on this machine")
    report = json.loads(Path("run/genotype.json").read_text())["provenance"]["budgets"]["max_latency"]
    assert 0 < report["found"] < 10
    assert "--max-latency 10s: time for one image " in result.stdout
    assert ", predicted " in result.stdout
    again = invoke(*RANDOM, "--max-latency", "10s", "--out", "again")
    assert "measuring" not in again.stderr
    tables = [json.loads(Path(run, "history.jsonl").read_text().splitlines()[0]) for run in ("run", "again")]
    assert tables[0] == tables[1]  # of the cache
    refused = invoke(*RANDOM, "--max-latency", "1ns")
    assert "--max-latency 1ns: the smallest network of these settings takes" in error_of(refused, code=2)
