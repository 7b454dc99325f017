"""The random baseline: one operation drawn uniformly on every edge, no training.

One genotype says nothing about the strategy; compare several draws and report their spread.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cpnas_cli.strategies.base import Cost, History, Search, Strategy

if TYPE_CHECKING:
    from cpnas_cli.search_space import Genotype
    from cpnas_cli.settings import Config

CHECKPOINT_SCHEMA = "cpnas.random-checkpoint/1"  # of which there is none: a draw is done at once


@dataclass(frozen=True)
class RandomDraw(Strategy):
    """A genotype drawn uniformly from the connected ones; depends on seed, `search.random_draw` and budgets only."""

    def search(self, search: Search) -> "Genotype":
        from cpnas_cli.runs.journal import Journal
        from cpnas_cli.search_space import NUM_OPERATIONS, draw_uniform
        from cpnas_cli.strategies.budgets.feasibility import feasibility_of

        seed, draw, feasibility = search.config.seed, search.config.search.random_draw, feasibility_of(search)
        genotype = (draw_uniform if feasibility is None else feasibility.draw)(seed=seed, draw=draw)
        record = {
            "event": "draw",
            "num_candidates": NUM_OPERATIONS,
            "pass": 0,
            "draw": draw,
            "normal": list(genotype.normal),
            "reduce": list(genotype.reduce),
            "accuracy_child": None,
            "accuracy_parent": None,
            "z": None,
            "seconds": 0.0,
        }
        beginning = [] if feasibility is None else [feasibility.record()]
        Journal(search.run, schema=CHECKPOINT_SCHEMA).begin([*beginning, record])
        return genotype

    def num_units(self, config: "Config") -> int:
        del config
        return 1

    def cost(self, history: History, *, num_inherited: int = 0) -> Cost:
        """No network is trained."""
        del history, num_inherited
        return Cost(asked=0, trained=0)

    def provenance(self, config: "Config") -> dict[str, Any]:
        return {"draw": config.search.random_draw}


RANDOM = RandomDraw(
    name="random",
    summary="a uniform draw, without any training",
    unit="draw",
    several_per_seed=True,
    keeps_budgets=True,
)
