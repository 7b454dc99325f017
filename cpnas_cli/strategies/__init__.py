"""Strategies: each turns data into a genotype, by the name used in `search.strategy`."""

from collections.abc import Callable
from typing import Any

from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.search_space import Genotype
from cpnas_cli.settings import Config
from cpnas_cli.storage.documents import write_json
from cpnas_cli.storage.genotype_file import genotype_document
from cpnas_cli.strategies.base import Search
from cpnas_cli.strategies.cpnas.search import search_cpnas
from cpnas_cli.strategies.pcdarts.search import search_pcdarts
from cpnas_cli.strategies.random import search_random

STRATEGIES: dict[str, Callable[[Search], Genotype]] = {
    "cpnas": search_cpnas,
    "bnas": search_cpnas,  # beta_P = 0, which the settings see to
    "random": search_random,
    "pcdarts": search_pcdarts,
}


def run_search(search: Search) -> dict[str, Any]:
    """Search with the strategy of the settings; writes and returns the genotype document."""
    genotype = STRATEGIES[search.config.search.strategy](search)
    return write_genotype(search.run, search.config, search.num_classes, genotype)


def write_genotype(run: RunFolder, config: Config, num_classes: int, genotype: Genotype) -> dict[str, Any]:
    """Write what the search of these settings found into its folder; returns the document."""
    document = genotype_document(genotype, provenance=provenance(config, num_classes))
    write_json(run.file(RunFolder.GENOTYPE), document)
    return document


def provenance(config: Config, num_classes: int) -> dict[str, Any]:
    """Where a genotype comes from; no times, so that the same search gives the same file."""
    network = config.search_network()
    strategy = config.search.strategy
    samples = strategy in ("cpnas", "bnas")
    specific = {"random": {"draw": config.search.random_draw}, "pcdarts": {"num_epochs": config.pcdarts.num_epochs}}
    return {
        "strategy": strategy,
        "beta_p": config.search.beta_p if samples else None,
        "seed": config.seed,
        "dataset": config.data.name,
        "num_classes": num_classes,
        "image_size": config.data.image_size,
        "num_passes": config.search.num_passes if samples else None,
        "num_cells": network.num_cells,
        "num_channels": network.num_channels,
        "real_parts": list(network.real_parts),
        **specific.get(strategy, {}),
    }
