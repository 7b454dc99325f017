"""The trainings of an experiment as one table: members that train one genotype to the same result share a row.

One of them trains; those that wait take over from it. If it fails for good, the next one trains.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from cpnas_cli.experiments.plan import Member
from cpnas_cli.search_space import Genotype


@dataclass
class SharedTraining:
    """A row of the table. Each of its members is in one of the lists.

    Attributes:
      waiting: want it, and no task of theirs runs.
      running: train it, or take it over.
      finished: have its result; the first one has trained it by itself, if any has.
      failed: were given up.
      attempts: {name: tasks that failed}.
    """

    genotype: Genotype
    waiting: list[Member] = field(default_factory=list)
    running: list[Member] = field(default_factory=list)
    finished: list[Member] = field(default_factory=list)
    failed: list[Member] = field(default_factory=list)
    attempts: Counter[str] = field(default_factory=Counter)

    @property
    def trainer(self) -> Member | None:
        """Whom the waiting members follow."""
        members = [*self.finished, *self.running]
        return members[0] if members else None

    def begin(self) -> Member:
        """The first that waits runs."""
        member = self.waiting.pop(0)
        self.running.append(member)
        return member

    def stop(self, member: Member) -> None:
        """It waits again, and is the first to go on."""
        self.running.remove(member)
        self.waiting.insert(0, member)

    def finish(self, member: Member, *, by_itself: bool) -> None:
        """It has the result, after its task or before the table was made."""
        if member in self.running:
            self.running.remove(member)
        self.finished.insert(0 if by_itself else len(self.finished), member)

    def fail(self, member: Member, *, max_attempts: int) -> bool:
        """Its task failed; whether it is tried again."""
        self.attempts[member.name] += 1
        if self.attempts[member.name] < max_attempts:
            self.stop(member)
            return True
        self.running.remove(member)
        self.failed.append(member)
        return False


@dataclass(frozen=True)
class NextTraining:
    """What the table has to do next.

    Attributes:
      source: whose training is taken over; None: the first that waits trains.
    """

    row: SharedTraining
    source: Member | None


class SharedTrainings:
    """The table. A row's key is all that its result depends on: settings with seed, and genotype."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, Genotype], SharedTraining] = {}
        self._row_of: dict[str, SharedTraining] = {}

    def __contains__(self, member: Member) -> bool:
        return member.name in self._row_of

    def row_of(self, member: Member) -> SharedTraining:
        """The row of a member that was entered."""
        return self._row_of[member.name]

    def enter(self, member: Member, genotype: Genotype) -> SharedTraining:
        """The row that the member belongs to, now that its genotype is known."""
        row = self.rows.setdefault((member.training_key, genotype), SharedTraining(genotype))
        self._row_of[member.name] = row
        return row

    def is_finished(self, member: Member) -> bool:
        return member in self and member in self.row_of(member).finished

    def next(self, can_be_taken_over: Callable[[Member], bool]) -> NextTraining | None:
        """What to run next: taking over, which is quick, before training; None if all is done or on its way."""
        waiting = [row for row in self.rows.values() if row.waiting]
        for row in waiting:
            source = next(filter(can_be_taken_over, row.finished), None)
            if source is not None:
                return NextTraining(row, source)
        return next((NextTraining(row, None) for row in waiting if not row.running), None)
