"""Where things are kept that can be made again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$CPNAS_CACHE_DIR`, else `$XDG_CACHE_HOME/cpnas`, else `~/.cache/cpnas`."""
    own = os.environ.get("CPNAS_CACHE_DIR")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cpnas"
