"""Single path one-shot (Guo et al., arXiv 1904.00420): train first, with random architectures, then let them evolve.

    for each step of the epochs:
        draw one architecture uniformly; update the shared weights that it has
    score random architectures, without training them: z, the mean probability of the right class
    while not enough are scored:
        parents = the best so far
        score a generation of mutations and crossovers of the parents
    return the best of all

Differs from the paper (ours): a score is a probability and not an accuracy, which tells architectures apart on few
images; generations are small, the first one is larger than the others, and in it every operation stands on every edge
as often as the others; a generation has no random newcomers, unless a child that was not scored yet cannot be bred.
What is beyond a budget is not scored, as in the paper, and not trained either: a draw is repaired.

On a table of architectures (docs/experiments.md) a score after 12 to 16 epochs ranks as well as one after 12 epochs of
strictly fair steps (`fair`), whose steps cost eight times as much; one after 48 epochs ranks better, but what is found
then is not better.
"""

import functools
import itertools
import random
from typing import Any

from cpnas_cli.randomness import python_generator
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.runs.journal import Journal
from cpnas_cli.search_space import ALL_CANDIDATES, NUM_OPERATIONS, Genotype
from cpnas_cli.strategies.base import Search
from cpnas_cli.strategies.budgets.feasibility import Feasibility
from cpnas_cli.strategies.one_shot.draws import draw_one, drawn_for_scores
from cpnas_cli.strategies.one_shot.search import (
    CHECKPOINT_KEYS,
    SCORED_PER_COMMIT,
    next_numbers,
    scored,
    search_to_the_end,
    trained_epoch,
)
from cpnas_cli.strategies.one_shot.shared_child import SharedChild
from cpnas_cli.strategies.spos.evolution import bred, new_one
from cpnas_cli.strategies.spos.state import SposState

CHECKPOINT_SCHEMA = "cpnas.spos-checkpoint/1"


def journal_of(run: RunFolder) -> Journal:
    """The journal of a single path one-shot search."""
    return Journal(run, schema=CHECKPOINT_SCHEMA, keys=CHECKPOINT_KEYS, most_records=SCORED_PER_COMMIT)


def shared_child_of(search: Search) -> SharedChild:
    """The shared Child of a search, as it is before the first epoch."""
    settings = search.config.spos
    return SharedChild(
        search,
        purpose="spos step",
        num_epochs=settings.num_epochs,
        num_scored_images=settings.num_scored_images,
    )


def search_spos(search: Search) -> Genotype:
    """Search by single path one-shot; resumes from the run's checkpoint where there is one.

    Raises what `search_to_the_end` raises.
    """
    shared, state = shared_child_of(search), SposState(search.config.spos)
    search_to_the_end(shared, journal_of(search.run), state, functools.partial(_do_next, shared, state))
    return state.best()


def _do_next(shared: SharedChild, state: SposState, feasibility: Feasibility | None) -> list[dict[str, Any]]:
    """An epoch, or some scores; returns their history records."""
    if not state.trains:
        return _score(shared, state, feasibility)

    def draw(generator: random.Random) -> list[Genotype]:
        return [draw_one(generator, feasibility)]

    record = trained_epoch(shared, draw, epoch=state.epoch)
    state.give(record)
    return [record]


def _score(shared: SharedChild, state: SposState, feasibility: Feasibility | None) -> list[dict[str, Any]]:
    """The next scores, each with what the ones before it say."""
    seed = shared.config.seed
    numbers = next_numbers(len(state.genotypes), state.settings.num_scored)
    drawn = drawn_for_scores(ALL_CANDIDATES, seed=seed, purpose="spos scores", feasibility=feasibility)
    drawn = itertools.islice(drawn, numbers.start, None)
    records: list[dict[str, Any]] = []
    for number in numbers:
        place = {"num_candidates": NUM_OPERATIONS, "generation": state.generation, "draw": state.place}
        if state.generation == 0:
            genotype = next(drawn)
        else:
            genotype = _child(state, python_generator(seed, "spos child", number), feasibility)
        record = scored(shared, genotype, place)
        state.give(record)
        records.append(record)
    return records


def _child(state: SposState, generator: random.Random, feasibility: Feasibility | None) -> Genotype:
    """The next one of a generation."""
    breed = functools.partial(
        bred,
        state.parents(),
        mutates=state.place % 2 == 0,
        probability=state.settings.mutation_probability,
        generator=generator,
    )
    ways = (breed, functools.partial(draw_one, generator, feasibility))
    if feasibility is None:
        return new_one(set(state.genotypes), ways)
    return new_one(set(state.genotypes), ways, admits=feasibility.admits)
