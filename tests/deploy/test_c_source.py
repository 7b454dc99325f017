"""The C source of a packed model, compiled and run: every value as PyTorch evaluates it, to the bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c_programs import SANITIZED, build, check, observe
from children import every_operation, everywhere, make_child
from hypothesis import given, settings
from hypothesis import strategies as st

from cpnas_cli.deploy.engine import Engine
from cpnas_cli.search_space import EDGES, NONE, OPERATIONS, Genotype, draw_uniform, is_connected

REAL_PARTS = ("preprocessing", "factorized_reduction")
CELLS = st.tuples(*[st.sampled_from(OPERATIONS)] * len(EDGES)).filter(is_connected)
WHOLE = {"weight_format": "int8", "real_format": "float16"}


def only(edges: dict[tuple[int, int], str]) -> tuple[str, ...]:
    return tuple(edges.get(edge, NONE) for edge in EDGES)


DEAD = Genotype(
    only({(0, 3): "sep_conv_5x5", (2, 3): "sep_conv_3x3", (3, 4): "dil_conv_3x3", (2, 5): "skip_connect"}),
    only({(1, 4): "skip_connect"}),
)

# What the presets train, and beside it what nothing but a test asks for.
NETWORKS: dict[str, tuple[Genotype, dict[str, Any]]] = {
    "residual": (every_operation(), {"block": "residual", "num_channels": 16, "group_width": 16, **WHOLE}),
    "residual, small groups": (every_operation(), {"block": "residual", "num_channels": 24, "group_width": 8, **WHOLE}),
    "residual, rprelu": (
        every_operation(),
        {"block": "residual", "num_channels": 10, "group_width": 5, "activation": "rprelu", "image_size": 12},
    ),
    "separable": (every_operation(), {"num_channels": 36, "image_size": 16, "num_cells": 4}),
    "strided stem": (draw_uniform(seed=8), {"image_size": 32, "stem_stride": 4, "stem_convolutions": 3, **WHOLE}),
    "stem of stride 8": (draw_uniform(seed=8), {"image_size": 64, "stem_stride": 8, "stem_convolutions": 3, **WHOLE}),
    "real parts": (
        every_operation(),
        {"block": "residual", "num_channels": 6, "group_width": 2, "real_parts": REAL_PARTS},
    ),
    "dead nodes": (DEAD, {"block": "residual", "num_channels": 18, "group_width": 6, "num_cells": 4}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_value_is_the_same_to_the_bit(name: str, tmp_path: Path) -> None:
    genotype, network = NETWORKS[name]
    child = make_child(genotype, seed=1, **network)
    answers = check(child, [build(child.model, tmp_path)])
    values = [each.value for each in answers[0].values.values() if each.value is not None]
    assert sum(np.ptp(value) > 0 for value in values) > len(child.network.cells)


@pytest.mark.parametrize("name", ["residual", "separable"])
def test_the_scores_are_those_of_the_engine(name: str, tmp_path: Path) -> None:
    """To the last bit on these images: both sum to some 48 bits and more, and round once."""
    genotype, network = NETWORKS[name]
    child = make_child(genotype, seed=2, num_classes=10, **network)
    images = child.draw_images(40)
    found = np.stack([answer.scores for answer in observe([build(child.model, tmp_path)], images)])
    np.testing.assert_array_equal(found, Engine(child.model, num_threads=1).logits(images))


# ---------------------------------------------------------------- every compiler and every setting


COMPILED = [
    ("gcc", ("-O2",)),
    ("gcc", ("-O3", "-march=native")),
    ("gcc", ("-Os", "-mno-sse4", "-mno-avx")),
    ("gcc", ("-O2", "-mavx2", "-mfma")),
    ("clang", ("-O2",)),
    ("clang", ("-O3", "-march=native")),
    ("gcc", SANITIZED),
    ("clang", ("-O1", "-fsanitize=undefined", "-fsanitize-trap=all")),  # which needs no library
    ("gcc", (*SANITIZED, "-march=native")),
    ("gcc", ("-O2", "-DMODEL_NO_VECTORS")),
    ("gcc", (*SANITIZED, "-DMODEL_NO_VECTORS")),
]


def _every_pair() -> list[Any]:
    """Of a network and a way to compile it; those of the two plain blocks are tried more often."""
    pairs = [(name, *compiled) for name in NETWORKS for compiled in COMPILED]
    often = ("residual", "separable")
    return [pytest.param(*pair, marks=pytest.mark.slow if pair[0] in often else pytest.mark.long) for pair in pairs]


@pytest.mark.parametrize(("name", "compiler", "flags"), _every_pair())
def test_every_compiler(name: str, compiler: str, flags: tuple[str, ...], tmp_path: Path) -> None:
    """Without a warning; vectors of every kind, and none."""
    genotype, network = NETWORKS[name]
    child = make_child(genotype, seed=1, **network)
    check(child, [build(child.model, tmp_path, compiler=compiler, flags=flags)])


def test_a_fused_multiply_add_is_not_made(tmp_path: Path) -> None:
    """Also where the flag is forgotten: the source asks for it."""
    child = make_child(every_operation(), num_channels=16, seed=3)
    flags = ("-std=gnu99", "-O2", "-mfma", "-mavx2", "-ffp-contract=fast")
    check(child, [build(child.model, tmp_path, flags=flags)])


def _networks() -> Any:
    return st.fixed_dictionaries(
        {
            "block": st.sampled_from(["residual", "separable"]),
            "num_channels": st.sampled_from([2, 4, 10, 16, 22, 32, 40, 72]),
            "group_width": st.sampled_from([1, 2, 8, 16, 1024]),
            "activation": st.sampled_from(["none", "prelu", "rprelu"]),
            "sign_shift": st.booleans(),
            "num_cells": st.sampled_from([3, 3, 4, 5]),
            "stem_convolutions": st.sampled_from([1, 2, 3]),
            "stem_stride": st.sampled_from([1, 2, 4]),
            "stem_multiplier": st.sampled_from([1, 3]),
            "quarter": st.integers(1, 4),
            "real_parts": st.sampled_from([(), (), REAL_PARTS[:1], REAL_PARTS[1:], REAL_PARTS]),
            "real_format": st.sampled_from(["float32", "float16"]),
            "weight_format": st.sampled_from(["float32", "float16", "int8"]),
            "shortcut": st.booleans(),
            "num_image_channels": st.sampled_from([1, 3]),
            "seed": st.integers(0, 1000),
        }
    ).filter(_has_whole_groups)


def _has_whole_groups(network: dict[str, Any]) -> bool:
    channels = [network["num_channels"] * factor for factor in (1, 2, 4)]
    return all(number % min(network["group_width"], number) == 0 for number in channels)


@pytest.mark.slow(seconds=40)
@pytest.mark.timeout(1500)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(normal=CELLS, reduce=CELLS, network=_networks(), way=st.integers(0, 3))
def test_any_network(
    normal: tuple[str, ...],
    reduce: tuple[str, ...],
    network: dict[str, Any],
    way: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    flags = [SANITIZED, (*SANITIZED, "-DMODEL_NO_VECTORS"), ("-O2",), ("-O2", "-march=native")][way]
    image_size = 4 * network["stem_stride"] * network.pop("quarter")
    child = make_child(Genotype(normal, reduce), image_size=image_size, **network)
    check(child, [build(child.model, tmp_path_factory.mktemp("c"), flags=flags)])


@pytest.mark.long
@pytest.mark.parametrize("image_size", [4, 12])
@pytest.mark.parametrize("block", ["separable", "residual"])
@pytest.mark.parametrize("op", OPERATIONS[1:])
def test_one_operation_everywhere(op: str, block: str, image_size: int, tmp_path: Path) -> None:
    """At size 4 the last cell has images of one pixel, smaller than any filter."""
    child = make_child(everywhere(op), block=block, image_size=image_size)
    check(child, [build(child.model, tmp_path, flags=SANITIZED)])
