"""Strategies: each turns images into a genotype, by the name used in `search.strategy`.

`base.Strategy` says what one is, `registry.STRATEGIES` which there are. Nothing here imports torch before it searches.
"""

from typing import TYPE_CHECKING, Any

from cpnas_cli.errors import UsageError
from cpnas_cli.registry import STRATEGIES, registered
from cpnas_cli.strategies.base import Search, Strategy

if TYPE_CHECKING:
    from cpnas_cli.data.dataset import Dataset
    from cpnas_cli.runs.folder import RunFolder
    from cpnas_cli.search_space import Genotype
    from cpnas_cli.settings import Config


def strategy_named(name: str) -> Strategy:
    """The strategy of this name.

    Raises:
      UsageError: there is none; the message lists the choices.
    """
    if name not in STRATEGIES:
        raise UsageError(f"unknown strategy {name!r}; choose from {', '.join(STRATEGIES)}")
    return registered(STRATEGIES, name)


def strategy_names() -> tuple[str, ...]:
    """In the order of the registry."""
    return tuple(STRATEGIES)


def strategies() -> tuple[Strategy, ...]:
    """All of them, in the order of the registry."""
    return tuple(strategy_named(name) for name in STRATEGIES)


def strategies_to_compare() -> tuple[Strategy, ...]:
    """All of them: first those that know no Parent, the reference last."""
    return tuple(sorted(strategies(), key=lambda strategy: (strategy.uses_beta_p, strategy.is_reference)))


def reference_strategy() -> Strategy:
    """The one that others are compared with, and whose beta_P an ablation varies."""
    (reference,) = (strategy for strategy in strategies() if strategy.is_reference)
    return reference


def run_search(search: Search) -> dict[str, Any]:
    """Search with the strategy of the settings; writes and returns the genotype document."""
    genotype = strategy_named(search.config.search.strategy).search(search)
    return write_genotype(search.run, search.config, search.dataset, genotype)


def write_genotype(run: "RunFolder", config: "Config", dataset: "Dataset", genotype: "Genotype") -> dict[str, Any]:
    """Write what the search of these settings found into its folder; returns the document."""
    from cpnas_cli.storage.documents import write_json
    from cpnas_cli.storage.genotype_file import genotype_document
    from cpnas_cli.strategies.budgets.resource import recorded_budgets

    origin = provenance(config, dataset.num_classes)
    origin |= strategy_named(config.search.strategy).findings(run.history(), config)
    if config.search.budgets():
        budgets = recorded_budgets(run.history())
        origin["budgets"] = {each.resource.setting: each.report(genotype, config, dataset) for each in budgets}
    document = genotype_document(genotype, provenance=origin)
    write_json(run.file(run.GENOTYPE), document)
    return document


def provenance(config: "Config", num_classes: int) -> dict[str, Any]:
    """Where a genotype comes from; no times, so that the same search gives the same file.

    Budgets come on top of it, see `write_genotype`; that of the latency is measured.
    """
    network = config.search_network()
    common = {
        "strategy": config.search.strategy,
        "beta_p": None,
        "seed": config.seed,
        "dataset": config.data.name,
        "num_classes": num_classes,
        "image_size": config.data.image_size,
        "num_passes": None,
        "num_cells": network.num_cells,
        "num_channels": network.num_channels,
        "block": network.block,
        "real_parts": list(network.real_parts),
    }
    return common | strategy_named(config.search.strategy).provenance(config)
