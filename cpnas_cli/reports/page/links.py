"""Links from a page to the folders of runs."""

from pathlib import Path

from cpnas_cli.reports.page import words
from cpnas_cli.reports.page.blocks import Cell

REPORT = "report.html"
"""The name of a run's own page, if it has one."""


def linked(folder: Path, text: str, *, page: Path) -> Cell:
    """A cell with a link to a run: to its page where it has one, else to its folder; a text where it is not there."""
    if not folder.is_dir():
        return Cell(text)
    own = folder / REPORT
    return Cell(text, href=words.link(own if own.is_file() else folder, page=page))
