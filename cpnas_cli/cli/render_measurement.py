"""What was measured, as text for people, on standard output."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cpnas_cli.cli.render_efficiency import MAX_WIDTH, size

_SLOWER = "*"


def print_measurement(document: Mapping[str, Any]) -> None:
    """Latencies, single operations, files, memory, and how far the engine agrees with PyTorch."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=MAX_WIDTH)
    for threads, batch in sorted({(row["threads"], row["batch_size"]) for row in document["latency"]}):
        console.print(latency_table(document, threads=threads, batch_size=batch), highlight=False)
    for name, reason in document["not_measured"].items():
        console.print(f"not measured: {name}: {reason}", highlight=False, markup=False)
    console.print(operations_table(document), highlight=False)
    slower = [row for row in document["operations"] if row["speedup_measured"] < 1]
    if slower:
        console.print(f"{_SLOWER} slower than in float32: {', '.join(sorted({row['operation'] for row in slower}))}")
    console.print(bytes_table("bytes of files", document["file_bytes"]), highlight=False)
    console.print(bytes_table("peak memory of a process", document["peak_memory_bytes"]), highlight=False)
    agreement = document["agreement"]
    console.print(
        f"on {agreement['num_images']} test images the engine and the PyTorch Child give the same class "
        f"{agreement['same_class']} times; logits differ by at most {agreement['largest_relative_difference']:.1e}",
        highlight=False,
    )
    estimate = document["estimate"]
    console.print(
        f"\nestimated against the Parent: {estimate['speedup']:.1f} times fewer operations "
        f"({estimate['speedup_with_elementwise']:.1f} with the element-wise ones), "
        f"{estimate['memory']:.1f} times smaller.\n{document['why_they_differ']}",
        highlight=False,
    )
    if document["parent_weights"] == "untrained":
        console.print("The Parent's weights are untrained: its times do not depend on them.", highlight=False)


def latency_table(document: Mapping[str, Any], *, threads: int, batch_size: int) -> Table:
    """A row per runtime."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(f"batch {batch_size}, {threads} thread{'s' * (threads > 1)}", no_wrap=True)
    for title in ("median", "10 %", "90 %", "images/s", "time / packed"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in document["latency"]:
        if (row["threads"], row["batch_size"]) == (threads, batch_size):
            times = (f"{1e3 * row[f'seconds_{key}']:.2f} ms" for key in ("median", "p10", "p90"))
            table.add_row(row["runtime"], *times, f"{row['images_per_second']:.0f}", f"{row['times_packed']:.2f}")
    return table


def operations_table(document: Mapping[str, Any]) -> Table:
    """A row per distinct operation: one thread, one image."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("operation", no_wrap=True)
    for title in ("times", "channels", "pixels", "packed", "float32", "estimated", "measured"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in document["operations"]:
        estimated = row["speedup_estimated"]
        table.add_row(
            row["operation"],
            str(row["count"]),
            f"{row['in_channels']} to {row['out_channels']}",
            f"{row['in_size']}x{row['in_size']}" + (f" /{row['stride']}" if row["stride"] > 1 else ""),
            f"{1e6 * row['seconds_packed']:.1f} us",
            f"{1e6 * row['seconds_float32']:.1f} us",
            "" if estimated is None else f"{estimated:.1f}",
            f"{row['speedup_measured']:.1f}" + _SLOWER * (row["speedup_measured"] < 1),
        )
    return table


def bytes_table(title: str, numbers: Mapping[str, int]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(title, no_wrap=True)
    table.add_column("bytes", justify="right")
    table.add_column("", justify="right")
    for name, count in numbers.items():
        table.add_row(name, f"{count:,}", size(8 * count))
    return table
