"""Where a single path one-shot search stands. No tensors."""

from dataclasses import dataclass

from cpnas_cli.search_space import Genotype
from cpnas_cli.settings import SposConfig
from cpnas_cli.strategies.one_shot.state import OneShotState
from cpnas_cli.strategies.spos.evolution import fittest


@dataclass
class SposState(OneShotState[SposConfig]):
    """What was trained and scored so far, and which generation comes next.

    Generation 0 are random draws, a third of all that is scored, but at least as many as there are parents; each
    generation after it has as many children as there are parents, the last one perhaps fewer.
    """

    @property
    def trains(self) -> bool:
        """Whether an epoch comes next; else something is scored."""
        return self.epoch < self.settings.num_epochs

    @property
    def finished(self) -> bool:
        return not self.trains and len(self.genotypes) >= self.settings.num_scored

    @property
    def num_drawn(self) -> int:
        """How many are in generation 0."""
        return max(self.settings.num_scored // 3, self.settings.num_parents)

    @property
    def generation(self) -> int:
        """Of what is scored next."""
        born = len(self.genotypes) - self.num_drawn
        return born // self.settings.num_parents + 1 if born >= 0 else 0

    @property
    def place(self) -> int:
        """Of what is scored next, in its generation, from 0."""
        return len(self.genotypes) - self._num_before(self.generation)

    def _num_before(self, generation: int) -> int:
        """How many are scored before a generation."""
        return self.num_drawn + (generation - 1) * self.settings.num_parents if generation else 0

    def parents(self) -> list[Genotype]:
        """Of the generation of what is scored next, the best first: chosen from the generations before."""
        num_before = self._num_before(self.generation)
        return fittest(self.genotypes[:num_before], self.scores[:num_before], self.settings.num_parents)

    def best(self) -> Genotype:
        """The one with the best score; of equal ones the first."""
        (best,) = fittest(self.genotypes, self.scores, 1)
        return best
