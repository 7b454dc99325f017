"""The search as it happened: what was drawn and how it did, which operations died when, and what the numbers mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cpnas_cli.networks.operations.base import operation_of
from cpnas_cli.registry import OPERATIONS as REGISTERED
from cpnas_cli.reports.page import words
from cpnas_cli.reports.page.blocks import (
    Block,
    Cell,
    Column,
    Details,
    Drawings,
    Facts,
    Grid,
    Paragraph,
    Shade,
    Side,
    Table,
)
from cpnas_cli.reports.page.charts import Chart, Mark, Series, draw, means, spaced
from cpnas_cli.reports.page.reading import Blocks
from cpnas_cli.reports.page.training_part import epoch_charts
from cpnas_cli.search_space import EDGES, OPERATIONS

Record = Mapping[str, Any]

NUM_BEST = 20
MOST_ROWS = 500
CELLS = {"normal": "normal cell", "reduce": "reduction cell"}


@dataclass(frozen=True)
class Draw:
    """An architecture that a search tried, in the order of the history.

    Attributes:
      group: what it is compared within: candidates alive and pass, the round of whole trainings, or the generation.
    """

    number: int
    group: tuple[Any, ...]
    record: Record
    accuracy_child: float | None
    accuracy_parent: float | None
    z: float | None


def draws_of(history: Sequence[Record]) -> list[Draw]:
    """All of them; where a pass is judged when it ends, with what is said there."""
    found: list[Draw] = []
    for record in history:
        if record["event"] == "draw":
            group = (record.get("num_candidates"), record.get("round"), record.get("pass", record.get("generation")))
            values = (_number(record.get(key)) for key in ("accuracy_child", "accuracy_parent", "z"))
            found.append(Draw(len(found) + 1, group, record, *values))
        elif record["event"] == "pass":
            found = _judged(found, record)
    return found


def _judged(draws: list[Draw], record: Record) -> list[Draw]:
    """With the accuracies of the pass that has just ended."""
    children = record["accuracy_child"]
    first = len(draws) - len(children)
    parents = record["accuracy_parent"] or [None] * len(children)
    for index, (child, parent, z) in enumerate(zip(children, parents, record["z"], strict=True), start=first):
        old = draws[index]
        draws[index] = Draw(old.number, old.group, old.record, _number(child), _number(parent), _number(z))
    return draws


def _number(value: Any) -> float | None:
    return float(value) if words.is_number(value) else None


def search_blocks(history: Sequence[Record], *, name: str, chance: float | None) -> Blocks:
    """Everything that a history of a search says.

    Args:
      name: unique in the page. chance: the accuracy of guessing.
    """
    if not history:
        return (Paragraph("Nothing has happened yet: the history is empty.", "soft"),)
    draws = draws_of(history)
    judged = [each for each in draws if each.accuracy_child is not None]
    epochs = [record for record in history if record["event"] == "epoch"]
    abandoned = [record for record in history if record["event"] == "abandon"]
    choice = next((record for record in history if record["event"] == "choice"), None)
    blocks: list[Block] = [Paragraph(_story(history, draws, judged, epochs, abandoned, choice))]
    if judged:
        blocks.append(_draws_chart(history, draws, name=name, chance=chance))
        blocks.append(_meaning(judged))
    if abandoned:
        blocks += _survival(abandoned, choice)
    blocks += _strengths(history)
    if epochs:
        blocks.append(Drawings(epoch_charts(epochs, name=f"{name}-epoch", chance=chance)))
    if judged:
        blocks += _tables(history, judged)
    if abandoned:
        blocks.append(Details("Every abandoned operation and its evaluation", (_abandoned_table(abandoned),)))
    return tuple(blocks)


def _story(
    history: Sequence[Record],
    draws: Sequence[Draw],
    judged: Sequence[Draw],
    epochs: Sequence[Record],
    abandoned: Sequence[Record],
    choice: Record | None,
) -> str:
    if draws and not judged:
        return "This genotype was drawn at random: nothing was trained, and nothing judged, to find it."
    parts = []
    if epochs:
        parts.append(words.counted(len(epochs), "epoch"))
    if judged:
        parts.append(words.counted(len(judged), "architecture") + " judged")
    seconds = sum(record["seconds"] for record in history if words.is_number(record.get("seconds")))
    story = f"{', '.join(parts) or 'The search'} in {words.duration(seconds)}."
    if abandoned:
        until = "one is left" if choice is None else f"{choice['num_candidates']} are left"
        story += f" After every round each edge gives up the operation that did worst, until {until}."
    if choice is not None:
        compared = sum(each.record.get("num_candidates") == choice["num_candidates"] for each in judged)
        story += f" The best of {words.counted(compared, 'whole architecture')} of these, by its z, is what was found."
    if any(record["event"] == "halve" for record in history):
        story += " Every architecture is trained by itself; after a round the better half goes on and trains longer."
    if judged and _unit_of(judged) == "generation":
        story += " After a generation of random architectures each generation descends from the best before it."
    return story


def _unit_of(draws: Sequence[Draw]) -> str:
    """What their groups are called: a round is of whole trainings, a generation of evolution."""
    return next((unit for unit in ("round", "generation") if unit in draws[0].record), "pass")


def _draws_chart(history: Sequence[Record], draws: Sequence[Draw], *, name: str, chance: float | None) -> Block:
    child = [
        (each.group, (float(each.number), each.accuracy_child)) for each in draws if each.accuracy_child is not None
    ]
    parent = [
        (each.group, (float(each.number), each.accuracy_parent)) for each in draws if each.accuracy_parent is not None
    ]
    shown = [Series("Parent, each draw", tuple(point for _, point in parent), 2, "dots")]
    shown.append(Series("Child, each draw", tuple(point for _, point in child), 1, "dots"))
    halves = any(record["event"] == "halve" for record in history)
    if len({group for group, _ in child}) > 1:
        unit = _unit_of(draws)
        shown.append(Series(f"Parent, mean of a {unit}", means(parent), 2, "dashed"))
        shown.append(Series(f"Child, mean of a {unit}", means(child), 1))
    marks = _ends_of_rounds(history)
    level = None if chance is None else (chance, "guessing")
    chart = Chart(
        "Validation accuracy of every draw",
        "draw",
        tuple(shown),
        is_percent=True,
        marks=spaced(marks, least=max(len(draws) / 14, 1)),
        level=level,
    )
    what = "a round ends there; the number says how many go on"
    if not halves:
        what = "operations are abandoned there; the number says how many an edge still has"
    caption = f"Upright lines: {what}." if marks else ""
    return draw(chart, name=f"{name}-draws", wide=True, caption=caption)


def _ends_of_rounds(history: Sequence[Record]) -> list[Mark]:
    marks: dict[float, Mark] = {}
    num_draws = 0
    for record in history:
        num_draws += record["event"] == "draw"
        if record["event"] == "abandon" and num_draws:
            marks[num_draws] = Mark(num_draws + 0.5, str(_num_left(record)))
        if record["event"] == "halve":
            marks[num_draws] = Mark(num_draws + 0.5, str(len(record["kept"])))
    return list(marks.values())


def _num_left(abandoned: Record) -> int:
    """Operations that an edge still has."""
    return max(len(edge["evaluation"]) for edge in [*abandoned["normal"], *abandoned["reduce"]]) - 1


def _meaning(judged: Sequence[Draw]) -> Block:
    unit = _unit_of(judged)
    is_trained, evolves = unit == "round", unit == "generation"
    how = "drawn at random, mutated from another architecture, or mixed from two" if evolves else "drawn at random"
    rows = [
        ("draw", f"an architecture: one of the operations still alive on every edge, {how}"),
        (
            "Child (A_C)",
            "accuracy of the 1-bit network of this draw on validation images that it was not trained on"
            + (
                ""
                if is_trained
                else "; its weights are shared by all draws, so it is lower than after a training of its own"
            ),
        ),
    ]
    if any(each.accuracy_parent is not None for each in judged):
        rows.append(
            ("Parent (A_P)", "the same network in full precision, trained beside it: what 1 bit costs is the gap")
        )
    if any(each.z is not None for each in judged):
        score = "what the search compares draws by"
        if any(each.accuracy_parent is not None for each in judged):
            score += ", the indicator (4.15): the Child's accuracy and, by beta_P, its gap to the Parent"
        rows.append(("z", score))
    if evolves:
        rows.append(
            ("generation", "what descends from the same architectures: the best before it; the first is random")
        )
    elif not is_trained:
        rows.append(
            ("pass", "so many draws that each operation alive on an edge was drawn once: passes can be compared")
        )
    return Facts(tuple(rows), title="What the numbers mean")


# ---------------------------------------------------------------- which operations died when


def _label(operation: str) -> str:
    return operation_of(operation).short if operation in REGISTERED else operation


def _survival(abandoned: Sequence[Record], choice: Record | None) -> Blocks:
    """A row for each edge, a column for each operation: when it was given up.

    Args:
      choice: of a whole architecture of what was left, where there was one.
    """
    rounds = _rounds(abandoned)
    died: dict[tuple[str, tuple[int, int], str], int] = {}
    alive: dict[tuple[str, tuple[int, int]], set[str]] = {}
    for record, number in zip(abandoned, rounds, strict=True):
        for kind in CELLS:
            for edge in record[kind]:
                place = edge["from"], edge["to"]
                died[kind, place, edge["abandoned"]] = number
                alive[kind, place] = set(edge["evaluation"]) - {edge["abandoned"]}
    chosen: dict[tuple[str, tuple[int, int]], str] = {}
    if choice is not None:
        chosen = {(kind, place): op for kind in CELLS for place, op in zip(EDGES, choice[kind], strict=True)}
    last = max(rounds)
    grids = tuple(_survival_grid(kind, died, alive, chosen, last) for kind in CELLS)
    return (
        Paragraph(
            "Which operation died when. The number is its place in the order in which the edge gave its operations up, "
            "the darker the later; ● is what was left."
        ),
        Side(grids),
    )


def _rounds(abandoned: Sequence[Record]) -> list[int]:
    """Of each record its round, from 1: records of one round speak of equally many candidates."""
    found: list[int] = []
    for index, record in enumerate(abandoned):
        same = index > 0 and abandoned[index - 1]["num_candidates"] == record["num_candidates"]
        found.append((found[-1] if found else 0) + (not same))
    return found


def _survival_grid(
    kind: str,
    died: Mapping[tuple[str, tuple[int, int], str], int],
    alive: Mapping[tuple[str, tuple[int, int]], set[str]],
    found: Mapping[tuple[str, tuple[int, int]], str],
    last: int,
) -> Grid:
    rows = []
    for source, node in EDGES:
        shades = []
        for operation in OPERATIONS:
            number = died.get((kind, (source, node), operation))
            if number is not None:
                level = 1 + round(5 * (number - 1) / max(last - 1, 1))
                shades.append(Shade(str(number), level))
            elif operation in alive.get((kind, (source, node)), ()):
                left = alive[kind, (source, node)]
                chosen = len(left) == 1 or found.get((kind, (source, node))) == operation
                shades.append(Shade("●" if chosen else "·", 10 if chosen else 7, chosen, "left" if chosen else "alive"))
            else:
                shades.append(Shade(""))
        rows.append((f"{source}→{node}", tuple(shades)))
    title = CELLS[kind].capitalize()
    return Grid(f"{title}: when each operation died", "edge", tuple(map(_label, OPERATIONS)), tuple(rows))


def _abandoned_table(abandoned: Sequence[Record]) -> Table:
    columns = (
        Column("round", True), Column("cell"), Column("edge"), Column("abandoned"), Column("its e", True),
        Column("best"), Column("its e", True),
    )  # fmt: skip
    rows = []
    for record, number in zip(abandoned, _rounds(abandoned), strict=True):
        for kind in CELLS:
            for edge in record[kind]:
                evaluation = edge["evaluation"]
                best = max(evaluation, key=lambda op: evaluation[op])
                cells = [
                    Cell(str(number), number),
                    Cell(kind),
                    Cell(f"{edge['from']}→{edge['to']}"),
                    Cell(edge["abandoned"]),
                ]
                cells += [_value(evaluation.get(edge["abandoned"])), Cell(best), _value(evaluation[best])]
                rows.append(tuple(cells))
    caption = (
        "e, the evaluation (4.16) of an operation on its edge by the draws of the round; those of an edge add up to 1"
    )
    return Table(caption, columns, tuple(rows[:MOST_ROWS]))


def _value(value: Any) -> Cell:
    return Cell(words.number(float(value)), float(value)) if words.is_number(value) else Cell(words.ABSENT)


# ---------------------------------------------------------------- relaxed searches, and tables


def _strengths(history: Sequence[Record]) -> Blocks:
    """How strong every operation of every edge is at the end of a relaxed search."""
    last = [record for record in history if record["event"] == "architecture"][-1:]
    if not last:
        return ()
    grids = []
    for kind, title in CELLS.items():
        strongest = max(value for edge in last[0][kind] for value in edge["strength"].values())
        rows = []
        for edge in last[0][kind]:
            shades = [_strength(edge["strength"].get(op), strongest) for op in OPERATIONS]
            rows.append((f"{edge['from']}→{edge['to']}", tuple(shades)))
        caption = f"{title.capitalize()}: strength of each operation, in percent, times the weight of its edge"
        grids.append(Grid(caption, "edge", tuple(map(_label, OPERATIONS)), tuple(rows)))
    return (Side(tuple(grids)),)


def _strength(value: float | None, strongest: float) -> Shade:
    if value is None:
        return Shade("")
    return Shade(f"{100 * value:.1f}", round(10 * max(value, 0) / strongest) if strongest > 0 else 0)


def _tables(history: Sequence[Record], judged: Sequence[Draw]) -> Blocks:
    kept: dict[tuple[Any, Any], None] = {
        (record["round"], draw): None for record in history if record["event"] == "halve" for draw in record["kept"]
    }
    best = sorted(judged, key=lambda each: (-(each.accuracy_child or 0.0), each.number))[:NUM_BEST]
    by_group: dict[tuple[Any, ...], list[Draw]] = {}
    for each in judged:
        by_group.setdefault(each.group, []).append(each)
    blocks: list[Block] = [
        Details(
            f"The best of {words.counted(len(judged), 'draw')}",
            (_draws_table(best, kept, "The most accurate Children"),),
        )
    ]
    if kept:
        table = _draws_table(judged[:MOST_ROWS], kept, "All trainings of the search, in their order")
        blocks.append(Details("Every training", (table,)))
    elif len(by_group) > 1:
        unit = _unit_of(judged)
        title = words.counted(len(by_group), unit).replace("passs", "passes")
        blocks.append(Details(title, (_groups_table(by_group, unit=unit),)))
    return tuple(blocks)


def _draws_table(draws: Sequence[Draw], kept: Mapping[tuple[Any, Any], None], caption: str) -> Table:
    columns = [
        Column("number", True),
        Column("Child", True),
        Column("Parent", True),
        Column("z", True),
        Column("seconds", True),
    ]
    columns.insert(1, Column("round" if kept else "candidates", True))
    if kept:
        columns.append(Column("after the round"))
    rows = []
    for each in draws:
        stage = each.record.get("round" if kept else "num_candidates")
        shown = stage + 1 if kept and stage is not None else stage
        cells = [Cell(str(each.number), each.number), Cell(words.number(shown), shown)]
        cells += [Cell(words.percent(value), value) for value in (each.accuracy_child, each.accuracy_parent)]
        cells += [_value(each.z), _value(each.record.get("seconds"))]
        if kept:
            cells.append(Cell("went on" if (stage, each.record["draw"]) in kept else "out"))
        rows.append(tuple(cells))
    return Table(f"{caption}; of all draws since the start", tuple(columns), tuple(rows))


def _groups_table(by_group: Mapping[tuple[Any, ...], Sequence[Draw]], *, unit: str) -> Table:
    columns = (
        Column(unit, True), Column("candidates", True), Column("draws", True), Column("Child, mean", True),
        Column("Child, best", True), Column("Parent, mean", True),
    )  # fmt: skip
    rows = []
    for number, ((candidates, _, _), draws) in enumerate(by_group.items(), start=1):
        child = [each.accuracy_child for each in draws if each.accuracy_child is not None]
        parent = [each.accuracy_parent for each in draws if each.accuracy_parent is not None]
        mean_child, mean_parent = sum(child) / len(child), sum(parent) / len(parent) if parent else None
        cells = [
            Cell(str(number), number),
            Cell(words.number(candidates), candidates),
            Cell(str(len(draws)), len(draws)),
        ]
        cells += [Cell(words.percent(value), value) for value in (mean_child, max(child), mean_parent)]
        rows.append(tuple(cells))
    note = "" if len(rows) <= MOST_ROWS else f", the first {MOST_ROWS}"
    return Table(
        f"The {'passes' if unit == 'pass' else f'{unit}s'} of the search{note}", columns, tuple(rows[:MOST_ROWS])
    )
