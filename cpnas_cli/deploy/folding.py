"""Networks for inference elsewhere: what is constant, computed beforehand, out of operations that ONNX has.

A filter of the Child is its signs, +1 and -1, followed by one multiplication and one addition, which hold alpha and the
batch norm; its real convolutions are summed in float64. So the values have the bits of its evaluation, see
`networks.modules.batch_norm`. A convolution of the Parent holds its batch norm in weights and bias.
"""

import copy
from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpnas_cli.binarization.convolution import BinaryConv2d
from cpnas_cli.networks.modules.batch_norm import BatchNorm, folded_scale
from cpnas_cli.networks.modules.classifier import Classifier
from cpnas_cli.networks.modules.ending import Ending
from cpnas_cli.networks.modules.plain_cnn import PlainCnn
from cpnas_cli.networks.modules.pointwise import PointwiseConv
from cpnas_cli.networks.modules.pooling import Pool
from cpnas_cli.networks.modules.real_convolution import RealConv2d
from cpnas_cli.networks.modules.reduction import FactorizedReduction
from cpnas_cli.networks.modules.residual import ResidualConv
from cpnas_cli.networks.modules.separable import SeparableConv
from cpnas_cli.networks.network import Network


class _Convolution(nn.Module):
    """A convolution with constant filters."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, like: BinaryConv2d | RealConv2d, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.stride, self.padding, self.dilation, self.groups = like.stride, like.padding, like.dilation, like.groups
        self.register_buffer("weight", weight.detach().contiguous())
        self.register_buffer("bias", bias)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return F.conv2d(x_BCHW, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class _ExactConvolution(nn.Module):
    """A real convolution with constant filters, summed in float64 and rounded to float32 once.

    It is a matrix product, because ONNX Runtime has no convolution in float64.
    """

    weight: Tensor

    def __init__(self, like: RealConv2d, weight: Tensor) -> None:
        super().__init__()
        assert (like.groups, like.dilation) == (1, 1)
        self.stride, self.padding, self.kernel_size = like.stride, like.padding, weight.shape[-1]
        # (C_out, taps * C_in), in the order of the columns
        self.register_buffer("weight", weight.detach().double().permute(0, 2, 3, 1).flatten(1).contiguous())

    def forward(self, x_BCHW: Tensor) -> Tensor:
        padded_BCHW = F.pad(x_BCHW.double(), [self.padding] * 4) if self.padding else x_BCHW.double()
        ends = [size - self.kernel_size + 1 for size in padded_BCHW.shape[2:]]  # of the first tap, exclusive
        taps = [
            padded_BCHW[:, :, y : ends[0] + y : self.stride, x : ends[1] + x : self.stride]
            for y in range(self.kernel_size)
            for x in range(self.kernel_size)
        ]
        sums_BCN = self.weight @ torch.cat(taps, dim=1).flatten(2)
        return sums_BCN.float().unflatten(2, taps[0].shape[2:])


class _Affine(nn.Module):
    """x * scale + shift per channel, two operations that are rounded each.

    Args:
      behind_convolution: ONNX Runtime multiplies a scale into the filters before it, whose sums are then no whole
        numbers any more; so -x is multiplied with -scale, which is the same number.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, scale_C: Tensor, shift_C: Tensor, *, behind_convolution: bool = False) -> None:
        super().__init__()
        self.negates = behind_convolution
        self.register_buffer("scale", (-scale_C if behind_convolution else scale_C).view(-1, 1, 1))
        self.register_buffer("shift", shift_C.view(-1, 1, 1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return (-x_BCHW if self.negates else x_BCHW) * self.scale + self.shift


_Folded = TypeVar("_Folded", bound=Network | PlainCnn)


@torch.no_grad()
def folded(network: _Folded) -> _Folded:
    """A copy on the CPU, for inference only, in which filters, alpha and batch norms are constants."""
    network = copy.deepcopy(network).cpu().eval()
    for module in list(network.modules()):
        match module:
            case SeparableConv():
                if module.between is not None:
                    _fold(module, ["depthwise"], "between")
                _fold(module, ["pointwise"], "norm")
            case PointwiseConv():
                _fold(module, ["pointwise"], "norm")
            case FactorizedReduction():
                _fold(module, ["even", "odd"], "norm")
            case ResidualConv():
                _fold(module, ["convolution"], "norm")
            case Pool():
                setattr(module, "norm", _Affine(*module.norm.stored()))  # noqa: B010
            case Ending() | Classifier():
                module.keep_as_stored()
    pairs = network.stem if isinstance(network, Network) else network.convolutions
    for index in range(0, len(pairs), 2):
        _fold(pairs, [str(index)], str(index + 1))
    for module in list(network.modules()):  # those without a batch norm: depthwise, in the Parent
        for name, child in module.named_children():
            if isinstance(child, RealConv2d):
                setattr(module, name, _Convolution(child, child.weight))
    return network.requires_grad_(False)


def _fold(parent: nn.Module, names: Sequence[str], norm_name: str) -> None:
    """Replace convolutions side by side and the batch norm behind them."""
    convolutions = [parent.get_submodule(name) for name in names]
    norm = parent.get_submodule(norm_name)
    assert isinstance(norm, BatchNorm)
    binary = [convolution for convolution in convolutions if isinstance(convolution, BinaryConv2d)]
    if binary:
        for name, convolution in zip(names, binary, strict=True):
            setattr(parent, name, _Convolution(convolution, convolution.signs()))
        setattr(parent, norm_name, _Affine(*folded_scale(binary, norm), behind_convolution=True))
        return
    if norm.exact_evaluation:
        _fold_as_stored(parent, names, norm_name)
        return
    real = [convolution for convolution in convolutions if isinstance(convolution, RealConv2d)]
    sizes = [len(convolution.weight) for convolution in real]
    parts = zip(names, real, *(values_C.split(sizes) for values_C in norm.folded()), strict=True)
    for name, convolution, scale_C, shift_C in parts:
        setattr(parent, name, _Convolution(convolution, convolution.weight * scale_C.view(-1, 1, 1, 1), shift_C))
    setattr(parent, norm_name, nn.Identity())


def _fold_as_stored(parent: nn.Module, names: Sequence[str], norm_name: str) -> None:
    """Real convolutions of a Child: filters, scale and shift are those that are stored."""
    real = [parent.get_submodule(name) for name in names]
    norm = parent.get_submodule(norm_name)
    assert isinstance(norm, BatchNorm)
    convolutions = [convolution for convolution in real if isinstance(convolution, RealConv2d)]
    is_whole = any(convolution.input_steps > 1 for convolution in convolutions)  # exact in float32 in any order
    for name, convolution in zip(names, convolutions, strict=True):
        folded_as = _Convolution if is_whole else _ExactConvolution
        setattr(parent, name, folded_as(convolution, convolution.stored_filters()))
    setattr(parent, norm_name, _Affine(*folded_scale(convolutions, norm), behind_convolution=is_whole))
