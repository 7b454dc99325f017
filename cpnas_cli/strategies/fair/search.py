"""A search with strict fairness, after FairNAS (Chu et al., arXiv 1907.01845): train first, evaluate afterwards.

    while K > 1:                               # 8, 4, 2 candidates on every edge
        for each step of the round's epochs:
            draw K architectures in which every candidate of every edge stands once
            update the shared weights once, by the mean of their K gradients on the same batch
        score random architectures of the candidates, without training them: z, the mean probability of the right class
        estimate how much every candidate adds to z, by least squares (`additive_effects`)
        abandon, on every edge, the worse half of the candidates
    return the candidate left on every edge

Differs from the paper (ours): it searches with an evolutionary algorithm among architectures; here the 28 edges of two
cells are decided one by one, by their effects over all that was scored, and what is left is trained a little further.
A score is a probability and not an accuracy: on 256 images of digits, with 240 scores, effects fitted to the former
predict the accuracy of other architectures on other images with a correlation of 0.42, to the latter with 0.21.

After every epoch, and after every `SCORED_PER_COMMIT` scores, history and checkpoint are committed to the journal.
"""

import functools
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any

from cpnas_cli.errors import RunError
from cpnas_cli.randomness import python_generator
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.runs.journal import Journal
from cpnas_cli.search_space import NUM_OPERATIONS, Candidates, Genotype, genotype_of
from cpnas_cli.strategies.additive_effects import additive_effects
from cpnas_cli.strategies.base import Search
from cpnas_cli.strategies.budgets.feasibility import Feasibility, feasibility_of
from cpnas_cli.strategies.fair.draws import draw_candidates, keep_better_half
from cpnas_cli.strategies.fair.shared_child import SharedChild
from cpnas_cli.strategies.fair.state import FairState
from cpnas_cli.training.epoch import Score

CHECKPOINT_SCHEMA = "cpnas.fair-checkpoint/1"
CHECKPOINT_KEYS = ("epoch",)
SCORED_PER_COMMIT = 40


def journal_of(run: RunFolder) -> Journal:
    """The journal of a search with strict fairness."""
    most_records = SCORED_PER_COMMIT + NUM_OPERATIONS
    return Journal(run, schema=CHECKPOINT_SCHEMA, keys=CHECKPOINT_KEYS, most_records=most_records)


def search_fair(search: Search) -> Genotype:
    """Search with strict fairness; resumes from the run's checkpoint where there is one.

    Raises:
      MaxTimeReached: the time is up; saved after the last epoch or scores. NonFiniteLossError: a loss became NaN; the
        checkpoint is of the epoch before. CheckpointError: the checkpoint cannot be used.
    """
    shared, journal = SharedChild(search), journal_of(search.run)
    state = FairState(search.config.fair)
    saved = journal.resume()
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
        records = [_train(shared, state, feasibility)] if state.trains else _score(shared, state, feasibility)
        for record in records:
            state.give(record)
        if not state.trains and state.is_first_round and not state.genotypes:
            shared.keep_weights_of_all()
        if state.round_complete:
            effects = additive_effects(state.genotypes, state.scores, state.candidates, common=True)
            decisions = keep_better_half(state.candidates, effects, feasibility)
            for record in decisions:
                state.give(record)
            records += decisions
        if is_first and feasibility is not None:
            records.insert(0, feasibility.record())
        is_first = False
        journal.commit(records, shared.tensors(), {"epoch": state.epoch})
        for record in records:
            search.notify(record)
        if not state.finished:
            search.deadline.check(time.monotonic() - started)
    return genotype_of(state.candidates)


def _train(shared: SharedChild, state: FairState, feasibility: Feasibility | None) -> dict[str, Any]:
    """One epoch; returns its history record."""
    started, epoch, num_candidates = time.monotonic(), state.epoch, state.candidates.num_candidates

    def before_step(step: int) -> None:
        progress = {"event": "progress", "network": "child", "epoch": epoch, "done": step, "total": shared.num_steps}
        shared.search.notify(progress)

    draw = functools.partial(draw_candidates, state.candidates, feasibility=feasibility)
    means = shared.train(draw, epoch=epoch, before_step=before_step)
    return {
        "event": "epoch",
        "network": "child",
        "num_candidates": num_candidates,
        "epoch": epoch,
        "loss": means.loss,
        "accuracy_train": means.accuracy_train,
        "learning_rate": shared.optimizer.param_groups[0]["lr"],
        "seconds": round(time.monotonic() - started, 3),
    }


def _score(shared: SharedChild, state: FairState, feasibility: Feasibility | None) -> list[dict[str, Any]]:
    """The next scores of the round; returns a history record for each."""
    records: list[dict[str, Any]] = []
    first = len(state.genotypes)
    end = min(first + SCORED_PER_COMMIT, state.num_scored)
    num_candidates = state.candidates.num_candidates
    drawn = drawn_for_scores(state.candidates, seed=shared.config.seed, feasibility=feasibility)
    for number, genotype in enumerate(itertools.islice(drawn, first, end), start=first):
        started = time.monotonic()
        scored = shared.score(genotype)
        records.append(
            {
                "event": "draw",
                "num_candidates": num_candidates,
                "pass": number // num_candidates,
                "draw": number % num_candidates,
                "normal": list(genotype.normal),
                "reduce": list(genotype.reduce),
                "accuracy_child": scored.accuracy,
                "accuracy_parent": None,
                "z": scored.probability,
                "seconds": round(time.monotonic() - started, 3),
            }
        )
    return records


def drawn_for_scores(
    candidates: Candidates, *, seed: int, feasibility: Feasibility | None = None
) -> Iterator[Genotype]:
    """The architectures of a round's scores, without end; as in a step, every candidate stands as often as others."""
    for pass_index in itertools.count():
        generator = python_generator(seed, "fair scores", candidates.num_candidates, pass_index)
        yield from draw_candidates(candidates, generator, feasibility)


def score(search: Search, genotypes: Sequence[Genotype]) -> list[Score]:
    """Scores of any genotypes in the shared Child of a search, as it was when no candidate was abandoned yet.

    Args:
      search: one that has trained with all candidates; its run is read, never written.

    Raises:
      RunError: the run has trained no shared Child yet. CheckpointError: the checkpoint cannot be used.
    """
    journal = journal_of(search.run)
    saved = journal.peek()
    if saved is None:
        raise RunError(f"{search.run.path} holds no shared Child; make one with `cpnas search --strategy fair`")
    shared = SharedChild(search)
    shared.restore_weights_of_all(saved.tensors, path=journal.checkpoint)
    return [shared.score(genotype) for genotype in genotypes]
