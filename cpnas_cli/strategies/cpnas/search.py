"""CP-NAS: Algorithm 9 of "Binary Neural Architecture Search", section 4.3, with (4.15) and (4.16).

    for each epoch of the warm-up:     # none is published
        train Child and Parent, every step with another architecture
    for each scored pass:              # none is published
        validate the K drawn Children and Parents as they are
    while K > L:                       # L = 1 is published
        for t in 1..T:                 # passes
            for e in 1..K:             # sampling without replacement
                train the drawn Child and Parent one epoch each, validate them, give z to what was drawn
        abandon, on every edge, the operation with the smallest e;  K -= 1
    if L > 1:                          # ours
        validate drawn Children and Parents as they are; the one with the highest z is what is found

The lines: z is (4.15) and e is (4.16), both in `indicator`; what e is computed from is in `credit`; K, t, e and what
was given are in `state`; the training and validation of a draw are in `shared_networks`. With
`search.evaluation=after_pass` the draws of a pass are validated together at its end (ours: so that the later ones have
no better trained weights). The warm-up, `search.warmup_epochs`, is ours too: what is judged first is otherwise hardly
trained, and looks the better the fewer weights it has; so are the scored passes, `search.scored_passes`, for a first
decision that does not rest on eight draws. L is `search.num_left`: effects of operations do not add up, so that whole
architectures of the last candidates can have the last word. After every epoch of the warm-up, after every draw, and
after what was validated at the end of a pass, history and checkpoint are committed to the run's journal; a resumed
search replays the history.
"""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cpnas_cli.networks.shapes import PRECISIONS, NetworkName
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.runs.journal import Journal
from cpnas_cli.search_space import Genotype, genotype_of
from cpnas_cli.strategies.base import Search
from cpnas_cli.strategies.budgets.feasibility import feasibility_of
from cpnas_cli.strategies.cpnas.graphed_networks import GraphedNetworks
from cpnas_cli.strategies.cpnas.indicator import indicator
from cpnas_cli.strategies.cpnas.shared_networks import SharedNetworks
from cpnas_cli.strategies.cpnas.state import SearchState, num_scored_draws, z_of
from cpnas_cli.training.epoch import Score

if TYPE_CHECKING:
    from cpnas_cli.settings import SearchConfig

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
    kind = GraphedNetworks if search.config.search.engine == "graphs" else SharedNetworks
    shared, journal = kind(search), journal_of(search.run)
    state, done = _resume(search, shared, journal)
    while not state.finished:
        started, records = time.monotonic(), list[dict[str, Any]]()
        if state.feasibility is not None and done == 0 and state.num_warmed_up == 0:
            records.append(state.feasibility.record())
        if state.num_warmed_up < search.config.search.warmup_epochs:
            new = _warm_up(search, shared, state)
        elif state.pass_is_trained:
            new = [_validate_pass(search, shared, state, done=done)]
        else:
            new = [_draw(search, shared, state, done=done)]
            done += 1
        seconds = time.monotonic() - started
        for record in new:
            record.setdefault("seconds", round(seconds, 3))
            state.follow(record, z_of(record))
        records += new
        is_decided = state.round_complete
        if is_decided:
            records.append(state.decide())
        journal.commit(records, shared.tensors(), {"num_draws": done})
        for record in records:
            search.notify(record)
        if is_decided and stop():
            break
        if not state.finished:
            search.deadline.check(seconds)
    return state


def _warm_up(search: Search, shared: SharedNetworks, state: SearchState) -> list[dict[str, Any]]:
    """Train the next epoch of the warm-up; returns the record of each network."""
    epoch, total = state.num_warmed_up, search.config.search.warmup_epochs
    genotypes = state.warm_up_draws(shared.num_steps, seed=search.config.seed)
    records: list[dict[str, Any]] = []
    for name in shared.networks:
        search.notify({"event": "progress", "network": name, "epoch": epoch, "done": epoch, "total": total})
        started = time.monotonic()
        means = shared.warm_up(name, genotypes, epoch=epoch)
        records.append(
            {
                "event": "epoch",
                "network": name,
                "num_candidates": state.candidates.num_candidates,
                "epoch": epoch,
                "loss": means.loss,
                "accuracy_train": means.accuracy_train,
                "learning_rate": shared.learning_rate(epoch - total, shared.num_steps - 1),
                "seconds": round(time.monotonic() - started, 3),
            }
        )
    return records


