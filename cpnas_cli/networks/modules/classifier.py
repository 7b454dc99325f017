"""The linear layer from the mean features to the class scores."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpnas_cli.networks.modules.stored import FLOAT32, stored, stored_filters


class Classifier(nn.Linear):
    """(B, features) -> (B, classes); with `exact_evaluation`, in evaluation mode, of the weights as they are stored."""

    real_format = weight_format = FLOAT32
    exact_evaluation = False

    def stored_weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights (classes, features), scale and bias (classes,), as they are stored: see `stored_filters`."""
        weight, scale_K = stored_filters(self.weight, self.weight_format)
        return weight, stored(scale_K, self.real_format), stored(self.bias, self.real_format)

    @torch.no_grad()
    def keep_as_stored(self) -> None:
        """Replace weights and bias by those that are stored, with their scale in them."""
        weight, scale_K, bias_K = self.stored_weights()
        self.weight.copy_(weight * scale_K.view(-1, 1))
        self.bias.copy_(bias_K)
        self.real_format = self.weight_format = FLOAT32

    def forward(self, input: Tensor) -> Tensor:  # as nn.Linear names it
        if self.training or not self.exact_evaluation:
            return F.linear(input, self.weight, self.bias)
        weight, scale_K, bias_K = self.stored_weights()
        return F.linear(input, weight * scale_K.view(-1, 1), bias_K)
