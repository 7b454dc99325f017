"""Experiments whose tasks are played: each leaves the files of a real one, and nothing is trained."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cpnas_cli.experiments.plan import ExperimentFolder, Member, Plan
from cpnas_cli.experiments.run import run_experiment
from cpnas_cli.experiments.schedule import Schedule
from cpnas_cli.experiments.tasks import SearchTask, Task, TaskEnd, TrainingTask
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder, branch_document
from cpnas_cli.search_space import EDGES, OPERATIONS, Genotype
from cpnas_cli.settings import Config
from cpnas_cli.storage.documents import DATASET_SCHEMA, RESULT_SCHEMA, TRAINING_SCHEMA
from cpnas_cli.storage.genotype_file import genotype_document, read_genotype

DATASET = {"schema": DATASET_SCHEMA, "classes": ["0", "1"], "num_train_images": 40, "hash": "0123", "mean": [0.5]}
OPS = tuple(op for op in OPERATIONS if op != "none")


def genotype(number: int) -> Genotype:
    """One of seven genotypes: all edges have the same operation."""
    cell = (OPS[number % len(OPS)],) * len(EDGES)
    return Genotype(normal=cell, reduce=cell)


def random_plan(num_draws: int, *, seeds: Sequence[int] = (0,), config: Config | None = None) -> Plan:
    return Plan("comparison", ("random",), tuple(seeds), config or Config(), random_draws=num_draws)


def accuracy_of(seed: int, found: Genotype) -> float:
    """What the training of a genotype with a seed reaches, always the same."""
    digest = hashlib.sha256(f"{seed} {found}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


class PlayedExecutor:
    """Plays the tasks, so many at a time; each begins when it is submitted and writes its files when it ends.

    Args:
      finds: the number of the genotype of a member's search.
      ends: how a task ends instead of well; None: well.
      choose: which of the running tasks ends next.
    """

    def __init__(
        self,
        finds: Callable[[Member], int] = lambda _: 0,
        *,
        ends: Callable[[Task], TaskEnd | None] = lambda _: None,
        choose: Callable[[Sequence[Task]], int] = lambda _: 0,
        num_slots: int = 1,
    ) -> None:
        self.finds, self.ends, self.choose, self.num_slots = finds, ends, choose, num_slots
        self.tasks: list[Task] = []
        self.running: list[Task] = []

    def has_room(self) -> bool:
        return len(self.running) < self.num_slots

    def submit(self, task: Task) -> None:
        self.tasks.append(task)
        self.running.append(task)

    def wait(self, seconds: float) -> list[tuple[Task, TaskEnd]]:
        del seconds
        if not self.running:
            return []
        task = self.running.pop(self.choose(self.running))
        return [(task, self.ends(task) or self._play(task))]

    def close(self) -> None:
        pass

    def _play(self, task: Task) -> TaskEnd:
        folder = ExperimentFolder(task.circumstances.folder)
        if isinstance(task, SearchTask):
            write_search(folder, task.member, genotype(self.finds(task.member)))
        else:
            write_training(folder, task.member, same_as=task.same_as)
        return TaskEnd("done")

    @property
    def trained(self) -> list[str]:
        """Members whose trainings began, without those that take over from another."""
        return [task.member.name for task in self.tasks if isinstance(task, TrainingTask) and task.same_as is None]


def write(file: Path, content: str | Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))


def write_search(folder: ExperimentFolder, member: Member, found: Genotype) -> None:
    run = folder.search(member.name)
    write(run.file(RunFolder.CONFIG), member.config_text)
    write(run.file(RunFolder.DATASET), DATASET)
    write(run.file(RunFolder.GENOTYPE), genotype_document(found, provenance={"seed": member.seed}))


def write_training(folder: ExperimentFolder, member: Member, *, same_as: str | None = None) -> None:
    run = folder.training(member.name)
    found, document = read_genotype(folder.search(member.name).path)
    write(run.file(RunFolder.CONFIG), member.config_text)
    write(run.file(RunFolder.DATASET), DATASET)
    write(run.file(RunFolder.GENOTYPE), document)
    write(run.file(RunFolder.TRAINING), {"schema": TRAINING_SCHEMA, "networks": ["child"]})
    num_epochs = member.config.train.num_epochs
    if same_as is not None:
        write(run.file(RunFolder.BRANCH), branch_document(folder.training(same_as), num_epochs=num_epochs))
    write(run.checkpoint, "played")
    result = {
        "schema": RESULT_SCHEMA,
        "network": "child",
        "accuracy_test": accuracy_of(member.seed, found),
        "num_parameters": 10,
        "num_binary_weights": 8,
        "size_bits": 72,
        "num_epochs": num_epochs,
        "seconds": 1.0,
        "seed": member.seed,
        "genotype": document,
    }
    write(run.file(RunFolder.RESULT), result)


def play(
    plan: Plan,
    folder: Path,
    executor: PlayedExecutor | None = None,
    *,
    command: Sequence[str] = ("cpnas",),
    watch: Callable[[Schedule], object] = Schedule.read_progress,
) -> tuple[dict[str, Any], list[str]]:
    """The experiment's document, and what was said."""
    said: list[str] = []
    document = run_experiment(
        plan,
        folder=folder,
        executor=lambda: executor or PlayedExecutor(),
        device="cpu",
        dataset=DATASET,
        environment={"command": list(command)},
        deadline=Deadline(),
        say=said.append,
        watch=watch,
    )
    written = json.loads((folder / "experiment.json").read_text())
    assert written.pop("blake2b")
    assert written == json.loads(json.dumps(document))
    return written, said


def states(document: dict[str, Any]) -> dict[str, str]:
    return {member["name"]: member["state"] for member in document["members"]}


def errors(document: dict[str, Any]) -> dict[str, str]:
    """{name: why} of the members that failed."""
    return {member["name"]: member["error"] for member in document["members"] if member["state"] == "failed"}
