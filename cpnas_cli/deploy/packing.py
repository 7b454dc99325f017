"""From a trained Child to its packed model."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cpnas_cli.binarization.convolution import BinaryConv2d
from cpnas_cli.deploy.packed_file import LayerArrays, PackedModel, array_types, save_packed
from cpnas_cli.errors import RunError, UsageError
from cpnas_cli.networks.layer import Layer
from cpnas_cli.networks.modules.batch_norm import BatchNorm, folded_scale
from cpnas_cli.networks.modules.ending import Ending
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
        fit=child.config.data.fit,
        bits=np.zeros(0, np.uint8),
        thresholds=np.zeros(0, np.int8),
        values=_EMPTY,
    )
    _check_finite(*map(_numpy, network.state_dict().values()))  # float16 would cut an infinite one off
    arrays = [_arrays(network, layer) for layer in model.layers()]
    types = array_types(model.settings)
    own = "weights" in types  # the real weights have an array of their own
    values = _joined(
        part for each in arrays for part in ((() if own else (each.weights,)) + (each.scale, each.shift, each.ending))
    )
    weights = _joined(each.weights for each in arrays)
    _check_finite(values, weights)
    return replace(
        model,
        bits=np.packbits(np.concatenate([each.signs.ravel() for each in arrays]), bitorder="little"),
        thresholds=np.concatenate([each.thresholds for each in arrays]),
        values=values.astype(types["values"]),
        weights=weights.astype(types["weights"]) if own else None,
    )


def _joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([part.ravel() for part in parts])


def _arrays(network: Network, layer: Layer) -> LayerArrays:
    none = LayerArrays(np.zeros(0, bool), np.zeros(0, np.int8), _EMPTY, _EMPTY, _EMPTY, _EMPTY)
    if layer.kind == "linear":
        weight, scale, bias = map(_numpy, network.classifier.stored_weights())
        return replace(none, weights=weight, scale=scale if layer.ending == "affine" else _EMPTY, shift=bias)
    if layer.kind == "ending":
        ending = network.get_submodule(layer.name)
        assert isinstance(ending, Ending)
        return replace(none, ending=np.stack([_numpy(values) for values in ending.stored_values()]))
    if layer.kind == "pool":
        if layer.ending == "nothing":
            return none
        norm = network.get_submodule(layer.name).norm
        assert isinstance(norm, BatchNorm)
        scale, shift = map(_numpy, norm.stored())
        return replace(none, scale=scale, shift=shift)
    convolution, scale, shift = _convolution_and_norm(network, layer)
    if isinstance(convolution, RealConv2d):
        return replace(none, weights=_numpy(convolution.stored_filters()), scale=scale, shift=shift)
    _check_finite(_numpy(convolution.weight))  # a sign does not show it
    signs = _numpy(convolution.signs()) > 0
    if layer.ending == "affine":
        return replace(none, signs=signs, scale=scale, shift=shift)
    _check_finite(scale, shift)  # a threshold does not show it
    thresholds, flipped = sign_thresholds(scale, shift, largest_sum=layer.kernel_size**2)
    return replace(none, signs=signs ^ flipped[:, None, None, None], thresholds=thresholds)


def _check_finite(*arrays: np.ndarray) -> None:
    if not all(np.isfinite(array).all() for array in arrays):
        raise RunError("the network has values that are not finite; train it again with a smaller learning rate")


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())


def _convolution_and_norm(network: Network, layer: Layer) -> tuple[BinaryConv2d | RealConv2d, np.ndarray, np.ndarray]:
    """The layer's convolution with the scale and the shift of what follows it."""
    if layer.name.startswith("stem"):
        index = int(layer.name.removeprefix("stem").removeprefix(".") or 0)
        convolution, norm = network.stem.pairs()[index]
        scale, shift = folded_scale([convolution], norm)
        return convolution, _numpy(scale), _numpy(shift)
    module = network.get_submodule(layer.name)
    block, _, own = layer.name.rpartition(".")
    parent = network.get_submodule(block)
    names = ("even", "odd") if own in ("even", "odd") else (own,)
    norm = parent.between if own == "depthwise" else parent.norm
    convolutions = [getattr(parent, name) for name in names]
    assert isinstance(norm, BatchNorm)
    assert isinstance(module, BinaryConv2d | RealConv2d)
    scale, shift = folded_scale(convolutions, norm)
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
