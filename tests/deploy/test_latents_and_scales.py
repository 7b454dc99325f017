"""Children of every latents and scale, packed and as ONNX, against their evaluation with PyTorch and against numpy."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from children import Child, every_operation, make_child
from test_engine import check_logits, engine_nodes, reference_nodes
from test_onnx import run

from cpnas_cli.binarization.convolution import BinaryConv2d
from cpnas_cli.deploy.folding import folded
from cpnas_cli.deploy.onnx import onnx_bytes
from cpnas_cli.deploy.packed_file import unpack_layers
from cpnas_cli.networks.modules.batch_norm import BatchNorm
from cpnas_cli.networks.size import network_size

CHOICES = [
    {"latents": latents, "scale": scale}
    for latents, scale in itertools.product(("plain", "centered", "standardized"), ("mean", "learned"))
]
EVERY_CHOICE = pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: "-".join(choice.values()))


def child_of(choice: dict[str, Any], **network: Any) -> Child:
    return make_child(every_operation(), image_size=16, seed=1, **{"num_channels": 10, **choice, **network})


@EVERY_CHOICE
@pytest.mark.parametrize("block", ["separable", "residual"])
def test_the_engine_gives_the_scores_of_pytorch(block: str, choice: dict[str, Any]) -> None:
    """A wrong sign anywhere is seen."""
    check_logits(child_of(choice, block=block, group_width=5))


@EVERY_CHOICE
def test_every_node_of_the_engine_is_pytorchs_to_the_bit(choice: dict[str, Any]) -> None:
    child = child_of(choice)
    images = child.draw_images(1, seed=1)
    expected = reference_nodes(child, images)
    found = engine_nodes(child, images, expected)
    assert len(found) == len(expected)
    for index, (own, other) in enumerate(zip(found, expected, strict=True)):
        np.testing.assert_array_equal(own, other, err_msg=str(index))


def prepared(latent: np.ndarray, latents: str) -> np.ndarray:
    """H' in float64."""
    latent = latent.astype(np.float64)
    centered = latent - latent.mean(axis=(1, 2, 3), keepdims=True)
    deviation = np.sqrt(np.square(centered).mean(axis=(1, 2, 3), keepdims=True) + 1e-8)
    return {"plain": latent, "centered": centered, "standardized": centered / deviation}[latents]


@EVERY_CHOICE
def test_the_packed_file_holds_signs_and_scales_of_numpy(choice: dict[str, Any]) -> None:
    """alpha from the formula, or as it was learned: 0 and negative ones too; none is stored beside the batch norm."""
    child = child_of(choice)
    arrays, modules = unpack_layers(child.model), dict(child.network.named_modules())
    num_seen, alphas = 0, list[float]()
    for name, module in modules.items():
        if not isinstance(module, BinaryConv2d) or not name.endswith("pointwise"):
            continue
        norm = modules[name.rpartition(".")[0]].norm
        assert isinstance(norm, BatchNorm)
        made = prepared(module.weight.detach().numpy(), choice["latents"])
        learned = dict(module.named_parameters()).get("alpha")
        alpha = np.abs(made).mean(axis=(1, 2, 3)) if learned is None else learned.detach().numpy().ravel()
        factor = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach().numpy()
        np.testing.assert_allclose(arrays[name].scale, alpha * factor, rtol=1e-5)
        # nearer to 0 float64 and float32 may differ, but not where nothing is computed
        clear = (np.abs(made) > 1e-6) | (choice["latents"] == "plain")
        assert clear.mean() > 0.9
        np.testing.assert_array_equal(arrays[name].signs[clear], (made >= 0)[clear])
        num_seen, alphas = num_seen + 1, [*alphas, *alpha]
    assert num_seen > 10
    assert (min(alphas) < 0) == (choice["scale"] == "learned")
    if choice["scale"] == "learned":
        assert 0 in alphas
    assert network_size(child.network).num_real_values == child.model.values.size


@EVERY_CHOICE
def test_what_is_constant_in_onnx_changes_no_score(choice: dict[str, Any]) -> None:
    """The part of the export that is ours, for which the exporter takes too long."""
    child = child_of(choice, num_channels=4)
    images = child.normalize(child.draw_images(8))
    with torch.no_grad():
        found, expected = folded(child.network)(images).logits, child.network(images).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "choice", [CHOICES[1], CHOICES[2], CHOICES[5]], ids=["plain-learned", "centered-mean", "standardized-learned"]
)
def test_the_onnx_model_gives_the_same_scores(choice: dict[str, Any]) -> None:
    child = child_of(choice, num_channels=4)
    images = child.draw_images(40)
    expected = child.logits(images)
    data = onnx_bytes(child.network, image_size=16, normalization=child.trained.normalization)
    found = run(data, torch.from_numpy(images))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert np.ptp(expected, axis=0).min() > 0.1
