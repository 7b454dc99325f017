"""Records as text for people, on standard output."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from cpnas_cli.cli.console import printable
from cpnas_cli.cli.styled_console import StyledConsole
from cpnas_cli.errors import shell_word
from cpnas_cli.networks.operations.base import FAMILIES, operation_of
from cpnas_cli.registry import BLOCKS
from cpnas_cli.runs.deadline import duration
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.search_space import (
    EDGES,
    NONE,
    NUM_INPUT_NODES,
    NUM_NODES,
    OPERATIONS,
    CellGenotype,
    Genotype,
    live_nodes,
)
from cpnas_cli.storage.genotype_file import provenance_of


def percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.2f} %"


def describe_origin(document: Mapping[str, Any]) -> str:
    """One line on where a genotype comes from; empty if its document does not say."""
    names = {"strategy": "", "beta_p": "beta_P ", "indicator": "indicator ", "dataset": "", "seed": "seed "}
    names["num_passes"] = "T "
    provenance = provenance_of(document)
    if provenance.get("beta_p"):
        provenance = {"indicator": "printed", **provenance}  # which it was before there was another
    parts = [f"{label}{provenance[key]}" for key, label in names.items() if provenance.get(key) is not None]
    return ", ".join(parts)


def indicator_line(document: Mapping[str, Any]) -> str:
    """The indicator of the search, and the slope of the Parent's accuracy on the Child's; empty if it had no Parent."""
    provenance = provenance_of(document)
    if "parent_slope" not in provenance or not provenance["beta_p"]:
        return ""
    slope = provenance["parent_slope"]
    words = "-, because the Child never varied" if slope is None else f"{slope:.2f}"
    return (
        f"indicator: {provenance['indicator']}, beta_P {provenance['beta_p']:g}; "
        f"slope b of the Parent's accuracy on the Child's over the draws: {words}"
    )


def operations_line(cell: CellGenotype) -> str:
    counts = {op: cell.count(op) for op in OPERATIONS if op in cell}
    return ", ".join(f"{count} {op}" for op, count in counts.items())


def cell_table(cell: CellGenotype, *, title: str) -> Table:
    """The cell as a table: a row per intermediate node, a column per node that it reads."""
    live = live_nodes(cell)
    table = Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    table.add_column("node", no_wrap=True)
    for source in range(NUM_NODES - 1):
        table.add_column(f"from {'input ' if source < NUM_INPUT_NODES else ''}{source}", no_wrap=True)
    operations = dict(zip(EDGES, cell, strict=True))
    for node in range(NUM_INPUT_NODES, NUM_NODES):
        row = [Text(f"{node}" if node in live else f"{node} (dead)")]
        for source in range(NUM_NODES - 1):
            op = operations.get((source, node))
            if op is None:
                row.append(Text(""))
            else:
                carries = source in live
                row.append(
                    Text(
                        op if carries or op == NONE else f"({op})",
                        style=operation_of(op).look.style if carries else "dim",
                    )
                )
        table.add_row(*row)
    return table


def print_genotype(genotype: Genotype, document: Mapping[str, Any], *, folder: Path) -> None:
    console = StyledConsole()
    origin = describe_origin(document)
    if origin:
        console.print(f"found by: {origin}", highlight=False)
    for kind, cell in genotype.cells().items():
        title = "normal cell" if kind == "normal" else "reduction cell (stride 2 from nodes 0 and 1)"
        console.print()
        console.print(cell_table(cell, title=title))
        console.print(operations_line(cell), style="dim", highlight=False)
    print_precision(document, folder=folder)


def print_precision(document: Mapping[str, Any], *, folder: Path) -> None:
    """What is 1-bit and what is real in the Child: by the run's settings, or by the genotype's origin."""
    from cpnas_cli.networks.size import precision_parts
    from cpnas_cli.settings import NetworkConfig, RealPart

    run = RunFolder(folder)
    if run.file(RunFolder.CONFIG).exists():
        settings = run.config().network
    else:
        provenance = provenance_of(document)
        real_parts, block = provenance.get("real_parts"), provenance.get("block")
        known = [part for part in get_args(RealPart) if isinstance(real_parts, list) and part in real_parts]
        settings = NetworkConfig(real_parts=tuple(known))
        if isinstance(block, str) and block in BLOCKS:
            settings = settings.model_copy(update={"block": block})
    parts = precision_parts(settings, "binary")
    console = StyledConsole()
    console.print(f"\n1-bit in the Child: {', '.join(parts['binary'])}", highlight=False)
    console.print(f"real in the Child:  {', '.join(parts['real'])}", highlight=False)


def print_genotype_summary(document: Mapping[str, Any], path: Path) -> None:
    from cpnas_cli.storage.genotype_file import parse_genotype

    console = StyledConsole()
    for kind, cell in parse_genotype(document).cells().items():
        console.print(cell_table(cell, title="normal cell" if kind == "normal" else "reduction cell"))
    for setting, report in provenance_of(document).get("budgets", {}).items():
        print(budget_line(setting, report))
    print(f"\ngenotype: {printable(str(path))}")
    if line := indicator_line(document):
        print(line)


def budget_line(setting: str, report: Mapping[str, Any]) -> str:
    """What was asked of a budget, and what the network takes, measured where it can be."""
    from cpnas_cli.strategies.budgets.resource import resource_of

    resource = resource_of(setting)
    found, predicted = (resource.amounts.show(report[key]) for key in ("found", "predicted"))
    line = f"{resource.option} {report['asked']}: {resource.name} {found}"
    if resource.is_measured:
        line += f", predicted {predicted}"
    if report["found"] > report["limit"]:
        line += ": over the budget when it was measured"
    return line


def print_result(result: Mapping[str, Any], folder: Path) -> None:
    console = StyledConsole()
    table = Table(show_header=False, box=None)
    name = "1-bit Child" if result["network"] == "child" else "full-precision Parent"
    kind = f"of {result['num_test_images']} test images, last of {result['num_epochs']} epochs"
    table.add_row(f"{name}, test accuracy", Text.assemble((percent(result["accuracy_test"]), "bold"), f"  ({kind})"))
    if result["network"] == "child" and result["accuracy_parent_test"] is not None:
        gap = result["accuracy_parent_test"] - result["accuracy_test"]
        table.add_row("its Parent, test accuracy", f"{percent(result['accuracy_parent_test'])}  (gap {percent(gap)})")
    for network, begun in result.get("init_from", {}).items():
        classifier = "" if begun["classifier"] == "kept" else ", but for its classifier"
        table.add_row(f"the {network} began with", f"{begun['file']}{classifier}")
    if result.get("validation"):
        _add_validation(table, result["validation"])
    if result.get("baseline"):
        _add_baseline(table, result["baseline"])
    table.add_row(
        "parameters",
        f"{result['num_parameters']:,}; for inference {result['num_binary_weights']:,} 1-bit weights, "
        f"{result.get('num_thresholds', 0):,} thresholds, {result['num_real_values']:,} real values",
    )
    size = f"{result['size_bits'] / 8192:.1f} KiB ({result['size_bits']:,} bits)"
    if result["size_parent_bits"]:
        size += f"; the Parent {result['size_parent_bits'] / 8192:.1f} KiB"
    table.add_row("size for inference", size)
    table.add_row("1-bit", ", ".join(result["precision"]["binary"]) or "nothing")
    table.add_row("real", ", ".join(result["precision"]["real"]))
    table.add_row("time", duration(result["seconds"] + (result["seconds_parent"] or 0)))
    table.add_row("run", str(folder))
    console.print(table, highlight=False)
    print(f"\nnext, evaluate it again:  cpnas evaluate {printable(shell_word(folder))}")


def _add_validation(table: Table, validation: Mapping[str, Any]) -> None:
    """The images that the network was not trained on, in the last epoch, and where they were recognized best."""
    best = validation["best"]
    table.add_row(
        "validation accuracy",
        f"{percent(validation['accuracy'])}  (of {validation['num_images']} images, in the last epoch)",
    )
    table.add_row(
        "best by validation", f"{percent(best['accuracy'])}  (after epoch {best['epoch'] + 1}; kept as {best['file']})"
    )


def _add_baseline(table: Table, baseline: Mapping[str, Any]) -> None:
    """The plain CNN beside the Child, and what both take on a device."""

    def cost(num_bytes: int, seconds: float) -> str:
        return f"{num_bytes / 1024:.1f} KiB, {1e3 * seconds:.3g} ms for an image"

    table.add_row("packed, on one thread", cost(baseline["child_bytes"], baseline["child_seconds_per_image"]))
    table.add_row(
        "a plain int8 CNN, test accuracy",
        f"{percent(baseline['accuracy_test'])}  ({cost(baseline['bytes'], baseline['seconds_per_image'])}; "
        f"in float32 {percent(baseline['accuracy_float32_test'])})",
    )


def print_experiment(document: Mapping[str, Any], files: Sequence[Path]) -> None:
    """Groups as rows; then what was shared, what to beware of, and where everything is."""
    ablation = document["kind"] == "ablation"
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for title in group_titles(document["kind"], document["groups"]):
        table.add_column(title, no_wrap=True)
    titles = ["runs", "test accuracy", "search epochs", "search time", "size", "conv / pool / skip / none"]
    if not ablation:
        titles.insert(2, "difference from cpnas (95 %)")
    for title in titles:
        table.add_column(title, justify="right")
    for row in document["summary"]:
        table.add_row(*group_cells(document["kind"], row["group"]), *_experiment_cells(row, ablation=ablation))
    StyledConsole().print(table, highlight=False)
    epochs = document["num_epochs"]
    print(
        f"epochs trained, of those that separate runs would take: "
        f"search {epochs['search_trained']} of {epochs['search_asked']}, "
        f"training {epochs['training_trained']} of {epochs['training_asked']}"
    )
    names = {member["indicator"]: None for member in document["members"] if member["indicator"]}
    if names:
        print(f"indicator: {' and '.join(names)}")
    for warning in document["warnings"]:
        print(f"warning: {printable(warning)}")
    print("\n" + "\n".join(printable(str(file)) for file in files))


def group_titles(kind: str, groups: Sequence[str]) -> list[str]:
    """The titles of the columns that tell the groups of an experiment apart."""
    if kind == "comparison":
        return ["strategy"]
    return ["indicator", "beta_P"][-max(len(group.split()) for group in groups) :]


def group_cells(kind: str, group: str) -> list[str]:
    """What stands in them."""
    return group.split() if kind == "ablation" else [group]


def _experiment_cells(row: Mapping[str, Any], *, ablation: bool) -> list[str]:
    if not row["num_runs"]:
        return ["0"] + ["-"] * (5 if ablation else 6)
    deviation = row["accuracy_test_std"]
    cells = [
        str(row["num_runs"]),
        f"{100 * row['accuracy_test_mean']:.2f} %" + ("" if deviation is None else f" ± {100 * deviation:.2f}"),
        f"{row['search_epochs_mean']:.0f}",
        duration(row["search_seconds_mean"]),
        f"{row['size_bits_mean'] / 8192:.1f} KiB",
        " / ".join(f"{row[f'{family}_mean']:.1f}" for family in FAMILIES),
    ]
    if not ablation:
        difference = row.get("difference_from_cpnas")
        text = "-"
        if difference:
            text = f"{100 * difference['mean']:+.2f}"
            if difference["interval_95"]:
                low, high = difference["interval_95"]
                text += f" [{100 * low:+.2f}, {100 * high:+.2f}]"
        cells.insert(2, text)
    return cells
