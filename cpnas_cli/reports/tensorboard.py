"""A run for TensorBoard: every number of its history as a scalar, its cells as a picture, and its settings.

The history is the source: what is written is what `history.jsonl` holds, also after a run went on.
"""

import importlib.util
import json
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from cpnas_cli.errors import CpnasError, RunError
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.settings import Config, flat_settings

if TYPE_CHECKING:
    from cpnas_cli.search_space import Genotype

FOLDER = "tensorboard"
"""In the run's folder; made anew by every command that writes it."""

_PASSING = {"progress", "note"}  # events that no history holds
_NO_SCALARS = {"seed", "epoch", "draw", "pass", "generation", "num_candidates"}


def check_tensorboard() -> None:
    """
    Raises:
      CpnasError: the extra is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise CpnasError("--tensorboard needs the tensorboard extra; type: pip install 'cpnas[tensorboard]'")


class TensorBoardLog:
    """What `tensorboard --logdir RUN` shows, kept up with the run's history; a view of events, see `journal.Notify`.

    Scalars: "child/loss" and the like of an epoch, over epochs; "search/accuracy_child" and the like of a draw, over
    draws.
    """

    def __init__(self, run: RunFolder) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        folder = run.path / FOLDER
        if folder.is_symlink():
            raise RunError(f"{folder} is a link; nothing outside the run's folder is written: remove it")
        try:
            shutil.rmtree(folder, ignore_errors=True)
            self._writer = SummaryWriter(str(folder))
        except OSError as error:
            raise RunError(f"cannot write {folder}: {error.strerror or error}") from None
        self._history, self._num_bytes, self._num_draws = run.file(RunFolder.HISTORY), 0, 0

    def notify(self, record: Mapping[str, Any]) -> None:
        if record["event"] not in _PASSING:
            self._catch_up()

    def _catch_up(self) -> None:
        """What came since the last time: a history of thousands of draws is read once, not at each of them."""
        if not self._history.exists():
            return
        with self._history.open("rb") as file:
            file.seek(self._num_bytes)
            for line in file:
                self._num_bytes += len(line)
                self._add(json.loads(line))
        self._writer.flush()

    def _add(self, record: Mapping[str, Any]) -> None:
        if record["event"] == "draw":
            group, step = "search", self._num_draws
            self._num_draws += 1
        elif record["event"] == "epoch":
            group, step = record.get("network", "search"), record["epoch"]
        else:
            return
        for key, value in record.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and key not in _NO_SCALARS:
                self._writer.add_scalar(f"{group}/{key}", value, step)

    def finish(self, config: Config, metrics: Mapping[str, float | None], *, genotype: "Genotype") -> None:
        """At the end of the run: its cells, and its settings with what came of them.

        Args:
          metrics: {name: value}; one that is None is left out.
        """
        from torch.utils.tensorboard.summary import hparams

        from cpnas_cli.reports.cells import cells_info, draw_cells

        self._catch_up()
        self._writer.add_figure("cells", draw_cells(cells_info(genotype)))
        settings = {
            key: value if isinstance(value, bool | int | float | str) else str(value)
            for key, value in flat_settings(config).items()
        }
        known = {name: value for name, value in metrics.items() if value is not None}
        for summary in hparams(settings, known):
            self._writer._get_file_writer().add_summary(summary)
        for name, value in known.items():
            self._writer.add_scalar(name, value, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
