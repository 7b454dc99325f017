"""Where a search with one shared Child stands. No tensors."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from cpnas_cli.search_space import Genotype

SettingsT = TypeVar("SettingsT")


@dataclass
class OneShotState(ABC, Generic[SettingsT]):
    """What was trained and scored so far; a function of the history alone.

    Attributes:
      settings: the section of the strategy.
      epoch: epochs done.
      genotypes, scores: what was scored, and its z.
    """

    settings: SettingsT
    epoch: int = 0
    genotypes: list[Genotype] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    @property
    @abstractmethod
    def finished(self) -> bool: ...

    def give(self, record: Mapping[str, Any]) -> None:
        """Take note of what the history says."""
        match record["event"]:
            case "epoch":
                self.epoch += 1
            case "draw":
                self.genotypes.append(Genotype(normal=tuple(record["normal"]), reduce=tuple(record["reduce"])))
                self.scores.append(record["z"])
