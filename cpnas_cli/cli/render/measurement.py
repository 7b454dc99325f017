"""What was measured, as text for people, on standard output."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from cpnas_cli.cli.render.efficiency import MAX_WIDTH, size
from cpnas_cli.cli.styled_console import StyledConsole

_SLOWER = "*"


def print_measurement(document: Mapping[str, Any]) -> None:
    """Latencies, single operations, files, memory, and how far the runtimes agree with PyTorch.

    Of a document from before there were other runtimes or the fastest of them, what it has.
    """
    console = StyledConsole()
    if not console.is_terminal:
        console = StyledConsole(width=MAX_WIDTH)
    for threads, batch in sorted({(row["threads"], row["batch_size"]) for row in document["latency"]}):
        console.print(latency_table(document, threads=threads, batch_size=batch), highlight=False)
        for line in fastest_lines(document, threads=threads, batch_size=batch):
            console.print(line, highlight=False)
    console.print(
        "One image runs on one thread of the packed engine, whatever their number; the C program has one thread."
    )
    for reason, names in _by_reason(document["not_measured"]).items():
        console.print(f"not measured: {'; '.join(names)}: {reason}", highlight=False, markup=False)
    console.print(operations_table(document), highlight=False)
    console.print(
        "Each operation alone, on one thread, in float32 where no other format is named; in the network they share "
        "what they read and do not add up."
    )
    slower = sorted({row["operation"] for row in document["operations"] if _is_slower(row)})
    if slower:
        console.print(f"{_SLOWER} slower than in the fastest runtime: {', '.join(slower)}")
    console.print(bytes_table("bytes of files", document["file_bytes"]), highlight=False)
    console.print(bytes_table("peak memory of a process", document["peak_memory_bytes"]), highlight=False)
    _print_agreement(console, document["agreement"])
    if document.get("peer_agreement"):
        console.print(agreement_table(document), highlight=False)
    console.print(comparison_table(document), highlight=False)
    console.print(document["why_they_differ"], highlight=False)
    if document["parent_weights"] == "untrained":
        console.print("The Parent's weights are untrained: its times do not depend on them.", highlight=False)


def fastest_lines(document: Mapping[str, Any], *, threads: int, batch_size: int) -> list[str]:
    """Which runtime runs the Parent in the least time, as a sentence; none of an older document."""
    return [
        f"The fastest of the Parent's: {row['runtime']}, {row['times_packed']:.2f} times the packed engine's."
        for row in document.get("fastest_peers", ())
        if (row["threads"], row["batch_size"]) == (threads, batch_size)
    ]


def _by_reason(not_measured: Mapping[str, str]) -> dict[str, list[str]]:
    names = dict[str, list[str]]()
    for name, reason in not_measured.items():
        names.setdefault(reason, []).append(name)
    return names


def _is_slower(row: Mapping[str, Any]) -> bool:
    return any((row.get(key) or 1) < 1 for key in ("speedup_measured", "speedup_fastest"))


def _print_agreement(console: StyledConsole, agreement: Mapping[str, Any]) -> None:
    console.print(
        f"Engine and PyTorch Child on {agreement['num_images']} test images: the same class {agreement['same_class']} "
        f"times; logits differ by at most {agreement['largest_relative_difference']:.1e} of the image's largest, by "
        f"more than 1e-4 on {agreement['num_above_1e-4']} images.",
        highlight=False,
    )


def agreement_table(document: Mapping[str, Any]) -> Table:
    """A row per runtime that is neither PyTorch nor the engine: how often it chooses their class."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("agreement", no_wrap=True)
    for title in ("with", "images", "same class", "largest difference of a score"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in document["peer_agreement"]:
        largest = row["largest_relative_difference"]
        numbers = str(row["num_images"]), str(row["same_class"]), "not finite" if largest is None else f"{largest:.1e}"
        table.add_row(row["runtime"], row["with"], *numbers)
    return table


def comparison_table(document: Mapping[str, Any]) -> Table:
    """Estimated and measured savings side by side."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("saving", overflow="fold")
    table.add_column("estimated", justify="right", no_wrap=True)
    table.add_column("measured", justify="right", no_wrap=True)
    for row in document["comparison"]:
        estimated = f"{row['estimated']:.1f} x"
        if row["estimated_with_elementwise"] is not None:
            estimated += f" ({row['estimated_with_elementwise']:.1f} with element-wise operations)"
        table.add_row(row["saving"], estimated, "-" if row["measured"] is None else f"{row['measured']:.1f} x")
    return table


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


_OPENVINO = {"seconds_openvino_float32": "OpenVINO", "seconds_openvino_bfloat16": "bfloat16"}


def operations_table(document: Mapping[str, Any]) -> Table:
    """A row per distinct operation: one thread, one image; columns of OpenVINO where it was measured."""
    rows = document["operations"]
    others = {key: title for key, title in _OPENVINO.items() if any(row.get(key) for row in rows)}
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("operation", no_wrap=True)
    for title in ("times", "channels", "pixels", "packed", "ONNX Runtime", *others.values(), "estimated"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("measured", justify="right", no_wrap=True)
    if others:
        table.add_column("to the fastest", justify="right", no_wrap=True)
    for row in rows:
        speedups = [_speedup(row["speedup_measured"])]
        speedups += [_speedup(row["speedup_fastest"])] if others else []
        table.add_row(
            row["operation"],
            str(row["count"]),
            f"{row['in_channels']} to {row['out_channels']}",
            f"{row['in_size']}x{row['in_size']}" + (f" /{row['stride']}" if row["stride"] > 1 else ""),
            _microseconds(row["seconds_packed"]),
            _median(row["seconds_float32"]) if others else _microseconds(row["seconds_float32"]),
            *(_median(row[key]) if row[key] else "-" for key in others),
            "" if row["speedup_estimated"] is None else f"{row['speedup_estimated']:.1f}",
            *speedups,
        )
    return table


def _speedup(number: float | None) -> str:
    return "noise" if number is None else f"{number:.1f}" + _SLOWER * (number < 1)


def _microseconds(timing: Mapping[str, float]) -> str:
    low, high = (f"{1e6 * timing[key]:.1f}" for key in ("p10", "p90"))
    return f"{1e6 * timing['median']:.1f} us ({low} to {high})"


def _median(timing: Mapping[str, float]) -> str:
    return f"{1e6 * timing['median']:.1f} us"


def bytes_table(title: str, numbers: Mapping[str, int]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(title, no_wrap=True)
    table.add_column("bytes", justify="right")
    table.add_column("", justify="right")
    for name, count in numbers.items():
        table.add_row(name, f"{count:,}", size(8 * count))
    return table
