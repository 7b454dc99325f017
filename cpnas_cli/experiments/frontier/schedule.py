"""Runs the members of a frontier: the search first, if there is one, then every training; what fails takes no other."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cpnas_cli.deploy.deployed import Deployed
from cpnas_cli.errors import CpnasError, MaxTimeReached
from cpnas_cli.experiments.executors import Executor
from cpnas_cli.experiments.frontier.member_records import MemberFolders
from cpnas_cli.experiments.frontier.plan import GENOTYPE, SEARCH, FrontierMember, FrontierPlan
from cpnas_cli.experiments.frontier.tasks import FrontierTask, WorkOfFrontier
from cpnas_cli.experiments.schedule import MAX_ATTEMPTS, POLL_SECONDS, Progress, count_records
from cpnas_cli.experiments.tasks import Circumstances, SearchTask, TaskEnd

NO_GENOTYPE = "the search has found no genotype"


@dataclass
class FrontierSchedule:
    """The state of a running frontier. Whatever must survive is in the members' folders.

    Args:
      changed: called after every task that ended, when the document is to be written.
      watch: called now and then with where every member stands.
      failures: {name: reason} of the members that were given up; filled here.
      notes: {name: what its user should know}; filled here.
    """

    plan: FrontierPlan
    folders: MemberFolders
    circumstances: Circumstances
    executor: Executor[WorkOfFrontier]
    changed: Callable[[], object]
    watch: Callable[["FrontierSchedule"], object]
    say: Callable[[str], None]
    failures: dict[str, str] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.progress = {member.name: Progress() for member in self.plan.members}
        self._genotype: Mapping[str, Any] | None = None
        self._waiting: list[FrontierMember] = []
        self._running: list[WorkOfFrontier] = []
        self._attempts: Counter[str] = Counter()
        self._stopped: str | None = None

    def run(self) -> None:
        """Run everything that is not done yet; members that fail twice are in `failures`.

        Raises:
          MaxTimeReached: the deadline is near; everything is saved.
        """
        for member in self.plan.members:
            if not self._has_ended(member):
                self._waiting.append(member)
        self.changed()
        while self._running or (not self._stopped and self._next() is not None):
            self._submit()
            self.watch(self)
            for task, end in self.executor.wait(POLL_SECONDS):
                self._running.remove(task)
                self._ended(task, end)
                self.changed()
        self.watch(self)
        if self._stopped:
            raise MaxTimeReached(self._stopped)
        for member in self._waiting:  # without the genotype that they wait for
            self._give_up(member, NO_GENOTYPE)
        self.changed()

    def read_progress(self) -> Mapping[str, Progress]:
        """Where every member stands; of those that run, by the length of their histories."""
        for task in self._running:
            state = self.progress[task.member.name]
            if isinstance(task, SearchTask):
                strategy, config = task.member.strategy, task.member.config
                state.done = count_records(self.folders.folder.search(task.member.name), strategy.unit)
                state.total = strategy.num_units(config)
            else:
                state.done = count_records(self.folders.folder.training(task.member.name), "epoch")
                num_networks = 2 if task.member.part == GENOTYPE else 1
                state.total = num_networks * task.member.config.train.num_epochs
        return self.progress

    def _has_ended(self, member: FrontierMember) -> bool:
        """Whether there is nothing to do for it: it is done, or what lies in its folder is not its own."""
        if member.name in self.failures:
            return True
        try:
            if self._genotype is None and member.part != "cnn":
                self._genotype = self.folders.genotype(self.plan)
            if member.part == SEARCH:
                done = self._genotype is not None
            elif member.part == GENOTYPE and self._genotype is None:
                return False
            else:
                forms = self.folders.deployed(member, self._genotype)
                done = forms is not None
                if forms is not None:
                    self.progress[member.name] = Progress("finished", accuracy_test=_shown(forms))
        except CpnasError as error:
            self._give_up(member, str(error))
            return True
        if done and member.part == SEARCH:
            self.progress[member.name] = Progress("finished")
        return done

    def _next(self) -> FrontierMember | None:
        can_run = (member for member in self._waiting if member.part != GENOTYPE or self._genotype is not None)
        return next(can_run, None)

    def _submit(self) -> None:
        while (member := self._next()) is not None and self.executor.has_room():
            stop_at = self.circumstances.stop_at
            if self._running and stop_at is not None and time.time() >= stop_at:
                self._stopped = self._stopped or "stopped: --max-time is used up"
            if self._stopped:
                return
            self._waiting.remove(member)
            if member.part == SEARCH:
                task: WorkOfFrontier = SearchTask(self.circumstances, member.search)
            else:
                genotype = self._genotype if member.part == GENOTYPE else None
                task = FrontierTask(self.circumstances, member, genotype)
            self._running.append(task)
            self.executor.submit(task)
            self.progress[member.name] = Progress("searching" if member.part == SEARCH else "training")

    def _ended(self, task: WorkOfFrontier, end: TaskEnd) -> None:
        (member,) = [member for member in self.plan.members if member.name == task.member.name]
        self._keep_notes(member, end.notes)
        if end.state == "stopped":
            self._stopped = end.reason
            self._waiting.insert(0, member)
            return
        if end.state == "done":
            if self._has_ended(member):
                return
            end = TaskEnd("failed", "it ended without a result")
        self._attempts[member.name] += 1
        if self._attempts[member.name] < MAX_ATTEMPTS:
            self.say(f"{member.name} failed and is tried again: {end.reason}")
            self._waiting.insert(0, member)
        else:
            self._give_up(member, end.reason or "it failed")

    def _give_up(self, member: FrontierMember, reason: str) -> None:
        self.failures[member.name] = reason
        self.progress[member.name] = Progress("failed")
        self.say(f"{member.name}: given up: {reason}")

    def _keep_notes(self, member: FrontierMember, notes: Sequence[str]) -> None:
        said = {note for kept in self.notes.values() for note in kept}
        kept = self.notes.setdefault(member.name, [])
        for note in notes:
            if note not in said:
                self.say(f"note: {member.name}: {note}")
            if note not in kept:
                kept.append(note)


def _shown(forms: Sequence[Deployed]) -> float:
    """The accuracy that is shown for a member: of its first form, the Child or the int8 CNN."""
    return forms[0].accuracy_test
