"""The names that a run may use for an operation, a block, a strategy, a resource or a data set, and the object of each.

An object is given as "module:ATTRIBUTE" and imported when it is first asked for, so that names can be checked, listed
and completed without torch. To add one: its file, and its line here.
"""

import importlib
from collections.abc import Mapping
from typing import Any

# In this order an edge lists them, ties are broken and weights are drawn.
OPERATIONS: dict[str, str] = {
    "none": "cpnas_cli.networks.operations.none:NONE",
    "skip_connect": "cpnas_cli.networks.operations.skip:SKIP_CONNECT",
    "max_pool_3x3": "cpnas_cli.networks.operations.pooling:MAX_POOL_3X3",
    "avg_pool_3x3": "cpnas_cli.networks.operations.pooling:AVG_POOL_3X3",
    "sep_conv_3x3": "cpnas_cli.networks.operations.convolution:SEP_CONV_3X3",
    "sep_conv_5x5": "cpnas_cli.networks.operations.convolution:SEP_CONV_5X5",
    "dil_conv_3x3": "cpnas_cli.networks.operations.convolution:DIL_CONV_3X3",
    "dil_conv_5x5": "cpnas_cli.networks.operations.convolution:DIL_CONV_5X5",
}

# What a convolution of a cell is made of.
BLOCKS: dict[str, str] = {
    "separable": "cpnas_cli.networks.blocks.separable:SEPARABLE",
    "residual": "cpnas_cli.networks.blocks.residual:RESIDUAL",
}

STRATEGIES: dict[str, str] = {
    "cpnas": "cpnas_cli.strategies.cpnas.strategy:CPNAS",
    "bnas": "cpnas_cli.strategies.cpnas.strategy:BNAS",
    "random": "cpnas_cli.strategies.random:RANDOM",
    "pcdarts": "cpnas_cli.strategies.pcdarts.strategy:PCDARTS",
    "halving": "cpnas_cli.strategies.halving.strategy:HALVING",
    "fair": "cpnas_cli.strategies.fair.strategy:FAIR",
    "spos": "cpnas_cli.strategies.spos.strategy:SPOS",
}

RECOMMENDED_STRATEGY = "spos"
"""Finds the best networks in the least time, within budgets too (docs/experiments.md, "What is found")."""

# What a network takes and a search may have a budget of, by the setting of the section `search`.
RESOURCES: dict[str, str] = {
    "max_size": "cpnas_cli.deploy.resources:SIZE",
    "max_ops": "cpnas_cli.deploy.resources:OPERATIONS_FOR_AN_IMAGE",
    "max_latency": "cpnas_cli.deploy.latency:LATENCY",
}

DATASETS: dict[str, str] = {
    "digits": "cpnas_cli.data.digits:DIGITS",
    "mnist": "cpnas_cli.data.idx:MNIST",
    "fashion-mnist": "cpnas_cli.data.idx:FASHION_MNIST",
    "cifar10": "cpnas_cli.data.torchvision_sets:CIFAR10",
    "cifar100": "cpnas_cli.data.torchvision_sets:CIFAR100",
    "folder": "cpnas_cli.data.folder:FOLDER",
}


def registered(table: Mapping[str, str], name: str) -> Any:
    """The object that a name of one of the tables stands for.

    Raises:
      KeyError: the table has no such name; names that users type are checked by `settings` before.
    """
    module, _, attribute = table[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
