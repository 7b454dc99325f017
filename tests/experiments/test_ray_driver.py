"""The command that has begun an experiment on Ray is killed, and typed again on the same cluster.

One node kills what the command has left, as Ray does. The other has lost the network: Ray cannot end its worker, which
goes on writing while the second command runs. The oracle is the same experiment without Ray, which nothing happened to.
"""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY_OPTIONS, run_cpnas
from ray_nodes import Cluster, processes, ray_workers, wait_until

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="finds processes under /proc")

NUM_EPOCHS = 40
NAMES = ("random-seed-0-draw-0", "random-seed-0-draw-1")
WORDS = ["compare-strategies", *TINY_OPTIONS, "--set", f"train.num_epochs={NUM_EPOCHS}", "--strategies", "random"]
WORDS += ["--random-draws", "2", "--seeds", "0", "--json"]


def start(folder: Path, cluster: Cluster) -> subprocess.Popen[str]:
    return cluster.begin([*WORDS, "--out", "run"], folder, start_new_session=True)


def epochs(member: Path) -> list[int]:
    """Those of its history that are whole."""
    history = member / "history.jsonl"
    lines = history.read_text().split("\n")[:-1] if history.exists() else []
    return [record["epoch"] for record in map(json.loads, lines) if record["event"] == "epoch"]


def holder(member: Path) -> int:
    """The process that works in its folder, or did when it was killed."""
    return json.loads((member / ".lock.json").read_text())["pid"]


def stopped_in_the_middle(member: Path) -> bool:
    """Stops its worker after three epochs: one member must not end before the other one has begun."""
    if len(epochs(member)) < 3:
        return False
    os.kill(holder(member), signal.SIGSTOP)
    return True


def made(folder: Path) -> dict[str, bytes]:
    """What neither holds a time nor is made from one."""
    kinds = ("genotype.json", "config.yaml", "model.safetensors")
    return {str(path.relative_to(folder)): path.read_bytes() for kind in kinds for path in folder.rglob(kind)}


def accuracies(printed: str) -> list[tuple[Any, ...]]:
    return [(each["name"], each["state"], each["accuracy_test"]) for each in json.loads(printed)["members"]]


def times(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@needs_proc
@pytest.mark.long
@pytest.mark.timeout(900)
def test_an_experiment_outlives_the_command_that_began_it(cluster: Cluster, tmp_path: Path) -> None:
    run = tmp_path / "run"
    head, other = cluster.add_node(), cluster.add_node()
    members = [run / "members" / name for name in NAMES]
    with start(tmp_path, cluster) as killed:
        wait_until(lambda: not [each for each in members if not stopped_in_the_middle(each)], killed)
        workers = {raylet: worker for worker, raylet in ray_workers().items()}
        assert workers.keys() == {head, other}  # a member on each
        left = next(member for member in members if holder(member) == workers[other])
        kept = len(epochs(left))
        os.kill(other, signal.SIGSTOP)
        killed.kill()
        os.kill(workers[head], signal.SIGCONT)

    with start(tmp_path, cluster) as again:
        wait_until(lambda: workers[head] not in processes(), again)  # Ray has ended it
        wait_until(lambda: head in ray_workers().values(), again)
        os.kill(workers[other], signal.SIGCONT)
        wait_until(lambda: len(epochs(left)) > kept + 1, again)
        assert holder(left) == workers[other]  # who has written them
        stdout, stderr = again.communicate(timeout=500)
    assert again.returncode == 0, stderr
    for member in members:
        assert epochs(member) == list(range(NUM_EPOCHS))  # no epoch is lost, none was written by two
    assert not ray_workers(), "nothing works any more"
    before = times(run)
    time.sleep(3)
    assert times(run) == before

    answer = run_cpnas(tmp_path, *WORDS, "--out", "alone", timeout=400)
    assert answer.returncode == 0, answer.stderr
    assert accuracies(stdout) == accuracies(answer.stdout)
    assert made(run) == made(tmp_path / "alone")
    assert not list(run.rglob(".*.tmp"))
