"""A run whose settings this version would not start is read, measured and gone on with; a new one is refused."""

import json
from pathlib import Path

import pytest
import yaml
from command_line import DOCUMENT, error_of, invoke
from conftest import TINY_OPTIONS
from older_versions import drop_checksums

UNFIT = {
    "pcdarts.frozen_epochs=999": ("frozen_epochs", 999),
    "train.warmup_epochs=888": ("warmup_epochs", 888),
    "search.learning_rate_min=77.0": ("learning_rate_min", 77.0),
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def as_an_older_version_wrote(run: Path) -> list[str]:
    """Edit the run's settings; returns the options that would ask for them."""
    lines, section = [], ""
    for line in (run / "config.yaml").read_text().splitlines():
        if not line.startswith(" "):
            section = line.rstrip(":")
        for setting in UNFIT:
            key, _, value = setting.partition("=")
            if line.startswith(f"  {key.removeprefix(f'{section}.')}: "):
                line = f"  {key.removeprefix(f'{section}.')}: {value}"
        lines.append(line)
    text = "\n".join(lines) + "\n"
    assert all(f"  {key}: {value}\n" in text for key, value in UNFIT.values())
    (run / "config.yaml").write_text(text)
    drop_checksums(run)
    return [word for setting in UNFIT for word in ("--set", setting)]


def works(*words: str | Path) -> None:
    result = invoke(*words)
    assert result.exit_code == 0, result.output


def test_an_older_search_goes_on_and_is_read(tmp_path: Path) -> None:
    options = [*TINY_OPTIONS, "--strategy", "random"]
    works("search", *options, "--out", "run")
    unfit = as_an_older_version_wrote(tmp_path / "run")
    works("search", "--out", "run", "--resume")
    works("search", *options, *unfit, "--out", "run", "--resume")
    works("show", "run")
    works("estimate-efficiency", "run")
    message = error_of(invoke("search", *options, *unfit, "--out", "new"), code=2)
    assert "add --set " in message
    error_of(invoke("search", *options, *unfit, "--out", "new", "--resume"), code=2)
    assert not (tmp_path / "new").exists()


def test_an_older_training_goes_on_and_its_network_is_used(tmp_path: Path) -> None:
    Path("g.json").write_text(json.dumps(DOCUMENT))
    assert invoke("train", "g.json", *TINY_OPTIONS, "--out", "run", "--max-time", "0.01s").exit_code == 75
    as_an_older_version_wrote(tmp_path / "run")
    works("train", "g.json", "--out", "run", "--resume")
    works("evaluate", "run")
    works("show", "run")
    works("estimate-efficiency", "run")


def test_an_older_experiment_goes_on(tmp_path: Path) -> None:
    options = [*TINY_OPTIONS, "--strategies", "random", "--seeds", "0", "--random-draws", "1", "--device", "cpu"]
    works("compare-strategies", *options, "--set", "train.num_epochs=1", "--out", "run")
    runs = [*tmp_path.glob("run/searches/*"), *tmp_path.glob("run/members/*")]
    assert len(runs) == 2
    for run in runs:
        as_an_older_version_wrote(run)
    document = json.loads((tmp_path / "run/experiment.json").read_text())
    for setting, (_, value) in UNFIT.items():
        section, _, key = setting.partition("=")[0].partition(".")
        document["config"][section][key] = value
    (tmp_path / "run/experiment.json").write_text(json.dumps(document))
    drop_checksums(tmp_path)
    works("compare-strategies", "--out", "run", "--device", "cpu", "--resume")


def test_a_search_from_before_there_were_two_indicators_goes_on_as_printed(tmp_path: Path) -> None:
    options = [*TINY_OPTIONS, "--set", "search.indicator=printed", "--beta-p", "2", "--max-time", "0.01s"]
    assert invoke("search", *options, "--out", "run").exit_code == 75
    config = tmp_path / "run/config.yaml"
    document = yaml.safe_load(config.read_text())
    for key in ("indicator", "evaluation", "credit", "performance", "warmup_epochs", "scored_passes"):
        del document["search"][key]
    for section in ("halving", "fair", "spos"):
        del document[section]
    config.write_text(yaml.safe_dump(document, sort_keys=False))
    drop_checksums(tmp_path)
    assert invoke("search", "--out", "run", "--resume", "--max-time", "0.01s").exit_code == 75
    draws = [json.loads(line) for line in (tmp_path / "run/history.jsonl").read_text().splitlines()]
    assert len(draws) == 2
    for draw in draws:
        expected = draw["accuracy_child"] + 2 * (draw["accuracy_parent"] - draw["accuracy_child"])
        assert draw["z"] == pytest.approx(expected, abs=1e-12)
    message = error_of(invoke("search", "--out", "run", "--resume", "--indicator", "penalized"), code=1)
    assert "search.indicator: 'printed' there, 'penalized' now" in message
