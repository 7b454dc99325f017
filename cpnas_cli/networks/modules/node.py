"""A node of a cell: its value and, each computed once, its activations."""

import torch.nn.functional as F
from torch import Tensor

from cpnas_cli.binarization.binarization import Estimator
from cpnas_cli.binarization.estimators import binarize_activation


class Node:
    """The value of a node of a cell, with its activations, each computed when first read."""

    def __init__(self, value_BCHW: Tensor) -> None:
        self.value = value_BCHW
        self._signs: dict[Estimator, Tensor] = {}
        self._rectified: Tensor | None = None

    def sign(self, estimator: Estimator) -> Tensor:
        if estimator not in self._signs:
            self._signs[estimator] = binarize_activation(self.value, estimator=estimator)
        return self._signs[estimator]

    def rectified(self) -> Tensor:
        if self._rectified is None:
            self._rectified = F.relu(self.value)
        return self._rectified
