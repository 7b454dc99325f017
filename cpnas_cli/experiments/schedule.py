"""Runs the members of an experiment: what comes next, what failed, and when it is over."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cpnas_cli.errors import CpnasError, MaxTimeReached
from cpnas_cli.experiments.executors import Executor
from cpnas_cli.experiments.plan import ExperimentFolder, Member, Plan
from cpnas_cli.experiments.shared_searches import has_genotype, plan_searches
from cpnas_cli.experiments.tasks import Circumstances, SearchTask, Task, TaskEnd, TrainingTask
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.search_space import Genotype
from cpnas_cli.storage.genotype_file import read_genotype

MAX_ATTEMPTS = 2
POLL_SECONDS = 0.5


@dataclass
class Progress:
    """Where a member stands, for those who watch.

    Attributes:
      phase: "waiting", "following", "searching", "training", "finished" or "failed".
      leader: whom it follows, or whose training it shares.
      done, total: units of its search, or epochs of its training.
    """

    phase: str = "waiting"
    leader: str | None = None
    done: int = 0
    total: int = 0


@dataclass
class Schedule:
    """The state of a running experiment. Whatever must survive is in the members' folders.

    Args:
      changed: called after every task that ended, when the experiment's document is to be written.
      watch: called now and then with where every member stands.
    """

    plan: Plan
    circumstances: Circumstances
    executor: Executor
    changed: Callable[[], object]
    watch: Callable[["Schedule"], object]
    say: Callable[[str], None]
    failures: dict[str, str] = field(default_factory=dict)
    progress: dict[str, Progress] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder = ExperimentFolder(self.circumstances.folder)
        self.progress = {member.name: Progress() for member in self.plan.members}
        self._searches: deque[SearchTask] = deque()
        self._trainings: deque[TrainingTask] = deque()
        self._running: list[Task] = []
        self._attempts: Counter[tuple[str, str]] = Counter()
        self._stopped: str | None = None
        # who trains a genotype, and who waits to take it over, by (training key, genotype)
        self._trainer: dict[tuple[str, Genotype], Member] = {}
        self._same: dict[tuple[str, Genotype], list[Member]] = {}

    def run(self) -> None:
        """Run everything that is not done yet; members that fail twice are in `failures`.

        Raises:
          MaxTimeReached: the deadline is near; everything is saved.
        """
        groups: dict[str, list[Member]] = {}
        for member in self.plan.members:
            groups.setdefault(member.search_key, []).append(member)
        for members in groups.values():
            self._go_on(members)
        self.changed()
        while self._running or (not self._stopped and (self._searches or self._trainings)):
            self._submit()
            self.watch(self)
            for task, end in self.executor.wait(POLL_SECONDS):
                self._running.remove(task)
                self._ended(task, end)
                self.changed()
        self.watch(self)
        if self._stopped:
            raise MaxTimeReached(self._stopped)

    def read_progress(self) -> Mapping[str, Progress]:
        """Where every member stands; of those that run, by the length of their histories."""
        for task in self._running:
            member, state = task.member, self.progress[task.member.name]
            if isinstance(task, SearchTask):
                state.done = _count_records(self.folder.search(member.name), member.strategy.unit)
                state.total = member.strategy.num_units(member.config)
            else:
                state.done = _count_records(self.folder.training(member.name), "epoch")
                state.total = member.config.train.num_epochs
        return self.progress

    def _submit(self) -> None:
        while (self._searches or self._trainings) and self.executor.has_room():
            stop_at = self.circumstances.stop_at
            if self._running and stop_at is not None and time.time() >= stop_at:
                self._stopped = self._stopped or "stopped: --max-time is used up"
            if self._stopped:
                return
            # searches first: trainings wait for them and not the other way round
            task = self._searches.popleft() if self._searches else self._trainings.popleft()
            self._running.append(task)
            self.executor.submit(task)
            phase = "searching" if isinstance(task, SearchTask) else "training"
            self.progress[task.member.name] = Progress(phase)
            for follower in task.followers if isinstance(task, SearchTask) else ():
                self.progress[follower.name] = Progress("following", task.member.name)

    def _ended(self, task: Task, end: TaskEnd) -> None:
        member = task.member
        if end.state == "stopped":
            self._stopped = end.reason
            return
        if end.state == "failed":
            kind = "search" if isinstance(task, SearchTask) else "training"
            self._attempts[member.name, kind] += 1
            if self._attempts[member.name, kind] < MAX_ATTEMPTS:
                self.say(f"{member.name}: its {kind} failed and is tried again: {end.reason}")
                self._requeue(task)
                return
            self._give_up(member, f"{kind}: {end.reason}")
        if isinstance(task, SearchTask):
            self._go_on([member, *task.followers])
        else:
            self._training_ended(task)

    def _give_up(self, member: Member, reason: str) -> None:
        self.failures[member.name] = reason
        self.progress[member.name] = Progress("failed")
        self.say(f"{member.name}: given up: {reason}")

    def _requeue(self, task: Task) -> None:
        if isinstance(task, SearchTask):
            self._searches.appendleft(task)
        else:
            self._trainings.appendleft(task)

    def _go_on(self, members: Sequence[Member]) -> None:
        """Plan what members of one seed need next."""
        given_up = [member for member in members if member.name in self.failures]
        self._searches += plan_searches(members, circumstances=self.circumstances, given_up=given_up)
        for member in members:
            if member not in given_up and has_genotype(self.folder, member):
                try:
                    self._plan_training(member)
                except CpnasError as error:
                    self._give_up(member, f"training: {error}")

    def _plan_training(self, member: Member) -> None:
        genotype, _ = read_genotype(self.folder.search(member.name).path)
        key = (member.training_key, genotype)
        if self._trainer.get(key) == member or member in self._same.get(key, ()):
            return
        if self._is_finished(member):
            self._trainer[key] = member
            self.progress[member.name] = Progress("finished")
        elif key not in self._trainer:
            self._trainer[key] = member
            self._trainings.append(TrainingTask(self.circumstances, member))
        elif self._is_finished(self._trainer[key]):
            self._share(member, self._trainer[key])
        else:
            self._same.setdefault(key, []).append(member)
            self.progress[member.name] = Progress("following", self._trainer[key].name)

    def _share(self, member: Member, trained: Member) -> None:
        self._trainings.appendleft(TrainingTask(self.circumstances, member, same_as=trained.name))

    def _training_ended(self, task: TrainingTask) -> None:
        member = task.member
        if self._is_finished(member):
            self.progress[member.name] = Progress("finished")
        for key, trainer in list(self._trainer.items()):
            if trainer != member or key not in self._same:
                continue
            waiting = self._same.pop(key)
            if member.name in self.failures:
                del self._trainer[key]
                for other in waiting:
                    self._plan_training(other)
            else:
                for other in waiting:
                    self._share(other, member)

    def _is_finished(self, member: Member) -> bool:
        return self.folder.training(member.name).file(RunFolder.RESULT).exists()


def _count_records(run: RunFolder, event: str) -> int:
    file = run.file(RunFolder.HISTORY)
    text = file.read_bytes() if file.exists() else b""
    return text.count(f'"event": "{event}"'.encode())
