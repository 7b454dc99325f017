"""Interleaved timing, the environment beside it, and output as a table and as JSON."""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.table import Table


def interleaved_seconds(
    functions: Mapping[str, Callable[[], object]], *, repetitions: int, warmup: int = 3
) -> dict[str, list[float]]:
    """Seconds of every call, the functions taken in turn: A B A B ..., so that a slow minute hits both."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for repetition in range(warmup + repetitions):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            if repetition >= warmup:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """The median of the ratios of neighbouring calls."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


def parse_arguments(description: str | None, *, repetitions: int) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repetitions", type=int, default=repetitions)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    return arguments


def report(title: str, rows: list[dict[str, Any]], *, as_json: bool) -> None:
    environment = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "num_threads": torch.get_num_threads(),
    }
    if as_json:
        print(json.dumps({"benchmark": title, "environment": environment, "rows": rows}, indent=2))
        return
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()))
    console = Console(width=120)
    console.print(table)
    console.print(", ".join(f"{key} {value}" for key, value in environment.items()), highlight=False)
