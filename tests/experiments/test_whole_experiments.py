"""Whole experiments: what members share, what a failure or an interruption does to the others, and resuming."""

import dataclasses
import importlib.util
import io
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import invoke
from conftest import TINY_SETTINGS, run_cpnas
from forks import Fork, fork
from here_executor import HereExecutor
from older_versions import without_checksum
from ray_nodes import ray_workers
from rich.console import Console

from cpnas_cli.cli.views.experiments import ExperimentView
from cpnas_cli.data.dataset import describe_dataset, load_dataset
from cpnas_cli.distributed.device import open_device
from cpnas_cli.errors import MaxTimeReached, RunError, UsageError
from cpnas_cli.experiments.executors import LocalExecutor
from cpnas_cli.experiments.plan import ExperimentFolder, Member, Plan
from cpnas_cli.experiments.ray_executor import check_ray
from cpnas_cli.experiments.run import run_experiment
from cpnas_cli.experiments.schedule import Schedule
from cpnas_cli.experiments.tasks import SearchTask, Task, TaskEnd, TrainingTask
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.environment import describe_environment
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.runs.opening import open_run_for
from cpnas_cli.settings import load_config
from cpnas_cli.strategies import run_search
from cpnas_cli.strategies.base import Search
from cpnas_cli.strategies.checks import check_search

# as printed: two of these betas find the same
SETTINGS = (
    *TINY_SETTINGS,
    "search.indicator=printed",
    "pcdarts.num_epochs=3",
    "pcdarts.frozen_epochs=1",
    "pcdarts.batch_size=20",
)
OPTIONS = [word for setting in SETTINGS for word in ("--set", setting)]
CONFIG = load_config(overrides=list(SETTINGS))
ABLATION = Plan("ablation", ("0", "1", "2", "5"), (1,), CONFIG)
COMPARISON = Plan("comparison", ("random", "pcdarts", "bnas", "cpnas"), (0,), CONFIG, random_draws=2)


def run(
    plan: Plan, folder: Path, executor: Any = None, *, max_seconds: float | None = None
) -> tuple[dict[str, Any], list[str]]:
    """The experiment's document, and what was said."""
    said: list[str] = []
    document = run_experiment(
        plan,
        folder=folder,
        executor=lambda: executor or HereExecutor(),
        device="cpu",
        dataset=describe_dataset(load_dataset(plan.config.data)),
        environment=describe_environment(open_device("cpu")),
        deadline=Deadline(max_seconds),
        say=said.append,
        watch=Schedule.read_progress,
    )
    return document, said


@pytest.fixture(scope="module")
def ablation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experiments") / "ablation"
    run(ABLATION, folder)
    return folder


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experiments") / "comparison"
    run(COMPARISON, folder)
    return folder


@pytest.fixture(scope="module")
def separate(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Member], Path]:
    """The folder of the member's search as `cpnas search` runs it, alone."""
    root = tmp_path_factory.mktemp("separate")

    def search(member: Member) -> Path:
        folder = root / member.name
        if not folder.exists():
            dataset = load_dataset(member.config.data)
            with open_run_for(
                member.config,
                folder=folder,
                fabric=open_device("cpu"),
                resume=False,
                deadline=Deadline(),
                check=check_search,
                dataset=dataset,
            ) as opened:
                run_search(Search(opened.run, member.config, dataset, opened.fabric))
        return folder

    return search


