"""The units of work of an experiment: a stretch of a search, and a training. What a worker runs.

A task is plain data and finds everything else in the experiment's folder, so that any process that
sees the folder can run it, and a task that was killed can simply be run again.
"""

import functools
import shutil
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from lightning_fabric import Fabric

from cpnas_cli.data.dataset import Dataset, load_dataset
from cpnas_cli.distributed.device import open_device
from cpnas_cli.errors import CpnasError, MaxTimeReached
from cpnas_cli.experiments.plan import ExperimentFolder, Member
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder, branch_document
from cpnas_cli.runs.opening import Check, OpenedRun, open_run_for
from cpnas_cli.settings import Config, DataConfig, DtypeName
from cpnas_cli.storage.documents import TRAINING_SCHEMA, replacing, write_json, write_text
from cpnas_cli.storage.genotype_file import provenance_of, read_genotype
from cpnas_cli.strategies import run_search, write_genotype
from cpnas_cli.strategies.base import Search
from cpnas_cli.strategies.checks import check_search
from cpnas_cli.training.checks import check_training
from cpnas_cli.training.trained_networks import trained_networks
from cpnas_cli.training.training import Training, journal_of

LOST_NODE_SECONDS = 120
"""For whoever had the task before to end.

When a node is lost, Ray reports its tasks as failed at once. Its workers end some seconds later, or, where only the
network failed, when it gives up; until then they write into their run folders.
"""


@dataclass(frozen=True)
class Circumstances:
    """What is the same for all tasks of one command: where, on which device, until when."""

    folder: Path
    device: str
    command: tuple[str, ...]
    stop_at: float | None = None  # seconds since the epoch

    def deadline(self) -> Deadline:
        return Deadline(None if self.stop_at is None else max(self.stop_at - time.time(), 0.0))


class Named(Protocol):
    """What a task is for."""

    @property
    def name(self) -> str: ...


class Work(Protocol):
    """What an executor runs: plain data that knows how it is done."""

    @property
    def circumstances(self) -> Circumstances: ...

    @property
    def member(self) -> Named: ...

    def work(self, notes: "Notes", wait_seconds: float) -> None:
        """Do it in this process.

        Args:
          notes: collects what the user should know.
          wait_seconds: for whoever had the folder before.

        Raises:
          MaxTimeReached: saved. Exception: whatever went wrong.
        """
        ...


@dataclass(frozen=True)
class SearchTask:
    """Search as `member` until its end, or until one of the followers abandons other operations."""

    circumstances: Circumstances
    member: Member
    followers: tuple[Member, ...] = ()

    def work(self, notes: "Notes", wait_seconds: float) -> None:
        _search(self, notes, wait_seconds)


@dataclass(frozen=True)
class TrainingTask:
    """Train the member's genotype; or, where another member trained the same one, take over its weights."""

    circumstances: Circumstances
    member: Member
    same_as: str | None = None

    def work(self, notes: "Notes", wait_seconds: float) -> None:
        _train(self, notes, wait_seconds)


Task = SearchTask | TrainingTask


@dataclass(frozen=True)
class TaskEnd:
    """How a task ended: done, stopped at the deadline (saved), or failed with a reason of one line.

    Attributes:
      notes: what the user should know of the run, a line each: that its bits will differ, that it was not compiled.
    """

    state: Literal["done", "stopped", "failed"]
    reason: str | None = None
    notes: tuple[str, ...] = ()


