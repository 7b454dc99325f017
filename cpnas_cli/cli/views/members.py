"""What live tables of many runs have in common: a place on standard error, and what was last seen of every member."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

from rich.console import Group
from rich.live import Live

from cpnas_cli.cli.styled_console import StyledConsole

if TYPE_CHECKING:
    from cpnas_cli.experiments.schedule import Progress

STYLES = {"searching": "yellow", "training": "cyan", "finished": "green", "failed": "bold red"}


class MembersView(ABC):
    """A live table on a terminal; elsewhere only what is said."""

    def __init__(self) -> None:
        self.console = StyledConsole(stderr=True)
        self.live: Live | None = None
        self._phases: dict[str, str] = {}
        self._progress: dict[str, Progress] = {}

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.live = Live(console=self.console, get_renderable=self.render, refresh_per_second=2)
            self.live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def say(self, text: str) -> None:
        """A message that stays, above the table."""
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    @abstractmethod
    def render(self) -> Group:
        """The table as it is now."""