def read_history(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "history.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def read_document(folder: Path) -> dict[str, Any]:
    return without_checksum(folder / "experiment.json")


def without_seconds(document: Any) -> Any:
    """The document without what differs between two equal experiments: times, and how the tree was cut."""
    if isinstance(document, dict):
        unequal = {"seconds", "search_seconds_mean", "search_seconds_std", "environment"}
        return {key: without_seconds(value) for key, value in document.items() if key not in unequal}
    return [without_seconds(value) for value in document] if isinstance(document, list) else document


@pytest.mark.parametrize("member", [*ABLATION.members, *COMPARISON.members], ids=lambda m: m.name)
def test_every_member_is_what_its_own_search_would_be(member, ablation, comparison, separate):
    folder = ExperimentFolder(ablation if member.name.startswith("beta") else comparison)
    own, alone = folder.search(member.name).path, separate(member)
    assert read_history(own) == read_history(alone)
    assert (own / "genotype.json").read_bytes() == (alone / "genotype.json").read_bytes()
    assert (own / "config.yaml").read_bytes() == (alone / "config.yaml").read_bytes()
    record = next(m for m in read_document(folder.path)["members"] if m["name"] == member.name)
    genotype = json.loads((alone / "genotype.json").read_text())
    assert record["genotype"] == {kind: [edge["op"] for edge in genotype[kind]] for kind in ("normal", "reduce")}
    assert sum(record["operations"].values()) == 28
    assert all(
        (record["genotype"]["normal"] + record["genotype"]["reduce"]).count(op) == n
        for op, n in record["operations"].items()
    )


def tree_size(histories: list[list[dict[str, Any]]]) -> tuple[int, int]:
    """How many draws a tree of these searches has: one for all that were drawn after the same abandonments.

    And how many epochs: each draw one of the Child, and one of the Parent if one of its searches knows its accuracy.
    """
    nodes, with_parent = set(), set()
    for history in histories:
        abandoned: tuple[Any, ...] = ()
        for record in history:
            if record["event"] == "draw":
                node = (abandoned, record["num_candidates"], record["pass"], record["draw"])
                nodes.add(node)
                if record["accuracy_parent"] is not None:
                    with_parent.add(node)
            else:
                gone = (edge["abandoned"] for kind in ("normal", "reduce") for edge in record[kind])
                abandoned += tuple(gone)
    return len(nodes), len(nodes) + len(with_parent)


def test_every_shared_stretch_is_trained_exactly_once(ablation, separate):
    histories = [read_history(separate(member)) for member in ABLATION.members]
    draws, num_epochs = tree_size(histories)
    assert draws < 35 * len(histories)  # something is shared
    epochs = read_document(ablation)["num_epochs"]
    assert epochs["search_trained"] == num_epochs
    assert epochs["search_asked"] == 2 * 35 * len(histories) - 35  # beta_P = 0 has no Parent


def test_bnas_and_cpnas_share_their_draws(comparison, separate):
    members = {m.name: m for m in COMPARISON.members}
    draws, num_epochs = tree_size([read_history(separate(members[name])) for name in ("bnas-seed-0", "cpnas-seed-0")])
    records = {m["name"]: m for m in read_document(comparison)["members"]}
    trained = [records[name]["search"]["num_epochs_trained"] for name in ("bnas-seed-0", "cpnas-seed-0")]
    assert sum(trained) == num_epochs
    assert draws <= 70 - 8  # at least the first round
    assert records["random-seed-0-draw-1"]["search"]["num_epochs"] == 0
    assert records["pcdarts-seed-0"]["search"]["num_epochs"] == 3 + 2  # the last two also on the other half
    assert records["random-seed-0-draw-0"]["genotype"] != records["random-seed-0-draw-1"]["genotype"]


def test_a_genotype_found_twice_is_trained_once(ablation):
    members = read_document(ablation)["members"]
    genotypes = [json.dumps(member["genotype"]) for member in members]
    assert len(set(genotypes)) < len(genotypes)  # two betas of this seed found the same
    epochs = read_document(ablation)["num_epochs"]
    assert epochs["training_trained"] == 3 * len(set(genotypes))
    assert epochs["training_asked"] == 3 * len(genotypes)
    for member in members:
        origin = member["training"]["same_as"]
        if origin:
            other = next(m for m in members if m["name"] == origin)
            assert other["genotype"] == member["genotype"]
            assert other["accuracy_test"] == member["accuracy_test"]
            assert other["training"]["num_epochs_trained"] == 3
            assert member["training"]["num_epochs_trained"] == 0
            result = json.loads((ablation / "members" / member["name"] / "result.json").read_text())
            assert result["genotype"]["provenance"]["beta_p"] == member["beta_p"]


def test_a_member_is_a_run_like_any_other(ablation, cpnas_here, tmp_path):
    shared = next(m["name"] for m in read_document(ablation)["members"] if m["training"]["same_as"])
    answer = cpnas_here("evaluate", ablation / "members" / shared, "--json")
    assert answer.returncode == 0, answer.stderr
    result = json.loads((ablation / "members" / shared / "result.json").read_text())
    assert json.loads(answer.stdout)["accuracy_test"] == result["accuracy_test"]
    answer = cpnas_here("train", ablation / "searches" / shared / "genotype.json", "--out", "alone")
    assert answer.returncode == 0, answer.stderr
    model = "model.safetensors"
    assert (tmp_path / "alone" / model).read_bytes() == (ablation / "members" / shared / model).read_bytes()


def test_running_it_again_runs_nothing(ablation, tmp_path):
    folder = shutil.copytree(ablation, tmp_path / "again")
    executor = HereExecutor()
    document, said = run(ABLATION, folder, executor)
    assert executor.tasks == []
    assert said == []
    assert document == read_document(ablation)


def test_a_deleted_member_alone_runs_again(ablation, tmp_path):
    folder = shutil.copytree(ablation, tmp_path / "again")
    shutil.rmtree(folder / "members" / "beta-5-seed-1")
    shutil.rmtree(folder / "searches" / "beta-1-seed-1")
    executor = HereExecutor()
    document, _ = run(ABLATION, folder, executor)
    touched = {(type(task), task.member.name) for task in executor.tasks}
    assert touched == {(SearchTask, "beta-1-seed-1"), (TrainingTask, "beta-5-seed-1")}
    assert accuracies(document) == accuracies(read_document(ablation))
    assert read_history(folder / "searches/beta-1-seed-1") == read_history(ablation / "searches/beta-1-seed-1")


def accuracies(document: dict[str, Any]) -> dict[str, float]:
    return {member["name"]: member["accuracy_test"] for member in document["members"]}


def test_stopped_after_every_task_it_ends_the_same(ablation, tmp_path):
    class Killed(BaseException):
        pass

    def before(_: Task) -> None:
        if len(executor.tasks) > 1:
            raise Killed

    num_stops, document = 0, None
    while document is None:
        executor = HereExecutor(before)
        try:
            document, _ = run(ABLATION, tmp_path / "run", executor)
        except Killed:
            num_stops += 1
            assert num_stops < 20, "it gets on with every call"
    assert num_stops == 8  # after each of the five stretches of searches and three of the four trainings
    assert without_seconds(document) == without_seconds(read_document(ablation))


@pytest.mark.slow(seconds=25)
def test_the_deadline_stops_and_saves(ablation, tmp_path):
    for _ in range(60):  # one draw or epoch in each
        try:
            document, _ = run(ABLATION, tmp_path / "run", max_seconds=0.0)
            break
        except MaxTimeReached:
            pass
    else:
        document, _ = run(ABLATION, tmp_path / "run")
    assert accuracies(document) == accuracies(read_document(ablation))
    assert document["num_epochs"] == read_document(ablation)["num_epochs"]


def test_a_member_that_fails_once_is_tried_again(ablation, tmp_path):
    folder = shutil.copytree(ablation, tmp_path / "run")
    shutil.rmtree(folder / "searches/beta-0-seed-1")
    shutil.rmtree(folder / "members/beta-0-seed-1")
    failed = []

    def before(task: Task) -> TaskEnd | None:
        if not failed and isinstance(task, SearchTask):
            failed.append(task.member.name)
            return TaskEnd("failed", "a reason")
        return None

    document, said = run(ABLATION, folder, HereExecutor(before))
    assert said == ["beta-0-seed-1: its search failed and is tried again: a reason"]
    assert accuracies(document) == accuracies(read_document(ablation))


@pytest.mark.slow
def test_a_leader_that_fails_twice_does_not_take_its_followers_with_it(ablation, tmp_path):
    def before(task: Task) -> TaskEnd | None:
        if task.member.name == "beta-1-seed-1":
            return TaskEnd("failed", "a reason")
        return None

    document, said = run(ABLATION, tmp_path / "run", HereExecutor(before))
    states = {member["name"]: member["state"] for member in document["members"]}
    assert states == {f"beta-{b}-seed-1": "failed" if b == 1 else "finished" for b in (0, 1, 2, 5)}
    assert said[-1] == "beta-1-seed-1: given up: search: a reason"
    failed = next(member for member in document["members"] if member["state"] == "failed")
    assert failed["error"] == "search: a reason"
    assert "accuracy_test" not in failed
    finished = [member for member in document["members"] if member["state"] == "finished"]
    expected = accuracies(read_document(ablation))
    assert accuracies({"members": finished}) == {name: expected[name] for name in expected if name != failed["name"]}
    again, _ = run(ABLATION, tmp_path / "run")  # and the next command tries it once more
    assert accuracies(again) == accuracies(read_document(ablation))


def test_a_training_that_fails_twice_leaves_its_genotype_to_the_next(ablation, tmp_path):
    shared = next(m for m in read_document(ablation)["members"] if m["training"]["same_as"])
    first = shared["training"]["same_as"]
    folder = shutil.copytree(ablation, tmp_path / "run")
    shutil.rmtree(folder / "members")

    def before(task: Task) -> TaskEnd | None:
        fails = isinstance(task, TrainingTask) and task.member.name == first
        return TaskEnd("failed", "a reason") if fails else None

    document, _ = run(ABLATION, folder, HereExecutor(before))
    records = {member["name"]: member for member in document["members"]}
    assert records[first]["state"] == "failed"
    assert records[shared["name"]]["accuracy_test"] == shared["accuracy_test"]


def test_a_file_damaged_by_hand_fails_its_member_alone(ablation, tmp_path):
    folder = shutil.copytree(ablation, tmp_path / "run")
    shutil.rmtree(folder / "members/beta-2-seed-1")
    (folder / "searches/beta-2-seed-1/genotype.json").write_text("{")
    document, _ = run(ABLATION, folder)
    records = {member["name"]: member for member in document["members"]}
    assert records["beta-2-seed-1"]["state"] == "failed"
    assert "genotype.json is not complete JSON" in records["beta-2-seed-1"]["error"]
    assert {records[f"beta-{beta}-seed-1"]["state"] for beta in (0, 1, 5)} == {"finished"}


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(ABLATION, config=load_config()),
        COMPARISON,
    ],
)
def test_a_folder_of_another_experiment_is_refused(ablation, other):
    before = read_document(ablation)
    with pytest.raises(RunError, match=r"holds another experiment .* choose another --out"):
        run(other, ablation)
    assert read_document(ablation) == before


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/thesis.txt").write_text("")
    with pytest.raises(RunError, match="not empty and holds no experiment"):
        run(ABLATION, tmp_path / "run")
    with pytest.raises(RunError, match="is a file"):
        run(ABLATION, tmp_path / "run/thesis.txt")


