"""ONNX Runtime, with all that it does to a graph, has the bits of PyTorch up to the last layer of a Child."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from children import Child, make_child
from test_onnx import run

from cpnas_cli.deploy.onnx import EXACTNESS, write_onnx
from cpnas_cli.networks.modules.batch_norm import BatchNorm
from cpnas_cli.networks.network import Network
from cpnas_cli.search_space import Genotype

RESIDUAL: dict[str, Any] = {"block": "residual", "group_width": 2, "activation": "rprelu", "stem_convolutions": 3}
SMALL: dict[str, Any] = {"real_format": "float16", "weight_format": "int8"}
REAL_PARTS: dict[str, Any] = {"real_parts": ("preprocessing", "factorized_reduction"), "weight_format": "float16"}
# Each kind of operation, at stride 1 and 2; more edges take the exporter longer and show no more.
GENOTYPE = Genotype(
    ("sep_conv_3x3", "avg_pool_3x3", "max_pool_3x3", "sep_conv_5x5", *["none"] * 5, "dil_conv_3x3", *["none"] * 4),
    ("sep_conv_3x3", "avg_pool_3x3", "max_pool_3x3", "skip_connect", *["none"] * 10),
)


@torch.no_grad()
def set_thresholds_on_sums(network: Network) -> None:
    """Every channel of a batch norm is 0 for a small whole number, where one rounding more turns its sign."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, BatchNorm):
            count = len(module.weight)
            module.running_mean.zero_()
            module.running_var.copy_(torch.rand(count, generator=generator) * 2 + 0.3)
            module.weight.copy_(torch.randn(count, generator=generator))
            numbers = torch.randint(-4, 5, (count,), generator=generator)
            module.bias.copy_(-(module.folded()[0] * numbers))


def make_transparent_child(**settings: Any) -> Child:
    """Its scores are its features, of one pixel each, so that neither a mean nor a sum can round."""
    settings |= {"image_size": 8, "num_channels": 8, "stem_stride": 2}
    num_features = make_child(GENOTYPE, **settings).network.classifier.in_features
    child = make_child(GENOTYPE, num_classes=num_features, **settings)
    set_thresholds_on_sums(child.network)
    with torch.no_grad():
        child.network.classifier.weight.copy_(torch.eye(num_features))
        child.network.classifier.bias.zero_()
    return child


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {**RESIDUAL, **SMALL},
        pytest.param(SMALL, marks=pytest.mark.slow),
        pytest.param(REAL_PARTS, marks=pytest.mark.slow),
    ],
    ids=["separable", "residual, small formats", "separable, small formats", "real parts"],
)
def test_every_value_up_to_the_last_layer_has_the_bits_of_pytorch(settings: dict[str, Any], tmp_path: Path) -> None:
    child = make_transparent_child(**settings)
    images = child.draw_images(300)
    expected = child.logits(images)
    assert len(np.unique(expected, axis=0)) > 250  # the images matter
    write_onnx(child.trained, file := tmp_path / "model.onnx")
    np.testing.assert_array_equal(run(file.read_bytes(), torch.from_numpy(images)), expected)
    (said,) = [entry.value for entry in onnx.load(file).metadata_props if entry.key == "exactness"]
    assert said == EXACTNESS["child"]
    assert "every value up to the last layer has the bits of PyTorch" in said
