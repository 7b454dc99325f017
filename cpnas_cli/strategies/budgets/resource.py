"""What a resource is that a found network takes, and of which a search may have a budget: size, OPs, latency.

To add one: an object of a class derived from `Resource`, its line in `registry.RESOURCES`, and its setting in the
section `search` (`settings.amounts` says how it is typed). The objects live where what they count is known: `deploy`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cpnas_cli.registry import RESOURCES, registered
from cpnas_cli.runs.journal import BEGINNING
from cpnas_cli.settings.amounts import BUDGETS, Amounts
from cpnas_cli.strategies.budgets.demand import Demand

if TYPE_CHECKING:
    from cpnas_cli.data.dataset import Dataset
    from cpnas_cli.search_space import Genotype
    from cpnas_cli.settings import Config


@dataclass(frozen=True)
class Resource(ABC):
    """One resource.

    Attributes:
      setting: its budget's, in the section `search`. name: for people.
      is_measured: whether it is told by a clock, and not counted.
    """

    setting: str
    name: str
    is_measured: bool = False

    @property
    def option(self) -> str:
        """Its budget's, on the command line."""
        return f"--{self.setting.replace('_', '-')}"

    @property
    def amounts(self) -> Amounts:
        """How it is typed and shown."""
        return BUDGETS[self.setting]

    @abstractmethod
    def demand(self, config: "Config", dataset: "Dataset") -> Demand:
        """What the genotypes take at the final network's settings.

        Raises:
          UsageError: it cannot be told of these settings.
        """

    @abstractmethod
    def found(self, genotype: "Genotype", config: "Config", dataset: "Dataset") -> float:
        """What one genotype takes, found out without the `demand`: counted or measured on the network itself."""

    def preparation(self, config: "Config", dataset: "Dataset") -> str | None:
        """What `demand` has to do first that takes a while, for people; None if nothing."""
        del config, dataset
        return None


def resource_of(setting: str) -> Resource:
    """The resource that a budget's setting is of."""
    return registered(RESOURCES, setting)


@dataclass(frozen=True)
class Budget:
    """So much of a resource may be taken, as it was asked for; and what the genotypes take of it."""

    resource: Resource
    asked: str
    demand: Demand

    @property
    def amount(self) -> float:
        """What is asked for, in the base unit of the resource."""
        return self.resource.amounts.value(self.asked)

    @property
    def limit(self) -> float:
        """How much a genotype may take by its demand, so that with the margin it is what is asked for."""
        return self.amount / (1 + self.demand.margin)

    def show(self, value: float) -> str:
        """So much of the resource, for people."""
        return self.resource.amounts.show(value)

    def report(self, genotype: "Genotype", config: "Config", dataset: "Dataset") -> dict[str, Any]:
        """What was asked, and what this genotype takes: by its demand, and as it is found."""
        found = self.resource.found(genotype, config, dataset)
        return {"asked": self.asked, "limit": self.amount, "predicted": self.demand.of(genotype), "found": found}


def budgets_of(config: "Config", dataset: "Dataset") -> tuple[Budget, ...]:
    """The budgets that the settings ask for.

    Raises:
      UsageError: see `Resource.demand`.
    """
    resources = {setting: resource_of(setting) for setting in config.search.budgets()}
    return tuple(
        Budget(resource, config.search.budgets()[setting], resource.demand(config, dataset))
        for setting, resource in resources.items()
    )


def preparations(config: "Config", dataset: "Dataset") -> list[str]:
    """What `budgets_of` has to do first that takes a while."""
    found = [resource_of(setting).preparation(config, dataset) for setting in config.search.budgets()]
    return [text for text in found if text is not None]


def budgets_record(budgets: Sequence[Budget]) -> dict[str, Any]:
    """Of a history: what its search decides by. A latency is measured, so that it could not be had again."""
    return {
        "event": BEGINNING,
        **{each.resource.setting: {"asked": each.asked, "demand": each.demand.document()} for each in budgets},
    }


def recorded_budgets(history: Sequence[Mapping[str, Any]]) -> tuple[Budget, ...]:
    """Those that a history begins with."""
    if not history or history[0]["event"] != BEGINNING:
        return ()
    return tuple(
        Budget(resource_of(setting), each["asked"], Demand.of_document(each["demand"]))
        for setting, each in history[0].items()
        if setting != "event"
    )
