"""How a search with one shared Child goes on: epochs, then scores, committed to the journal one after the other.

After every epoch, and after every `SCORED_PER_COMMIT` scores, history and checkpoint are committed.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cpnas_cli.runs.journal import Journal
from cpnas_cli.search_space import Genotype
from cpnas_cli.strategies.budgets.feasibility import Feasibility, feasibility_of
from cpnas_cli.strategies.one_shot.shared_child import SharedChild
from cpnas_cli.strategies.one_shot.state import OneShotState

CHECKPOINT_KEYS = ("epoch",)
SCORED_PER_COMMIT = 40


def search_to_the_end(
    shared: SharedChild,
    journal: Journal,
    state: OneShotState[Any],
    do_next: Callable[[Feasibility | None], list[dict[str, Any]]],
) -> None:
    """Until the state says that it is finished; resumes from the run's checkpoint where there is one.

    Args:
      state: of a search that has not begun.
      do_next: an epoch, or some scores, within the budgets; returns their records, which the state has been given.

    Raises:
      MaxTimeReached: the time is up; saved after the last epoch or scores. NonFiniteLossError: a loss became NaN; the
        checkpoint is of the epoch before. CheckpointError: the checkpoint cannot be used.
    """
    search, saved = shared.search, journal.resume()
    feasibility = feasibility_of(search, saved.records if saved else ())
    is_first = saved is None
    if saved is not None:
        shared.restore(saved.tensors, path=journal.checkpoint)
        for record in saved.records:
            state.give(record)
        journal.accept(saved)
        saved.replay(search.notify)
    while not state.finished:
        started = time.monotonic()
        records = do_next(feasibility)
        if is_first and feasibility is not None:
            records.insert(0, feasibility.record())
        is_first = False
        journal.commit(records, shared.tensors(), {"epoch": state.epoch})
        for record in records:
            search.notify(record)
        if not state.finished:
            search.deadline.check(time.monotonic() - started)


def trained_epoch(
    shared: SharedChild,
    draw: Callable[[random.Random], Sequence[Genotype]],
    *,
    epoch: int,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One epoch; returns its history record.

    Args:
      draw: see `SharedChild.train`. more: what else the record says.
    """
    started = time.monotonic()

    def before_step(step: int) -> None:
        progress = {"event": "progress", "network": "child", "epoch": epoch, "done": step, "total": shared.num_steps}
        shared.search.notify(progress)

    means = shared.train(draw, epoch=epoch, before_step=before_step)
    return {
        "event": "epoch",
        "network": "child",
        **(more or {}),
        "epoch": epoch,
        "loss": means.loss,
        "accuracy_train": means.accuracy_train,
        "learning_rate": shared.optimizer.param_groups[0]["lr"],
        "seconds": round(time.monotonic() - started, 3),
    }


def next_numbers(num_scored: int, total: int) -> range:
    """Which scores are committed next, where so many of all are done."""
    return range(num_scored, min(num_scored + SCORED_PER_COMMIT, total))


def scored(shared: SharedChild, genotype: Genotype, place: Mapping[str, int]) -> dict[str, Any]:
    """The history record of a score; z is the mean probability of the right class.

    Args:
      place: which one it is, as the record says it.
    """
    started = time.monotonic()
    score = shared.score(genotype)
    return {
        "event": "draw",
        **place,
        "normal": list(genotype.normal),
        "reduce": list(genotype.reduce),
        "accuracy_child": score.accuracy,
        "accuracy_parent": None,
        "z": score.probability,
        "seconds": round(time.monotonic() - started, 3),
    }
