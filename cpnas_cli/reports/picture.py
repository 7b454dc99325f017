"""How a figure becomes a file: SVG with text as text, or PNG; the same picture gives the same bytes."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from cpnas_cli.errors import UsageError
from cpnas_cli.storage.documents import replacing


def save_picture(
    draw: Callable[[], Figure], path: Path, *, salt: str, dpi: int, look: Mapping[str, Any] | None = None
) -> None:
    """Write the figure as SVG or PNG, as the suffix of `path` says.

    Args:
      salt: for the ids in an SVG, which are random without one.
      look: further matplotlib settings that hold while it is drawn.

    Raises:
      UsageError: another suffix. RunError: the file cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("svg", "png"):
        raise UsageError(f"cannot draw into {path.name!r}: expected a file name that ends in .svg or .png")
    with replacing(path, advice="choose another --out") as temporary:
        _write(draw, temporary, kind, salt=salt, dpi=dpi, look=look)


def svg_text(draw: Callable[[], Figure], *, salt: str, dpi: int) -> str:
    """The same as SVG, for a page or a notebook."""
    written = io.StringIO()
    _write(draw, written, "svg", salt=salt, dpi=dpi)
    return written.getvalue()


def _write(
    draw: Callable[[], Figure],
    target: Any,
    kind: str,
    *,
    salt: str,
    dpi: int,
    look: Mapping[str, Any] | None = None,
) -> None:
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    # as text, labels can be searched and edited
    settings: Any = {"svg.hashsalt": salt, "svg.fonttype": "none", **(look or {})}
    with rc_context(settings):
        draw().savefig(target, format=kind, metadata=metadata, dpi=dpi)
