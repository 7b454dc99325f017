"""How a caller may name a file or a folder."""

from pathlib import Path

AnyPath = str | Path
