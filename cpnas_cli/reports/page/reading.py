"""How a part of a page is read: what is damaged is said there, and the rest of the page is as it would be."""

from collections.abc import Callable, Mapping
from typing import Any

from cpnas_cli.errors import CpnasError
from cpnas_cli.experiments.member_runs import DAMAGES
from cpnas_cli.reports.page.blocks import Block, Paragraph, Section
from cpnas_cli.reports.page.words import ABSENT
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.storage.documents import read_document

Blocks = tuple[Block, ...]


def section(name: str, title: str, make: Callable[[], Blocks | None]) -> tuple[Section, ...]:
    """The section of what `make` gives; none where it gives nothing."""
    blocks = readable(make)
    return () if not blocks else (Section(name, title, blocks),)


def readable(make: Callable[[], Blocks | None]) -> Blocks:
    """The blocks, or one that says why they cannot be made."""
    try:
        return make() or ()
    except DAMAGES as error:
        text = " ".join(str(error).split())
        reason = text if isinstance(error, CpnasError) else f"a file is damaged ({type(error).__name__}: {text})"
        return (Paragraph(f"This cannot be shown: {reason}", "warning"),)


def document_of(run: RunFolder, name: str) -> dict[str, Any] | None:
    """A document of the run; None: it is not there.

    Raises:
      RunError: it is damaged.
    """
    path = run.file(name)
    return read_document(path) if path.exists() else None


def text_of(value: Any) -> str:
    """A value of a document, of whatever kind somebody wrote there."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(text_of, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {text_of(inner)}" for key, inner in value.items()) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
