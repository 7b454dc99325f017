"""The two descriptions of a network, modules and layers, say the same of every part; operations say what they are."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cpnas_cli.binarization.convolution import BinaryConv2d
from cpnas_cli.networks.arithmetic import Arithmetic
from cpnas_cli.networks.blocks.base import EdgeShape
from cpnas_cli.networks.cells import Cell
from cpnas_cli.networks.layer import LARGEST_KERNEL, Layer
from cpnas_cli.networks.layers import Surroundings, layers_of
from cpnas_cli.networks.modules.batch_norm import BatchNorm
from cpnas_cli.networks.modules.ending import Ending
from cpnas_cli.networks.modules.pooling import Pool
from cpnas_cli.networks.modules.real_convolution import RealConv2d
from cpnas_cli.networks.modules.reduction import FactorizedReduction
from cpnas_cli.networks.modules.residual import Halving, ResidualConv
from cpnas_cli.networks.modules.separable import SeparableConv
from cpnas_cli.networks.network import Network, build_network
from cpnas_cli.networks.operations.base import FAMILIES, operation_of
from cpnas_cli.networks.operations.convolution import ConvolutionOperation, separable
from cpnas_cli.networks.shapes import Precision
from cpnas_cli.search_space import OPERATIONS, draw_uniform
from cpnas_cli.settings import NetworkConfig, RealPart

FEW = settings(max_examples=6, deadline=None, derandomize=True)
PRECISIONS: tuple[Precision, ...] = ("binary", "full")
NETWORKS: dict[str, Any] = {
    "num_cells": st.integers(3, 6),
    "num_channels": st.sampled_from([2, 4, 6]),
    "stem_multiplier": st.integers(1, 3),
    "stem_convolutions": st.sampled_from([1, 2, 3]),
    "stem_stride": st.sampled_from([1, 2, 4]),
    "shortcut": st.booleans(),
    "real_format": st.sampled_from(["float32", "float16"]),
    "weight_format": st.sampled_from(["float32", "float16", "int8"]),
}
RESIDUAL: dict[str, Any] = {
    "group_width": st.sampled_from([1, 2, 1024]),
    "activation": st.sampled_from(["none", "prelu", "rprelu"]),
    "sign_shift": st.booleans(),
}
BLOCKS = {
    "separable": st.builds(NetworkConfig, **NETWORKS),
    "residual": st.builds(NetworkConfig, block=st.just("residual"), **NETWORKS, **RESIDUAL),
}
BITS = {"float32": 32, "float16": 16, "int8": 8}


def described_by_modules(network: Network, images: Tensor) -> dict[str, dict[str, Any]]:
    """{name of a layer: what its module is and does}, sizes as seen in a forward pass."""
    found, sizes = dict[str, dict[str, Any]](), dict[str, tuple[int, int]]()
    modules = dict(network.named_modules())

    def size_of(value: Any) -> int:
        value = getattr(value, "value", value)  # of a node
        return value.shape[-1] if value.dim() == 4 else 1

    for name, module in modules.items():
        if isinstance(module, Network | Cell):
            continue
        module.register_forward_hook(
            lambda _, inputs, output, name=name: sizes.update({name: (size_of(inputs[0]), size_of(output))})
        )
    with torch.no_grad():
        network.train()(images)
    for name, module in modules.items():
        parent = modules[name.rpartition(".")[0]]
        entry: dict[str, Any] = {"pooling": None, "kernel_size": 1, "stride": 1, "dilation": 1, "groups": 1}
        entry |= {"residual": isinstance(parent, ResidualConv), "num_channel_values": 0}
        entry |= bits_of(network)
        match module:
            case BinaryConv2d() | RealConv2d():
                out_channels, inputs_per_filter, kernel_size, _ = module.weight.shape
                entry |= {"kind": "convolution", "binary": isinstance(module, BinaryConv2d), "ending": "affine"}
                entry |= {"in_channels": inputs_per_filter * module.groups, "out_channels": out_channels}
                entry |= {"kernel_size": kernel_size, "padding": module.padding, "dilation": module.dilation}
                entry |= {"stride": module.stride, "groups": module.groups}
                if isinstance(parent, SeparableConv) and module is parent.depthwise:
                    entry["ending"] = "nothing" if parent.between is None else "threshold"
                else:
                    behind = parent[int(name[-1]) + 1] if isinstance(parent, nn.Sequential) else parent.norm
                    assert isinstance(behind, BatchNorm)
                    assert len(behind.weight) in (out_channels, 2 * out_channels)
            case Pool():
                channels = len(module.norm.weight)
                entry |= {"kind": "pool", "binary": False, "ending": "affine", "pooling": module.kind, "padding": 1}
                entry |= {"in_channels": channels, "out_channels": channels, "kernel_size": 3, "stride": module.stride}
            case Halving():
                channels = len(module_of_cell(modules, name).norm.weight)
                entry |= {"kind": "pool", "binary": False, "ending": "nothing", "pooling": "halving", "padding": 0}
                entry |= {"in_channels": channels, "out_channels": channels, "kernel_size": 2, "stride": 2}
            case Ending():
                entry |= {"kind": "ending", "binary": False, "ending": "nothing", "padding": 0}
                channels = len(module.values[0])
                entry |= {"in_channels": channels, "out_channels": channels, "num_channel_values": len(module.values)}
            case nn.Linear():
                # of whole numbers each class has a scale
                ending = "affine" if entry["weight_bits"] == 8 else "bias"
                entry |= {"kind": "linear", "binary": False, "ending": ending, "padding": 0}
                entry |= {"in_channels": module.in_features, "out_channels": module.out_features}
            case _:
                continue
        entry["in_size"], entry["out_size"] = sizes[name]
        if isinstance(parent, FactorizedReduction):  # which leaves out every other pixel before the convolution
            entry["stride"], entry["in_size"] = 2, sizes[name.rpartition(".")[0]][0]
        found[name_of_layer(name, num_stem_convolutions=len(network.stem) // 2)] = entry
    return found


def name_of_layer(name: str, *, num_stem_convolutions: int) -> str:
    """A convolution of the stem is numbered without the batch norms, and where it is alone not at all."""
    if not name.startswith("stem."):
        return name
    return "stem" if num_stem_convolutions == 1 else f"stem.{int(name.removeprefix('stem.')) // 2}"


def module_of_cell(modules: dict[str, nn.Module], name: str) -> Any:
    """The first preprocessing of the cell that a module stands in, which has the channels of its nodes."""
    return modules[f"{'.'.join(name.split('.')[:2])}.preprocessing.0.convolution"]


def bits_of(network: Network) -> dict[str, int]:
    """Of a stored real value and a real weight: all that a Parent stores is float32."""
    if network.precision == "full":
        return {"value_bits": 32, "weight_bits": 32}
    settings = network.settings
    return {"value_bits": BITS[settings.real_format], "weight_bits": BITS[settings.weight_format]}


def described_by_layer(layer: Layer) -> dict[str, Any]:
    names = ("kind", "in_channels", "out_channels", "in_size", "out_size", "kernel_size", "stride", "dilation")
    names += ("groups", "padding", "binary", "ending", "pooling", "residual", "num_channel_values")
    return {name: getattr(layer, name) for name in (*names, "value_bits", "weight_bits")}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    "real_parts", [(), ("preprocessing",), ("factorized_reduction",), ("preprocessing", "factorized_reduction")]
)
@pytest.mark.parametrize("block", BLOCKS)
@FEW
@given(data=st.data(), seed=st.integers(0, 10**6))
def test_every_layer_is_a_module_and_every_module_a_layer(
    data: st.DataObject, seed: int, block: str, real_parts: tuple[RealPart, ...], precision: Precision
) -> None:
    network = data.draw(BLOCKS[block]).model_copy(update={"real_parts": real_parts})
    genotype, shape = draw_uniform(seed=seed), Surroundings(8 * network.stem_stride, 3, 5)
    built = build_network(network, precision=precision, num_image_channels=3, num_classes=5, seed=0, genotype=genotype)
    layers = layers_of(network, genotype, shape, precision=precision)
    assert len({layer.name for layer in layers}) == len(layers)
    images = torch.randn(2, 3, shape.image_size, shape.image_size, generator=torch.Generator().manual_seed(0))
    assert {layer.name: described_by_layer(layer) for layer in layers} == described_by_modules(built, images)


# ---------------------------------------------------------------- operations


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_says_what_it_is(name: str) -> None:
    operation = operation_of(name)
    assert operation.name == name
    assert operation.family in FAMILIES
    assert 0 < len(operation.short) <= 5
    arithmetic = Arithmetic("binary")
    for stride in (1, 2):
        edge = EdgeShape(4, stride, arithmetic, arithmetic)
        layers = operation.layers("path", edge, 8)
        assert all(layer.name.startswith("path") and layer.out_size == 8 // stride for layer in layers[-1:])
        assert [layer.feeds_next for layer in layers[-1:]] == [False] * bool(layers)


def test_layers_are_listed_without_torch() -> None:
    code = (
        "import sys\n"
        "from cpnas_cli.networks.layers import Surroundings, layers_of\n"
        "from cpnas_cli.search_space import draw_uniform\n"
        "from cpnas_cli.settings import NetworkConfig\n"
        "for seed in range(5):\n"
        "    layers_of(NetworkConfig(), draw_uniform(seed=seed), Surroundings(8, 1, 10), precision='binary')\n"
        "assert not {'torch', 'numpy'} & sys.modules.keys()\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("kernel_size", [1, 2, 4, 13])
def test_a_filter_whose_sums_do_not_fit_is_refused(kernel_size: int) -> None:
    with pytest.raises(ValueError, match=rf"odd kernel of 3 to {LARGEST_KERNEL} pixels, got {kernel_size}"):
        separable(kernel_size)
    assert LARGEST_KERNEL**2 + 1 <= 127 < (LARGEST_KERNEL + 2) ** 2 + 1


def test_a_separable_convolution_of_another_size_is_named_by_it() -> None:
    assert separable(7) == ConvolutionOperation("sep_conv_7x7", "sep7", "sep 7\u00d77", 7)
