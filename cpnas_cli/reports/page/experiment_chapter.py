"""The chapters of an experiment and of a frontier: figures, tables, every member with a link to its folder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cpnas_cli.experiments.document import read_experiment
from cpnas_cli.experiments.frontier.document import read_frontier
from cpnas_cli.experiments.frontier.plan import FrontierFolder
from cpnas_cli.experiments.plan import ExperimentFolder
from cpnas_cli.networks.operations.base import FAMILIES
from cpnas_cli.reports.experiments import (
    LOOK,
    accuracy_info,
    data_name,
    draw_accuracy,
    draw_operations,
    operations_info,
)
from cpnas_cli.reports.frontier import draw_frontier, frontier_info
from cpnas_cli.reports.page import words
from cpnas_cli.reports.page.blocks import (
    Block,
    Cell,
    Chapter,
    Column,
    Command,
    Details,
    Facts,
    Paragraph,
    Section,
    Table,
    Tile,
    Tiles,
)
from cpnas_cli.reports.page.drawings import figure_drawing
from cpnas_cli.reports.page.links import linked
from cpnas_cli.reports.page.reading import Blocks, readable, section
from cpnas_cli.reports.page.what_was_run import environment_facts, genotype_drawing, settings_details
from cpnas_cli.settings import config_from_document
from cpnas_cli.storage.genotype_file import parse_genotype

Document = Mapping[str, Any]


def _sections(parts: Sequence[tuple[str, str, Callable[[], Blocks | None]]], prefix: str) -> tuple[Section, ...]:
    return tuple(each for name, title, make in parts for each in section(f"{prefix}{name}", title, make))


def _warnings(document: Document) -> Blocks:
    return tuple(Paragraph(str(text), "warning") for text in document["warnings"])


def _states(members: Sequence[Mapping[str, Any]]) -> Tile:
    finished = sum(member["state"] == "finished" for member in members)
    failed = sum(member["state"] == "failed" for member in members)
    return Tile(f"{finished} of {len(members)}", "members finished", f"{failed} failed" if failed else "")


def _repeat(document: Document) -> Blocks:
    """The command that started it, and those that made it larger, in their order: together they make all of it."""
    environments = [document["environment"], *document.get("grown_by", ())]
    blocks: list[Block] = []
    for environment in environments:
        if environment.get("command"):
            label = "As it was typed" if environment is environments[0] else "Then, to make it larger"
            again = "; typing it again goes on where it stopped" if environment is environments[-1] else ""
            blocks.append(Command(words.shell_line(environment["command"]), f"{label}{again}:"))
    blocks += readable(lambda: (settings_details(config_from_document(document["config"], stored=True)),))
    for environment in environments:
        later = "" if environment is environments[0] else ", when it was made larger"
        blocks.append(Details(f"Versions and machine{later}", (environment_facts(environment),)))
    return tuple(blocks)


# ---------------------------------------------------------------- an experiment


def experiment_chapter(path: Path, *, title: str, page: Path, prefix: str = "") -> tuple[Chapter, str]:
    """The chapter and a line on what the experiment is.

    Raises:
      RunError: its document is damaged.
    """
    document, folder = read_experiment(path), ExperimentFolder(path)
    subtitle = (
        f"{str(document['kind']).capitalize()} on {data_name(document)}, seeds {', '.join(map(str, document['seeds']))}"
    )
    parts: list[tuple[str, str, Callable[[], Blocks | None]]] = [
        ("result", "Result", lambda: _experiment_result(document)),
        ("figures", "Figures", lambda: _experiment_figures(document, f"{prefix}figure")),
        ("members", "Members", lambda: (_members_table(document, folder, page),)),
        ("repeat", "How to repeat it", lambda: _repeat(document)),
    ]
    return Chapter(title, _sections(parts, prefix)), subtitle


def _experiment_result(document: Document) -> Blocks:
    rows = [row for row in document["summary"] if row["num_runs"]]
    tiles = [_states(document["members"])]
    if rows:
        best = max(rows, key=lambda row: row["accuracy_test_mean"])
        note = words.percent_with_deviation(best["accuracy_test_mean"], best["accuracy_test_std"])
        tiles.append(Tile(best["group"], "the highest mean accuracy", note))
    epochs = document["num_epochs"]
    trained = epochs["search_trained"] + epochs["training_trained"]
    asked = epochs["search_asked"] + epochs["training_asked"]
    tiles.append(Tile(f"{trained:,}", "epochs trained", f"of {asked:,} that separate runs would take"))
    return Tiles(tuple(tiles)), *_warnings(document), _summary_table(document)


def _summary_table(document: Document) -> Table:
    what = "beta_P" if document["kind"] == "ablation" else "strategy"
    titles = (
        "runs",
        "test accuracy",
        "difference from cpnas",
        "search epochs",
        "search time",
        "size",
        "conv",
        *FAMILIES[1:],
    )
    columns = [Column(what), *(Column(title, True) for title in titles)]
    shown = document["kind"] == "comparison"
    rows = [_summary_row(row) for row in document["summary"]]
    if not shown:
        columns, rows = columns[:3] + columns[4:], [row[:3] + row[4:] for row in rows]
    caption = (
        "Means over the runs of a group, ± standard deviation of a sample. "
        + ("Differences are paired by seed, with their 95 % bootstrap interval, in percent points. " if shown else "")
        + "The last four: edges of 28"
    )
    return Table(caption, tuple(columns), tuple(rows), label="The groups")


def _summary_row(row: Mapping[str, Any]) -> tuple[Cell, ...]:
    cells = [Cell(str(row["group"])), Cell(str(row["num_runs"]), row["num_runs"])]
    if not row["num_runs"]:
        return (*cells, *(Cell(words.ABSENT) for _ in range(5 + len(FAMILIES))))
    mean = row["accuracy_test_mean"]
    difference = row.get("difference_from_cpnas")
    return (
        *cells,
        Cell(words.percent_with_deviation(mean, row["accuracy_test_std"]), mean),
        Cell(_difference(difference), None if not difference else difference["mean"]),
        Cell(f"{row['search_epochs_mean']:,.0f}", row["search_epochs_mean"]),
        Cell(words.duration(row["search_seconds_mean"]), row["search_seconds_mean"]),
        Cell(words.size(row["size_bits_mean"] / 8), row["size_bits_mean"]),
        *(Cell(f"{row[f'{family}_mean']:.1f}", row[f"{family}_mean"]) for family in FAMILIES),
    )


def _difference(difference: Mapping[str, Any] | None) -> str:
    if not difference:
        return words.ABSENT
    interval = difference["interval_95"]
    text = f"{100 * difference['mean']:+.2f}"
    return text if not interval else f"{text} [{100 * interval[0]:+.2f}, {100 * interval[1]:+.2f}]"


def _experiment_figures(document: Document, name: str) -> Blocks | None:
    if not any(member["state"] == "finished" for member in document["members"]):
        return (Paragraph("No member has finished yet; there is nothing to draw.", "soft"),)
    accuracy, operations = accuracy_info(document), operations_info(document)
    return (
        figure_drawing(
            lambda: draw_accuracy(replace(accuracy, title="", caption="")),
            name=f"{name}-accuracy",
            title=accuracy.title,
            caption=f"{accuracy.title}. {accuracy.caption}",
            description="; ".join(
                f"{group.series} {group.label}: mean {group.mean:.2f} %".strip() for group in accuracy.groups
            ),
            look=LOOK,
        ),
        figure_drawing(
            lambda: draw_operations(replace(operations, title="", caption="")),
            name=f"{name}-operations",
            title=operations.title,
            caption=f"{operations.title}. {operations.caption}",
            description="; ".join(
                f"{group.series} {group.label}: ".lstrip()
                + ", ".join(f"{count[0]:.1f} {family}" for family, count in group.counts.items())
                for group in operations.groups
            ),
            look=LOOK,
        ),
    )


def _members_table(document: Document, folder: ExperimentFolder, page: Path) -> Table:
    titles = ("group", "seed", "state", "test accuracy", "size", "search time", "training time", "search", "note")
    numbers = {"seed", "test accuracy", "size", "search time", "training time"}
    columns = (Column("member"), *(Column(title, title in numbers) for title in titles))
    rows = tuple(_member_row(member, folder, page) for member in document["members"])
    return Table("Every member; its name leads to its training", columns, rows, label="Members")


def _member_row(member: Mapping[str, Any], folder: ExperimentFolder, page: Path) -> tuple[Cell, ...]:
    name, accuracy, bits = member["name"], member.get("accuracy_test"), member.get("size_bits")
    search, training = (member.get(part, {}).get("seconds") for part in ("search", "training"))
    notes = [member["error"]] if member.get("error") else []
    notes += member.get("notes", ())
    same = member.get("training", {}).get("same_as")
    notes += [f"its training is that of {same}"] if same else []
    return (
        linked(folder.training(name).path, name, page=page),
        Cell(str(member["group"])),
        Cell(str(member["seed"]), member["seed"]),
        Cell(member["state"]),
        Cell(words.percent(accuracy), accuracy),
        Cell(words.ABSENT if bits is None else words.size(bits / 8), bits),
        Cell(words.duration(search), search),
        Cell(words.duration(training), training),
        linked(folder.search(name).path, "its search", page=page)
        if folder.search(name).path.is_dir()
        else Cell(words.ABSENT),
        Cell("; ".join(map(str, notes))),
    )


# ---------------------------------------------------------------- a frontier


def frontier_chapter(path: Path, *, title: str, page: Path, prefix: str = "") -> tuple[Chapter, str]:
    """See `experiment_chapter`."""
    document, folder = read_frontier(path), FrontierFolder(path)
    subtitle = f"Frontier on {data_name(document)}, seeds {', '.join(map(str, document['seeds']))}"
    parts: list[tuple[str, str, Callable[[], Blocks | None]]] = [
        ("result", "Is 1 bit worth it?", lambda: _frontier_result(document, f"{prefix}figure")),
        ("networks", "The networks", lambda: _points_blocks(document)),
        ("cells", "The cells", lambda: _frontier_cells(document, f"{prefix}cells")),
        ("members", "Members", lambda: (_frontier_members(document, folder, page),)),
        ("repeat", "How to repeat it", lambda: _repeat(document)),
    ]
    return Chapter(title, _sections(parts, prefix)), subtitle


def _frontier_result(document: Document, name: str) -> Blocks:
    blocks: list[Block] = [Tiles((_states(document["members"]),)), *_warnings(document)]
    if not document["points"]:
        return (*blocks, Paragraph("No member has finished yet; there is nothing to draw.", "soft"))
    info = frontier_info(document)
    blocks.insert(1, Paragraph(info.advice, "good"))
    figure = figure_drawing(
        lambda: draw_frontier(replace(info, caption="", advice="")),
        name=name,
        title="Test accuracy over size and over time",
        caption=info.caption,
        description="; ".join(
            f"{family}: " + ", ".join(f"{point.accuracy:.1f} % at {point.kibibytes:.1f} KiB" for point in points)
            for family, points in info.families.items()
        ),
        look=LOOK,
    )
    advice = document["advice"]
    sizes = _advice_table(advice["sizes"], "size", lambda row: words.size(row["budget_bytes"]), "budget_bytes")
    times = _advice_table(
        advice["times"], "time for an image", lambda row: words.milliseconds(row["budget_seconds"]), "budget_seconds"
    )
    return (*blocks, figure, sizes, times)


def _advice_table(rows: Sequence[Mapping[str, Any]], what: str, show: Callable[[Any], str], key: str) -> Table:
    def network(choice: Mapping[str, Any]) -> tuple[Cell, Cell]:
        if choice["family"] is None:
            return Cell("nothing fits"), Cell(words.ABSENT)
        return Cell(f"{choice['family']}, width {choice['width']:g}"), Cell(
            words.percent(choice["accuracy_mean"]), choice["accuracy_mean"]
        )

    verdicts = {"1-bit": "1 bit", "other": "not 1 bit", "level": "cannot be told", "none": "nothing fits"}
    cells = tuple(
        (
            Cell(show(row), row[key]),
            Cell(verdicts.get(row["verdict"], str(row["verdict"]))),
            *network(row["take"]),
            *network(row["one_bit"]),
            *network(row["other"]),
        )
        for row in rows
    )
    columns = (
        Column(f"{what}, at most", True), Column("better"), Column("take"), Column("its accuracy", True),
        Column("best of 1 bit"), Column("its accuracy", True), Column("best of the others"),
        Column("its accuracy", True),
    )  # fmt: skip
    return Table(f"What to take, by {what}", columns, cells)


def _points_blocks(document: Document) -> Blocks:
    columns = (
        Column("kind"), Column("width", True), Column("channels", True), Column("test accuracy", True),
        Column("runs", True), Column("size", True), Column("file", True), Column("time for an image", True),
    )  # fmt: skip
    rows = tuple(
        (
            Cell(point["family"]),
            Cell(f"{point['width']:g}", point["width"]),
            Cell(str(point["num_channels"]), point["num_channels"]),
            Cell(
                words.percent_with_deviation(point["accuracy_test_mean"], point["accuracy_test_std"]),
                point["accuracy_test_mean"],
            ),
            Cell(str(point["n"]), point["n"]),
            Cell(words.size(point["bytes"]), point["bytes"]),
            Cell(words.size(point["file_bytes"]), point["file_bytes"]),
            Cell(words.milliseconds(point["seconds_median"]), point["seconds_median"]),
        )
        for point in document["points"]
    )
    conventions = tuple((str(key).replace("_", " "), str(text)) for key, text in document["conventions"].items())
    table = Table("Every network, mean over the seeds ± standard deviation", columns, rows, label="Networks")
    return table, Facts(conventions, title="What the numbers mean")


def _frontier_cells(document: Document, name: str) -> Blocks | None:
    found = document["genotype"]
    return None if found is None else genotype_drawing(parse_genotype(found), name=name)


def _frontier_members(document: Document, folder: FrontierFolder, page: Path) -> Table:
    rows = []
    for member in document["members"]:
        run = folder.search(member["name"]) if member["part"] == "search" else folder.training(member["name"])
        notes = [*([member["error"]] if member["error"] else []), *member["notes"]]
        networks = ", ".join(f"{form['family']} {words.percent(form['accuracy_test'])}" for form in member["networks"])
        rows.append(
            (
                linked(run.path, member["name"], page=page),
                Cell(member["part"]),
                Cell(f"{member['width']:g}", member["width"]),
                Cell(str(member["seed"]), member["seed"]),
                Cell(member["state"]),
                Cell(networks),
                Cell(words.duration(member["seconds"]), member["seconds"]),
                Cell("; ".join(map(str, notes))),
            )
        )
    numbers = {"width", "seed", "training time"}
    titles = ("member", "part", "width", "seed", "state", "networks", "training time", "note")
    columns = tuple(Column(title, title in numbers) for title in titles)
    return Table("Every member; its name leads to its folder", columns, tuple(rows), label="Members")
