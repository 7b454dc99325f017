"""Rich's console as this program uses it: whatever a name, a path or a file holds is shown, and does nothing else."""

from collections.abc import Iterable
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from cpnas_cli.cli.console import printable_lines


class StyledConsole(Console):
    """Without markup: `[/x]` in a path is no tag. Characters that would command the terminal are spelled out.

    Args:
      settings: of Rich's console.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, **settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(printable_lines(text), style)

    @property
    def file(self) -> IO[str]:
        """Below what spells out commands to the terminal: those that come from here are meant."""
        file = super().file
        while (below := getattr(file, "rich_proxied_file", file)) is not file:
            file = below
        return file

    @file.setter
    def file(self, new_file: IO[str]) -> None:
        self._file = new_file
