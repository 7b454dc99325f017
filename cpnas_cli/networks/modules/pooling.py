"""Pooling with its batch norm."""

import torch.nn.functional as F
from torch import Tensor, nn

from cpnas_cli.networks.layer import Pooling
from cpnas_cli.networks.modules.batch_norm import BatchNorm
from cpnas_cli.networks.modules.node import Node


class Pool(nn.Module):
    """3x3 max or average pooling, then batch norm; padding does not count in the average."""

    def __init__(self, num_channels: int, kind: Pooling, *, stride: int) -> None:
        super().__init__()
        self.kind, self.stride = kind, stride
        self.norm = BatchNorm(num_channels)

    def forward(self, node: Node) -> Tensor:
        if self.kind == "max":
            pooled = F.max_pool2d(node.value, 3, self.stride, 1)
        else:
            pooled = F.avg_pool2d(node.value, 3, self.stride, 1, count_include_pad=False)
        return self.norm(pooled)
