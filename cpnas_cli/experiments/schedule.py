"""Runs the members of an experiment: what comes next, what failed, and when it is over."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cpnas_cli.errors import CpnasError, MaxTimeReached
from cpnas_cli.experiments.executors import Executor
from cpnas_cli.experiments.member_runs import MemberRuns
from cpnas_cli.experiments.plan import Member, Plan
from cpnas_cli.experiments.shared_searches import plan_searches
from cpnas_cli.experiments.shared_trainings import NextTraining, SharedTrainings
from cpnas_cli.experiments.tasks import Circumstances, SearchTask, Task, TaskEnd, TrainingTask
from cpnas_cli.runs.folder import RunFolder

MAX_ATTEMPTS = 2
POLL_SECONDS = 0.5


@dataclass
class Progress:
    """Where a member stands, for those who watch.

    Attributes:
      phase: "waiting", "following", "searching", "training", "finished" or "failed".
      leader: whom it follows, or whose training it shares.
      done, total: units of its search, or epochs of its training.
      accuracy_test: of a finished member.
    """

    phase: str = "waiting"
    leader: str | None = None
    done: int = 0
    total: int = 0
    accuracy_test: float | None = None


@dataclass
class Schedule:
    """The state of a running experiment: the queue of searches, and the table of trainings.

    Whatever must survive is in the members' folders.

    Args:
      changed: called after every task that ended, when the experiment's document is to be written.
      watch: called now and then with where every member stands.
      failures: {name: reason} of the members that were given up; filled here.
      notes: {name: what its user should know}; filled here.
    """

    plan: Plan
    runs: MemberRuns
    circumstances: Circumstances
    executor: Executor[Task]
    changed: Callable[[], object]
    watch: Callable[["Schedule"], object]
    say: Callable[[str], None]
    failures: dict[str, str] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.progress = {member.name: Progress() for member in self.plan.members}
        self.trainings = SharedTrainings()
        self._searches: deque[SearchTask] = deque()
        self._search_attempts: Counter[str] = Counter()
        self._foreign: set[str] = set()  # whose search folder holds another run
        self._running: list[Task] = []
        self._stopped: str | None = None
        self._noted: dict[str, set[str]] = {}  # {note: whom it was about, this time}

    def run(self) -> None:
        """Run everything that is not done yet; members that fail twice are in `failures`.

        Raises:
          MaxTimeReached: the deadline is near; everything is saved.
        """
        self._start()
        self.changed()
        while self._running or (not self._stopped and self._has_work()):
            self._submit()
            self.watch(self)
            for task, end in self.executor.wait(POLL_SECONDS):
                self._running.remove(task)
                self._ended(task, end)
                self.changed()
        self.watch(self)
        self._say_notes_of_several()
        if self._stopped:
            raise MaxTimeReached(self._stopped)
        self._check_complete()

    def read_progress(self) -> Mapping[str, Progress]:
        """Where every member stands; of those that run, by the length of their histories."""
        folder = self.runs.folder
        for task in self._running:
            member, state = task.member, self.progress[task.member.name]
            if isinstance(task, SearchTask):
                state.done = count_records(folder.search(member.name), member.strategy.unit)
                state.total = member.strategy.num_units(member.config)
            else:
                state.done = count_records(folder.training(member.name), "epoch")
                state.total = member.config.train.num_epochs
        return self.progress

    def _start(self) -> None:
        """Enter what the folders hold; every member, before anybody trains what another one has."""
        groups: dict[str, list[Member]] = {}
        for member in self.plan.members:
            groups.setdefault(member.search_key, []).append(member)
            try:
                self.runs.check_search(member)
            except CpnasError as error:
                self._foreign.add(member.name)
                self._give_up(member, f"search: {error}")
                continue
            try:
                self.runs.check_training(member)
            except CpnasError as error:  # now, and not when its search has ended
                self._give_up(member, f"training: {error}")
        for members in groups.values():
            self._searches += self._next_searches(members)
        self._enter(self.plan.members)

    def _has_work(self) -> bool:
        return bool(self._searches) or self._next_training() is not None

    def _next_searches(self, members: Sequence[Member]) -> list[SearchTask]:
        """What members of one seed need to search next."""
        own = [member for member in members if member.name not in self._foreign]
        given_up = [member for member in own if member.name in self.failures]
        return plan_searches(own, circumstances=self.circumstances, given_up=given_up)

    def _next_training(self) -> NextTraining | None:
        return self.trainings.next(lambda member: self.runs.folder.training(member.name).checkpoint.exists())

    def _enter(self, members: Sequence[Member]) -> None:
        """Enter those members into the table of trainings whose searches have ended."""
        for member in members:
            if member.name in self.failures or member in self.trainings:
                continue
            part = "search"
            try:
                genotype = self.runs.genotype(member)
                if genotype is None:
                    continue
                part = "training"
                result = self.runs.result(member, genotype)
            except CpnasError as error:
                self._give_up(member, f"{part}: {error}")
                continue
            row = self.trainings.enter(member, genotype)
            if result is None:
                row.waiting.append(member)
            else:
                self._finish(member, result)
        self._show_followers()

    def _submit(self) -> None:
        while self._has_work() and self.executor.has_room():
            stop_at = self.circumstances.stop_at
            if self._running and stop_at is not None and time.time() >= stop_at:
                self._stopped = self._stopped or "stopped: --max-time is used up"
            if self._stopped:
                return
            # searches first: trainings wait for them and not the other way round
            task = self._searches.popleft() if self._searches else self._begin_training()
            self._running.append(task)
            self.executor.submit(task)
            phase = "searching" if isinstance(task, SearchTask) else "training"
            self.progress[task.member.name] = Progress(phase)
            if isinstance(task, SearchTask):
                for follower in task.followers:
                    self.progress[follower.name] = Progress("following", task.member.name)
            else:
                self._show_followers()

    def _begin_training(self) -> TrainingTask:
        following = self._next_training()
        if following is None:
            raise RuntimeError("internal error: no training is left to begin")
        row, source = following.row, following.source
        member = row.begin()
        if source is None and row.finished:
            gone = row.finished[0].name
            self._keep_notes(member, [f"it trains what {gone} has trained: the checkpoint of {gone} is gone"])
        return TrainingTask(self.circumstances, member, same_as=None if source is None else source.name)

    def _ended(self, task: Task, end: TaskEnd) -> None:
        self._keep_notes(task.member, end.notes)
        if end.state == "stopped":
            self._stopped = end.reason
        if isinstance(task, SearchTask):
            self._search_ended(task, end)
        else:
            self._training_ended(task.member, end)

    def _search_ended(self, task: SearchTask, end: TaskEnd) -> None:
        if end.state == "stopped":
            return
        member, members = task.member, [task.member, *task.followers]
        if end.state == "done":
            searches = self._next_searches(members)
            if task not in searches:
                self._searches += searches
                self._enter(members)
                return
            end = TaskEnd("failed", "it ended and has found nothing")
        self._search_attempts[member.name] += 1
        if self._search_attempts[member.name] < MAX_ATTEMPTS:
            self._say_again(member, "search", end)
            self._searches.appendleft(task)
            return
        self._give_up(member, f"search: {end.reason}")
        self._searches += self._next_searches(members)
        self._enter(members)

    def _training_ended(self, member: Member, end: TaskEnd) -> None:
        row = self.trainings.row_of(member)
        if end.state == "stopped":
            row.stop(member)
            return
        if end.state == "done":
            try:
                result = self.runs.result(member, row.genotype)
            except CpnasError as error:
                end = TaskEnd("failed", str(error))
            else:
                if result is not None:
                    self._finish(member, result)
                    return
                end = TaskEnd("failed", "it ended without a result")
        if row.fail(member, max_attempts=MAX_ATTEMPTS):
            self._say_again(member, "training", end)
        else:
            self._give_up(member, f"training: {end.reason}")

    def _finish(self, member: Member, result: Mapping[str, Any]) -> None:
        by_itself = not self.runs.folder.training(member.name).file(RunFolder.BRANCH).exists()
        self.trainings.row_of(member).finish(member, by_itself=by_itself)
        self.progress[member.name] = Progress("finished", accuracy_test=result["accuracy_test"])

    def _give_up(self, member: Member, reason: str) -> None:
        self.failures[member.name] = reason
        self.progress[member.name] = Progress("failed")
        self.say(f"{member.name}: given up: {reason}")

    def _say_again(self, member: Member, part: str, end: TaskEnd) -> None:
        self.say(f"{member.name}: its {part} failed and is tried again: {end.reason}")

    def _show_followers(self) -> None:
        """Those that wait for another one's training follow it."""
        for row in self.trainings.rows.values():
            if row.trainer is not None:
                for member in row.waiting:
                    self.progress[member.name] = Progress("following", row.trainer.name)

    def _keep_notes(self, member: Member, notes: Sequence[str]) -> None:
        """A note is said when it is new, and once more at the end if it is about several members."""
        kept = self.notes.setdefault(member.name, [])
        for note in notes:
            if note in kept:
                continue
            kept.append(note)
            if note not in self._noted:
                self.say(f"note: {member.name}: {note}")
            self._noted.setdefault(note, set()).add(member.name)

    def _say_notes_of_several(self) -> None:
        for note, names in self._noted.items():
            if len(names) > 1:
                self.say(f"note: {len(names)} members: {note}")

    def _check_complete(self) -> None:
        """Every member has ended; that it has is what the user is told by the exit code."""
        left = [
            member.name
            for member in self.plan.members
            if member.name not in self.failures and not self.trainings.is_finished(member)
        ]
        if left:
            raise RuntimeError(f"internal error: these members are neither finished nor failed: {', '.join(left)}")


def count_records(run: RunFolder, event: str) -> int:
    """How many records of this event a run has so far."""
    file = run.file(RunFolder.HISTORY)
    text = file.read_bytes() if file.exists() else b""
    return text.count(f'"event": "{event}"'.encode())
