"""From a trained Child to its packed model."""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cpnas_cli.binarization.convolution import BinaryConv2d
from cpnas_cli.deploy.packed_file import LayerArrays, PackedModel, save_packed
from cpnas_cli.errors import RunError, UsageError
from cpnas_cli.networks.layer import Layer
from cpnas_cli.networks.modules.batch_norm import BatchNorm, folded_scale
from cpnas_cli.networks.modules.real_convolution import RealConv2d
from cpnas_cli.networks.network import Network
from cpnas_cli.training.trained_network import TrainedNetwork

_EMPTY = np.zeros(0, np.float32)


def write_packed(child: TrainedNetwork, path: Path) -> None:
    """Write a trained Child as a packed model.

    Raises:
      UsageError: it is a Parent. RunError: a value is not finite, or the file cannot be written.
    """
    save_packed(pack(child), path)


def pack(child: TrainedNetwork) -> PackedModel:
    """See `write_packed`."""
    network = child.network
    if child.precision != "binary":
        raise UsageError("only a Child is 1-bit; export a Parent with --format onnx")
    model = PackedModel(
        settings=child.config.network,
        genotype=child.genotype,
        classes=child.classes,
        image_size=child.image_size,
        num_image_channels=child.num_image_channels,
        mean=child.normalization.mean,
        std=child.normalization.std,
        bits=np.zeros(0, np.uint8),
        thresholds=np.zeros(0, np.int8),
        values=_EMPTY,
    )
    arrays = [_arrays(network, layer) for layer in model.layers()]
    values = np.concatenate([part.ravel() for each in arrays for part in (each.weights, each.scale, each.shift)])
    _check_finite(values)
    return dataclasses.replace(
        model,
        bits=np.packbits(np.concatenate([each.signs.ravel() for each in arrays]), bitorder="little"),
        thresholds=np.concatenate([each.thresholds for each in arrays]),
        values=values.astype(np.float32),
    )


def _arrays(network: Network, layer: Layer) -> LayerArrays:
    none = LayerArrays(np.zeros(0, bool), np.zeros(0, np.int8), _EMPTY, _EMPTY, _EMPTY)
    if layer.kind == "linear":
        linear = network.classifier
        return LayerArrays(none.signs, none.thresholds, _numpy(linear.weight), _EMPTY, _numpy(linear.bias))
    convolution, scale, shift = _convolution_and_norm(network, layer)
    if convolution is None:
        return LayerArrays(none.signs, none.thresholds, _EMPTY, scale, shift)
    if isinstance(convolution, RealConv2d):
        return LayerArrays(none.signs, none.thresholds, _numpy(convolution.weight), scale, shift)
    _check_finite(_numpy(convolution.weight))  # a sign does not show it
    signs = _numpy(convolution.signs()) > 0
    if layer.ending == "affine":
        return LayerArrays(signs, none.thresholds, _EMPTY, scale, shift)
    _check_finite(scale, shift)  # a threshold does not show it
    thresholds, flipped = sign_thresholds(scale, shift, largest_sum=layer.kernel_size**2)
    return LayerArrays(signs ^ flipped[:, None, None, None], thresholds, _EMPTY, _EMPTY, _EMPTY)


def _check_finite(*arrays: np.ndarray) -> None:
    if not all(np.isfinite(array).all() for array in arrays):
        raise RunError("the network has values that are not finite; train it again with a smaller learning rate")


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())


def _convolution_and_norm(
    network: Network, layer: Layer
) -> tuple[BinaryConv2d | RealConv2d | None, np.ndarray, np.ndarray]:
    """The layer's convolution (a pooling has none) with the scale and the shift of what follows it."""
    module = network.get_submodule(layer.name)
    if layer.kind == "pool":
        assert isinstance(module.norm, BatchNorm)
        scale, shift = module.norm.folded()
        return None, _numpy(scale), _numpy(shift)
    if isinstance(module, nn.Sequential):  # the stem
        convolution, norm = module
        assert isinstance(convolution, RealConv2d)
        assert isinstance(norm, BatchNorm)
        scale, shift = norm.folded()
        return convolution, _numpy(scale), _numpy(shift)
    block, _, own = layer.name.rpartition(".")
    parent = network.get_submodule(block)
    names = ("even", "odd") if own in ("even", "odd") else (own,)
    norm = parent.between if own == "depthwise" else parent.norm
    convolutions = [getattr(parent, name) for name in names]
    assert isinstance(norm, BatchNorm)
    assert isinstance(module, BinaryConv2d | RealConv2d)
    scale, shift = folded_scale(convolutions, norm) if layer.binary else norm.folded()
    start = 0 if own != "odd" else convolutions[0].weight.shape[0]
    part = slice(start, start + module.weight.shape[0])
    return module, _numpy(scale)[part], _numpy(shift)[part]


def sign_thresholds(scale: np.ndarray, shift: np.ndarray, *, largest_sum: int) -> tuple[np.ndarray, np.ndarray]:
    """sign(n * scale + shift) as a comparison of the whole number n, evaluated in float32 as the network does.

    Args:
      scale, shift: float32, (C,).
      largest_sum: |n| is at most this.

    Returns:
      thresholds: int8, (C,); the sign is +1 where n >= threshold; -largest_sum means always, largest_sum + 1 never.
      flipped: bool, (C,); where the scale is negative, -n is to be compared: the signs of the filter change.
    """
    flipped = scale < 0
    sums = np.arange(-largest_sum, largest_sum + 1, dtype=np.float32)
    magnitude = np.where(flipped, -scale, scale)
    positive = sums[:, None] * magnitude + shift >= 0  # (2 * largest_sum + 1, C), rising in the sum
    thresholds = np.where(positive.any(axis=0), positive.argmax(axis=0) - largest_sum, largest_sum + 1)
    return thresholds.astype(np.int8), flipped
