"""The packed engine on residual blocks, small stems and formats: every node as PyTorch evaluates it, to the bit."""

import itertools
from typing import Any

import numpy as np
import pytest
from children import Child, every_operation, everywhere, make_child
from engine_nodes import check_every_node
from hypothesis import given, settings
from hypothesis import strategies as st

from cpnas_cli.deploy.engine import Engine
from cpnas_cli.search_space import EDGES, NONE, OPERATIONS, Genotype, draw_uniform, is_connected

SOME = settings(max_examples=12, deadline=None, derandomize=True)
MANY = settings(max_examples=150, deadline=None, derandomize=True)
REAL_PARTS = ("preprocessing", "factorized_reduction")
CELLS = st.tuples(*[st.sampled_from(OPERATIONS)] * len(EDGES)).filter(is_connected)
FORMATS = [
    ("float32", "float16"),
    ("float32", "int8"),
    ("float16", "float32"),
    ("float16", "float16"),
    ("float16", "int8"),
]


def residual(genotype: Genotype, **network: Any) -> Child:
    return make_child(genotype, block="residual", **network)


def check(child: Child) -> None:
    """Every node to the bit; the classifier is summed in another order."""
    check_every_node(child)
    images = child.draw_images(2)
    expected = child.logits(images)
    found = Engine(child.model, num_threads=1).logits(images)
    assert np.isfinite(expected).all()
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6 * np.abs(expected).max())


# ---------------------------------------------------------------- the block


@pytest.mark.parametrize("image_size", [4, 12])
@pytest.mark.parametrize("op", [op for op in OPERATIONS if "conv" in op or op == "skip_connect"])
def test_one_operation_everywhere(op: str, image_size: int) -> None:
    """At stride 2 and at stride 1; at size 4 the last cell has images of one pixel, smaller than any filter."""
    check(residual(everywhere(op), image_size=image_size))


@pytest.mark.parametrize(
    ("num_channels", "group_width"),
    [(2, 1), (4, 1), (6, 2), (10, 5), (16, 16), (22, 11), (24, 8), (36, 12), (34, 1024)],
)
def test_every_group_width(num_channels: int, group_width: int) -> None:
    """Groups within a word, across words, and one of all channels where the width is larger."""
    check(residual(every_operation(), num_channels=num_channels, group_width=group_width))


@pytest.mark.parametrize("sign_shift", [True, False])
@pytest.mark.parametrize("activation", ["none", "prelu", "rprelu"])
def test_every_ending(activation: str, sign_shift: bool) -> None:
    ending = {"activation": activation, "sign_shift": sign_shift}
    child = residual(every_operation(), num_channels=18, group_width=6, **ending)
    check(child)
    endings = [name for name, _ in child.network.named_modules() if ".endings." in name]
    assert bool(endings) == (activation != "none" or sign_shift)


@pytest.mark.parametrize("shortcut", [True, False])
@pytest.mark.parametrize("real_parts", [REAL_PARTS[:1], REAL_PARTS[1:], REAL_PARTS])
def test_real_parts_read_the_value_as_it_is(real_parts: tuple[str, ...], shortcut: bool) -> None:
    """No ReLU stands before a real convolution: half of what it reads would be lost."""
    check(residual(every_operation(), num_cells=4, real_parts=real_parts, shortcut=shortcut))


def _only(edges: dict[tuple[int, int], str]) -> tuple[str, ...]:
    return tuple(edges.get(edge, NONE) for edge in EDGES)


@pytest.mark.parametrize("ending", [{}, {"activation": "rprelu"}, {"activation": "none", "sign_shift": False}])
def test_a_dead_node_has_no_ending(ending: dict[str, Any]) -> None:
    """Nodes 2 and 5 of the normal cell and all but one of the reduction: their value is 0, their sign +1."""
    normal = _only({(0, 3): "sep_conv_5x5", (2, 3): "sep_conv_3x3", (3, 4): "dil_conv_3x3", (2, 5): "skip_connect"})
    genotype = Genotype(normal, _only({(1, 4): "skip_connect"}))
    child = residual(genotype, num_cells=4, **ending)
    nodes = check_every_node(child)[1 + 2 : 1 + 6]  # of the first cell
    assert [bool(node.value.any()) for node in nodes] == [False, True, True, False]
    assert nodes[0].signs.all()
    assert nodes[3].signs.all()


# ---------------------------------------------------------------- the stem


