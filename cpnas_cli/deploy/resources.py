"""The resources that are counted: bytes of the packed file, and OPs as the estimate counts them."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cpnas_cli.deploy.packed_file import packed_file_bytes
from cpnas_cli.deploy.untrained import surroundings_of, untrained_model
from cpnas_cli.efficiency.estimate import WORD_BITS, estimate
from cpnas_cli.errors import RunError, UsageError
from cpnas_cli.networks.dataflow import dataflow_of
from cpnas_cli.networks.layer import Layer
from cpnas_cli.search_space import OPERATIONS
from cpnas_cli.strategies.budgets.demand import SHAPE, Demand, demand_of, genotype_at
from cpnas_cli.strategies.budgets.resource import Resource

if TYPE_CHECKING:
    from cpnas_cli.data.dataset import Dataset
    from cpnas_cli.search_space import Genotype
    from cpnas_cli.settings import Config

SLACK_BYTES = 16
"""How much larger a file may be than that of another genotype for reasons that no sum over edges knows.

At most 7 bytes that fill its header to a multiple of 8, 1 that fills the last byte of signs, and the digits of lengths.
"""


def _size_bytes(layer: Layer) -> float:
    return layer.size_bits / 8


def _operations(layer: Layer) -> float:
    return layer.macs / WORD_BITS if layer.binary else layer.macs


@dataclass(frozen=True)
class PackedSize(Resource):
    """Bytes of the packed file, with its header; the demand is at most `SLACK_BYTES` and some digits above it."""

    def demand(self, config: "Config", dataset: "Dataset") -> Demand:
        counted = demand_of(
            config.network,
            surroundings_of(config, dataset),
            edge=lambda _, edge: sum(map(_size_bytes, edge.layers)),
            node=_size_bytes,
            fixed=_size_bytes,
        )
        # the name of an operation stands in the header whether its edge carries a signal or not
        named = replace(counted, names=np.broadcast_to([float(len(op)) for op in OPERATIONS], SHAPE).copy())
        largest = genotype_at(named.edges)
        try:
            header = self.found(largest, config, dataset) - named.of(largest)
        except RunError as error:
            raise UsageError(f"{self.option}: {error}") from None
        return replace(named, fixed=named.fixed + header + SLACK_BYTES)

    def found(self, genotype: "Genotype", config: "Config", dataset: "Dataset") -> float:
        return packed_file_bytes(untrained_model(genotype, config, dataset))


@dataclass(frozen=True)
class OperationCount(Resource):
    """OPs = FLOPs + BOPs / 64 for one image."""

    def demand(self, config: "Config", dataset: "Dataset") -> Demand:
        return demand_of(
            config.network,
            surroundings_of(config, dataset),
            edge=lambda _, edge: sum(map(_operations, edge.layers)),
            node=_operations,
            fixed=_operations,
        )

    def found(self, genotype: "Genotype", config: "Config", dataset: "Dataset") -> float:
        flow = dataflow_of(config.network, genotype, surroundings_of(config, dataset), precision="binary")
        return estimate(flow).ops


SIZE = PackedSize("max_size", "packed file")
OPERATIONS_FOR_AN_IMAGE = OperationCount("max_ops", "OPs for one image")
