"""One search that goes on as another: the draws of a search depend on its seed and not on beta_P.

Two searches that differ in beta_P alone are the same search until they abandon different operations.
So what one has trained can be read again with another beta_P, and its checkpoint continued.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cpnas_cli.errors import RunError
from cpnas_cli.runs.folder import RunFolder, branch_document
from cpnas_cli.runs.journal import BEGINNING
from cpnas_cli.search_space import CELL_KINDS, Genotype
from cpnas_cli.storage.documents import write_json
from cpnas_cli.strategies.base import Rereading
from cpnas_cli.strategies.budgets.feasibility import recorded_feasibility
from cpnas_cli.strategies.cpnas.indicator import indicator
from cpnas_cli.strategies.cpnas.search import journal_of
from cpnas_cli.strategies.cpnas.state import SearchState


def reread(history: Sequence[Mapping[str, Any]], *, beta_p: float, num_passes: int) -> Rereading | None:
    """The same draws under another beta_P, with its own z, evaluations and abandoned operations.

    Two searches agree while they abandon the same operations. Returns None if they parted before the history's end.
    """
    state, records, agrees = SearchState(num_passes, recorded_feasibility(history)), [], True
    for record in history:
        if not agrees:
            return None
        if record["event"] == BEGINNING:
            records.append(record)
        elif record["event"] == "draw":
            z = indicator(
                accuracy_child=record["accuracy_child"], accuracy_parent=record["accuracy_parent"], beta_p=beta_p
            )
            records.append({**record, "z": z})
            state.give(Genotype(normal=tuple(record["normal"]), reduce=tuple(record["reduce"])), z)
        else:
            own = state.abandon()
            records.append(own)
            agrees = all(_abandoned(own[kind]) == _abandoned(record[kind]) for kind in CELL_KINDS)
    return Rereading(tuple(records), agrees)


def _abandoned(edges: Sequence[Mapping[str, Any]]) -> list[str]:
    return [edge["abandoned"] for edge in edges]


def saved_history(run: RunFolder) -> list[dict[str, Any]]:
    """The history up to the checkpoint; empty without one.

    Raises:
      CheckpointError: the checkpoint cannot be used. RunError: the history is damaged.
    """
    saved = journal_of(run).peek()
    return saved.records if saved else []


def num_draws(history: Sequence[Mapping[str, Any]]) -> int:
    return sum(record["event"] == "draw" for record in history)


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
