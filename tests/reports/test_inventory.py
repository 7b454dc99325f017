"""Runs and experiments in a folder tree, from the files that they leave behind; nothing is trained."""

import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from command_line import DOCUMENT
from played_experiments import PlayedExecutor, play, random_plan

from cpnas_cli.errors import RunError, UsageError
from cpnas_cli.experiments.tasks import TaskEnd, TrainingTask
from cpnas_cli.reports.inventory import FoundRun, filtered_runs, find_runs, runs_document, sorted_runs
from cpnas_cli.runs.lock import locked
from cpnas_cli.settings import change_config, config_yaml, load_config

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def write(file: Path, content: str | Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))


def make_search(folder: Path, *, strategy: str = "cpnas", data: str = "digits", done: bool = True) -> None:
    values: dict[str, Any] = {"search.strategy": strategy, "data.name": data}
    if data == "folder":
        values["data.dir"] = f"/photos/{folder.name}"
    write(folder / "config.yaml", config_yaml(change_config(load_config("digits"), values, stored=True)))
    write(folder / "environment.json", {"schema": "cpnas.environment/1"})
    if done:
        write(folder / "genotype.json", {**DOCUMENT, "provenance": {"strategy": strategy}})


def make_training(
    folder: Path, accuracy: float | None, *, network: str = "child", parent: float | None = None, **more: Any
) -> None:
    """Without an accuracy it has not ended."""
    make_search(folder, **more)
    write(folder / "training.json", {"schema": "cpnas.training/1", "networks": [network]})
    if accuracy is not None:
        result = {"accuracy_test": accuracy, "accuracy_parent_test": parent, "size_bits": 8192}
        write(folder / "result.json", {"schema": "cpnas.result/1", "network": network, **result})


def set_age(folder: Path, seconds: float) -> None:
    then = time.time() - seconds
    for file in folder.rglob("*"):
        os.utime(file, (then, then))


def found(root: Path) -> dict[str, FoundRun]:
    return {run.folder: run for run in find_runs(root)}


def test_searches_and_trainings(tmp_path: Path) -> None:
    make_search(tmp_path / "a", strategy="bnas")
    make_search(tmp_path / "b", done=False)
    make_training(tmp_path / "deep/er/c", 0.75, parent=0.875, strategy="random")
    make_training(tmp_path / "d", None)
    make_training(tmp_path / "e", 0.9, network="parent")
    runs = found(tmp_path)
    assert {name: (run.kind, run.state, run.strategies) for name, run in runs.items()} == {
        "a": ("search", "done", ("bnas",)),
        "b": ("search", "stopped", ("cpnas",)),
        "deep/er/c": ("train", "done", ("random",)),
        "d": ("train", "stopped", ("cpnas",)),
        "e": ("train", "done", ("cpnas",)),
    }
    c, e = runs["deep/er/c"], runs["e"]
    assert (c.network, c.accuracy_child, c.accuracy_test, c.accuracy_parent_test) == ("child", 0.75, 0.75, 0.875)
    assert (e.network, e.accuracy_child, e.accuracy_test, e.accuracy_parent_test) == ("parent", None, 0.9, 0.9)
    assert (c.data, c.data_dir, c.size_bits) == ("digits", None, 8192)
    assert {run.error for run in runs.values()} == {None}


def test_a_run_is_running_while_its_lock_is_held(tmp_path: Path) -> None:
    make_search(tmp_path / "a", done=False)
    make_training(tmp_path / "b", 0.5)
    for name in ("a", "b"):
        with locked(tmp_path / name):
            assert found(tmp_path)[name].state == "running"
            assert found(tmp_path)[name].state == "running"  # to look does not let go of it
    shutil.copy(tmp_path / "a/config.yaml", tmp_path / "a/.lock.json")  # as a process that was killed leaves one
    assert {name: run.state for name, run in found(tmp_path).items()} == {"a": "stopped", "b": "done"}
    with locked(tmp_path / "a"):  # nor does looking keep it
        pass


def test_an_experiment_is_one_thing(tmp_path: Path) -> None:
    """Its members are not listed beside it, but where their folder is named."""
    plan = random_plan(3)
    document, _ = play(plan, tmp_path / "runs/played")
    runs = found(tmp_path)
    assert list(runs) == ["runs/played"]
    run = runs["runs/played"]
    assert (run.kind, run.state, run.strategies, run.size_bits) == ("experiment", "done", ("random",), None)
    accuracies = [member["accuracy_test"] for member in document["members"]]
    assert run.accuracy_test == pytest.approx(sum(accuracies) / 3)
    members = found(tmp_path / "runs/played/members")
    assert sorted(member.accuracy_test or 0 for member in members.values()) == sorted(accuracies)
    assert [run.folder for run in find_runs(tmp_path / "runs/played")] == ["."]


