"""Size, operations and time of a network: counted, and what has been measured of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cpnas_cli.efficiency.baselines import PARENT, baseline_dataflow
from cpnas_cli.efficiency.estimate import NetworkEstimate, compare, estimate
from cpnas_cli.efficiency.named_network import read_named_network
from cpnas_cli.networks.dataflow import dataflow_of
from cpnas_cli.reports.page import words
from cpnas_cli.reports.page.blocks import Block, Cell, Column, Details, Facts, Paragraph, Table, Tile, Tiles
from cpnas_cli.reports.page.drawings import figure_drawing
from cpnas_cli.reports.page.reading import Blocks, document_of, readable
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.storage.genotype_file import provenance_of

MEASUREMENT = "measurement.json"
DEPLOYED = "deployed.json"  # `deploy.deployed.DEPLOYED`, for which torch would be loaded


def efficiency_blocks(run: RunFolder, *, name: str) -> Blocks | None:
    """Of the network of a run's genotype; None without one."""
    if not run.file(RunFolder.GENOTYPE).exists():
        return None
    blocks: list[Block] = [*readable(lambda: _estimated(run))]
    blocks += readable(lambda: _budgets(run))
    for make in (_baseline, _deployed):
        blocks += readable(lambda make=make: make(run))
    blocks += readable(lambda: _measured(run, name=name))
    return tuple(blocks)


def _estimated(run: RunFolder) -> Blocks:
    named = read_named_network(run.path)
    child = estimate(dataflow_of(named.network, named.genotype, named.shape, precision="binary"))
    parent = estimate(baseline_dataflow(PARENT, named.network, named.genotype, named.shape))
    savings = compare(child, parent)
    tiles = (
        Tile(
            words.size(child.storage.total / 8),
            "the 1-bit network, stored",
            f"{savings.memory:.1f} times less than its Parent",
        ),
        Tile(_short(child.ops), "operations (OPs) for an image", f"{savings.speedup:.1f} times fewer than its Parent"),
        Tile(words.size(child.peak.bits / 8), "for values while it runs, at least"),
    )
    note = Paragraph("Counted from the architecture; what a processor makes of it is measured, and is less.", "soft")
    return Tiles(tiles), note, Details("Counted, in full", (_estimate_table(child, parent), _conventions()))


def _short(count: float) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= limit:
            return f"{count / limit:.2f} {unit}"
    return f"{count:.0f}"


def _estimate_table(child: NetworkEstimate, parent: NetworkEstimate) -> Table:
    quantities: dict[str, tuple[float, float]] = {
        "bytes stored": (child.storage.total / 8, parent.storage.total / 8),
        "multiply-accumulates": (child.macs, parent.macs),
        "of them 1-bit (BOPs)": (child.bops, parent.bops),
        "of them real (FLOPs)": (child.flops, parent.flops),
        "OPs = FLOPs + BOPs / 64": (child.ops, parent.ops),
        "element-wise operations": (child.elementwise.total, parent.elementwise.total),
        "bytes of values held at once": (child.peak.bits / 8, parent.peak.bits / 8),
    }
    rows = tuple(
        (
            Cell(label),
            _count(own),
            _count(other),
            Cell(f"{other / own:.2f}", other / own) if own else Cell(words.ABSENT),
        )
        for label, (own, other) in quantities.items()
    )
    columns = (Column("for one image"), Column("Child", True), Column("Parent", True), Column("times less", True))
    return Table("The 1-bit Child and its full-precision Parent", columns, rows)


def _count(value: float) -> Cell:
    return Cell(f"{value:,.0f}", float(value))


def _conventions() -> Facts:
    return Facts(
        (
            ("multiply-accumulate", "counts as one operation; those on the padding count too"),
            (
                "bytes stored",
                "a bit for each 1-bit weight, 8 for a threshold, 32 for a real value or as the settings say",
            ),
            ("Parent", "the same architecture in float32"),
        ),
        title="How it is counted",
    )


def _budgets(run: RunFolder) -> Blocks | None:
    """What was asked of the search, and what it found."""
    document = document_of(run, RunFolder.GENOTYPE) or {}
    budgets = provenance_of(document).get("budgets")
    if not isinstance(budgets, Mapping) or not budgets:
        return None
    from cpnas_cli.strategies.budgets.resource import resource_of

    rows = []
    for setting, report in budgets.items():
        resource = resource_of(setting)
        found, predicted = (resource.amounts.show(report[key]) for key in ("found", "predicted"))
        kept = "kept" if report["found"] <= report["limit"] else "over it"
        rows.append(tuple(map(Cell, (resource.name, str(report["asked"]), predicted, found, kept))))
    columns = tuple(map(Column, ("budget", "asked", "predicted", "found", "")))
    return (Table("Budgets of the search", columns, tuple(rows)),)


