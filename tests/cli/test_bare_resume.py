"""`cpnas train --out RUN --resume`: what a training trains stands in its folder."""

import json
from pathlib import Path

import pytest
from command_line import DOCUMENT, error_of, invoke
from conftest import TINY_OPTIONS

from cpnas_cli.cli.commands.train import _as_it_began
from cpnas_cli.errors import RunError
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.training.trained_network import read_all_trained


@pytest.mark.parametrize(
    ("words", "networks"),
    [([], ["child"]), (["--precision", "full"], ["parent"]), (["--with-parent"], ["child", "parent"])],
)
def test_a_stopped_training_goes_on_with_its_own_networks(
    words: list[str], networks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("g.json").write_text(json.dumps(DOCUMENT))
    stopped = invoke("train", "g.json", *words, *TINY_OPTIONS, "--out", "run", "--max-time", "0.01s")
    assert stopped.exit_code == 75, stopped.output
    Path("g.json").unlink()
    answer = invoke("train", "--out", "run", "--resume", "--json")
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["network"] == networks[0]
    assert [trained.name for trained in read_all_trained(RunFolder(Path("run")))] == networks


def test_other_networks_are_still_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("g.json").write_text(json.dumps(DOCUMENT))
    assert invoke("train", "g.json", *TINY_OPTIONS, "--out", "run", "--max-time", "0.01s").exit_code == 75
    message = error_of(invoke("train", "--out", "run", "--resume", "--with-parent"), code=1)
    assert "another training.json" in message


@pytest.mark.parametrize("typed", [["cpnas", "train", "g.json", "--baseline"], ["cpnas", "train", "g.json"]])
def test_a_baseline_that_was_asked_for_is_trained_too(typed: list[str], tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text(json.dumps({"networks": ["child"]}))
    (tmp_path / "environment.json").write_text(json.dumps({"command": typed}))
    genotype, networks, baseline = _as_it_began(tmp_path, networks=("child",), baseline=False)
    assert (genotype, networks, baseline) == (tmp_path / "genotype.json", ("child",), "--baseline" in typed)


def test_the_run_of_a_baseline_is_resumed_by_its_training(tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text(json.dumps({"networks": ["baseline"], "width": 8}))
    with pytest.raises(RunError, match="networks child or parent"):
        _as_it_began(tmp_path, networks=("child",), baseline=False)
