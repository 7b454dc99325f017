"""A genotype for those who have not searched: what it is, and where it comes from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from cpnas_cli.errors import UsageError
from cpnas_cli.search_space import Genotype
from cpnas_cli.storage.genotype_file import parse_genotype

DEFAULT_GENOTYPE = "fashion-mnist-small"


@dataclass(frozen=True)
class ShippedGenotype:
    """One of the package's own.

    Attributes:
      name: of its file, after the data and settings that it was found with.
      document: `cpnas.genotype/1`; its provenance says how it was found and what it came to.
    """

    name: str
    genotype: Genotype
    document: Mapping[str, Any]

    @property
    def line(self) -> str:
        """Which it is and where it comes from, for people who named none."""
        origin = self.document["provenance"]
        return (
            f"genotype: the shipped one, {self.name} (found by {origin['strategy']} on {origin['dataset']}: "
            f"{origin['found']}); `cpnas search` finds one for your data"
        )


def shipped_names() -> list[str]:
    files = resources.files("cpnas_cli").joinpath("genotypes").iterdir()
    return sorted(file.name.removesuffix(".json") for file in files if file.name.endswith(".json"))


def shipped_genotype(name: str = DEFAULT_GENOTYPE) -> ShippedGenotype:
    """The genotype of this name.

    Raises:
      UsageError: there is none; the message lists the choices.
    """
    names = shipped_names()
    if name not in names:
        raise UsageError(f"unknown shipped genotype {name!r}; choose from {', '.join(names)}")
    file = resources.files("cpnas_cli").joinpath("genotypes", f"{name}.json")
    document = json.loads(file.read_text(encoding="utf-8"))
    return ShippedGenotype(name, parse_genotype(document), document)
