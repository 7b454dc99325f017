"""An experiment from its plan to its document."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cpnas_cli.errors import RunError
from cpnas_cli.experiments.document import build_document, read_experiment
from cpnas_cli.experiments.executors import Executor
from cpnas_cli.experiments.member_runs import MemberRuns
from cpnas_cli.experiments.plan import ExperimentFolder, Plan, difference, plan_of
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
    match document:
        case {"environment": dict(), "members": [*members]} if all(
            isinstance(member, dict) and {"name", "state"} <= member.keys() for member in members
        ):
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


def _stored_notes(folder: ExperimentFolder) -> dict[str, list[str]]:
    """What was noted of the runs that are there; a deleted folder takes its notes with it."""
    noted = {member["name"]: list(member.get("notes", ())) for member in _stored(folder)["members"]}
    return {name: notes for name, notes in noted.items() if _has_folders(folder, name)}


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

    Args:
      executor: makes the executor, after the folder was found to be usable.
      dataset: of all members, see `describe_dataset`.
      environment: see `environment.describe_environment`.
      say: is told what goes wrong with a member.
      watch: see `Schedule`.

    Raises:
      RunError: the folder holds something else, or another process runs it. MaxTimeReached.
    """
    place = ExperimentFolder(folder)
    _check_folder(place, plan)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, command=environment.get("command")):
        _check_folder(place, plan)  # again: another process may have been faster
        is_new = not place.document.exists()
        started = environment if is_new else _stored(place)["environment"]
        notes = {} if is_new else _stored_notes(place)
        runs, failures = MemberRuns(place, dataset), dict[str, str]()

        def save() -> dict[str, Any]:
            document = build_document(plan, runs, environment=started, failures=failures, notes=notes)
            write_json(place.document, document)
            return document

        workers = executor()  # before anything is written; from here on it is closed whatever happens
        try:
            if is_new:
                write_beginning(place.path, plan.config, environment=environment)
            save()
            stop_at = None if deadline.max_seconds is None else time.time() + deadline.seconds_left()
            schedule = Schedule(
                plan,
                runs,
                Circumstances(place.path.resolve(), device, tuple(environment["command"]), stop_at),
                workers,
                changed=save,
                watch=watch,
                say=say,
                failures=failures,
                notes=notes,
            )
            schedule.run()
        finally:
            workers.close()
            document = save()
        return document


def _check_folder(place: ExperimentFolder, plan: Plan) -> None:
    check_folder(place, "experiment", lambda: difference(stored_plan(place.path), plan))


def check_folder(place: ExperimentFolder, kind: str, differs: Callable[[], str | None]) -> None:
    """Refuse a folder in which something else lies.

    Args:
      kind: what is to lie there ("experiment").
      differs: in what the one that lies there already is another one; asked only where there is one.

    Raises:
      RunError: it is a file, holds another one of this kind, or other things.
    """
    path = place.path
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file; --out expects a folder")
    if place.document.exists():
        other = differs()
        if other:
            raise RunError(f"{path} holds another {kind} ({other}); choose another --out")
    elif path.is_dir():
        # what a start that was killed leaves behind, or searches that were made beforehand
        ours = {RunFolder.ENVIRONMENT, RunFolder.CONFIG, place.SEARCHES, place.MEMBERS, place.LOGS}
        if {name for name in os.listdir(path) if not name.startswith(".")} - ours:
            raise RunError(f"{path} is not empty and holds no {kind}; choose another --out")
