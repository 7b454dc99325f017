"""Interleaved timing, the environment beside it, and output as a table and as JSON."""

import argparse
import functools
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from cpnas_cli.distributed.device import open_device
from cpnas_cli.runs.environment import describe_environment

Rows = list[dict[str, Any]]
"""Of a table: every row has the same columns."""


def seconds_of(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def interleaved(
    measurements: Mapping[str, Callable[[], float]], *, repetitions: int, warmup: int = 3
) -> dict[str, list[float]]:
    """What every call returns, the measurements taken in turn: A B A B ..., so that a slow minute hits both."""
    values: dict[str, list[float]] = {name: [] for name in measurements}
    for repetition in range(warmup + repetitions):
        for name, measure in measurements.items():
            value = measure()
            if repetition >= warmup:
                values[name].append(value)
    return values


def interleaved_seconds(
    functions: Mapping[str, Callable[[], object]], *, repetitions: int, warmup: int = 3
) -> dict[str, list[float]]:
    """Seconds of every call, the functions taken in turn, see `interleaved`."""
    timed = {name: functools.partial(seconds_of, function) for name, function in functions.items()}
    return interleaved(timed, repetitions=repetitions, warmup=warmup)


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """The median of the ratios of neighbouring calls."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


def positive(text: str) -> int:
    """A number of repetitions or threads."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {number}")
    return number


def parse_arguments(
    description: str | None, *, repetitions: int, meaning: str = "timed calls of each function"
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repetitions", type=positive, default=repetitions, help=meaning)
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    return arguments


def environment() -> dict[str, Any]:
    """What the numbers depend on besides the code; the commit is that of a source checkout, else None."""
    described = describe_environment(open_device("cpu"))
    return {
        "torch": torch.__version__,
        "python": described["python"],
        "machine": platform.machine(),
        "processor": described["device_name"],
        "num_threads": torch.get_num_threads(),
        "commit": described["commit"],
    }


def report(title: str, rows: Rows, *, as_json: bool) -> None:
    """One benchmark and its environment on standard output."""
    if as_json:
        print(json.dumps({"benchmark": title, "environment": environment(), "rows": rows}, indent=2))
        return
    print_table(title, rows)
    print_environment()


def print_table(title: str, rows: Rows) -> None:
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*map(_cell, row.values()))
    Console(width=120).print(table)


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def print_environment() -> None:
    line = ", ".join(f"{key} {value}" for key, value in environment().items() if value is not None)
    Console(width=120).print(line, highlight=False, soft_wrap=True)
