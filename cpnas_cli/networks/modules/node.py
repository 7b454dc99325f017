"""A node of a cell: its value and, each computed once, what is read of it."""

import torch.nn.functional as F
from torch import Tensor

from cpnas_cli.binarization.binarization import Estimator
from cpnas_cli.binarization.estimators import binarize_activation


class Node:
    """The value of a node of a cell, (B, C, H, W), with its activations, each computed when first read.

    Args:
      shift_C: is added before a sign is taken; None for nothing.
    """

    def __init__(self, value_BCHW: Tensor, shift_C: Tensor | None = None) -> None:
        self.value, self.shift = value_BCHW, shift_C
        self._signs: dict[Estimator, Tensor] = {}
        self._rectified: Tensor | None = None
        self._halved: Tensor | None = None

    def sign(self, estimator: Estimator) -> Tensor:
        """sign(value + shift), +1 and -1."""
        if estimator not in self._signs:
            shifted_BCHW = self.value if self.shift is None else self.value + self.shift.view(-1, 1, 1)
            self._signs[estimator] = binarize_activation(shifted_BCHW, estimator=estimator)
        return self._signs[estimator]

    def rectified(self) -> Tensor:
        """ReLU(value)."""
        if self._rectified is None:
            self._rectified = F.relu(self.value)
        return self._rectified

    def halved(self) -> Tensor:
        """The mean over 2x2 pixels."""
        if self._halved is None:
            self._halved = F.avg_pool2d(self.value, 2)
        return self._halved
