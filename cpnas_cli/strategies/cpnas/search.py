"""CP-NAS: Algorithm 9 of "Binary Neural Architecture Search", section 4.3, with (4.15) and (4.16).

    while K > 1:
        for t in 1..T:                 # passes
            for e in 1..K:             # sampling without replacement
                train the drawn Child and Parent one epoch each, validate them, give z to what was drawn
        abandon, on every edge, the operation with the smallest e;  K -= 1

The lines: z is (4.15) and e is (4.16), both in `indicator`; K, t, e and what was given are in `state`; the training
and validation of a draw are in `shared_networks`. After every draw history and checkpoint are committed to the run's
journal; a resumed search replays the history.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from cpnas_cli.networks.shapes import PRECISIONS, NetworkName
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.runs.journal import Journal
from cpnas_cli.search_space import Genotype, genotype_of
from cpnas_cli.strategies.base import Search
from cpnas_cli.strategies.budgets.feasibility import feasibility_of
from cpnas_cli.strategies.cpnas.graphed_networks import GraphedNetworks
from cpnas_cli.strategies.cpnas.indicator import indicator
from cpnas_cli.strategies.cpnas.shared_networks import SharedNetworks
from cpnas_cli.strategies.cpnas.state import SearchState

CHECKPOINT_SCHEMA = "cpnas.search-checkpoint/1"
CHECKPOINT_KEYS = ("num_draws",)


def journal_of(run: RunFolder) -> Journal:
    """The journal of a search of Algorithm 9."""
    return Journal(run, schema=CHECKPOINT_SCHEMA, keys=CHECKPOINT_KEYS)


def search_cpnas(search: Search) -> Genotype:
    """Search with the Child-Parent indicator; resumes from the run's checkpoint where there is one.

    Raises:
      MaxTimeReached: the time is up; saved after the last draw. NonFiniteLossError: a loss became NaN;
        the checkpoint is of the draw before. CheckpointError: the checkpoint cannot be used.
    """
    return genotype_of(advance(search).candidates)


def advance(search: Search, *, stop: Callable[[], bool] = lambda: False) -> SearchState:
    """Go on with the search to its end, or to the end of a round after which `stop` says so.

    Everything is saved when `stop` is asked. Raises what `search_cpnas` raises.
    """
    shared = GraphedNetworks(search) if search.config.search.engine == "graphs" else SharedNetworks(search)
    journal = journal_of(search.run)
    state, done = _resume(search, shared, journal)
    while not state.finished:
        started = time.monotonic()
        genotype = state.draw(seed=search.config.seed)
        record = _draw_record(state, genotype)

        def starting(name: NetworkName, record: Mapping[str, Any] = record, done: int = done) -> None:
            search.notify({**record, "event": "progress", "network": name, "done": done})

        accuracies = shared.accuracies(genotype, draw=done, starting=starting)
        record |= {f"accuracy_{name}": accuracies[name] for name in PRECISIONS}
        record["z"] = indicator(
            accuracy_child=record["accuracy_child"],
            accuracy_parent=record["accuracy_parent"],
            beta_p=search.config.search.beta_p,
        )
        seconds = time.monotonic() - started
        record["seconds"] = round(seconds, 3)
        state.give(genotype, record["z"])
        done += 1
        records = [state.feasibility.record()] if state.feasibility is not None and done == 1 else []
        records.append(record)
        is_decided = state.round_complete
        if is_decided:
            records.append(state.abandon())
        journal.commit(records, shared.tensors(), {"num_draws": done})
        for record in records:
            search.notify(record)
        if is_decided and stop():
            break
        if not state.finished:
            search.deadline.check(seconds)
    return state


def _draw_record(state: SearchState, genotype: Genotype) -> dict[str, Any]:
    return {
        "event": "draw",
        "num_candidates": state.candidates.num_candidates,
        "pass": state.pass_index,
        "draw": state.draw_index,
        "normal": list(genotype.normal),
        "reduce": list(genotype.reduce),
    }


def _resume(search: Search, shared: SharedNetworks, journal: Journal) -> tuple[SearchState, int]:
    num_passes, saved = search.config.search.num_passes, journal.resume()
    if saved is None:
        return SearchState(num_passes, feasibility_of(search)), 0
    shared.restore(saved.tensors, path=journal.checkpoint)
    state = SearchState.replay(saved.records, num_passes=num_passes)
    journal.accept(saved)
    saved.replay(search.notify)
    return state, saved.state["num_draws"]
