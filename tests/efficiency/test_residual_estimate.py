"""The estimate of residual blocks, their endings and small formats, against counts by hand."""

from dataclasses import asdict
from typing import Any

import pytest

from cpnas_cli.cli.render.efficiency import layer_table
from cpnas_cli.efficiency.estimate import NetworkEstimate, Storage, estimate
from cpnas_cli.networks.dataflow import Elementwise, dataflow_of, held_values
from cpnas_cli.networks.layers import Surroundings
from cpnas_cli.networks.shapes import Precision
from cpnas_cli.search_space import Genotype
from cpnas_cli.settings import NetworkConfig

SMALL = Surroundings(8, 1, 3)
# Node 2 alone is reached: by a grouped convolution and a pooling; in a reduction cell by a skip and a convolution of
# stride 2.
BY_HAND = Genotype(("sep_conv_3x3", "max_pool_3x3", *["none"] * 12), ("skip_connect", "dil_conv_5x5", *["none"] * 12))


def counted(precision: Precision = "binary", **values: Any) -> NetworkEstimate:
    """2 channels, a stem of 2, grey 8x8 pixels, 3 classes; cells of 2, 4 and 8 channels, 8x8, 4x4 and 2x2 pixels."""
    network = {"num_cells": 3, "num_channels": 2, "stem_multiplier": 1, "group_width": 2, "activation": "rprelu"}
    settings = NetworkConfig.model_validate({"block": "residual", **network, **values})
    return estimate(dataflow_of(settings, BY_HAND, SMALL, precision=precision))


# What one filter multiplies: pixels of results x weights.
BOPS = (2 * (2 * 2 * 64) + 64 * 2 * 2 * 9) + (64 * (2 + 8) * 4 + 16 * 4 * 2 * 25) + (16 * (8 + 16) * 8 + 4 * 8 * 2 * 25)
FLOPS = 64 * 9 * 2 + 32 * 3
# Elements of values: the stem; of each cell two inputs and one node.
ELEMENTS = (128, *(128, 128, 128), *(256, 256, 64), *(128, 128, 32))
BITS = (4 + 4 + 36) + (8 + 32 + 200) + (64 + 128 + 400)
NORMS = 4 * 2 + 3 * 4 + 3 * 8  # channels of batch norms: two preprocessings, the convolution; the first cell's pooling
CHANNELS_OF_ENDINGS = 3 * 2 + 3 * 4 + 3 * 8  # within the cells


def test_the_operations_by_hand() -> None:
    child, parent = counted(), counted("full")
    assert (child.flops, child.bops) == (FLOPS, BOPS) == (1248, 13_248)
    assert (parent.flops, parent.bops) == (FLOPS + BOPS, 0)
    outputs = 3 * 128 + 2 * 256 + 64 + 2 * 128 + 32  # of the 1-bit layers
    assert child.xnor_cost == FLOPS + BOPS / 64 + outputs


def test_the_elementwise_work_by_hand() -> None:
    expected = Elementwise(
        affine=5 * 128 + 2 * 256 + 64 + 2 * 128 + 32 + 3,
        # the skips of stride 2 are means over 2x2 pixels
        pool=9 * 128 + 4 * 64 + 4 * 32,
        sum=128 + 64 + 32,
        # of the preprocessings as in every block; of the residuals a sum, and at stride 2 a mean over 2x2 pixels
        shortcut=(128 + 128 + 8 * 64 + (8 * 16 + 8 * 64) + 16 * 16) + (128 + (64 + 256) + (32 + 128)),
        # signs: stem, what convolutions and preprocessings read; of what only a skip or a pooling reads there is none
        activation=128 + 128 + 128 + 256 + 64 + 128,
        ending=4 * sum(ELEMENTS),
        mean=32 * 4 + (128 + 64 + 32),  # of the pixels before the classifier; of a node's two edges, beside their sum
    )
    assert counted().elementwise == expected
    parent = counted("full").elementwise
    assert (parent.activation, parent.ending) == (0, 3 * sum(ELEMENTS))  # no ReLU, no shift before a sign
    assert parent.total == expected.total - expected.activation - sum(ELEMENTS)


@pytest.mark.parametrize(
    ("values", "num_child", "num_parent"),
    [
        ({"activation": "none", "sign_shift": False}, 0, 0),
        ({"activation": "none"}, 1, 0),
        ({"activation": "prelu", "sign_shift": False}, 1, 1),
        ({"activation": "prelu"}, 2, 1),
        ({}, 4, 3),
    ],
)
def test_the_values_of_the_endings(values: dict[str, Any], num_child: int, num_parent: int) -> None:
    child, parent = counted(**values), counted("full", **values)
    for network, num in ((child, num_child), (parent, num_parent)):
        assert network.elementwise.ending == num * sum(ELEMENTS)
        assert network.storage.scales_and_shifts == 32 * (2 * NORMS + num * CHANNELS_OF_ENDINGS)
        assert network.storage.stem == 32 * (18 + 4 + num * 2)
        assert sum(layer.kind == "ending" for layer in network.layers) == (len(ELEMENTS) if num else 0)


