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
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

from cpnas_cli.errors import RunError
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.runs.journal import Journal
from cpnas_cli.search_space import NUM_OPERATIONS, Genotype, genotype_of
from cpnas_cli.strategies.additive_effects import additive_effects
from cpnas_cli.strategies.base import Search
from cpnas_cli.strategies.budgets.feasibility import Feasibility
from cpnas_cli.strategies.fair.candidates import keep_better_half
from cpnas_cli.strategies.fair.state import FairState, num_epochs_of_search
from cpnas_cli.strategies.one_shot.draws import draw_candidates, drawn_for_scores
from cpnas_cli.strategies.one_shot.search import (
    CHECKPOINT_KEYS,
    SCORED_PER_COMMIT,
    next_numbers,
    scored,
    search_to_the_end,
    trained_epoch,
)
from cpnas_cli.strategies.one_shot.shared_child import SharedChild
from cpnas_cli.training.epoch import Score

CHECKPOINT_SCHEMA = "cpnas.fair-checkpoint/1"


def journal_of(run: RunFolder) -> Journal:
    """The journal of a search with strict fairness."""
    most_records = SCORED_PER_COMMIT + NUM_OPERATIONS
    return Journal(run, schema=CHECKPOINT_SCHEMA, keys=CHECKPOINT_KEYS, most_records=most_records)


def shared_child_of(search: Search) -> SharedChild:
    """The shared Child of a search with strict fairness, untrained."""
    settings = search.config.fair
    return SharedChild(
        search,
        purpose="fair step",
        num_epochs=num_epochs_of_search(settings),
        num_scored_images=settings.num_scored_images,
    )


def search_fair(search: Search) -> Genotype:
    """Search with strict fairness; resumes from the run's checkpoint where there is one.

    Raises what `search_to_the_end` raises.
    """
    shared, state = shared_child_of(search), FairState(search.config.fair)
    search_to_the_end(shared, journal_of(search.run), state, functools.partial(_do_next, shared, state))
    return genotype_of(state.candidates)


def _do_next(shared: SharedChild, state: FairState, feasibility: Feasibility | None) -> list[dict[str, Any]]:
    """An epoch, or some scores, and at the end of a round what is abandoned."""
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
    return records


def _train(shared: SharedChild, state: FairState, feasibility: Feasibility | None) -> dict[str, Any]:
    """One epoch; returns its history record."""
    draw = functools.partial(draw_candidates, state.candidates, feasibility=feasibility)
    more = {"num_candidates": state.candidates.num_candidates}
    return trained_epoch(shared, draw, epoch=state.epoch, more=more)


def _score(shared: SharedChild, state: FairState, feasibility: Feasibility | None) -> list[dict[str, Any]]:
    """The next scores of the round; returns a history record for each."""
    numbers = next_numbers(len(state.genotypes), state.num_scored)
    num_candidates = state.candidates.num_candidates
    drawn = drawn_for_scores(state.candidates, seed=shared.config.seed, purpose="fair scores", feasibility=feasibility)
    records: list[dict[str, Any]] = []
    for number, genotype in zip(numbers, itertools.islice(drawn, numbers.start, numbers.stop), strict=True):
        pass_index, draw = divmod(number, num_candidates)
        records.append(scored(shared, genotype, {"num_candidates": num_candidates, "pass": pass_index, "draw": draw}))
    return records


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
    shared = shared_child_of(search)
    shared.restore_weights_of_all(saved.tensors, path=journal.checkpoint)
    return [shared.score(genotype) for genotype in genotypes]
