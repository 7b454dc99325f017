"""The plain CNN: its bytes against closed forms, how it halves images, and its modules against its layers."""

import pytest
import torch
from torch import nn

from cpnas_cli.deploy.deployed import float32_bytes, quantized_bytes
from cpnas_cli.networks.layers import Surroundings
from cpnas_cli.networks.modules.batch_norm import BatchNorm
from cpnas_cli.networks.modules.plain_cnn import build_plain_cnn
from cpnas_cli.networks.plain_cnn import int8_size_bytes, plain_cnn_layers, plain_cnn_width


def weights(w: int, channels: int, classes: int) -> int:
    """By hand: 9 (c w + w 2w + 2w 2w + 2w 4w + 4w 4w) + 4w K."""
    return 9 * (channels * w + 30 * w * w) + 4 * w * classes


def int8(w: int, channels: int, classes: int) -> int:
    """A byte per weight; a bias and a scale of 4 bytes for each of the 13 w channels and K classes."""
    return weights(w, channels, classes) + 8 * (13 * w + classes)


def float32(w: int, channels: int, classes: int) -> int:
    return 4 * (weights(w, channels, classes) + 13 * w + classes)


@pytest.mark.parametrize(("w", "size", "channels", "classes"), [(1, 8, 1, 2), (7, 28, 1, 10), (12, 64, 3, 5)])
def test_bytes_are_those_of_the_closed_form(w: int, size: int, channels: int, classes: int) -> None:
    shape = Surroundings(size, channels, classes)
    assert int8_size_bytes(plain_cnn_layers(w, shape)) == int8(w, channels, classes)
    network = build_plain_cnn(w, shape, seed=0)
    assert quantized_bytes(network) == int8(w, channels, classes)
    assert float32_bytes(network) == float32(w, channels, classes)


@pytest.mark.parametrize(
    ("image_size", "sizes"),
    [
        (4, [4, 4, 4, 4, 4]),
        (8, [8, 8, 8, 8, 8]),
        (28, [28, 14, 14, 7, 7]),
        (32, [32, 16, 16, 8, 8]),
        (64, [32, 16, 16, 8, 8]),
        (96, [48, 24, 12, 6, 6]),
        (224, [112, 56, 28, 14, 7]),
        (1024, [128, 64, 32, 16, 8]),
    ],
)
def test_the_last_map_has_at_most_eight_pixels(image_size: int, sizes: list[int]) -> None:
    """As the module computes it, and as its layers say."""
    shape = Surroundings(image_size, 1, 3)
    network = build_plain_cnn(2, shape, seed=0).eval()
    found = list[tuple[int, int]]()
    for norm in network.convolutions[1::2]:
        norm.register_forward_hook(lambda _, __, out: found.append((out.shape[1], out.shape[2])))
    output = network(torch.zeros(1, 1, image_size, image_size))
    assert found == list(zip([2, 4, 4, 8, 8], sizes, strict=True))
    assert [(layer.out_channels, layer.out_size) for layer in plain_cnn_layers(2, shape)[:-1]] == found
    assert (output.logits.shape, output.features.shape) == ((1, 3), (1, 8, sizes[-1], sizes[-1]))


@pytest.mark.parametrize("kibibytes", [1, 4, 16, 44, 64, 128, 256])
def test_the_width_is_the_nearest_that_is_hardly_above(kibibytes: int) -> None:
    asked = 1024 * kibibytes
    allowed = [w for w in range(1, 200) if int8(w, 3, 10) <= 1.1 * asked]
    assert plain_cnn_width(asked, Surroundings(32, 3, 10)) == min(allowed, key=lambda w: abs(int8(w, 3, 10) - asked))


def test_the_width_is_never_a_tenth_above_and_at_least_one() -> None:
    shape = Surroundings(8, 1, 10)
    between = (int8(2, 1, 10) + 2 * int8(3, 1, 10)) // 3  # nearer to 3, which is more than a tenth above
    assert int8(3, 1, 10) > 1.1 * between
    assert plain_cnn_width(between, shape) == 2
    assert plain_cnn_width(1, shape) == 1
    with pytest.raises(ValueError, match="at least 1 channel, got 0"):
        plain_cnn_layers(0, shape)


def test_the_scores_are_those_of_the_usual_modules() -> None:
    """Against torch.nn, weight by weight."""
    network = build_plain_cnn(3, Surroundings(28, 1, 4), seed=5).eval()
    generator = torch.Generator().manual_seed(0)
    reference = nn.Sequential()
    channels, strides = [1, 3, 6, 6, 12, 12], [1, 2, 1, 2, 1]
    pairs = zip(network.convolutions[::2], network.convolutions[1::2], strict=True)
    for index, (filters, own) in enumerate(pairs):
        convolution = nn.Conv2d(channels[index], channels[index + 1], 3, strides[index], 1, bias=False)
        norm = nn.BatchNorm2d(channels[index + 1])
        assert isinstance(own, BatchNorm)
        with torch.no_grad():
            for tensor in (own.weight, own.bias, own.running_mean, own.running_var):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        convolution.load_state_dict(filters.state_dict())
        norm.load_state_dict(own.state_dict(), strict=False)
        reference.extend([convolution, norm, nn.ReLU()])
    reference.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), network.classifier])
    images = torch.randn(5, 1, 28, 28, generator=generator)
    torch.testing.assert_close(network(images).logits, reference.eval()(images))


def test_initial_weights_depend_on_the_seed_alone() -> None:
    shape = Surroundings(8, 1, 10)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first, again, other = (build_plain_cnn(2, shape, seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])
