"""Experiments on several machines: Ray clusters that lose and gain nodes, and scripts under a played SLURM."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import TINY_OPTIONS, TINY_SETTINGS, run_cpnas
from ray_nodes import processes, ray_workers, wait_until

from cpnas_cli.errors import CpnasError, UsageError
from cpnas_cli.experiments import ray_executor, tasks
from cpnas_cli.experiments.plan import ExperimentFolder, Plan
from cpnas_cli.experiments.ray_executor import RayExecutor, num_slots, run_task_alone
from cpnas_cli.experiments.tasks import Circumstances, SearchTask
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.runs.lock import locked
from cpnas_cli.settings import load_config

DOCS = Path(__file__).parents[2] / "docs"
RANDOM = Plan("comparison", ("random",), (0,), load_config(overrides=list(TINY_SETTINGS)))

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="finds processes under /proc")


def read_history(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "history.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def num_lines(folder: Path) -> int:
    history = folder / "history.jsonl"
    return history.read_text().count("\n") if history.exists() else 0


def epochs(folder: Path) -> list[int]:
    return [record["epoch"] for record in read_history(folder) if record["event"] == "epoch"]


def read_document(folder: Path) -> Any:
    """An experiment's document, without times and the machine."""

    def strip(document: Any) -> Any:
        if isinstance(document, dict):
            return {
                key: strip(value) for key, value in document.items() if "seconds" not in key and key != "environment"
            }
        return [strip(value) for value in document] if isinstance(document, list) else document

    return strip(json.loads((folder / "experiment.json").read_text()))


def grown(run: Path, *, by: int) -> Callable[[], bool]:
    """Whether the run's history has so many more lines than now."""
    before = num_lines(run)
    return lambda: num_lines(run) >= before + by


# ---------------------------------------------------------------- where a Ray task fits


def node(cpus: float = 0, gpus: float = 0, *, alive: bool = True) -> dict[str, Any]:
    return {"Alive": alive, "Resources": {"CPU": cpus, "GPU": gpus, "memory": 1e9}}


@pytest.mark.parametrize(
    ("nodes", "cpus", "gpus", "slots"),
    [
        ([node(1), node(1)], 1, 0, 2),
        ([node(1), node(1, alive=False)], 1, 0, 1),
        ([node(1), node(1)], 2, 0, 0),  # two CPUs, and no node has both
        ([node(3), node(3)], 2, 0, 2),
        ([node(8), node(8, 2)], 1, 1, 2),
        ([node(8), node(1, 2)], 1, 1, 1),
        ([node(8), node(0, 2)], 1, 1, 0),
        ([node(16, 1)], 1, 0.2, 5),
        ([node(16, 2)], 1, 0.4, 4),  # two on each, though 2 is five times 0.4
        ([node(16, 8)], 1, 3, 2),
        ([{"Alive": True, "Resources": {"memory": 1e9}}], 1, 0, 0),
    ],
)
def test_a_task_fits_into_one_node(nodes, cpus, gpus, slots):
    assert num_slots(nodes, num_cpus=cpus, num_gpus=gpus) == slots


class PlayedRay(SimpleNamespace):
    """What `RayExecutor` uses of Ray, with nodes as the test says and tasks that never end."""

    def __init__(self, *nodes: dict[str, Any]) -> None:
        super().__init__(init=lambda **_: None, shutdown=lambda: None, exceptions=SimpleNamespace(RayError=Exception))
        self.alive = list(nodes)
        self.numbers = itertools.count()

    def nodes(self) -> list[dict[str, Any]]:
        return self.alive

    def remote(self, _: Callable[..., Any]) -> Any:
        task = SimpleNamespace(remote=lambda *_, **__: next(self.numbers))
        return SimpleNamespace(options=lambda **_: task)

    def wait(self, references: list[int], **_: Any) -> tuple[list[int], list[int]]:
        return [], references


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[..., PlayedRay]:
    def played(*nodes: dict[str, Any]) -> PlayedRay:
        ray = PlayedRay(*nodes)
        monkeypatch.setitem(sys.modules, "ray", ray)
        return ray

    return played