class Notes:
    """Collects the notes of a run, those of its opening and those that it gives while it runs."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def notify(self, record: Mapping[str, Any]) -> None:
        """The `Notify` of the run. A passing note is about the moment, which is over when the task has ended."""
        if record["event"] == "note" and not record.get("passing"):
            self.texts.append(record["text"])


def run_task(task: Work, *, num_threads: int | None = None, wait_seconds: float = LOST_NODE_SECONDS) -> TaskEnd:
    """Run the task in this process, after whoever had its folder before is gone.

    Never raises an `Exception`: what went wrong is in its end and the log.
    """
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    notes = Notes()
    try:
        task.work(notes, wait_seconds)
    except MaxTimeReached as error:
        return TaskEnd("stopped", str(error), tuple(notes.texts))
    except Exception as error:  # whatever it is, it must not take the other members with it
        log = ExperimentFolder(task.circumstances.folder).log(task.member.name)
        write_text(log, traceback.format_exc())
        reason = str(error) if isinstance(error, CpnasError) else f"{type(error).__name__}: {error}"
        return TaskEnd("failed", f"{' '.join(reason.split())} (all of it in {log})", tuple(notes.texts))
    return TaskEnd("done", notes=tuple(notes.texts))


def _search(task: SearchTask, notes: Notes, wait_seconds: float) -> None:
    member = task.member
    run = ExperimentFolder(task.circumstances.folder).search(member.name)
    with opened_member(
        task.circumstances,
        member.config,
        run,
        dtype=member.config.search.dtype,
        check=check_search,
        wait_seconds=wait_seconds,
    ) as opened:
        notes.texts += opened.notes
        search = Search(opened.run, opened.config, opened.dataset, opened.fabric, opened.deadline, notes.notify)
        if not task.followers:
            run_search(search)
            return
        genotype = member.strategy.advance(search, stop=lambda: not _all_agree(run, task.followers))
        if genotype is not None:
            write_genotype(run, member.config, opened.dataset, genotype)


def _all_agree(run: RunFolder, followers: Sequence[Member]) -> bool:
    history = run.history()
    for follower in followers:
        rereading = follower.strategy.reread(history, follower.config)
        if rereading is None or not rereading.agrees:
            return False
    return True


def _train(task: TrainingTask, notes: Notes, wait_seconds: float) -> None:
    folder, member = ExperimentFolder(task.circumstances.folder), task.member
    genotype, document = read_genotype(folder.search(member.name).path)
    with opened_member(
        task.circumstances,
        member.config,
        folder.training(member.name),
        dtype=member.config.train.dtype,
        check=check_training,
        documents={
            RunFolder.GENOTYPE: document,
            RunFolder.TRAINING: {
                "schema": TRAINING_SCHEMA,
                "networks": list(trained_networks(member.config, ("child",))),
            },
        },
        wait_seconds=wait_seconds,
    ) as opened:
        notes.texts += opened.notes
        if task.same_as is not None and not opened.run.checkpoint.exists():
            _take_over(folder.training(task.same_as), opened.run, notes)
        Training(
            opened.run,
            opened.config,
            genotype,
            opened.dataset,
            fabric=opened.fabric,
            networks=("child",),
            provenance=provenance_of(document),
            deadline=opened.deadline,
            notify=notes.notify,
        ).train()


def _take_over(source: RunFolder, target: RunFolder, notes: Notes) -> None:
    """A finished training's history, last checkpoint and Parent, if it has one; what remains is to evaluate it.

    Where they cannot be had, the target has nothing, and trains to the same bits.
    """
    try:
        saved = journal_of(source).peek()
        reason = f"the checkpoint of {source.path.name} is gone"
    except CpnasError as error:
        saved, reason = None, str(error)
    if saved is None:
        notes.texts.append(f"it trains what {source.path.name} has trained: {reason}")
        return
    parent = source.file(RunFolder.PARENT_MODEL)
    if parent.exists():
        with replacing(target.file(RunFolder.PARENT_MODEL)) as temporary:
            shutil.copyfile(parent, temporary)
    write_json(target.file(RunFolder.BRANCH), branch_document(source, num_epochs=saved.state["epoch"]))
    journal_of(target).begin(saved.records, saved.tensors, saved.state)


def opened_member(
    circumstances: Circumstances,
    config: Config,
    run: RunFolder,
    *,
    dtype: DtypeName,
    check: Check,
    wait_seconds: float,
    documents: Mapping[str, Mapping[str, Any]] | None = None,
) -> AbstractContextManager[OpenedRun]:
    """The member's run in this folder, new or as it was left; locked until the task ends."""
    return open_run_for(
        config,
        folder=run.path,
        fabric=_fabric(circumstances.device, dtype),
        resume=True,
        deadline=circumstances.deadline(),
        check=check,
        dataset=_images(config.data.model_dump_json()),
        documents=documents,
        command=circumstances.command,
        wait_seconds=wait_seconds,
    )


@functools.lru_cache(maxsize=1)
def _images(settings: str) -> Dataset:
    """Decoded once per process: every member has the same."""
    return load_dataset(DataConfig.model_validate_json(settings))


@functools.lru_cache(maxsize=2)  # a search's and a training's
def _fabric(device: str, dtype: DtypeName) -> Fabric:
    return open_device(device, dtype=dtype)
