"""One search that goes on as another: the draws of a search depend on its seed and not on beta_P or the indicator.

Two searches that differ in these alone are the same search until they abandon different operations.
So what one has trained can be read again with another beta_P, and its checkpoint continued.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cpnas_cli.errors import RunError
from cpnas_cli.runs.folder import RunFolder, branch_document
from cpnas_cli.runs.journal import BEGINNING
from cpnas_cli.search_space import CELL_KINDS
from cpnas_cli.storage.documents import write_json
from cpnas_cli.strategies.base import Rereading
from cpnas_cli.strategies.budgets.feasibility import recorded_feasibility
from cpnas_cli.strategies.cpnas.indicator import parent_slope
from cpnas_cli.strategies.cpnas.search import indicators_of, journal_of
from cpnas_cli.strategies.cpnas.state import DECISIONS, WARMUP, SearchState, z_of

if TYPE_CHECKING:
    from cpnas_cli.settings import SearchConfig


def reread(history: Sequence[Mapping[str, Any]], settings: "SearchConfig") -> Rereading | None:
    """The same draws under another beta_P or indicator, with its own z, evaluations and abandoned operations.

    Two searches agree while they abandon the same operations. Returns None if they parted before the history's end, or
    if a Parent is needed of which the history says nothing.
    """
    state = SearchState.of(settings, recorded_feasibility(history))
    records, agrees = list[dict[str, Any]](), True
    for record in history:
        if not agrees:
            return None
        if record["event"] == BEGINNING:
            records.append(dict(record))
            continue
        if record["event"] in DECISIONS:
            own = state.decide()
            records.append(own)
            agrees = all(_decided(own[kind]) == _decided(record[kind]) for kind in CELL_KINDS)
            continue
        if record["event"] == WARMUP:
            if settings.beta_p or record["network"] == "child":
                records.append(dict(record))
                state.follow(record, ())
            continue
        if settings.beta_p and record["accuracy_parent"] is None and record["accuracy_child"] is not None:
            return None
        records.append(_judged(record, settings))
        state.follow(record, z_of(records[-1]))
    return Rereading(tuple(records), agrees)


def _judged(record: Mapping[str, Any], settings: "SearchConfig") -> dict[str, Any]:
    """A record of a draw or of a pass with the z of these settings, and without a Parent that they would not train."""
    if not settings.beta_p:
        record = {key: None if key.endswith("_parent") else value for key, value in record.items()}
    return {**record, "z": indicators_of(record, settings)}


def _decided(edges: Sequence[Mapping[str, Any] | str]) -> list[str]:
    """Of the edges of a cell what was abandoned, or chosen."""
    return [edge if isinstance(edge, str) else edge["abandoned"] for edge in edges]


def saved_history(run: RunFolder) -> list[dict[str, Any]]:
    """The history up to the checkpoint; empty without one.

    Raises:
      CheckpointError: the checkpoint cannot be used. RunError: the history is damaged.
    """
    saved = journal_of(run).peek()
    return saved.records if saved else []


def num_draws(history: Sequence[Mapping[str, Any]]) -> int:
    return sum(record["event"] == "draw" for record in history)


def networks_by_draw(history: Sequence[Mapping[str, Any]]) -> list[int]:
    """How many networks each draw has trained: the Child, and the Parent where the history knows its accuracy.

    Of a pass that is not validated yet the Child alone is counted.
    """
    numbers: list[int] = []
    for record in history:
        if record["event"] == "draw":
            trained = 1 if record["accuracy_parent"] is None else 2
            numbers.append(trained if record.get("trained", True) else 0)
        elif record["event"] == "pass" and record["accuracy_parent"] is not None:
            numbers[-len(record["z"]) :] = [2] * len(record["z"])
    return numbers


def slope_of(history: Sequence[Mapping[str, Any]]) -> float | None:
    """b of `parent_slope` over all validated draws of a search, of what z is made of: accuracies, or probabilities.

    None if it has trained no Parent, or its Children are equal.
    """
    children, parents = list[float](), list[float]()
    for record in history:
        measure = "accuracy" if record.get("probability_child") is None else "probability"
        child, parent = record.get(f"{measure}_child"), record.get(f"{measure}_parent")
        if child is not None and parent is not None:
            children += child if isinstance(child, list) else [child]
            parents += parent if isinstance(parent, list) else [parent]
    return parent_slope(children, parents)


def branch(source: RunFolder, target: RunFolder, rereading: Rereading) -> None:
    """Let the target, a run without draws, go on from the source's checkpoint with its own indicators.

    Raises:
      RunError: the source has no checkpoint any more, or the target cannot be written. CheckpointError.
    """
    saved = journal_of(source).peek()
    if saved is None:
        raise RunError(f"{journal_of(source).checkpoint} is missing; restore it, or let the search run again")
    write_json(target.file(RunFolder.BRANCH), branch_document(source, num_draws=num_draws(rereading.records)))
    journal_of(target).begin(rereading.records, saved.tensors, saved.state)