def fill(executor: RayExecutor) -> int:
    """Submit as many tasks as there is room for."""
    count = 0
    while executor.has_room():
        executor.submit(SearchTask(Circumstances(Path(), "cpu", ()), RANDOM.members[0]))
        count += 1
    return count


def test_nodes_that_join_are_used_and_nodes_that_are_lost_are_not(play):
    ray = play(node(1))
    executor = RayExecutor("auto", num_cpus=1, num_gpus=0)
    assert fill(executor) == 1
    ray.alive.append(node(2))
    assert executor.wait(0) == []
    assert fill(executor) == 2
    ray.alive[1] = node(2, alive=False)
    executor.wait(0)
    assert executor.num_slots == 1
    assert not executor.has_room()
    executor.close()


def test_without_any_node_it_waits_a_while_and_then_says_so(play, monkeypatch):
    ray = play(node(1))
    executor = RayExecutor("auto", num_cpus=1, num_gpus=0)
    ray.alive.clear()
    assert executor.wait(0) == []  # it may come back
    assert not executor.has_room()
    monkeypatch.setattr(ray_executor, "NODE_SECONDS", -1)
    with pytest.raises(CpnasError, match="no node left"):
        executor.wait(0)
    ray.alive.append(node(1))
    executor.wait(0)
    assert executor.has_room()
    executor.close()


def test_what_ray_prints_is_not_in_the_record(play, capsys):
    play(node(1))
    executor = RayExecutor("auto", num_cpus=1, num_gpus=0)
    sys.stdout.write("(raylet) a node was lost\n")
    executor.close()
    sys.stdout.write("the record\n")
    captured = capsys.readouterr()
    assert captured.out == "the record\n"
    assert "a node was lost" in captured.err


@pytest.mark.parametrize(
    ("gpus", "message"),
    [(1, r"asks for 2 CPU and 1 GPU of one node, and no node .* \(at most 4 CPU, 2 GPU\)"), (1.5, "got 1.5")],
)
def test_a_task_that_no_node_can_run_is_refused(play, gpus, message):
    play(node(4), node(1, 2))
    with pytest.raises(UsageError, match=message):
        RayExecutor("auto", num_cpus=2, num_gpus=gpus)


def test_a_cluster_that_asks_for_a_token_is_told_from_none(play):
    ray = play(node(1))

    def refuse(**_: Any) -> None:
        try:
            raise RuntimeError("Last connection error: ray.exceptions.AuthenticationError: InvalidAuthToken")
        except RuntimeError as error:
            raise ConnectionError("Failed to connect") from error

    ray.init = refuse
    with pytest.raises(CpnasError, match="RAY_AUTH_MODE=token"):
        RayExecutor("host:1", num_cpus=1, num_gpus=0)

    def absent(**_: Any) -> None:
        raise ConnectionError("Failed to connect")

    ray.init = absent
    with pytest.raises(CpnasError, match="ray start --head"):
        RayExecutor("host:1", num_cpus=1, num_gpus=0)


def test_a_task_waits_for_the_worker_that_a_lost_node_left_behind(tmp_path):
    task = SearchTask(Circumstances(tmp_path, "cpu", ("cpnas",)), RANDOM.members[0])
    run = ExperimentFolder(tmp_path).search(task.member.name)
    run.path.mkdir(parents=True)
    with locked(run.path, command=("cpnas", "compare-strategies")):  # as the other worker holds it
        outcome = run_task_alone(task, num_threads=1, wait_seconds=0)
        assert outcome.state == "failed"
        assert f"{run.path} is in use by process {os.getpid()} on " in (outcome.reason or "")
        assert "(cpnas compare-strategies)" in (outcome.reason or "")
        assert not run.file(RunFolder.CONFIG).exists()
    assert run_task_alone(task, num_threads=1, wait_seconds=0).state == "done"
    assert run.file(RunFolder.GENOTYPE).exists()


def test_a_worker_on_a_node_that_srun_started_is_none_of_its_tasks(tmp_path, monkeypatch):
    step = {"STEP_ID": "0", "PROCID": "1", "NTASKS": "2", "STEP_NUM_TASKS": "2", "NTASKS_PER_NODE": "1", "NNODES": "2"}
    for name, value in step.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    tasks._fabric.cache_clear()
    task = SearchTask(Circumstances(tmp_path, "cpu", ("cpnas",)), RANDOM.members[0])
    outcome = run_task_alone(task, num_threads=1)
    tasks._fabric.cache_clear()
    assert outcome.state == "done", outcome.reason


