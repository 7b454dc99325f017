"""A frontier from its plan to its document."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cpnas_cli.errors import RunError
from cpnas_cli.experiments.executors import Executor
from cpnas_cli.experiments.frontier.document import (
    TIMING_KEYS,
    build_document,
    files_of_points,
    read_frontier,
    timing_document,
    untimed,
)
from cpnas_cli.experiments.frontier.growth import factors_of, growth_words, refusal
from cpnas_cli.experiments.frontier.member_records import MemberFolders
from cpnas_cli.experiments.frontier.plan import FrontierFolder, FrontierPlan, plan_of
from cpnas_cli.experiments.frontier.schedule import FrontierSchedule
from cpnas_cli.experiments.frontier.tasks import WorkOfFrontier
from cpnas_cli.experiments.frontier.timing import time_points
from cpnas_cli.experiments.pacing import Paced
from cpnas_cli.experiments.run import check_folder
from cpnas_cli.experiments.tasks import Circumstances
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import write_beginning
from cpnas_cli.runs.lock import locked
from cpnas_cli.storage.documents import write_json


def stored_frontier_plan(path: Path) -> FrontierPlan:
    """The plan of the frontier in a folder.

    Raises:
      RunError: there is none, or it is damaged.
    """
    return plan_of(read_frontier(path))


def run_frontier(
    plan: FrontierPlan,
    *,
    folder: Path,
    executor: Callable[[], Executor[WorkOfFrontier]],
    device: str,
    dataset: Mapping[str, Any],
    environment: Mapping[str, Any],
    deadline: Deadline,
    measure_again: bool,
    say: Callable[[str], None],
    watch: Callable[[FrontierSchedule], object],
) -> dict[str, Any]:
    """Run what is not done yet of a frontier, measure its points, and return its document, which is also written.

    Where the folder holds a smaller one, its members stay, and those that it lacks are added; with new points all are
    measured again, together.

    Args:
      executor: makes the executor, after the folder was found to be usable.
      dataset: of all members, see `describe_dataset`.
      environment: see `environment.describe_environment`; of this machine, on which the points are measured.
      measure_again: also where all points have times already.
      say: is told what is added, and what goes wrong with a member.

    Raises:
      RunError: the folder holds something else or more, or another process runs it. MaxTimeReached.
    """
    place = FrontierFolder(folder)
    _check_folder(place, plan, dataset)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, command=environment.get("command")):
        _check_folder(place, plan, dataset)  # again: another process may have been faster
        stored = _stored(place) if place.document.exists() else None
        if stored is None:
            write_beginning(place.path, plan.config, environment=environment)
        state = _State(plan, MemberFolders(place, dataset), environment, stored)
        workers = executor()
        try:
            if state.growth is not None:
                say(state.growth)
            stop_at = None if deadline.max_seconds is None else time.time() + deadline.seconds_left()
            FrontierSchedule(
                plan,
                state.folders,
                Circumstances(place.path.resolve(), device, tuple(environment["command"]), stop_at),
                workers,
                changed=Paced(state.save),
                watch=watch,
                say=say,
                failures=state.failures,
                notes=state.notes,
            ).run()
        finally:
            workers.close()  # before anything is timed
            document = state.save()
        if document["points"] and (measure_again or untimed(document)):
            say(f"timing {len(document['points'])} networks in turn")
            state.measure(document, environment)
        return state.save()


class _State:
    """What the document is made from, and where it is written."""

    def __init__(
        self,
        plan: FrontierPlan,
        folders: MemberFolders,
        environment: Mapping[str, Any],
        stored: Mapping[str, Any] | None,
    ) -> None:
        self.plan, self.folders = plan, folders
        self.environment = environment if stored is None else stored["environment"]
        self.grown_by: list[Mapping[str, Any]] = [] if stored is None else list(stored.get("grown_by", ()))
        self.growth: str | None = None
        if stored is not None:
            there = plan_of(stored)
            self.growth = growth_words(there, plan, folders.folder)
            if factors_of(there, folders.dataset) != factors_of(plan, folders.dataset):
                self.grown_by.append(environment)
        self.timing = timing_document({}, environment=None) if stored is None else stored["timing"]
        members = [] if stored is None else stored["members"]
        self.notes: dict[str, list[str]] = {member["name"]: list(member["notes"]) for member in members}
        self.failures: dict[str, str] = {}

    def save(self) -> dict[str, Any]:
        document = build_document(
            self.plan,
            self.folders,
            environment=self.environment,
            grown_by=self.grown_by,
            failures=self.failures,
            notes=self.notes,
            timing=self.timing,
        )
        write_json(self.folders.folder.document, document)
        return document

    def measure(self, document: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        times = time_points(files_of_points(document, self.folders.folder))
        self.timing = timing_document(times, environment=dict(environment))


def _stored(place: FrontierFolder) -> dict[str, Any]:
    """The document, with an environment, times and members.

    Raises:
      RunError: it is damaged.
    """
    document = read_frontier(place.path)
    match {"grown_by": [], **document}:
        case {
            "environment": dict(),
            "grown_by": [*grown_by],
            "timing": {"points": [*times]},
            "members": [*members],
        } if all(
            isinstance(row, dict) and keys <= row.keys()
            for rows, keys in ((members, {"name", "notes"}), (times, TIMING_KEYS), (grown_by, set[str]()))
            for row in rows
        ):
            return document
    raise RunError(f"{place.document} is damaged (it lacks environment, timing or members); choose another --out")


def _check_folder(place: FrontierFolder, plan: FrontierPlan, dataset: Mapping[str, Any]) -> None:
    check_folder(place, "frontier", lambda: refusal(stored_frontier_plan(place.path), plan, dataset))
