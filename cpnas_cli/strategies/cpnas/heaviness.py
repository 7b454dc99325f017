"""How much time a draw takes beside others, by its operations."""

from collections.abc import Mapping
from statistics import mean
from typing import Any

from cpnas_cli.networks.operations.base import Family, operation_of
from cpnas_cli.search_space import CELL_KINDS, OPERATIONS

HEAVINESS: Mapping[Family, float] = {"convolutions": 1.0, "pools": 0.45, "skips": 0.35, "none": 0.1}
"""Of an operation on an edge, training and validation, beside a convolution; medians of twelve searches on one CPU."""


def heaviness_of_draw(record: Mapping[str, Any]) -> float:
    """Beside a draw that has all operations equally often, as those of a first pass have together.

    Args:
      record: "draw", as in the history.
    """
    return mean(_of(op) for kind in CELL_KINDS for op in record[kind]) / mean(map(_of, OPERATIONS))


def _of(operation: str) -> float:
    return HEAVINESS[operation_of(operation).family]
