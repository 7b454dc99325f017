"""Whatever fails, ends late or is deleted: every member ends, nothing is trained twice, what is finished stays."""

import json
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from played_experiments import DATASET, PlayedExecutor, accuracy_of, genotype, play, states

from cpnas_cli.experiments.plan import Member, Plan
from cpnas_cli.experiments.tasks import SearchTask, Task, TaskEnd, TrainingTask
from cpnas_cli.settings import Config

GROUPS = ("random", "pcdarts", "bnas", "cpnas")  # bnas and cpnas of one seed share their search


def finds(member: Member, num_genotypes: int) -> int:
    """The number of the genotype of its search; the same every day."""
    return random.Random(member.name).randrange(num_genotypes)


class Trouble:
    """A day on which tasks fail, drawn from a seed; also what has to be true of every task.

    Attributes:
      lasting: members whose searches, and members whose trainings, fail for good.
      trained: {(seed, genotype): how often a training of it ended well without taking over}.
    """

    def __init__(self, seed: int, plan: Plan, folder: Path, *, num_genotypes: int) -> None:
        self.rng, self.folder, self.num_genotypes = random.Random(seed), folder, num_genotypes
        self.often = self.rng.choice([0.0, 0.1, 0.3])
        kinds = (SearchTask, TrainingTask)
        self.lasting = {kind: {m.name for m in plan.members if self.rng.random() < self.often} for kind in kinds}
        self.failed: Counter[tuple[str, type]] = Counter()
        self.trained: Counter[tuple[int, int]] = Counter()

    def finds(self, member: Member) -> int:
        return finds(member, self.num_genotypes)

    def ends(self, task: Task) -> TaskEnd | None:
        name, kind = task.member.name, type(task)
        if isinstance(task, TrainingTask):
            assert not (self.folder / "members" / name / "result.json").exists(), "a finished member is written to"
        transient = self.rng.random() < self.often and not self.failed[name, kind]
        if name in self.lasting[kind] or transient:
            self.failed[name, kind] += 1
            return TaskEnd("failed", "a reason")
        if isinstance(task, TrainingTask) and task.same_as is None:
            self.trained[task.member.seed, self.finds(task.member)] += 1
        return None

    def choose(self, tasks: Sequence[Task]) -> int:
        return self.rng.randrange(len(tasks))


def stamps(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Every file of the finished members, with the time of its last change."""
    members = [result.parent for result in (folder / "members").glob("*/result.json")]
    files = [file for member in members for file in member.rglob("*") if file.is_file()]
    return {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def check(document: dict[str, Any], trouble: Trouble, plan: Plan, *, owned: set[tuple[int, int]]) -> None:
    """What has to be true at the end of a day.

    Args:
      owned: the (seed, genotype) of which a member was finished before.
    """
    ended = states(document)
    assert list(ended) == [member.name for member in plan.members]
    for record in document["members"]:
        name, seed = record["name"], record["seed"]
        if record["state"] == "finished":
            number = trouble.finds(next(member for member in plan.members if member.name == name))
            assert record["accuracy_test"] == accuracy_of(seed, genotype(number))
            assert record["error"] is None
        else:
            assert record["state"] == "failed"
            twice = [kind for kind in (SearchTask, TrainingTask) if trouble.failed[name, kind] == 2]
            assert len(twice) == 1
            assert record["error"] == f"{'search' if twice == [SearchTask] else 'training'}: a reason"
    assert all(count == 1 for count in trouble.trained.values())
    assert not owned & trouble.trained.keys()  # it was taken over


@settings(max_examples=20, derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10**6),
    groups=st.sets(st.sampled_from(GROUPS), min_size=1).map(sorted).map(tuple),
    num_seeds=st.integers(1, 2),
    random_draws=st.integers(1, 4),
    num_genotypes=st.integers(1, 3),
    num_slots=st.integers(1, 4),
)
def test_every_day_ends_with_every_member_finished_or_named(
    seed: int,
    groups: tuple[str, ...],
    num_seeds: int,
    random_draws: int,
    num_genotypes: int,
    num_slots: int,
) -> None:
    plan = Plan("comparison", groups, tuple(range(num_seeds)), Config(), random_draws=random_draws)
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "run"
        rng = random.Random(seed)
        for day in range(2):
            trouble = Trouble(seed + day, plan, folder, num_genotypes=num_genotypes)
            before = stamps(folder)
            finished = {path.parent.name for path in before if path.name == "result.json"}
            owned = {(m.seed, trouble.finds(m)) for m in plan.members if m.name in finished and has_search(folder, m)}
            executor = PlayedExecutor(trouble.finds, ends=trouble.ends, choose=trouble.choose, num_slots=num_slots)
            document, _ = play(plan, folder, executor)
            check(document, trouble, plan, owned=owned)
            assert before.items() <= stamps(folder).items()
            delete_some(folder, rng)
        quiet = PlayedExecutor(lambda member: finds(member, num_genotypes))
        document, _ = play(plan, folder, quiet)
        assert set(states(document).values()) == {"finished"}


def has_search(folder: Path, member: Member) -> bool:
    return (folder / "searches" / member.name / "genotype.json").exists()


def delete_some(folder: Path, rng: random.Random) -> None:
    """By hand, between two days."""
    for part in ("members", "searches"):
        for path in sorted((folder / part).glob("*")):
            if rng.random() < (0.4 if part == "members" else 0.15):
                shutil.rmtree(path)


def test_the_played_data_set_is_what_members_are_judged_by(tmp_path: Path) -> None:
    """The oracle above would be blind if a played folder counted as foreign, or a foreign one as its own."""
    plan = Plan("comparison", ("random",), (0,), Config())
    play(plan, tmp_path / "run")
    file = tmp_path / "run/members/random-seed-0-draw-0/dataset.json"
    file.write_text(json.dumps({**DATASET, "hash": "other"}))
    document, _ = play(plan, tmp_path / "run")
    assert set(states(document).values()) == {"failed"}
