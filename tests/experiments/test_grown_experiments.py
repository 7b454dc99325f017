"""Whole experiments that grow, of real searches and trainings: bit for bit what one made at once would be."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY_SETTINGS
from here_executor import HereExecutor
from older_versions import without_checksum

from cpnas_cli.data.dataset import describe_dataset, load_dataset
from cpnas_cli.distributed.device import open_device
from cpnas_cli.experiments.plan import Plan
from cpnas_cli.experiments.run import run_experiment
from cpnas_cli.experiments.schedule import Schedule
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.environment import describe_environment
from cpnas_cli.settings import load_config

OVERRIDES = [*TINY_SETTINGS, "search.indicator=printed", "train.num_epochs=1", "data.num_train=20"]
CONFIG = load_config(overrides=OVERRIDES)
TIMES = {"seconds", "search_seconds_mean", "search_seconds_std", "environment", "grown_by"}
WHO_LED = {"branched_from", "same_as", "num_epochs_trained", "search_trained"}


def run(groups: str, seeds: Sequence[int], folder: Path) -> HereExecutor:
    executor = HereExecutor()
    plan = Plan("ablation", tuple(groups.split(",")), tuple(seeds), CONFIG)
    run_experiment(
        plan,
        folder=folder,
        executor=lambda: executor,
        device="cpu",
        dataset=describe_dataset(load_dataset(plan.config.data)),
        environment=describe_environment(open_device("cpu")),
        deadline=Deadline(),
        say=lambda _: None,
        watch=Schedule.read_progress,
    )
    return executor


def without(keys: set[str], document: Any) -> Any:
    if isinstance(document, dict):
        return {key: without(keys, value) for key, value in document.items() if key not in keys}
    return [without(keys, value) for value in document] if isinstance(document, list) else document


def read_document(folder: Path) -> dict[str, Any]:
    return without_checksum(folder / "experiment.json")


def results(folder: Path) -> dict[str, Any]:
    """What every search and training has come to, without times: {path: content}."""
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*/*/*")):
        name = str(path.relative_to(folder))
        if path.name == "history.jsonl":
            found[name] = [without(TIMES, json.loads(line)) for line in path.read_text().splitlines()]
        elif path.name in ("genotype.json", "model.safetensors", "config.yaml"):
            found[name] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grown") / "at-once"
    run("0,1,2", (0, 1), folder)
    return folder


@pytest.mark.slow(seconds=40)
def test_a_grown_experiment_is_that_which_is_made_at_once(at_once: Path, tmp_path: Path) -> None:
    run("0,1", (0,), tmp_path)
    second = run("0,1,2", (0, 1), tmp_path)
    assert not {task.member.name for task in second.tasks} & {"beta-0-seed-0", "beta-1-seed-0"}
    grown, whole = read_document(tmp_path), read_document(at_once)
    assert {member["state"] for member in grown["members"]} == {"finished"}
    assert results(tmp_path) == results(at_once)
    # a search that is added finds the others ended, and may share less; a genotype is trained once, whoever finds it
    assert without(TIMES | WHO_LED, grown) == without(TIMES | WHO_LED, whole)


@pytest.mark.slow(seconds=15)
def test_a_beta_that_needs_a_parent_is_added_to_one_that_has_none(at_once: Path, tmp_path: Path) -> None:
    """The search at beta_P = 0 has no accuracies of a Parent, so nobody goes on from it; the results are the same."""
    run("0", (1,), tmp_path)
    run("0,1,2", (1,), tmp_path)
    whole = [member for member in read_document(at_once)["members"] if member["seed"] == 1]
    assert without(TIMES | WHO_LED, read_document(tmp_path)["members"]) == without(TIMES | WHO_LED, whole)
    assert results(tmp_path).items() <= results(at_once).items()


@pytest.mark.slow(seconds=25)
def test_an_ablation_of_one_indicator_becomes_one_of_both(tmp_path: Path) -> None:
    both = "penalized 1,penalized 2,printed 1,printed 2"
    run("1,2", (0,), tmp_path / "run")
    branches = {path.parent.name for path in (tmp_path / "run/searches").glob("*/branch.json")}
    assert branches  # one goes on from the other, whose name changes
    run(both, (0,), tmp_path / "run")
    run(both, (0,), tmp_path / "at-once")
    grown, whole = read_document(tmp_path / "run"), read_document(tmp_path / "at-once")
    assert without(TIMES | WHO_LED, grown) == without(TIMES | WHO_LED, whole)
    assert results(tmp_path / "run") == results(tmp_path / "at-once")
    names = {member["name"] for member in grown["members"]}
    origins = {json.loads(path.read_text())["from"] for path in (tmp_path / "run").glob("*/*/branch.json")}
    assert origins <= names
