"""What a value of a cell ends with in a residual network: an activation, and a shift before its sign."""

import torch
from torch import Tensor, nn

from cpnas_cli.networks.modules.node import Node
from cpnas_cli.networks.modules.prelu import prelu
from cpnas_cli.networks.modules.stored import FLOAT32, stored

INITIAL_SLOPE = 0.25  # PReLU, He et al. 2015


class Ending(nn.Module):
    """(B, C, H, W) -> a `Node`: PReLU(x), or RPReLU(x) = PReLU(x + g) + z; the node's sign is sign(. + b).

    PReLU(x) = x where x >= 0, else slope * x.

    Source: He et al. 2015 (arXiv 1502.01852) for the slope, that starts at 0.25; ReActNet (arXiv 2003.03488, equations
    4 and 5) for the shifts g, z and b, that start at 0.

    Attributes:
      values: (n, C), the rows in this order, as far as they are there: g, slope, z, b.
    """

    real_format = FLOAT32
    exact_evaluation = False

    def __init__(self, num_channels: int, *, activation: str, sign_shift: bool) -> None:
        super().__init__()
        self.activation, self.sign_shift = activation, sign_shift
        rows = [0.0, INITIAL_SLOPE, 0.0] if activation == "rprelu" else [INITIAL_SLOPE] if activation == "prelu" else []
        rows += [0.0] if sign_shift else []
        self.values = nn.ParameterList(torch.full((num_channels,), value) for value in rows)

    def stored_values(self) -> list[Tensor]:
        """The rows of `values`, each (C,), as they are stored."""
        return [stored(value, self.real_format) for value in self.values]

    @torch.no_grad()
    def keep_as_stored(self) -> None:
        """Replace the values by those that are stored."""
        for value, rounded in zip(self.values, self.stored_values(), strict=True):
            value.copy_(rounded)
        self.real_format = FLOAT32

    def forward(self, x_BCHW: Tensor) -> Node:
        values = self.stored_values() if self.exact_evaluation and not self.training else list(self.values)
        shift_C = values.pop() if self.sign_shift else None
        activate = prelu if self.training else torch.prelu
        if self.activation == "prelu":
            x_BCHW = activate(x_BCHW, values[0])
        elif self.activation == "rprelu":
            before_C, slope_C, after_C = values
            x_BCHW = activate(x_BCHW + before_C.view(-1, 1, 1), slope_C) + after_C.view(-1, 1, 1)
        return Node(x_BCHW, shift_C)