def _draw(search: Search, shared: SharedNetworks, state: SearchState, *, done: int) -> dict[str, Any]:
    """Train the next draw, and validate it unless that is for the end of the pass, or validate it alone.

    Returns its record.

    Args:
      done: how many draws were trained before.
    """
    genotype = state.draw(seed=search.config.seed)
    record: dict[str, Any] = {
        "event": "draw",
        "num_candidates": state.candidates.num_candidates,
        "pass": state.pass_index,
        "draw": state.draw_index,
        "normal": list(genotype.normal),
        "reduce": list(genotype.reduce),
    }

    def starting(name: NetworkName) -> None:
        search.notify({**record, "event": "progress", "network": name, "done": done})

    scores: Mapping[NetworkName, Score] = {}
    draw = done - num_scored_draws(search.config.search)  # of those that are trained
    if state.scores_only:
        record["trained"] = False
        scores = shared.validate_draw(genotype, draw=done)
    elif search.config.search.evaluation == "after_pass":
        shared.train_draw(genotype, draw=draw, starting=starting)
    else:
        scores = shared.scores(genotype, draw=draw, starting=starting)
    for measure in measures_of(search.config.search):
        for name in PRECISIONS:
            record[f"{measure}_{name}"] = getattr(scores[name], measure) if name in scores else None
    return {**record, "z": indicators_of(record, search.config.search)}


def _validate_pass(search: Search, shared: SharedNetworks, state: SearchState, *, done: int) -> dict[str, Any]:
    """Validate all draws of the pass with the weights at its end; returns the record of it."""
    last = done - num_scored_draws(search.config.search) - 1
    found = [shared.validate_draw(genotype, draw=last) for genotype in state.trained]
    record: dict[str, Any] = {
        "event": "pass",
        "num_candidates": state.candidates.num_candidates,
        "pass": state.pass_index,
    }
    for measure in measures_of(search.config.search):
        for name in PRECISIONS:
            judged = [getattr(scores[name], measure) for scores in found] if name in shared.networks else None
            record[f"{measure}_{name}"] = judged
    return {**record, "z": indicators_of(record, search.config.search)}


def measures_of(settings: "SearchConfig") -> tuple[str, ...]:
    """What a record says of the validated networks: their accuracy, and what z is computed from."""
    return tuple(dict.fromkeys(("accuracy", settings.performance)))


def indicators_of(record: Mapping[str, Any], settings: "SearchConfig") -> float | list[float] | None:
    """z of the record of a draw, of all draws of the record of a pass, or None of what is not validated yet."""

    def z(child: float, parent: float | None) -> float:
        return indicator(accuracy_child=child, accuracy_parent=parent, beta_p=settings.beta_p, name=settings.indicator)

    child, parent = (record[f"{settings.performance}_{name}"] for name in PRECISIONS)
    if isinstance(child, list):
        return [z(*pair) for pair in zip(child, parent or [None] * len(child), strict=True)]
    return None if child is None else z(child, parent)


def _resume(search: Search, shared: SharedNetworks, journal: Journal) -> tuple[SearchState, int]:
    settings, saved = search.config.search, journal.resume()
    if saved is None:
        feasibility = feasibility_of(search)
        return SearchState.of(settings, feasibility), 0
    state = SearchState.replay(saved.records, settings)
    shared.restore(saved.tensors, path=journal.checkpoint, num_warmed_up=state.num_warmed_up)
    journal.accept(saved)
    saved.replay(search.notify)
    return state, saved.state["num_draws"]
