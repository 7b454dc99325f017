"""ONNX and the measurement of residual blocks, small stems and small formats."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from children import Child, everywhere, make_child, randomize
from test_measurement import constants, run_model
from test_onnx import run
from torch import nn

from cpnas_cli.deploy.folding import folded
from cpnas_cli.deploy.onnx import onnx_bytes, write_onnx
from cpnas_cli.deploy.single_operations import MeasuredOperation, float_model, operations_of, time_operations
from cpnas_cli.networks.layers import Surroundings, cells_of, stem_layers
from cpnas_cli.networks.network import build_network
from cpnas_cli.search_space import Genotype, draw_uniform
from cpnas_cli.settings import NetworkConfig

RESIDUAL: dict[str, Any] = {"block": "residual", "group_width": 2, "activation": "rprelu"}
SMALL: dict[str, Any] = {"real_format": "float16", "weight_format": "int8", "stem_convolutions": 3}
# A convolution at each stride, dilated and not, a skip at each stride: an export takes its time for each edge.
FEW_EDGES = Genotype(("sep_conv_3x3", "skip_connect", *["none"] * 12), ("dil_conv_5x5", "skip_connect", *["none"] * 12))
SETTINGS = NetworkConfig(block="residual", num_cells=3, num_channels=6, group_width=3, stem_multiplier=3)
SHAPE = Surroundings(8, 3, 5)


# ---------------------------------------------------------------- ONNX


def test_a_child_with_an_integer_stem_gives_the_same_scores(tmp_path: Path) -> None:
    """Whole numbers are exact, so every sign is that of PyTorch."""
    child = make_child(FEW_EDGES, image_size=16, stem_stride=2, **RESIDUAL, **SMALL)
    write_onnx(child.trained, tmp_path / "model.onnx")
    images = child.draw_images(40)
    found = run((tmp_path / "model.onnx").read_bytes(), torch.from_numpy(images))
    expected = child.logits(images)
    assert (found.argmax(1) == expected.argmax(1)).all()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    graph = onnx.load(tmp_path / "model.onnx").graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("Round") == 3
    assert "BatchNormalization" not in kinds


@pytest.mark.slow
def test_a_parent_gives_the_same_scores() -> None:
    network = build_network(
        NetworkConfig(num_channels=4, **RESIDUAL, **SMALL), precision="full", num_image_channels=3, num_classes=4,
        seed=0, genotype=FEW_EDGES,
    ).eval()  # fmt: skip
    randomize(network, seed=0)
    images = torch.randn(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images).logits.numpy()
    found = run(onnx_bytes(network, image_size=8), images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


STRIDE_8 = {"stem_convolutions": 3, "stem_stride": 8}


def scores(child: Child, network: nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network(child.normalize(images)).logits.numpy()


@pytest.mark.parametrize("real_format", ["float32", "float16"])
@pytest.mark.parametrize("activation", ["none", "prelu", "rprelu"])
@pytest.mark.parametrize("stem", [{}, {"stem_convolutions": 2, "stem_stride": 4}, {"stem_convolutions": 3}, STRIDE_8])
def test_folding_an_integer_stem_changes_no_bit(stem: dict[str, Any], activation: str, real_format: str) -> None:
    """The part of the export that is ours."""
    settings = {**RESIDUAL, **stem, "activation": activation, "real_format": real_format, "weight_format": "int8"}
    child = make_child(draw_uniform(seed=2), image_size=32, **settings)
    images = child.draw_images(8)
    np.testing.assert_array_equal(scores(child, folded(child.network), images), child.logits(images))


@pytest.mark.parametrize("block", ["separable", "residual"])
@pytest.mark.parametrize("weight_format", ["float32", "float16", "int8"])
def test_folding_real_parts_keeps_the_values_as_they_are_stored(weight_format: str, block: str) -> None:
    """Summed in float64 and rounded once; of operations without a sign behind them nothing could hide a difference."""
    parts = {"real_parts": ("preprocessing", "factorized_reduction"), "weight_format": weight_format}
    child = make_child(everywhere("max_pool_3x3"), block=block, real_format="float16", **parts)
    images = child.draw_images(8)
    np.testing.assert_array_equal(scores(child, folded(child.network), images), child.logits(images))


# ---------------------------------------------------------------- single operations


@pytest.mark.parametrize("kind", ["normal", "reduce"])
@pytest.mark.parametrize("op", ["sep_conv_3x3", "dil_conv_5x5", "skip_connect"])
def test_the_float_operation_is_the_parents(op: str, kind: str) -> None:
    """Written down once more with torch.nn; a skip has layers at stride 2 alone."""
    cells = cells_of(SETTINGS, everywhere(op), SHAPE, precision="binary")
    edge = next(cell for cell in cells if cell.shape.kind == kind).edges[0]
    if not edge.layers:
        assert (op, kind) == ("skip_connect", "normal")
        return
    (layer,) = edge.layers
    model = float_model(MeasuredOperation(op, edge.layers, 1), features_size=2)
    x = np.random.default_rng(0).normal(size=(1, layer.in_channels, layer.in_size, layer.in_size)).astype(np.float32)
    source = torch.from_numpy(x)
    expected = source if layer.stride == 1 else nn.functional.avg_pool2d(source, 2)
    if op != "skip_connect":
        weights, bias = (torch.from_numpy(array.copy()) for array in constants(model))
        assert weights.shape[1] == 3
        padding = layer.dilation * (layer.kernel_size - 1) // 2
        shape = (layer.stride, padding, layer.dilation, layer.groups)
        expected = expected + nn.functional.conv2d(source, weights, bias, *shape)
    np.testing.assert_allclose(run_model(model, x), expected.numpy(), rtol=1e-4, atol=1e-4)


def test_the_float_stem_has_a_relu_between_its_convolutions() -> None:
    settings = SETTINGS.model_copy(update={"stem_convolutions": 3, "stem_stride": 4})
    stem = stem_layers(settings, SHAPE, precision="binary")[:3]
    model = float_model(MeasuredOperation("stem", stem, 1), features_size=2)
    x = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    values = [torch.from_numpy(array.copy()) for array in constants(model)]
    expected = torch.from_numpy(x)
    for index, stride in enumerate((1, 2, 2)):
        expected = nn.functional.conv2d(
            expected.relu() if index else expected, values[2 * index], values[2 * index + 1], stride, 1
        )
    np.testing.assert_allclose(run_model(model, x), expected.numpy(), rtol=1e-4, atol=1e-3)


def test_every_operation_is_measured() -> None:
    """Packed and in float32, each of some time; each counted as often as the network has it."""
    child = make_child(everywhere("sep_conv_3x3"), **RESIDUAL, **SMALL)
    operations = [operation for operation, _ in operations_of(child.model)]
    counts = {(each.name, each.layers[0].in_channels, each.layers[0].stride): each.count for each in operations}
    # of 14 edges of a cell 8 leave its inputs
    assert counts["sep_conv_3x3", 4, 1] == 14
    assert [counts["sep_conv_3x3", channels, 2] for channels in (8, 16)] == [8, 8]
    assert [counts["sep_conv_3x3", channels, 1] for channels in (8, 16)] == [6, 6]
    assert [len(each.layers) for each in operations if each.name == "stem"] == [3]
    times = time_operations(child.model, repetitions=1)
    assert len(times) == len(operations)
    assert all(0 < each.packed.median < 1 for each in times)