@pytest.mark.parametrize("real_bits", [32, 16])
@pytest.mark.parametrize("weight_bits", [32, 16, 8])
def test_the_stored_bits_in_every_format(real_bits: int, weight_bits: int) -> None:
    names = {32: "float32", 16: "float16", 8: "int8"}
    formats: dict[str, Any] = {"real_format": names[real_bits], "weight_format": names[weight_bits]}
    scales_of_classes = 3 if weight_bits == 8 else 0
    assert counted(**formats).storage == Storage(
        binary_weights=BITS,
        real_weights=0,
        thresholds=0,
        scales_and_shifts=real_bits * (2 * NORMS + 4 * CHANNELS_OF_ENDINGS),
        stem=weight_bits * 18 + real_bits * (4 + 4 * 2),
        classifier=weight_bits * 96 + real_bits * (3 + scales_of_classes),
    )
    parent = Storage(0, 32 * BITS, 0, 32 * (2 * NORMS + 3 * CHANNELS_OF_ENDINGS), 32 * (18 + 4 + 3 * 2), 32 * 99)
    assert counted("full", **formats).storage == parent


def test_real_parts_have_the_bits_of_weights() -> None:
    formats: dict[str, Any] = {"real_format": "float16", "weight_format": "int8"}
    storage = counted(real_parts=("preprocessing", "factorized_reduction"), **formats).storage
    assert storage.real_weights == 8 * (4 + 4 + 8 + 32 + 64 + 128)
    assert storage.binary_weights == 36 + 200 + 400


def test_the_peak_by_hand() -> None:
    """Where the second cell makes its node: the first cell's node and the convolution's input are read in both forms,
    the skip's input as a value.
    """
    child, parent = counted().peak, counted("full").peak
    assert child.step == parent.step == "cells.1.edges.0.skip_connect"
    assert child.bits == 33 * 128 + 32 * 256 + 33 * 256 + 32 * 64
    assert parent.bits == 32 * (128 + 256 + 256 + 64)


def test_an_ending_needs_no_memory_of_its_own() -> None:
    """The same values are held as without it."""
    network = {"block": "residual", "num_channels": 2, "group_width": 2}
    endings = ({"activation": "rprelu"}, {"activation": "none", "sign_shift": False})
    flows = [
        dataflow_of(NetworkConfig.model_validate({**network, **ending}), BY_HAND, SMALL, precision="binary")
        for ending in endings
    ]
    with_endings, without = ([(held.value, held.bits) for held in held_values(flow)] for flow in flows)
    assert with_endings == without


def test_a_stem_of_three_convolutions_by_hand() -> None:
    """8 channels, the first two convolutions with 4; stride 2 is the last one's; a ReLU between them."""
    stem: dict[str, Any] = {"stem_multiplier": 4, "stem_convolutions": 3, "stem_stride": 2}
    layers = {layer.name: layer for layer in counted(**stem).layers}
    assert [layers[f"stem.{index}"].macs for index in range(3)] == [64 * 9 * 4, 64 * 9 * 16, 16 * 9 * 32]
    # a batch norm and a ReLU each; the last one has the sign of the ending behind it
    assert [layers[f"stem.{index}"].elementwise for index in range(3)] == [2 * 4 * 64, 2 * 4 * 64, 8 * 16]
    assert layers["stem_ending"].elementwise == (4 + 1) * 8 * 16
    assert counted(**stem).storage.stem == 32 * (9 * (4 + 16 + 32) + 2 * (4 + 4 + 8) + 4 * 8)


@pytest.mark.parametrize(("weight_format", "bits"), [("float32", "32"), ("float16", "16"), ("int8", "8")])
def test_the_table_shows_the_bits_of_a_weight(weight_format: str, bits: str) -> None:
    network = counted(weight_format=weight_format)
    layers = [{**asdict(layer), "size_bits": layer.size_bits} for layer in network.layers]
    column = list(layer_table({"layers": layers}, wide=False).columns[1].cells)
    shown = dict(zip((layer.name for layer in network.layers), column, strict=True))
    assert (shown["stem"], shown["classifier"]) == (bits, bits)
    assert shown["cells.0.edges.0.sep_conv_3x3.convolution"] == "1"
    assert shown["stem_ending"] == shown["cells.0.edges.1.max_pool_3x3"] == ""
