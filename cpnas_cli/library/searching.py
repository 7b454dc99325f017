"""Search from Python: to the end, or event by event."""

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from cpnas_cli.library.paths import AnyPath
from cpnas_cli.library.settings import settings_of, source_of
from cpnas_cli.library.stepwise import stepwise
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder, goes_on
from cpnas_cli.search_space import Genotype
from cpnas_cli.settings import DEFAULT_PRESET, Config
from cpnas_cli.storage.genotype_file import parse_genotype, provenance_of

Event = Mapping[str, Any]
"""A record of the run's history.jsonl, once it is saved: its key "event" says of what, see docs/files.md.

Of a run that goes on, the saved ones come first, with a key "resumed". Events between them, "progress" and "note", say
what goes on, and are not kept.
"""


@dataclass(frozen=True)
class Found:
    """What a search found; in a notebook it is a picture of the cells.

    Attributes:
      folder: of the run. document: `cpnas.genotype/1`, its provenance in it.
    """

    folder: Path
    document: Mapping[str, Any] = field(repr=False)

    @property
    def genotype(self) -> Genotype:
        return parse_genotype(self.document)

    @property
    def genotype_file(self) -> Path:
        return self.folder / RunFolder.GENOTYPE

    @property
    def warning(self) -> str | None:
        """What should be known before the genotype is used: that the indicator preferred worse Children; else None."""
        from cpnas_cli.strategies.cpnas.indicator import warning_of

        return warning_of(provenance_of(self.document))

    def history(self) -> list[dict[str, Any]]:
        """Every record of the search."""
        return RunFolder(self.folder).history()

    def _repr_svg_(self) -> str:
        from cpnas_cli.reports.cells import cells_info, svg_of_cells

        return svg_of_cells(cells_info(self.genotype))


def search(
    preset: AnyPath | None = None,
    *,
    out: AnyPath,
    strategy: str | None = None,
    settings: Mapping[str, Any] | None = None,
    data_dir: AnyPath | None = None,
    seed: int | None = None,
    device: str = "auto",
    resume: bool = False,
    max_seconds: float | None = None,
    notify: Callable[[Event], None] = lambda _: None,
) -> Found:
    """Search an architecture, as `cpnas search` does, to its end.

    Args:
      preset: a preset's name or the path of a YAML file; None: digits, or the settings of the run that goes on.
      out: the run's folder; a new one, unless it goes on.
      settings: {"section.key": value}, see docs/settings.md. data_dir: where the images are.
      device: auto, cpu, cuda or mps.
      resume: go on with the run in the folder, if there is one.
      max_seconds: stop, saved, when the next draw or epoch would not fit.
      notify: called with every event as it happens.

    Raises:
      UsageError, DataError, RunError: see their texts. MaxTimeReached: saved; `resume` goes on.
    """
    source = source_of(out, resume=resume, preset=preset, otherwise=DEFAULT_PRESET)
    config = settings_of(
        source,
        settings=settings,
        values={"search.strategy": strategy},
        data_dir=data_dir,
        seed=seed,
        stored=goes_on(Path(out), resume=resume),
    )
    return _search(config, Path(out), device=device, resume=resume, max_seconds=max_seconds, notify=notify)


def _search(
    config: Config,
    folder: Path,
    *,
    device: str,
    resume: bool,
    max_seconds: float | None,
    notify: Callable[[Event], None],
) -> Found:
    from cpnas_cli.distributed.device import open_device
    from cpnas_cli.runs.opening import open_run_for
    from cpnas_cli.strategies import run_search
    from cpnas_cli.strategies.base import Search
    from cpnas_cli.strategies.checks import check_search

    with open_run_for(
        config,
        folder=folder,
        fabric=open_device(device, dtype=config.search.dtype),
        resume=resume,
        deadline=Deadline(max_seconds),
        check=check_search,
    ) as opened:
        search = Search(opened.run, config, opened.dataset, opened.fabric, opened.deadline, notify)
        return Found(folder, run_search(search))


class RunningSearch:
    """A search that goes on while it is iterated over, one event at a time; `result` is what it found.

    Left before its end, it stops after the event that was given, and `resume=True` goes on from the last checkpoint:
    `with start_search(...) as running:` leaves it at the end of the block.
    """

    def __init__(self, run: Callable[[Callable[[Event], None]], Found]) -> None:
        self._events: Generator[Event, None, Found] = stepwise(run)
        self.result: Found | None = None

    def __iter__(self) -> Iterator[Event]:
        self.result = yield from self._events

    def close(self) -> None:
        """Stop; nothing that is saved is lost."""
        self._events.close()

    def __enter__(self) -> "RunningSearch":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def start_search(preset: AnyPath | None = None, **options: Any) -> RunningSearch:
    """A search to iterate over; the arguments of `search`, but `notify`.

    The first event is waited for when it is asked for: only then the images are read and the folder is made.
    """
    return RunningSearch(partial(_notifying, preset, options))


def _notifying(preset: AnyPath | None, options: Mapping[str, Any], notify: Callable[[Event], None]) -> Found:
    return search(preset, **options, notify=notify)
