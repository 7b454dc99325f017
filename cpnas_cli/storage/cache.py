"""Where things are kept that can be made again."""

import os
import stat
import tempfile
from pathlib import Path

from cpnas_cli.errors import UsageError

CACHE_ADVICE = "set CPNAS_CACHE_DIR to a folder on a disk with room, which may be written to"
"""What to do where nothing can be kept: it is no run that is in trouble."""


def cache_folder() -> Path:
    """`$CPNAS_CACHE_DIR`, else `$XDG_CACHE_HOME/cpnas`, else `~/.cache/cpnas`.

    Of a user without a home (a number in a container) `cpnas-NUMBER` among the temporary files, which is this user's
    alone: code is kept there.

    Raises:
      UsageError: that folder is not this user's alone.
    """
    own, base = os.environ.get("CPNAS_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME")
    if own or base:
        return Path(own) if own else Path(str(base)) / "cpnas"
    try:
        return Path.home() / ".cache" / "cpnas"
    except RuntimeError:
        return _folder_of_nobody()


def _folder_of_nobody() -> Path:
    folder = Path(tempfile.gettempdir()) / f"cpnas-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
    except OSError:
        is_own = False
    if not is_own:
        raise UsageError(
            f"this user has no home folder, and {folder} is not its own; set CPNAS_CACHE_DIR to a folder for what can "
            "be made again"
        )
    return folder
