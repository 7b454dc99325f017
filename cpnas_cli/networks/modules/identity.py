"""What a skip connection computes: nothing."""

from torch import Tensor, nn

from cpnas_cli.networks.modules.node import Node


class Identity(nn.Module):
    """The node's value as it is."""

    def forward(self, node: Node) -> Tensor:
        return node.value
