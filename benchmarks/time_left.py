"""What the live view said of the time left after a tenth of the run, beside what it then took.

The recorded seconds of runs that are done are shown to the view again; then once more with those of equal units (the
epochs of one network, the draws of one round) replaced by their mean, as on a machine that does the same all the time:
what is wrong then is the view's fault, the rest the machine's. `python -m benchmarks.time_left RUN...`
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.tables import Rows, print_table
from cpnas_cli.cli.views.runs import search_view
from cpnas_cli.cli.views.trainings import TrainingView
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.storage.documents import read_document

TITLE = "time left after a tenth of the run"
WITHIN = 20
"""Percent."""

Record = Mapping[str, Any]


def seconds_of(record: Record) -> float:
    return record.get("seconds") or 0.0


def view_of(run: RunFolder) -> Any:
    config = run.config()
    if not run.file(RunFolder.TRAINING).exists():
        return search_view(config, num_images=read_document(run.file(RunFolder.DATASET))["num_train_images"])
    return TrainingView(config, tuple(read_document(run.file(RunFolder.TRAINING))["networks"]), quiet=True)


def said_and_took(view: Any, history: Sequence[Record]) -> tuple[float, float] | None:
    """Seconds left after a tenth; None where the view shows none, or the run has ended at once."""
    total = sum(map(seconds_of, history))
    passed = 0.0
    for record in history:
        view.notify({**record, "resumed": True})  # which prints nothing
        passed += seconds_of(record)
        if passed >= total / 10:
            break
    left = getattr(view, "time_left", None) and view.time_left.seconds
    return None if left is None or passed == total else (left, total - passed)


def evened(history: Sequence[Record]) -> list[Record]:
    """As if equal units had taken equally long."""

    def kind(record: Record) -> tuple[object, ...]:
        is_scored = record.get("accuracy_child") is None  # a draw that is validated with its pass
        is_frozen = record.get("loss_architecture") is None  # an epoch of PC-DARTS whose architecture does not learn
        place = (record.get(key) for key in ("event", "network", "num_candidates", "num_epochs", "stage"))
        return (*place, is_scored, is_frozen)

    seconds: dict[tuple[object, ...], list[float]] = {}
    for record in history:
        seconds.setdefault(kind(record), []).append(seconds_of(record))
    return [{**record, "seconds": statistics.fmean(seconds[kind(record)])} for record in history]


def replay(run: RunFolder) -> dict[str, Any] | None:
    history = run.history()
    as_it_was, on_an_even_machine = (said_and_took(view_of(run), each) for each in (history, evened(history)))
    if as_it_was is None or on_an_even_machine is None:
        return None
    said, took = as_it_was
    even_said, even_took = on_an_even_machine
    return {
        "run": run.path.name,
        "seconds": sum(map(seconds_of, history)),
        "said": said,
        "took": took,
        "error %": 100 * (said / took - 1),
        "error %, machine even": 100 * (even_said / even_took - 1),
    }


def tabulate(paths: Sequence[Path]) -> Rows:
    return [row for path in paths if (row := replay(RunFolder(path))) is not None]


def within(rows: Rows, column: str) -> int:
    return sum(abs(row[column]) <= WITHIN for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    rows = tabulate(parser.parse_args().runs)
    print_table(TITLE, rows)
    print(
        f"within {WITHIN} %: {within(rows, 'error %')} of {len(rows)}, "
        f"{within(rows, 'error %, machine even')} were the machine even"
    )


if __name__ == "__main__":
    main()
