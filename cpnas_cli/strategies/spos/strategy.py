"""Single path one-shot as a strategy."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cpnas_cli.runs.time_left import Unit
from cpnas_cli.strategies.base import Cost, History, Search
from cpnas_cli.strategies.one_shot.strategy import OneShot

if TYPE_CHECKING:
    from cpnas_cli.search_space import Genotype
    from cpnas_cli.settings import Config


@dataclass(frozen=True)
class Spos(OneShot):
    """A shared Child, one random architecture a step, and evolution in it; where it is run: `search`."""

    def search(self, search: Search) -> "Genotype":
        from cpnas_cli.strategies.spos.search import search_spos

        return search_spos(search)

    def num_units(self, config: "Config") -> int:
        return config.spos.num_epochs

    def work_of_records(self, config: "Config", *, num_images: int) -> list[Unit]:
        """Its epochs, and then what is scored."""
        settings = config.spos
        score = self.work_of_a_score(config, num_images=num_images, num_scored_images=settings.num_scored_images)
        return [Unit("epoch")] * settings.num_epochs + [Unit("score", score)] * settings.num_scored

    def cost(self, history: History, *, num_inherited: int = 0) -> Cost:
        """A step trains one architecture; a score trains nothing."""
        del num_inherited  # nothing is
        total = sum(record["event"] == "epoch" for record in history)
        return Cost(asked=total, trained=total)

    def num_scored(self, config: "Config", num_candidates: int) -> int:
        del num_candidates  # none is abandoned
        return config.spos.num_scored


SPOS = Spos(
    name="spos",
    summary="a shared Child, one random path a step, in which architectures evolve",
)
