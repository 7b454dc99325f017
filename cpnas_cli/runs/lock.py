"""One process at a time in a folder: a lock of the operating system, which ends with the process that holds it."""

import contextlib
import errno
import os
import shlex
import socket
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from cpnas_cli.errors import RunError
from cpnas_cli.storage.documents import LOCK_SCHEMA, advice_for, read_document, write_json

LOCK = ".lock"
"""The file that is locked. It stays: a lock on a file that another process deletes would be held twice."""

WRITTEN_IN_PLACE = (LOCK, "history.jsonl")
WRITTEN_INTO = ("checkpoint", "baseline", "trainings", "members", "searches", "logs", "c")
RUNS_OF_FIT = ("search", "train")
"""What a run, an experiment or a fit has in its folder that is not replaced as a whole file: a link would lead outside.

What lies in those of a fit is looked at when they are locked themselves.
"""

_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)

HOLDER = ".lock.json"
"""Who holds the lock, for those who are refused; what it says of a process that is gone means nothing."""


@contextlib.contextmanager
def locked(folder: Path, *, command: Sequence[str] | None = None, wait_seconds: float = 0) -> Iterator[None]:
    """Work alone in this folder, which must be there, until the block ends or the process dies.

    Args:
      command: what was typed, for those who are refused; without it that of this process.
      wait_seconds: how long to wait for another one to end.

    Raises:
      RunError: what is written there leads out of the folder by a link; another one works there (of this process or of
        another); or the folder cannot be locked: its disk has no locks, for one. A file that merely marks the folder as
        locked is no way out: it outlives a killed process.
    """
    refuse_links(folder)
    path = folder / LOCK
    try:
        held = FileLock(path, fallback_to_soft=False).acquire(timeout=wait_seconds)
    except Timeout:
        raise RunError(
            f"{folder} is in use by {_describe_holder(folder)}; wait for it to end, or choose another --out"
        ) from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, NotImplementedError) or error.errno in _NO_LOCKS:
            raise RunError(f"the disk of {folder} has no file locks; choose an --out on another disk") from None
        raise RunError(f"cannot lock {path}: {error.strerror or error}; {advice_for(error)}") from error
    with held:
        write_json(folder / HOLDER, _holder(command))
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # it means nothing without the lock
                (folder / HOLDER).unlink(missing_ok=True)


def refuse_links(folder: Path) -> None:
    """The folder itself may be a link to one on another disk; what a run writes in it may not.

    Raises:
      RunError: a file that is written in place, or a folder that is written into, is a link.
    """
    into = [folder / name for name in WRITTEN_INTO]
    inner = [entry for each in into if each.is_dir() and not each.is_symlink() for entry in sorted(each.iterdir())]
    for path in (*(folder / name for name in (*WRITTEN_IN_PLACE, *RUNS_OF_FIT)), *into, *inner):
        if path.is_symlink():
            raise RunError(
                f"{path} is a link to {os.readlink(path)}, and nothing is written outside the folder of a run; "
                "put the file itself there, or choose another --out"
            )


def is_locked(folder: Path) -> bool:
    """Whether a process works in this folder now; False also where that cannot be told.

    It takes a shared lock for a moment, and only where a process works or was killed: one that begins is not disturbed.
    """
    if not ((folder / HOLDER).is_file() and (folder / LOCK).is_file()):
        return False
    try:
        import fcntl
    except ImportError:  # Windows
        return _is_refused(folder)
    try:
        with (folder / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # let go when the file is closed
    except OSError as error:
        return error.errno == errno.EWOULDBLOCK
    return False


def _is_refused(folder: Path) -> bool:
    try:
        with FileLock(folder / LOCK, fallback_to_soft=False).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        return False


def _holder(command: Sequence[str] | None) -> dict[str, object]:
    """`cpnas.lock/1`: this process."""
    program, *words = command or sys.argv
    name = Path(program).name
    return {
        "schema": LOCK_SCHEMA,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
        "command": ["cpnas" if name == "__main__.py" else name, *words],
    }


def _describe_holder(folder: Path) -> str:
    """One line."""
    try:
        holder = read_document(folder / HOLDER)
        line = " ".join(shlex.join(map(str, holder["command"])).split())
        return f"process {holder['pid']} on {holder['host']} since {holder['since']} ({line})"
    except (RunError, KeyError, TypeError):  # it has only just begun, or has just ended
        return "another process"
