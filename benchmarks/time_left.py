"""What the live view said of the time left after a tenth of a run, beside what it then took.

The recorded seconds of runs that are done are shown to the view again. `python -m benchmarks.time_left RUN...`
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.tables import Rows, print_table
from cpnas_cli.cli.views.runs import search_view
from cpnas_cli.cli.views.trainings import TrainingView
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.storage.documents import read_document

TITLE = "time left after a tenth of the run"


def seconds_of(record: Mapping[str, Any]) -> float:
    return record.get("seconds") or 0.0


def replay(run: RunFolder) -> dict[str, Any] | None:
    """None for a run whose view shows no time, or that has ended at once."""
    config, history = run.config(), run.history()
    is_training = run.file(RunFolder.TRAINING).exists()
    networks = tuple(read_document(run.file(RunFolder.TRAINING))["networks"]) if is_training else ()
    view: Any = TrainingView(config, networks, quiet=True) if is_training else search_view(config)
    total = sum(map(seconds_of, history))
    passed = 0.0
    for record in history:
        view.notify({**record, "resumed": True})  # which prints nothing
        passed += seconds_of(record)
        if passed >= total / 10:
            break
    left = getattr(view, "time_left", None) and view.time_left.seconds
    if left is None or passed == total:
        return None
    took = total - passed
    return {"run": run.path.name, "seconds": total, "said": left, "took": took, "error %": 100 * (left / took - 1)}


def tabulate(paths: Sequence[Path]) -> Rows:
    return [row for path in paths if (row := replay(RunFolder(path))) is not None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    print_table(TITLE, tabulate(parser.parse_args().runs))


if __name__ == "__main__":
    main()