# ---------------------------------------------------------------- two Ray nodes on this machine


@needs_proc
@pytest.mark.long
@pytest.mark.timeout(600)
def test_an_experiment_spreads_over_two_nodes_and_outlives_the_loss_of_one(cluster, tmp_path):
    words = ["compare-strategies", *TINY_OPTIONS, "--set", "train.num_epochs=60", "--strategies", "random"]
    words += ["--random-draws", "2", "--seeds", "0", "--json"]
    head, other = cluster.add_node(), cluster.add_node()
    with cluster.begin([*words, "--out", "run"], tmp_path) as process:
        names = ["random-seed-0-draw-0", "random-seed-0-draw-1"]
        members = [tmp_path / "run/members" / name for name in names]
        wait_until(lambda: all(num_lines(member) >= 3 for member in members), process)
        workers = ray_workers()
        assert sorted(workers.values()) == sorted([head, other])  # one on each
        for number in (other, *(worker for worker, raylet in workers.items() if raylet == other)):
            os.kill(number, signal.SIGKILL)
        stdout, stderr = process.communicate(timeout=280)
    assert process.returncode == 0, stderr
    assert "its training failed and is tried again: its Ray worker died (" in stderr
    assert [member["state"] for member in json.loads(stdout)["members"]] == ["finished", "finished"]
    for member in members:
        assert epochs(member) == list(range(60))
    answer = run_cpnas(tmp_path, *words, "--out", "alone", timeout=280)  # on no cluster at all
    assert answer.returncode == 0, answer.stderr
    for name in names:
        assert read_history(tmp_path / "run/members" / name) == read_history(tmp_path / "alone/members" / name)


# ---------------------------------------------------------------- SLURM


