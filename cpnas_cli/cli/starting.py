"""How `search` and `train` start a run from their options."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpnas_cli.cli.console import say

if TYPE_CHECKING:
    from cpnas_cli.runs.opening import Session
    from cpnas_cli.settings import Config, DtypeName


def start_run(
    config: "Config",
    *,
    folder: Path,
    device: str,
    dtype: "DtypeName",
    resume: bool,
    max_time: str | None,
    documents: Mapping[str, Mapping[str, Any]] | None = None,
    num_processes: int = 1,
) -> "Session":
    """The session of the run in this folder.

    Args:
      num_processes: those that run this together; see `open_device`.
    """
    from cpnas_cli.runs.deadline import Deadline, parse_duration

    deadline = Deadline(None if max_time is None else parse_duration(max_time))

    from cpnas_cli.distributed.device import open_device
    from cpnas_cli.runs.opening import open_session

    session = open_session(
        config,
        folder=folder,
        fabric=open_device(device, dtype=dtype, num_processes=num_processes),
        resume=resume,
        deadline=deadline,
        documents=documents,
    )
    for note in session.notes:
        say(f"note: {note}")
    return session
