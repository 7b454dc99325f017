"""What all benchmarks share around their measuring: the command line of one, the environment, tables and JSON."""

import argparse
import json
import platform
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from cpnas_cli.distributed.device import open_device
from cpnas_cli.runs.environment import describe_environment

Rows = list[dict[str, Any]]
"""Of a table: every row has the same columns."""


def positive(text: str) -> int:
    """A number of repetitions or threads."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {number}")
    return number


def run_alone(
    description: str | None,
    title: str,
    tabulate: Callable[..., Rows],
    *,
    repetitions: int,
    meaning: str = "timed calls of each function",
    argument: str = "repetitions",
) -> None:
    """One benchmark and its environment on standard output, as the command line asks for it.

    Args:
      repetitions: unless the command line says otherwise; `meaning`: what they are, for its help.
      argument: of `tabulate`, that takes them.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repetitions", type=positive, default=repetitions, help=meaning)
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = tabulate(**{argument: arguments.repetitions})
    if arguments.json:
        print(json.dumps({"benchmark": title, "environment": environment(), "rows": rows}, indent=2))
        return
    print_table(title, rows)
    print_environment()


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
