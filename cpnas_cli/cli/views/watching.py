"""Who is told what happens in a run: the view, and TensorBoard where it is asked for."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cpnas_cli.reports.tensorboard import TensorBoardLog
    from cpnas_cli.runs.folder import RunFolder
    from cpnas_cli.search_space import Genotype
    from cpnas_cli.settings import Config

Notify = Callable[[Mapping[str, Any]], None]


class Watching:
    """Everybody who is told."""

    def __init__(self, view: Notify, log: "TensorBoardLog | None") -> None:
        self._view, self._log = view, log

    def notify(self, record: Mapping[str, Any]) -> None:
        self._view(record)
        if self._log is not None:
            self._log.notify(record)

    def finish(self, config: "Config", metrics: Mapping[str, float | None], *, genotype: "Genotype") -> None:
        """At the end of the run; see `TensorBoardLog.finish`."""
        if self._log is not None:
            self._log.finish(config, metrics, genotype=genotype)


@contextlib.contextmanager
def watching(view: Notify, run: "RunFolder", *, tensorboard: bool) -> Iterator[Watching]:
    """Around a search or a training."""
    if not tensorboard:
        yield Watching(view, None)
        return
    from cpnas_cli.reports.tensorboard import TensorBoardLog

    with TensorBoardLog(run) as log:
        yield Watching(view, log)
