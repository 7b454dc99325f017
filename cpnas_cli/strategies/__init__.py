"""Strategies: each turns data into a genotype, by the name used in `search.strategy`."""

from collections.abc import Callable
from typing import Any

from cpnas_cli.config import Config
from cpnas_cli.records import RunFolder, genotype_document, write_json
from cpnas_cli.space import Genotype
from cpnas_cli.strategies.base import Search
from cpnas_cli.strategies.cpnas import search_cpnas
from cpnas_cli.strategies.random import search_random

STRATEGIES: dict[str, Callable[[Search], Genotype]] = {
    "cpnas": search_cpnas,
    "bnas": search_cpnas,  # beta_P = 0, which the settings see to
    "random": search_random,
}


def run_search(search: Search) -> dict[str, Any]:
    """Search with the strategy of the settings; writes and returns the genotype document."""
    genotype = STRATEGIES[search.config.search.strategy](search)
    document = genotype_document(genotype, provenance=provenance(search.config, search.num_classes))
    write_json(search.run.file(RunFolder.GENOTYPE), document)
    return document


def provenance(config: Config, num_classes: int) -> dict[str, Any]:
    """Where a genotype comes from; no times, so that the same search gives the same file."""
    network = config.search_network()
    return {
        "strategy": config.search.strategy,
        "beta_p": config.search.beta_p if config.search.strategy != "random" else None,
        "seed": config.seed,
        "dataset": config.data.name,
        "num_classes": num_classes,
        "image_size": config.data.image_size,
        "num_passes": config.search.num_passes if config.search.strategy != "random" else None,
        "num_cells": network.num_cells,
        "num_channels": network.num_channels,
        "real_parts": list(network.real_parts),
    }