def test_two_at_once_in_one_folder_are_refused(tmp_path):
    plan = dataclasses.replace(COMPARISON, groups=("random",))
    caught: list[str] = []

    def before(_: Task) -> None:
        with pytest.raises(
            RunError, match=r"run is in use by process \d+ on .*; wait for it to end, or choose another --out"
        ) as error:
            run(plan, tmp_path / "run")
        caught.append(str(error.value))

    run(plan, tmp_path / "run", HereExecutor(before))
    assert caught


# ---------------------------------------------------------------- worker processes


def children_of(process: int) -> list[int]:
    """Process numbers of the worker processes of an experiment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status, command = (folder / "status").read_text(), (folder / "cmdline").read_text()
        except OSError:
            continue
        if f"PPid:\t{process}\n" in status and "spawn_main" in command:
            found.append(int(folder.name))
    return found


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Fork]]:
    """Start a command in the background, with SIGINT as a terminal would deliver it."""
    started: list[Fork] = []

    def begin(*words: str | Path) -> Fork:
        own = {"COLUMNS": "200", "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
        started.append(fork(tmp_path, words, environment={**os.environ, **own}))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def wait_until(condition: Callable[[], object], process: Fork) -> None:
    for _ in range(12000):
        if condition():
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    raise AssertionError("the experiment did not get that far")


def num_records(folder: Path) -> int:
    history = folder / "history.jsonl"
    return history.read_text().count("\n") if history.exists() else 0


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="finds processes under /proc")
WORDS = ["ablate-beta", *OPTIONS, "--betas", "0,1,2,5", "--seeds", "1", "--out", "run"]


@needs_proc
@pytest.mark.slow(seconds=25)
def test_a_killed_worker_takes_no_other_with_it(ablation, tmp_path, start):
    process = start(*WORDS, "--workers", "2")
    wait_until(lambda: num_records(tmp_path / "run/searches/beta-1-seed-1") >= 3, process)
    (worker,) = children_of(process.pid)  # all follow one leader so far
    os.kill(worker, signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=240)
    assert process.returncode == 0, stderr
    assert "beta-1-seed-1: its search failed and is tried again: its worker died (SIGKILL)" in stderr
    assert accuracies(read_document(tmp_path / "run")) == accuracies(read_document(ablation))
    epochs = read_document(ablation)["num_epochs"]
    assert f"search {epochs['search_trained']} of {epochs['search_asked']}" in stdout
    assert (tmp_path / "run/accuracy.svg").exists()


@needs_proc
@pytest.mark.slow(seconds=30)
def test_a_killed_experiment_leaves_no_workers_and_resumes(ablation, tmp_path, start):
    process = start(*WORDS)
    wait_until(lambda: num_records(tmp_path / "run/searches/beta-1-seed-1") >= 12, process)
    workers = children_of(process.pid)
    process.kill()
    process.wait()
    for _ in range(500):
        if not any(Path(f"/proc/{worker}/cmdline").exists() for worker in workers):
            break
        time.sleep(0.01)
    else:
        raise AssertionError("its workers live on")
    interrupted = start(*WORDS, "--json")
    wait_until(lambda: (tmp_path / "run/members/beta-1-seed-1").exists(), interrupted)
    interrupted.send_signal(signal.SIGINT)
    _, stderr = interrupted.communicate(timeout=60)
    assert interrupted.returncode == 130
    line = stderr.strip().splitlines()[-1].partition("go on with: cpnas ")[2]
    assert line.startswith("ablate-beta --out run")
    answer = run_cpnas(tmp_path, *line.split(), "--json")
    assert answer.returncode == 0, answer.stderr
    assert without_seconds(json.loads(answer.stdout)) == without_seconds(read_document(ablation))
    assert not children_of(process.pid)


@pytest.mark.slow
def test_a_worker_that_cannot_go_on_is_named_and_the_rest_is_done(comparison, tmp_path, cpnas):
    words = ["compare", *OPTIONS, "--strategies", "random,bnas", "--random-draws", "1", "--seeds", "0"]
    broken = tmp_path / "run/searches/bnas-seed-0/checkpoint/state.safetensors"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"not a checkpoint")
    answer = cpnas(*words, "--out", "run", "--json")
    assert answer.returncode == 1
    last = answer.stderr.strip().splitlines()[-1]
    assert last.startswith("cpnas: error: 1 members failed: bnas-seed-0; try them again with: cpnas compare-strategies")
    records = {member["name"]: member for member in json.loads(answer.stdout)["members"]}
    assert records["random-seed-0-draw-0"]["state"] == "finished"
    assert records["bnas-seed-0"]["state"] == "failed"
    assert "Traceback" in (tmp_path / "run/logs/bnas-seed-0.log").read_text()


@pytest.mark.slow
def test_max_time_ends_with_75_and_the_line_that_goes_on(tmp_path, cpnas):
    words = ["compare", *OPTIONS, "--strategies", "random", "--random-draws", "2", "--seeds", "0", "--out", "run"]
    answer = cpnas(*words, "--max-time", "0s")
    assert answer.returncode == 75, answer.stderr
    line = answer.stderr.strip().splitlines()[-1].partition("go on with: cpnas ")[2]
    answer = cpnas(*line.split())
    assert answer.returncode == 0, answer.stderr
    assert {member["state"] for member in read_document(tmp_path / "run")["members"]} == {"finished"}


def test_local_workers_share_the_threads_and_the_gpus():
    executor = LocalExecutor(2, num_threads=3, visible_gpus=("4", "7"))
    assert executor.has_room()
    executor.close()
    none = LocalExecutor(0, num_threads=1)
    assert not none.has_room()
    with pytest.raises(RuntimeError, match="busy"):
        none.submit(None)  # type: ignore[arg-type]


# ---------------------------------------------------------------- Ray


@needs_proc
@pytest.mark.slow(seconds=30)
def test_on_ray_a_killed_task_is_tried_again(ablation, tmp_path, start):
    pytest.importorskip("ray")
    process = start(*WORDS, "--ray", "local")
    wait_until(
        lambda: num_records(tmp_path / "run/searches/beta-1-seed-1") >= 3 and ray_workers(of=process.pid), process
    )
    os.kill(next(iter(ray_workers(of=process.pid))), signal.SIGKILL)
    _, stderr = process.communicate(timeout=280)
    assert process.returncode == 0, stderr
    assert "beta-1-seed-1: its search failed and is tried again: its Ray worker died" in stderr
    assert accuracies(read_document(tmp_path / "run")) == accuracies(read_document(ablation))
    for name in ("beta-1-seed-1", "beta-5-seed-1"):
        searched = read_history(tmp_path / "run/searches" / name)
        assert searched == read_history(ablation / "searches" / name)
    assert RunFolder(tmp_path / "run/members/beta-5-seed-1").file(RunFolder.RESULT).exists()


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["ablate", "--betas", ""], 2, "--betas expects values with commas between them"),
        (["ablate", "--betas", "0,0"], 2, "--betas names 0 twice"),
        (
            ["ablate", "--indicators", "printed,rewarded"],
            2,
            "unknown indicator 'rewarded' in --indicators; choose from",
        ),
        (["ablate", "--indicators", "printed,printed"], 2, "--indicators names printed twice"),
        (["ablate-beta", "--seeds", "0,-1"], 2, "--seeds expects whole numbers from 0 up, got '-1'"),
        (["compare", "--strategies", "cpnas,darts"], 2, "choose from cpnas, bnas, random, pcdarts"),
        (["compare", "--workers", "0"], 2, "--workers expects a whole number from 1 up"),
        (["compare", "--workers", "2", "--ray", "auto"], 2, "leave out one of them"),
        (["compare", "--ray", "somewhere"], 2, "--ray expects auto, local or HOST:PORT"),
        (["compare", "--ray", "127.0.0.1:1"], 1, "no Ray cluster at 127.0.0.1:1"),
        (["compare", "--resume"], 2, "--resume needs --out"),
        (["compare", "--resume", "--out", "nowhere"], 2, "no experiment to resume in nowhere"),
        (
            [
                "compare",
                "--set",
                "network.num_channels=6",
                "--set",
                "network.group_width=6",
                "--set",
                "search.num_channels=null",
            ],
            2,
            "must be a multiple of 4, got 6",
        ),
        (["figure", "nowhere"], 1, "no experiment at nowhere"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, monkeypatch, words, code, message):
    monkeypatch.chdir(tmp_path)
    answer = invoke(*words)
    assert answer.exit_code == code
    assert message in answer.stderr
    assert answer.stderr.strip().splitlines()[-1].startswith("cpnas: error: ")
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").rglob("*.json"))


def test_without_the_ray_extra_it_says_what_to_type(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else found(name))
    with pytest.raises(UsageError, match=r"pip install 'cpnas\[ray\]'"):
        check_ray("auto")


def test_the_table_shows_every_member(comparison, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    folder = shutil.copytree(comparison, tmp_path / "run")
    shutil.rmtree(folder / "members/bnas-seed-0")
    view, said = ExperimentView(COMPARISON), list[str]()
    monkeypatch.setattr(view, "say", said.append)

    def failing(task: Task) -> TaskEnd | None:
        return TaskEnd("failed", "a reason") if task.member.name == "bnas-seed-0" else None

    run_experiment(
        COMPARISON,
        folder=folder,
        executor=lambda: HereExecutor(failing),
        device="cpu",
        dataset=describe_dataset(load_dataset(COMPARISON.config.data)),
        environment=describe_environment(open_device("cpu")),
        deadline=Deadline(),
        say=said.append,
        watch=view.watch,
    )
    accuracies = {m["name"]: m["accuracy_test"] for m in read_document(comparison)["members"]}
    end = shown(view)
    assert "4 of 5 members finished, 1 failed" in end
    rows = {line.split()[1]: line for line in end.splitlines() if line.startswith("\u2502")}
    assert f"{100 * accuracies['cpnas-seed-0']:.2f} %" in rows["cpnas"]
    assert "failed" in rows["bnas"]
    assert "2/2" in rows["random"]
    assert any(
        line.endswith(f"cpnas-seed-0: finished, test accuracy {100 * accuracies['cpnas-seed-0']:.2f} %")
        for line in said
    )


def shown(view: ExperimentView) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(view.render())
    return console.export_text()


def test_figure_draws_from_the_document_alone(ablation, tmp_path, cpnas_here):
    shutil.copy(ablation / "experiment.json", tmp_path)
    answer = cpnas_here("figure", "experiment.json", "--out", "figures")
    assert answer.returncode == 0, answer.stderr
    names = ["accuracy.svg", "accuracy.png", "operations.svg", "operations.png"]
    assert answer.stdout.split() == [f"figures/{name}" for name in names]
    assert b"test accuracy" in (tmp_path / "figures/accuracy.svg").read_bytes()
    (tmp_path / "experiment.json").write_text('{"schema": "cpnas.result/1"}')
    assert "expected schema 'cpnas.experiment/1'" in cpnas_here("figure", "experiment.json").stderr
