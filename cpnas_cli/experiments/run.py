"""An experiment from its plan to its document."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpnas_cli.errors import RunError
from cpnas_cli.experiments.document import build_document, read_experiment
from cpnas_cli.experiments.executors import Executor
from cpnas_cli.experiments.growth import added_words, factors_of, names_now, refusal, rename_members
from cpnas_cli.experiments.member_runs import MemberRuns
from cpnas_cli.experiments.pacing import Paced
from cpnas_cli.experiments.plan import ExperimentFolder, Plan, plan_of
from cpnas_cli.experiments.schedule import Schedule
from cpnas_cli.experiments.tasks import Circumstances, Task
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder, write_beginning
from cpnas_cli.runs.lock import locked
from cpnas_cli.storage.documents import write_json


def stored_plan(path: Path) -> Plan:
    """The plan of the experiment in a folder.

    Raises:
      RunError: there is none, or it is damaged.
    """
    return plan_of(read_experiment(path))


def _stored(folder: ExperimentFolder) -> dict[str, Any]:
    """The document, with an environment and members that have names and states.

    Raises:
      RunError: it is damaged.
    """
    document = read_experiment(folder.path)
    match {"grown_by": [], **document}:
        case {"environment": dict(), "grown_by": [*grown_by], "members": [*members]} if all(
            isinstance(member, dict) and {"name", "state"} <= member.keys() for member in members
        ) and all(isinstance(environment, dict) for environment in grown_by):
            return document
    raise RunError(f"{folder.document} is damaged (it lacks environment or members); choose another --out")


def lost_members(path: Path) -> list[str]:
    """Members that the document calls finished and whose folders are gone; they will run again."""
    folder = ExperimentFolder(path)
    if not folder.document.exists():
        return []
    finished = [member["name"] for member in _stored(folder)["members"] if member["state"] == "finished"]
    return [name for name in finished if not _has_folders(folder, name)]


def _has_folders(folder: ExperimentFolder, name: str) -> bool:
    return all(run(name).file(RunFolder.CONFIG).exists() for run in (folder.search, folder.training))


def _notes_of(document: Mapping[str, Any], folder: ExperimentFolder) -> dict[str, list[str]]:
    """What was noted of the runs that are there; a deleted folder takes its notes with it."""
    noted = {member["name"]: list(member.get("notes", ())) for member in document["members"]}
    return {name: notes for name, notes in noted.items() if _has_folders(folder, name)}


@dataclass(frozen=True)
class _Past:
    """What stays of the document that is there.

    Attributes:
      environment: of the command that started the experiment. grown_by: of those that made it larger, this one too.
      notes: {name: what was noted of its runs}, by the names of the plan.
      num_members: None where there is no document yet.
    """

    environment: Mapping[str, Any]
    grown_by: tuple[Mapping[str, Any], ...] = ()
    notes: dict[str, list[str]] = field(default_factory=dict)
    num_members: int | None = None


def _past(place: ExperimentFolder, plan: Plan, environment: Mapping[str, Any]) -> _Past:
    if not place.document.exists():
        return _Past(environment)
    document = _stored(place)
    there = plan_of(document)
    rename_members(place, there)  # those that an interruption has left
    names, notes = names_now(there, plan), _notes_of(document, place)
    changes = factors_of(there) != factors_of(plan)
    return _Past(
        document["environment"],
        (*document.get("grown_by", ()), *([environment] if changes else [])),
        {names[name]: noted for name, noted in notes.items() if name in names},
        len(there.members),
    )


def run_experiment(
    plan: Plan,
    *,
    folder: Path,
    executor: Callable[[], Executor[Task]],
    device: str,
    dataset: Mapping[str, Any],
    environment: Mapping[str, Any],
    deadline: Deadline,
    say: Callable[[str], None],
    watch: Callable[[Schedule], object],
) -> dict[str, Any]:
    """Run what is not done yet of an experiment, and return its document, which is also written.

    Where the folder holds a smaller one, its members stay, and those that it lacks are added.

    Args:
      executor: makes the executor, after the folder was found to be usable.
      dataset: of all members, see `describe_dataset`.
      environment: see `environment.describe_environment`.
      say: is told what is added, and what goes wrong with a member.
      watch: see `Schedule`.

    Raises:
      RunError: the folder holds something else or more, or another process runs it. MaxTimeReached.
    """
    place = ExperimentFolder(folder)
    _check_folder(place, plan)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, command=environment.get("command")):
        _check_folder(place, plan)  # again: another process may have been faster
        past = _past(place, plan, environment)
        runs, failures = MemberRuns(place, dataset), dict[str, str]()

        def save() -> dict[str, Any]:
            document = build_document(
                plan, runs, environment=past.environment, grown_by=past.grown_by, failures=failures, notes=past.notes
            )
            write_json(place.document, document)
            return document

        workers = executor()  # before anything is written; from here on it is closed whatever happens
        try:
            if past.num_members is None:
                write_beginning(place.path, plan.config, environment=environment)
            elif past.num_members < len(plan.members):
                say(added_words(past.num_members, len(plan.members), place))
            save()
            rename_members(place, plan)
            stop_at = None if deadline.max_seconds is None else time.time() + deadline.seconds_left()
            schedule = Schedule(
                plan,
                runs,
                Circumstances(place.path.resolve(), device, tuple(environment["command"]), stop_at),
                workers,
                changed=Paced(save),
                watch=watch,
                say=say,
                failures=failures,
                notes=past.notes,
            )
            schedule.run()
        finally:
            workers.close()
            document = save()
        return document


def _check_folder(place: ExperimentFolder, plan: Plan) -> None:
    check_folder(place, "experiment", lambda: refusal(stored_plan(place.path), plan))


def check_folder(place: ExperimentFolder, kind: str, judge: Callable[[], str | None]) -> None:
    """Refuse a folder in which something else lies.

    Args:
      kind: what is to lie there ("experiment").
      judge: says why the one that lies there already cannot be gone on with; asked only where there is one.

    Raises:
      RunError: it is a file, holds another one or more of this kind, or other things.
    """
    path = place.path
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file; --out expects a folder")
    if place.document.exists():
        refused = judge()
        if refused:
            raise RunError(f"{path} {refused}")
    elif path.is_dir():
        # what a start that was killed leaves behind, or searches that were made beforehand
        ours = {RunFolder.ENVIRONMENT, RunFolder.CONFIG, place.SEARCHES, place.MEMBERS, place.LOGS}
        if {name for name in os.listdir(path) if not name.startswith(".")} - ours:
            raise RunError(f"{path} is not empty and holds no {kind}; choose another --out")