def test_an_experiment_that_failed_or_goes_on(tmp_path: Path) -> None:
    def ends(task: object) -> TaskEnd | None:
        return TaskEnd("failed", "no memory") if isinstance(task, TrainingTask) else None

    document, _ = play(random_plan(2), tmp_path / "failed", PlayedExecutor(ends=ends))
    names = [member["name"] for member in document["members"]]
    assert {member["state"] for member in document["members"]} == {"failed"}
    run = found(tmp_path)["failed"]
    assert (run.state, run.accuracy_test) == ("failed", None)
    assert run.error is not None
    assert names[0] in run.error
    assert "of 2 members" in run.error
    document["members"][0]["state"] = document["members"][1]["state"] = "unfinished"
    write(tmp_path / "failed/experiment.json", document)
    assert (found(tmp_path)["failed"].state, found(tmp_path)["failed"].error) == ("stopped", None)


@pytest.mark.parametrize(
    ("name", "strategies", "accuracy"),
    [
        ("digits-comparison", ("random", "cpnas", "spos", "bnas", "fair", "halving", "pcdarts"), 0.98956),
        ("digits-ablation", ("cpnas",), 0.99084),
    ],
)
def test_published_experiments(tmp_path: Path, name: str, strategies: tuple[str, ...], accuracy: float) -> None:
    write(tmp_path / name / "experiment.json", (RESULTS / name / "experiment.json").read_text())
    write(tmp_path / name / "environment.json", {})
    run = found(tmp_path)[name]
    assert (run.kind, run.state, run.data, run.strategies) == ("experiment", "done", "digits", strategies)
    assert run.accuracy_test == pytest.approx(accuracy, abs=1e-5)


def frontier_document(*, seconds: float | None) -> dict[str, Any]:
    points = [
        {"family": family, "accuracy_test_mean": accuracy, "bytes": size, "seconds_median": seconds}
        for family, accuracy, size in (("1-bit", 0.5, 10), ("1-bit", 0.6, 20), ("float32 CNN", 0.7, 30))
    ]
    config = load_config("digits").model_dump(mode="json")
    members = [{"name": "a", "state": "finished"}]
    shared = {"asked_genotype": None, "config": config, "members": members, "points": points}
    return {"schema": "cpnas.frontier/1", **shared}


def test_a_frontier(tmp_path: Path) -> None:
    write(tmp_path / "f/environment.json", {})
    write(tmp_path / "f/frontier.json", frontier_document(seconds=0.1))
    run = found(tmp_path)["f"]
    assert (run.kind, run.state, run.strategies, run.accuracy_test, run.size_bits) == (
        "frontier", "done", ("cpnas",), 0.6, 160,
    )  # fmt: skip
    write(tmp_path / "f/frontier.json", frontier_document(seconds=None))  # not timed yet
    assert found(tmp_path)["f"].state == "stopped"