class Scheduler:
    """Plays SLURM on this machine: a job's variables, `scontrol` that notes what it is asked for, and `srun`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.variables = {"SLURM_CPUS_PER_TASK": "1", "SLURM_JOB_NAME": "cpnas", "SLURM_NTASKS_PER_NODE": "1"}
        self.variables |= {f"SLURM_{name}": "0" for name in ("PROCID", "LOCALID", "NODEID")}
        self.command("scontrol", 'echo "$*" >>scontrol.log')
        self.command("cpnas", f'exec "{sys.executable}" -m cpnas_cli "$@"')
        self.command("python", f'exec "{sys.executable}" "$@"')
        self.command("ray", f'exec "{sys.executable}" -m ray.scripts.scripts "$@"')

    def command(self, name: str, body: str) -> None:
        self.bin.mkdir(exist_ok=True)
        (self.bin / name).write_text(f"#!/bin/bash\n{body}\n")
        (self.bin / name).chmod(0o755)

    def environment(self, **variables: object) -> dict[str, str]:
        known = {**os.environ, **self.variables, "PATH": f"{self.bin}:{os.environ['PATH']}", "COLUMNS": "200"}
        return known | {name: str(value) for name, value in variables.items()}

    def start(self, script: str, *words: str | Path, **variables: object) -> subprocess.Popen[str]:
        spooled = self.folder / "slurm_script"  # sbatch runs a copy
        shutil.copy(DOCS / "slurm" / script, spooled)
        return subprocess.Popen(
            ["bash", str(spooled), *map(str, words)],
            cwd=self.folder,
            env=self.environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, script: str, *words: str | Path, timeout: float = 200, **variables: object) -> tuple[int, str]:
        """Exit code and output."""
        with self.start(script, *words, **variables) as process:
            output, _ = process.communicate(timeout=timeout)
        return process.returncode, output

    def array_task(self, index: int, **variables: object) -> dict[str, object]:
        """The variables of an array task; the array has the number 36, and so has its task 0."""
        numbers = {"SLURM_ARRAY_JOB_ID": 36, "SLURM_ARRAY_TASK_ID": index, "SLURM_JOB_ID": 36 + index}
        return {**numbers, "SLURM_NTASKS": 1, "SLURM_NNODES": 1, **variables}

    @property
    def asked(self) -> list[str]:
        log = self.folder / "scontrol.log"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def scheduler(tmp_path: Path) -> Scheduler:
    return Scheduler(tmp_path)


@pytest.mark.parametrize("script", sorted(path.name for path in (DOCS / "slurm").glob("*.sh")))
def test_scripts_are_bash(script):
    answer = subprocess.run(["bash", "-n", str(DOCS / "slurm" / script)], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    if shellcheck := shutil.which("shellcheck"):
        answer = subprocess.run([shellcheck, str(DOCS / "slurm" / script)], capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (1, False), (2, False), (75, True), (130, False)])
def test_only_a_task_that_ran_out_of_time_is_requeued_and_it_alone(scheduler, tmp_path, code, requeued):
    scheduler.command("cpnas", f'printf "%s\\n" "$@" >words; echo "$OMP_NUM_THREADS" >threads; exit {code}')
    words = ["runs/x", "ablate-beta", "--set", "data.class_names=a b"]
    answer = scheduler.run("array.sh", *words, **scheduler.array_task(3, SLURM_CPUS_PER_TASK=4, MAX_TIME="20m"))
    assert answer[0] == code, answer[1]
    assert scheduler.asked == (["requeue 36_3"] if requeued else [])
    given = (tmp_path / "words").read_text().splitlines()
    assert given[:3] == ["ablate-beta", "--set", "data.class_names=a b"]
    assert given[3:] == ["--seeds", "3", "--out", "runs/x/seed-3", "--max-time", "20m"]
    assert (tmp_path / "threads").read_text() == "4\n"


def test_a_requeue_that_is_refused_is_no_success(scheduler):
    scheduler.command("cpnas", "exit 75")
    scheduler.command("scontrol", "echo 'Requested operation is presently disabled' >&2; exit 1")
    code, output = scheduler.run("array.sh", "runs/x", "ablate-beta", **scheduler.array_task(0))
    assert code != 0
    assert "presently disabled" in output


def test_seeds_of_equal_settings_alone_are_joined(scheduler, tmp_path):
    for seed, num_epochs in ((0, 3), (10, 3), (9, 4)):
        folder = tmp_path / f"runs/x/seed-{seed}"
        for part in ("searches", "members"):
            (folder / part).mkdir(parents=True)
        (folder / "config.yaml").write_text(f"seed: {seed}\ntrain:\n  num_epochs: {num_epochs}\n")
        (folder / "experiment.json").write_text('{"kind": "ablation", "groups": ["0", "2"]}')
    scheduler.command("cpnas", "echo it was called")
    code, output = scheduler.run("join.sh", "runs/x")
    assert code == 1
    assert "runs/x/seed-9 was run with other settings than runs/x/seed-0" in output
    assert "it was called" not in output
    shutil.copy(tmp_path / "runs/x/seed-0/config.yaml", tmp_path / "runs/x/seed-9")
    scheduler.command("cpnas", 'echo "$*"')
    code, output = scheduler.run("join.sh", "runs/x")
    assert code == 0, output
    settings = "--preset runs/x/seed-0/config.yaml --seeds 0,9,10 --out runs/x/all"
    assert output == f"ablate-beta --betas 0,2 {settings}\n"


@pytest.mark.long
@pytest.mark.timeout(600)
def test_an_array_is_requeued_and_killed_until_it_is_done_and_joined(scheduler, tmp_path, tiny_search):
    words = ["compare-strategies", *TINY_OPTIONS, "--strategies", "random,cpnas", "--random-draws", "1"]
    search = tmp_path / "runs/x/seed-0/searches/cpnas-seed-0"
    first = scheduler.array_task(0)
    code, output = scheduler.run("array.sh", "runs/x", *words, **first, MAX_TIME="0s")
    assert code == 75, output
    assert scheduler.asked == ["requeue 36_0"]
    assert num_lines(search) == 1
    for sent in (signal.SIGKILL, signal.SIGTERM):  # a node is lost, and a preemption
        process = scheduler.start("array.sh", "runs/x", *words, **first)
        wait_until(grown(search, by=4), process)
        os.killpg(process.pid, sent)
        process.communicate(timeout=60)
        assert process.returncode == -sent
    assert num_lines(search) < len(read_history(tiny_search))
    for index in (0, 1):
        code, output = scheduler.run("array.sh", "runs/x", *words, **scheduler.array_task(index))
        assert code == 0, output
    assert scheduler.asked == ["requeue 36_0"]
    # every draw and every epoch once, and with the bits of a run that was never stopped
    assert read_history(search) == read_history(tiny_search)
    assert epochs(tmp_path / "runs/x/seed-0/members/cpnas-seed-0") == [0, 1, 2]

    code, output = scheduler.run("join.sh", "runs/x")
    assert code == 0, output
    assert "training" not in output.partition("epochs trained")[0]  # nothing was
    answer = run_cpnas(tmp_path, *words, "--seeds", "0,1", "--out", "whole", timeout=200)
    assert answer.returncode == 0, answer.stderr
    assert read_document(tmp_path / "runs/x/all") == read_document(tmp_path / "whole")


@needs_proc
@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_ray_cluster_inside_a_job_is_requeued_until_it_is_done(scheduler, tmp_path):
    pytest.importorskip("ray")
    # of two other nodes one comes, as a task of a step
    scheduler.command(
        "srun",
        "while [[ $1 == -* ]]; do [[ $1 == --ntasks=* ]] && export SLURM_NTASKS=${1#*=}; shift; done\n"
        'export SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=$SLURM_NTASKS SLURM_PROCID=1\nexec "$@"',
    )
    folder = Path(tempfile.mkdtemp(prefix="cpnas-"))
    job = {"SLURM_JOB_ID": 1234567, "SLURM_JOB_NUM_NODES": 3, "SLURM_NNODES": 3, "SLURM_NTASKS": 3}
    job |= {"SLURMD_NODENAME": "node1", "RAY_TMPDIR": folder}
    words = ["compare-strategies", *TINY_OPTIONS, "--strategies", "random", "--random-draws", "2", "--seeds", "0,1"]
    members = [tmp_path / f"run/members/random-seed-{seed}-draw-{draw}" for seed in (0, 1) for draw in (0, 1)]
    try:
        code, output = scheduler.run("ray_cluster.sh", *words, "--out", "run", **job, MAX_TIME="0s")
        assert code == 75, output
        assert scheduler.asked == ["requeue 1234567"]
        assert not any((member / "result.json").exists() for member in members)
        used = set[int]()
        with scheduler.start("ray_cluster.sh", *words, "--out", "run", "--set", "train.num_epochs=3", **job) as process:

            def both() -> bool:
                used.update(ray_workers().values())
                return len(used) == 2

            wait_until(both, process)
            output, _ = process.communicate(timeout=200)
        assert process.returncode == 0, output
        assert scheduler.asked == ["requeue 1234567"]
        for member in members:
            assert epochs(member) == [0, 1, 2]
            assert (member / "result.json").exists()
        assert not [command for _, command in processes().values() if str(folder) in command]  # it left no Ray behind
    finally:
        for number, (_, command) in processes().items():
            if str(folder) in command:
                os.kill(number, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


# ---------------------------------------------------------------- no scheduler at all


@pytest.mark.long
def test_the_loops_of_the_document_end_with_the_result(scheduler, tmp_path, tiny_search):
    text = (DOCS / "scaling.md").read_text(encoding="utf-8")
    loops = next(block for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if "until cpnas search" in block)
    # the commands of the document, with tiny settings, and out of time at each one's first call
    tiny = " ".join(TINY_OPTIONS)
    scheduler.command(
        "cpnas",
        'echo "$1" >>calls; words=("$@"); [[ $(grep -c "^$1" calls) -le 1 ]] && words=("${words[@]/30m/0.01s}")\n'
        f'exec "{sys.executable}" -m cpnas_cli "${{words[@]}}" {tiny}',
    )
    answer = subprocess.run(
        ["bash", "-c", loops],
        cwd=tmp_path,
        env=scheduler.environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    calls = (tmp_path / "calls").read_text().split()
    assert calls == ["search"] * 2 + ["train"] * 2
    assert read_history(tmp_path / "runs/search") == read_history(tiny_search)
    assert epochs(tmp_path / "runs/train") == [0, 1, 2]
    assert (tmp_path / "runs/train/result.json").exists()
