"""Frontiers whose tasks are played: each leaves the files of a real one, and nothing is trained or timed."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from played_experiments import DATASET, genotype, write, write_search

from cpnas_cli.deploy.deployed import FLOAT32_CNN, FLOAT32_PARENT, INT8_CNN, INT8_PARENT, ONE_BIT
from cpnas_cli.efficiency.timing import Timing
from cpnas_cli.experiments.frontier import run as frontier_run
from cpnas_cli.experiments.frontier.plan import FrontierFolder, FrontierMember, FrontierPlan
from cpnas_cli.experiments.frontier.run import run_frontier
from cpnas_cli.experiments.frontier.tasks import FrontierTask, WorkOfFrontier, owned_documents
from cpnas_cli.experiments.tasks import SearchTask, TaskEnd
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.settings import config_yaml
from cpnas_cli.storage.documents import DEPLOYED_SCHEMA

FAMILIES = {"genotype": [ONE_BIT, INT8_PARENT, FLOAT32_PARENT], "cnn": [INT8_CNN, FLOAT32_CNN]}


def accuracy_of(member: FrontierMember, family: str) -> float:
    return hashlib.sha256(f"{member.name} {family}".encode()).digest()[0] / 256


class PlayedExecutor:
    """Plays the tasks one after the other, and is interrupted after so many."""

    def __init__(self, *, most: int = 1000, ends: Callable[[str], TaskEnd | None] = lambda _: None) -> None:
        self.most, self.ends = most, ends
        self.played: list[str] = []
        self._task: WorkOfFrontier | None = None

    def has_room(self) -> bool:
        return self._task is None

    def submit(self, task: WorkOfFrontier) -> None:
        if len(self.played) == self.most:
            raise KeyboardInterrupt
        self.played.append(task.member.name)
        self._task = task

    def wait(self, seconds: float) -> list[tuple[WorkOfFrontier, TaskEnd]]:
        del seconds
        task, self._task = self._task, None
        assert task is not None
        end = self.ends(task.member.name)
        if end is None:
            play_task(task)
        return [(task, end or TaskEnd("done"))]

    def close(self) -> None:
        pass


def play_task(task: WorkOfFrontier) -> None:
    folder = FrontierFolder(task.circumstances.folder)
    if isinstance(task, SearchTask):
        write_search(folder, task.member, genotype(2))
    else:
        write_member(folder, task)


def write_member(folder: FrontierFolder, task: FrontierTask) -> None:
    member, run = task.member, folder.training(task.member.name)
    write(run.file(RunFolder.CONFIG), config_yaml(member.config))
    write(run.file(RunFolder.DATASET), DATASET)
    for name, document in owned_documents(member, task.genotype).items():
        write(run.file(name), document)
    write(run.file(RunFolder.RESULT), {"seconds": 1.0, "seconds_parent": 2.0 if member.part == "genotype" else None})
    forms = []
    for index, family in enumerate(FAMILIES[member.part]):
        write(run.file(f"{index}.bin"), "a network")
        form = {"family": family, "file": f"{index}.bin", "bytes": 20000 * (index + 1), "file_bytes": 9}
        forms.append({**form, "accuracy_test": accuracy_of(member, family)})
    write(run.file("deployed.json"), {"schema": DEPLOYED_SCHEMA, "networks": forms})


def play_timing(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Nothing is measured; how many points would have been, each time."""
    counts: list[int] = []

    def time_points(forms: Any) -> dict[Any, Timing]:
        counts.append(len(forms))
        return {key: Timing(1e-3, 9e-4, 2e-3) for key in forms}

    monkeypatch.setattr(frontier_run, "time_points", time_points)
    return counts


def play(
    asked: FrontierPlan, folder: Path, executor: PlayedExecutor, *, measure_again: bool = False
) -> tuple[dict[str, Any], list[str]]:
    said: list[str] = []
    document = run_frontier(
        asked,
        folder=folder,
        executor=lambda: executor,
        device="cpu",
        dataset=DATASET,
        environment={"command": ["cpnas"]},
        deadline=Deadline(),
        measure_again=measure_again,
        say=said.append,
        watch=lambda schedule: schedule.read_progress(),
    )
    written = json.loads((folder / "frontier.json").read_text())
    assert written.pop("blake2b")
    assert written == json.loads(json.dumps(document))
    return written, said
