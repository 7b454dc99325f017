"""What others left in the folders: it is noticed before hours are spent, never overwritten, and no traceback."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import PUBLISHED_RULES
from played_experiments import DATASET, PlayedExecutor, errors, play, random_plan, states, write, write_search

from cpnas_cli.errors import RunError
from cpnas_cli.experiments import shared_searches
from cpnas_cli.experiments.plan import ExperimentFolder, Plan
from cpnas_cli.experiments.run import lost_members, run_experiment
from cpnas_cli.experiments.shared_searches import plan_searches
from cpnas_cli.experiments.tasks import Circumstances
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.settings import load_config
from cpnas_cli.storage.documents import write_json
from cpnas_cli.strategies.cpnas.search import CHECKPOINT_KEYS, journal_of
from cpnas_cli.strategies.cpnas.state import SearchState

CONFIG = load_config(overrides=[*PUBLISHED_RULES, "search.num_passes=1", "search.indicator=printed"])
ABLATION = Plan("ablation", ("0", "5", "6"), (0,), CONFIG)
LEADER, BRANCHING, FOLLOWING = ABLATION.members
ONLY, OTHER = "random-seed-0-draw-0", "random-seed-0-draw-1"


def test_a_training_of_another_run_is_named_before_its_member_searches(tmp_path: Path) -> None:
    plan, folder = random_plan(2), ExperimentFolder(tmp_path / "run")
    foreign = folder.training(ONLY)
    write(foreign.file(RunFolder.CONFIG), random_plan(1, seeds=(7,)).members[0].config_text)
    write(foreign.file(RunFolder.DATASET), DATASET)
    executor = PlayedExecutor()
    document, _ = play(plan, folder.path, executor)
    assert f"training: {foreign.path} holds another run (seed: 7 there, 0 now)" in errors(document)[ONLY]
    assert {task.member.name for task in executor.tasks} == {OTHER}
    assert states(document)[OTHER] == "finished"


# ---------------------------------------------------------------- searches that share their draws


def first_round(*, beta_p: float = 0.0) -> list[dict[str, Any]]:
    """Of a search of one pass whose Parent is the better the worse the Child is: 0 and 5 abandon other operations."""
    state, records = SearchState(1), list[dict[str, Any]]()
    while not state.round_complete:
        drawn, child = state.draw(seed=0), len(records) / 10
        z = beta_p * (1 - child - child) + child
        cells = {kind: list(cell) for kind, cell in drawn.cells().items()}
        records.append({"event": "draw", "accuracy_child": child, "accuracy_parent": 1 - child, "z": z, **cells})
        state.train(drawn)
        state.give([z])
    return [*records, state.abandon()]


def commit(run: RunFolder, records: list[dict[str, Any]], *, weight: float) -> None:
    """What a search has committed; `weight` says whose checkpoint it is."""
    run.path.mkdir(parents=True, exist_ok=True)
    journal_of(run).begin(records, {"weight": torch.tensor([weight])}, dict.fromkeys(CHECKPOINT_KEYS, 1))


def saved(run: RunFolder) -> tuple[float, list[dict[str, Any]]]:
    there = journal_of(run).peek()
    assert there is not None
    return there.tensors["weight"].item(), there.records


@pytest.fixture
def folder(tmp_path: Path) -> ExperimentFolder:
    """The leader has searched a round, from whose end on the others part from it."""
    folder = ExperimentFolder(tmp_path)
    commit(folder.search(LEADER.name), first_round(), weight=1.0)
    return folder


def searches_of(folder: ExperimentFolder, *members: Any) -> dict[str, list[str]]:
    """{who searches: who follows}."""
    tasks = plan_searches(members, circumstances=Circumstances(folder.path, "cpu", ("cpnas",)))
    return {task.member.name: [follower.name for follower in task.followers] for task in tasks}


def test_a_member_branches_where_it_parts(folder: ExperimentFolder) -> None:
    assert searches_of(folder, LEADER, BRANCHING) == {LEADER.name: [], BRANCHING.name: []}
    assert saved(folder.search(BRANCHING.name)) == (1.0, first_round(beta_p=5.0))


def test_what_a_worker_commits_while_its_folder_is_waited_for_stays(
    folder: ExperimentFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = first_round(beta_p=5.0)[:3]
    run = folder.search(BRANCHING.name)

    @contextlib.contextmanager
    def locked(path: Path, **_: Any) -> Iterator[None]:
        assert path == run.path
        commit(run, own, weight=2.0)
        yield

    monkeypatch.setattr(shared_searches, "locked", locked)
    assert searches_of(folder, LEADER, BRANCHING) == {LEADER.name: [], BRANCHING.name: []}
    assert saved(run) == (2.0, own)
    assert not run.file(RunFolder.BRANCH).exists()


def test_planning_waits_seconds_for_a_folder_and_then_goes_on_without(
    folder: ExperimentFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def locked(path: Path, *, wait_seconds: float, **_: Any) -> contextlib.AbstractContextManager[None]:
        waits.append(wait_seconds)
        raise RunError(f"{path} is in use")

    monkeypatch.setattr(shared_searches, "locked", locked)
    searches = searches_of(folder, LEADER, BRANCHING, FOLLOWING)
    assert searches == {LEADER.name: [], BRANCHING.name: [FOLLOWING.name]}
    assert len(waits) == 2
    assert max(waits) <= 5
    assert not folder.search(BRANCHING.name).checkpoint.exists()


NO_RECORDS = ["{}", "3", "[]", "null", '{"event": "draw"}', '{"event": "draw", "accuracy_child": "high"}']


@pytest.mark.parametrize("line", NO_RECORDS)
def test_nobody_goes_on_from_a_history_with_a_line_that_is_no_record(folder: ExperimentFolder, line: str) -> None:
    commit(folder.search(LEADER.name), [*first_round()[:3], json.loads(line)], weight=1.0)
    searches = searches_of(folder, LEADER, BRANCHING, FOLLOWING)
    assert searches == {LEADER.name: [], BRANCHING.name: [FOLLOWING.name]}
    assert not folder.search(BRANCHING.name).checkpoint.exists()


@pytest.mark.parametrize("line", NO_RECORDS[:4])
def test_a_line_that_is_no_record_fails_its_member_alone(folder: ExperimentFolder, line: str) -> None:
    run = folder.search(LEADER.name)
    write_search(folder, LEADER, SearchState(1).draw(seed=0))
    run.file(RunFolder.GENOTYPE).unlink()
    commit(run, [*first_round()[:3], json.loads(line)], weight=1.0)
    document, _ = play(ABLATION, folder.path, PlayedExecutor())
    assert list(errors(document)) == [LEADER.name]
    assert "history.jsonl is damaged (line 4 is no record of an event)" in errors(document)[LEADER.name]


# ---------------------------------------------------------------- numbers that are none


@pytest.mark.parametrize("key", ["accuracy_test", "seconds", "size_bits"])
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" + 400 * "0"])
def test_a_result_that_is_not_finite_is_damaged(tmp_path: Path, key: str, number: str) -> None:
    plan, folder = random_plan(2), ExperimentFolder(tmp_path / "run")
    play(plan, folder.path)
    file = folder.training(ONLY).file(RunFolder.RESULT)
    text = json.dumps(json.loads(file.read_text()) | {key: "HERE"})
    file.write_text(text.replace('"HERE"', number))
    document, _ = play(plan, folder.path)
    assert list(errors(document)) == [ONLY]
    assert f"{file} is damaged ({key}: " in errors(document)[ONLY]


@pytest.mark.parametrize("seconds", ["NaN", "Infinity", "1" + 400 * "0"])
def test_seconds_of_a_search_that_are_not_finite_fail_its_member_alone(tmp_path: Path, seconds: str) -> None:
    plan, folder = random_plan(2), ExperimentFolder(tmp_path / "run")
    play(plan, folder.path)
    folder.search(ONLY).file(RunFolder.HISTORY).write_text(f'{{"event": "note", "seconds": {seconds}}}\n')
    document, _ = play(plan, folder.path)
    assert list(errors(document)) == [ONLY]
    assert f"a file of {ONLY} is damaged" in errors(document)[ONLY]


# ---------------------------------------------------------------- the experiment's own document


@pytest.mark.parametrize("key", ["environment", "members"])
def test_a_damaged_document_is_refused_and_leaves_no_executor_open(tmp_path: Path, key: str) -> None:
    plan, folder = random_plan(1), ExperimentFolder(tmp_path / "run")
    play(plan, folder.path)
    document = json.loads(folder.document.read_text())
    write_json(folder.document, {name: value for name, value in document.items() if name != key})
    is_open: set[PlayedExecutor] = set()

    class Watched(PlayedExecutor):
        def close(self) -> None:
            is_open.remove(self)

    def make() -> PlayedExecutor:
        executor = Watched()
        is_open.add(executor)
        return executor

    with pytest.raises(RunError, match=r"experiment\.json is damaged"):
        run_experiment(
            plan,
            folder=folder.path,
            executor=make,
            device="cpu",
            dataset=DATASET,
            environment={"command": ["cpnas"]},
            deadline=Deadline(),
            say=lambda _: None,
            watch=lambda _: None,
        )
    assert not is_open
    with pytest.raises(RunError, match=r"experiment\.json is damaged"):
        lost_members(folder.path)