def _baseline(run: RunFolder) -> Blocks | None:
    """The plain CNN that was trained and measured beside the Child."""
    result = document_of(run, RunFolder.RESULT) or {}
    baseline = result.get("baseline")
    if not baseline:
        return None
    child = (
        "1-bit Child, packed",
        result["accuracy_test"],
        baseline["child_bytes"],
        baseline["child_seconds_per_image"],
    )
    int8 = ("plain CNN, int8", baseline["accuracy_test"], baseline["bytes"], baseline["seconds_per_image"])
    real = ("plain CNN, float32", baseline["accuracy_float32_test"], None, baseline["seconds_per_image_float32"])
    rows = tuple(_deployed_row(*row) for row in (child, int8, real))
    columns = (
        Column("network"),
        Column("test accuracy", True),
        Column("bytes", True),
        Column("time for an image", True),
    )
    return (
        Table(
            "Measured on the machine of the run, one thread: the Child and a plain CNN of as many bytes", columns, rows
        ),
    )


def _deployed_row(label: str, accuracy: float | None, num_bytes: int | None, seconds: float | None) -> tuple[Cell, ...]:
    return (
        Cell(label),
        Cell(words.percent(accuracy), accuracy),
        Cell(words.size(num_bytes), num_bytes),
        Cell(words.milliseconds(seconds), seconds),
    )


def _deployed(run: RunFolder) -> Blocks | None:
    """The forms in which a device would run the networks of a frontier's member."""
    document = document_of(run, DEPLOYED)
    if document is None:
        return None
    rows = tuple(
        (
            Cell(form["family"]),
            Cell(words.percent(form["accuracy_test"]), form["accuracy_test"]),
            Cell(words.size(form["bytes"]), form["bytes"]),
            Cell(words.size(form["file_bytes"]), form["file_bytes"]),
            Cell(form["file"]),
        )
        for form in document["networks"]
    )
    columns = (
        Column("network"), Column("test accuracy", True), Column("itself", True), Column("its file", True),
        Column("file"),
    )  # fmt: skip
    return (Table("As files for a device", columns, rows),)


# ---------------------------------------------------------------- measured, of `cpnas efficiency measure`


def _measured(run: RunFolder, *, name: str) -> Blocks | None:
    """Of every measurement in the folder of the run, or just below it."""
    found = [run.file(MEASUREMENT), *sorted(run.path.glob(f"*/{MEASUREMENT}"))]
    blocks: list[Block] = []
    for index, path in enumerate(path for path in found if path.is_file()):
        document = document_of(RunFolder(path.parent), MEASUREMENT)
        assert document is not None
        blocks += measurement_blocks(document, name=f"{name}-measured-{index}")
    return tuple(blocks)


def measurement_blocks(document: Mapping[str, Any], *, name: str) -> Blocks:
    """Times side by side, what was estimated and measured, and the figure of every operation.

    Args:
      name: unique in the page.
    """
    from cpnas_cli.reports.efficiency import draw_speedups, speedups_info  # loads what bootstraps experiments
    from cpnas_cli.reports.experiments import LOOK

    machine = document["environment"]["device_name"]
    info = speedups_info(document)
    figure = figure_drawing(
        lambda: draw_speedups(replace(info, caption="")),
        name=name,
        title="Estimated and measured speed-up of every operation",
        description="; ".join(f"{row.label}: measured {row.measured or 'below the noise'}" for row in info.rows),
        caption=info.caption,
        look=LOOK,
    )
    return (
        Paragraph(f"Measured on {machine}; medians of {document['repetitions']} repetitions."),
        _comparison_table(document["comparison"]),
        _latency_table(document["latency"]),
        Paragraph(document["why_they_differ"], "soft"),
        Details("Every operation", (figure,)),
    )


def _comparison_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = (Column("what 1 bit saves"), Column("estimated", True), Column("measured", True))
    cells = tuple((Cell(row["saving"]), _times(row["estimated"]), _times(row["measured"])) for row in rows)
    return Table("Estimated and measured, times", columns, cells)


def _times(value: float | None) -> Cell:
    return Cell(words.ABSENT if value is None else f"{value:.2f}", value)


def _latency_table(latency: Sequence[Mapping[str, Any]]) -> Table:
    columns = (
        Column("runtime"), Column("threads", True), Column("images in a call", True), Column("time of a call", True),
        Column("images a second", True),
    )  # fmt: skip
    rows = tuple(
        (
            Cell(row["runtime"]),
            Cell(str(row["threads"]), row["threads"]),
            Cell(str(row["batch_size"]), row["batch_size"]),
            Cell(words.milliseconds(row["seconds_median"]), row["seconds_median"]),
            Cell(f"{row['images_per_second']:,.0f}", row["images_per_second"]),
        )
        for row in latency
    )
    return Table("Side by side", columns, rows)