DAMAGES: dict[str, tuple[str, str | Mapping[str, Any] | None]] = {
    "truncated": ("result.json", '{"schema": '),
    "list": ("result.json", "[]"),
    "schema": ("result.json", {"schema": "other/1"}),
    "lacks": ("result.json", {"schema": "cpnas.result/1"}),
    "nan": ("result.json", '{"schema": "cpnas.result/1", "accuracy_test": NaN, "size_bits": 1}'),
    "text": ("result.json", {"schema": "cpnas.result/1", "accuracy_test": "high", "size_bits": 1}),
    "percent": ("result.json", {"schema": "cpnas.result/1", "accuracy_test": 75, "size_bits": 1}),
    "huge": ("result.json", '{"schema": "cpnas.result/1", "accuracy_test": 1e999, "size_bits": 1}'),
    "yaml": ("config.yaml", "data: [\nsearch: }\n"),
    "empty": ("config.yaml", ""),
    "sections": ("config.yaml", "data:\nsearch: 1\n"),
    "bytes": ("config.yaml", "data:\n  name: \x00\n"),
    "gone": ("config.yaml", None),
    "networks": ("training.json", {"networks": []}),
    "network": ("training.json", {"networks": [7]}),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_run_stops_nothing(tmp_path: Path, name: str) -> None:
    make_training(tmp_path / "whole", 0.5)
    make_training(tmp_path / "damaged", 0.75)
    file, content = DAMAGES[name]
    (tmp_path / "damaged" / file).unlink()
    if content is not None:
        write(tmp_path / "damaged" / file, content)
    runs = found(tmp_path)
    assert (runs["whole"].state, runs["whole"].best) == ("done", True)
    run = runs["damaged"]
    assert (run.state, run.best, run.accuracy_test) == ("damaged", False, None)
    assert run.error
    assert "\n" not in run.error
    json.dumps(runs_document(tmp_path, list(runs.values())), allow_nan=False)


def test_damaged_experiments(tmp_path: Path) -> None:
    text = (RESULTS / "digits-ablation/experiment.json").read_text()
    for number, content in enumerate([text[:1000], "{}", text.replace('"members"', '"others"'), "null"]):
        write(tmp_path / f"{number}/environment.json", {})
        write(tmp_path / f"{number}/experiment.json", content)
    write(tmp_path / "f/environment.json", {})
    write(tmp_path / "f/frontier.json", {"schema": "cpnas.frontier/1", "points": 7})
    runs = found(tmp_path)
    assert {run.state for run in runs.values()} == {"damaged"}
    assert len(runs) == 5


def test_what_is_no_run_is_passed_by(tmp_path: Path) -> None:
    write(tmp_path / "other/config.yaml", "data: 1\n")  # of another program
    write(tmp_path / "started/environment.json", {})  # killed before it was a run
    write(tmp_path / "results/result.json", {})
    make_search(tmp_path / ".hidden")
    make_search(tmp_path / "1/2/3/4")
    make_search(tmp_path / "1/2/3/4/5")  # in a run: its own business
    make_search(tmp_path / "a/2/3/4/5")  # too deep
    make_search(tmp_path / "elsewhere/run")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert sorted(found(tmp_path)) == ["1/2/3/4", "elsewhere/run"]


@pytest.mark.timeout(30)
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    make_training(tmp_path / "run", None)
    os.mkfifo(tmp_path / "run/result.json")
    assert found(tmp_path)["run"].state == "stopped"


def test_there_is_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no folder at"):
        find_runs(tmp_path / "absent")
    assert find_runs(tmp_path) == []


def test_the_best_child_of_every_data_set(tmp_path: Path) -> None:
    make_training(tmp_path / "a", 0.5)
    make_training(tmp_path / "b", 0.75)
    make_training(tmp_path / "c", 0.75)
    make_training(tmp_path / "d", 0.99, network="parent")
    make_training(tmp_path / "flowers", 0.25, data="folder")
    make_training(tmp_path / "birds", 0.5, data="folder")  # other images: another data set
    runs = found(tmp_path)
    assert [name for name, run in sorted(runs.items()) if run.best] == ["b", "birds", "c", "flowers"]
    assert runs["birds"].data_label == "folder:birds"


def test_orders(tmp_path: Path) -> None:
    for age, (name, accuracy) in enumerate({"c": 0.5, "a": 0.75, "b": None}.items()):
        make_training(tmp_path / name, accuracy)
        set_age(tmp_path / name, 1000 * (age + 1))
    (tmp_path / "a/result.json").write_text(
        json.dumps(json.loads((tmp_path / "a/result.json").read_text()) | {"size_bits": 9000})
    )
    set_age(tmp_path / "a", 2000)
    runs = find_runs(tmp_path)
    orders = {key: "".join(run.folder for run in sorted_runs(runs, key)) for key in ("age", "accuracy", "size", "name")}
    assert orders == {"age": "cab", "accuracy": "acb", "size": "cab", "name": "abc"}
    with pytest.raises(UsageError, match="age, accuracy, size or name"):
        sorted_runs(runs, "colour")
    records = runs_document(tmp_path, sorted_runs(runs, "age"))["runs"]
    assert [round(record["age_seconds"], -2) for record in records] == [1000, 2000, 3000]


def test_filters(tmp_path: Path) -> None:
    make_training(tmp_path / "a", 0.5, strategy="bnas")
    make_training(tmp_path / "b", None, data="folder")
    make_search(tmp_path / "c", strategy="random")
    runs = find_runs(tmp_path)

    def names(*filters: str) -> str:
        return "".join(sorted(run.folder for run in filtered_runs(runs, filters)))

    assert names() == "abc"
    assert names("kind=train") == "ab"
    assert names("kind=train", "state=done") == "a"
    assert names("strategy=random", "strategy=bnas") == "ac"
    assert names("data=folder") == names("data=folder:b") == "b"
    assert names("data=nothing") == ""
    for wrong in ("kind", "colour=red", "state=dead", "kind=trian", "=done"):
        with pytest.raises(UsageError, match="--filter"):
            filtered_runs([], [wrong])