@pytest.mark.parametrize("weight_format", ["float32", "int8"])
@pytest.mark.parametrize(("stem_convolutions", "stem_stride"), [*itertools.product([1, 2, 3], [1, 2, 4]), (3, 8)])
def test_every_stem(stem_convolutions: int, stem_stride: int, weight_format: str) -> None:
    """Both blocks, grey and coloured, with vectors of channels that are full and that are not."""
    stem = {"stem_convolutions": stem_convolutions, "stem_stride": stem_stride, "weight_format": weight_format}
    genotype = draw_uniform(seed=stem_convolutions)
    check(residual(genotype, image_size=4 * stem_stride, num_channels=6, stem_multiplier=3, group_width=2, **stem))
    check(make_child(genotype, image_size=8 * stem_stride, num_channels=22, num_image_channels=1, **stem))


@pytest.mark.parametrize("stem_convolutions", [1, 3])
def test_an_integer_stem_cuts_off_what_is_too_large(stem_convolutions: int) -> None:
    """Values beyond the largest step: of a batch norm that makes all large, and a stem of very many channels."""
    stem = {"stem_convolutions": stem_convolutions, "weight_format": "int8", "stem_multiplier": 8, "num_channels": 64}
    child = make_child(everywhere("skip_connect"), **stem)
    for _, norm in child.network.stem.pairs():
        norm.running_var.fill_(1e-4)
        norm.weight.data.abs_().add_(0.5)
    check_every_node(child)


# ---------------------------------------------------------------- formats


@pytest.mark.parametrize("block", ["separable", "residual"])
@pytest.mark.parametrize(("real_format", "weight_format"), FORMATS)
def test_every_format(real_format: str, weight_format: str, block: str) -> None:
    formats = {"real_format": real_format, "weight_format": weight_format, "real_parts": REAL_PARTS}
    check(make_child(every_operation(), block=block, num_channels=10, group_width=5, activation="rprelu", **formats))


@pytest.mark.parametrize(("real_format", "weight_format"), FORMATS)
def test_the_formats_are_what_is_evaluated(real_format: str, weight_format: str) -> None:
    """PyTorch's own scores change with the format: the equality above is not one of two float32 networks."""
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8), dtype=np.uint8)
    plain, other = (
        residual(every_operation(), **formats).logits(images)
        for formats in ({}, {"real_format": real_format, "weight_format": weight_format})
    )
    assert np.abs(plain - other).max() > 0


# ---------------------------------------------------------------- anything


def _networks(quarters: int) -> Any:
    return st.fixed_dictionaries(
        {
            "block": st.sampled_from(["residual", "residual", "separable"]),
            "num_channels": st.sampled_from([2, 4, 10, 16, 22, 40]),
            "group_width": st.sampled_from([1, 2, 1024]),
            "activation": st.sampled_from(["none", "prelu", "rprelu"]),
            "sign_shift": st.booleans(),
            "num_cells": st.sampled_from([3, 3, 4, 5]),
            "stem_convolutions": st.sampled_from([1, 2, 3]),
            "stem_stride": st.sampled_from([1, 2, 4]),
            "stem_multiplier": st.sampled_from([1, 3]),
            "quarter": st.integers(1, quarters),
            "real_parts": st.sampled_from([(), (), REAL_PARTS[:1], REAL_PARTS[1:], REAL_PARTS]),
            "real_format": st.sampled_from(["float32", "float16"]),
            "weight_format": st.sampled_from(["float32", "float16", "int8"]),
            "shortcut": st.booleans(),
            "num_image_channels": st.sampled_from([1, 3]),
            "seed": st.integers(0, 1000),
        }
    )


def _check_any(normal: tuple[str, ...], reduce: tuple[str, ...], network: dict[str, Any]) -> None:
    image_size = 4 * network["stem_stride"] * network.pop("quarter")
    check(make_child(Genotype(normal, reduce), image_size=image_size, **network))


@SOME
@given(normal=CELLS, reduce=CELLS, network=_networks(2))
def test_any_network(normal: tuple[str, ...], reduce: tuple[str, ...], network: dict[str, Any]) -> None:
    _check_any(normal, reduce, network)


@pytest.mark.slow(seconds=20)
@MANY
@given(normal=CELLS, reduce=CELLS, network=_networks(5))
def test_many_networks(normal: tuple[str, ...], reduce: tuple[str, ...], network: dict[str, Any]) -> None:
    _check_any(normal, reduce, network)
