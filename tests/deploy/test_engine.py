"""The packed engine against the PyTorch Child in evaluation mode: every node to the bit, the scores to rounding."""

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from children import Child, every_operation, everywhere, make_child
from engine_nodes import check_every_node, engine_nodes, reference_nodes
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cpnas_cli.deploy.engine import Engine, machine_code
from cpnas_cli.deploy.packed_file import PACKED_NAME, save_packed
from cpnas_cli.errors import CheckpointError, DataError, UsageError
from cpnas_cli.search_space import EDGES, NONE, OPERATIONS, Genotype, draw_uniform, is_connected

FEW = settings(max_examples=60, deadline=None, derandomize=True)
REAL_PARTS = ("preprocessing", "factorized_reduction")
CELLS = st.tuples(*[st.sampled_from(OPERATIONS)] * len(EDGES)).filter(is_connected)


def check_logits(child: Child, *, count: int = 2) -> None:
    """Only the classifier is summed in another order; one wrong sign anywhere is seen."""
    images = child.draw_images(count)
    expected = child.logits(images)
    found = Engine(child.model, num_threads=1).logits(images)
    assert found.dtype == np.float32
    assert found.shape == expected.shape == (count, len(child.trained.classes))
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6 * np.abs(expected).max())


def only(normal: dict[tuple[int, int], str], reduce: dict[tuple[int, int], str]) -> Genotype:
    """`none` on every other edge."""
    return Genotype(*(tuple(cell.get(edge, NONE) for edge in EDGES) for cell in (normal, reduce)))


# Nodes that nothing reaches, and operations that leave them; a node that is alive beside them.
DEAD = {
    "one edge": only({(0, 2): "sep_conv_3x3"}, {(1, 5): "dil_conv_5x5"}),
    "no convolution": only({(1, 3): "skip_connect"}, {(0, 2): "max_pool_3x3"}),
    "a dead node is read": only(
        {(0, 3): "sep_conv_5x5", (2, 3): "sep_conv_3x3", (2, 4): "skip_connect", (3, 4): "avg_pool_3x3"},
        {(1, 4): "skip_connect", (2, 4): "dil_conv_3x3", (3, 5): "max_pool_3x3", (4, 5): "sep_conv_3x3"},
    ),
    "only the later input": only({(1, node): "dil_conv_3x3" for node in range(2, 6)}, {(1, 2): "skip_connect"}),
    "only the earlier input": only({(0, 5): "avg_pool_3x3"}, {(0, node): "sep_conv_5x5" for node in range(2, 6)}),
}


# ---------------------------------------------------------------- scores


@pytest.mark.parametrize("image_size", [4, 16])
@pytest.mark.parametrize("op", OPERATIONS[1:])
def test_one_operation_everywhere(op: str, image_size: int) -> None:
    """At size 4 the last cell has images of one pixel."""
    check_logits(make_child(everywhere(op), image_size=image_size))


@pytest.mark.parametrize("name", DEAD)
@pytest.mark.parametrize("real_parts", [(), REAL_PARTS])
def test_nodes_that_nothing_reaches(name: str, real_parts: tuple[str, ...]) -> None:
    check_logits(make_child(DEAD[name], num_cells=4, real_parts=real_parts))


@pytest.mark.parametrize("num_channels", [2, 4, 10, 16, 22])
@pytest.mark.parametrize("num_cells", [3, 4, 5])
def test_every_width_and_depth(num_cells: int, num_channels: int) -> None:
    seed = num_cells * num_channels
    check_logits(
        make_child(draw_uniform(seed=seed), seed=seed, image_size=12, num_cells=num_cells, num_channels=num_channels)
    )


@pytest.mark.parametrize("num_image_channels", [1, 3])
@pytest.mark.parametrize("image_size", range(4, 33, 4))
def test_every_image_size(image_size: int, num_image_channels: int) -> None:
    child = make_child(every_operation(), image_size=image_size, num_image_channels=num_image_channels, num_channels=6)
    check_logits(child)


@pytest.mark.parametrize("stem_multiplier", [1, 3])
@pytest.mark.parametrize(("stem_stride", "image_size"), [(1, 8), (2, 8), (2, 24), (4, 16), (4, 32)])
def test_every_stem(stem_stride: int, image_size: int, stem_multiplier: int) -> None:
    stem = {"stem_stride": stem_stride, "stem_multiplier": stem_multiplier}
    check_logits(make_child(draw_uniform(seed=3), image_size=image_size, num_channels=10, **stem))


@pytest.mark.parametrize("shortcut", [True, False])
@pytest.mark.parametrize("real_parts", [(), REAL_PARTS[:1], REAL_PARTS[1:], REAL_PARTS])
def test_every_real_part(real_parts: tuple[str, ...], shortcut: bool) -> None:
    for seed, num_channels in ((0, 4), (1, 10)):
        settings = {"real_parts": real_parts, "shortcut": shortcut, "num_channels": num_channels, "num_cells": 5}
        check_logits(make_child(every_operation(), seed=seed, **settings))


def test_a_deep_network() -> None:
    check_logits(make_child(draw_uniform(seed=5), num_cells=8, num_channels=2, num_classes=1))


def test_many_classes() -> None:
    check_logits(make_child(draw_uniform(seed=6), num_classes=101), count=5)


@FEW
@given(
    normal=CELLS,
    reduce=CELLS,
    seed=st.integers(0, 1000),
    num_channels=st.sampled_from([2, 4, 10, 16, 22]),
    num_cells=st.sampled_from([3, 3, 4, 5]),
    stem_stride=st.sampled_from([1, 2, 4]),
    quarter=st.integers(1, 8),
    stem_multiplier=st.sampled_from([1, 3]),
    real_parts=st.sampled_from([(), (), REAL_PARTS[:1], REAL_PARTS[1:], REAL_PARTS]),
    shortcut=st.booleans(),
    num_image_channels=st.sampled_from([1, 3]),
)
def test_any_network(normal: tuple[str, ...], reduce: tuple[str, ...], quarter: int, **network: Any) -> None:
    image_size = 4 * network["stem_stride"] * quarter
    assume(image_size <= 32)
    check_logits(make_child(Genotype(normal, reduce), image_size=image_size, **network))


# ---------------------------------------------------------------- every node


NETWORKS: dict[str, tuple[Genotype, dict[str, Any]]] = {
    "every operation": (every_operation(), {"image_size": 16, "num_channels": 10}),
    "5x5 on one pixel": (everywhere("sep_conv_5x5"), {"image_size": 4, "num_channels": 2, "num_image_channels": 1}),
    "dilated": (everywhere("dil_conv_5x5"), {"image_size": 12, "num_channels": 16, "stem_multiplier": 3}),
    "dead nodes": (DEAD["a dead node is read"], {"num_cells": 5, "num_channels": 22}),
    "strided stem": (draw_uniform(seed=8), {"image_size": 32, "stem_stride": 4, "num_cells": 4}),
    "real parts": (draw_uniform(seed=9), {"real_parts": REAL_PARTS, "shortcut": False, "num_channels": 6}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_node_is_the_same_to_the_bit(name: str) -> None:
    genotype, network = NETWORKS[name]
    child = make_child(genotype, seed=1, **network)
    expected = check_every_node(child)
    assert sum(np.ptp(each.value) > 0 for each in expected) > len(child.network.cells)


def test_every_pixel_value_is_normalized_to_the_bit() -> None:
    """Each of the 256 bytes in each channel."""
    child = make_child(DEAD["one edge"], image_size=16)
    order = np.random.default_rng(0).permuted(np.tile(np.arange(256, dtype=np.uint8), (3, 1)), axis=1)
    images = order.reshape(1, 3, 16, 16)
    expected = reference_nodes(child, images)
    np.testing.assert_array_equal(engine_nodes(child, images, expected)[0].value, expected[0].value)


# ---------------------------------------------------------------- batches and threads

CHILD = make_child(every_operation(), image_size=12, num_classes=4, seed=2)


@pytest.fixture(scope="module")
def engines() -> dict[int, Engine]:
    return {num_threads: Engine(CHILD.model, num_threads=num_threads) for num_threads in (1, 2, 1000)}


@pytest.mark.parametrize("count", [0, 1, 2, 5, 17])
def test_the_bits_do_not_depend_on_threads_and_batches(count: int, engines: dict[int, Engine]) -> None:
    """Nothing of an image is left for the next one."""
    images = CHILD.draw_images(count)
    one_by_one = [engines[1].logits(images[index : index + 1]) for index in range(count)]
    expected = np.concatenate([np.zeros((0, 4), np.float32), *one_by_one])
    assert len(np.unique(expected, axis=0)) == count
    for engine in engines.values():
        for split in {0, 1, 3, count}:
            parts = [engine.logits(part) for part in (images[:split], images[split:])]
            np.testing.assert_array_equal(np.concatenate(parts), expected)
        np.testing.assert_array_equal(engine.logits(images[::-1])[::-1], expected)


def test_without_a_number_all_threads_are_used(engines: dict[int, Engine]) -> None:
    images = CHILD.draw_images(3)
    np.testing.assert_array_equal(Engine(CHILD.model).logits(images), engines[1].logits(images))


def test_engines_do_not_share_memory(engines: dict[int, Engine]) -> None:
    other = make_child(draw_uniform(seed=1), image_size=8, num_image_channels=1)
    own, foreign = CHILD.draw_images(2), other.draw_images(2)
    second = Engine(other.model, num_threads=1)
    expected = engines[1].logits(own), second.logits(foreign)
    for index, image in itertools.product(range(2), range(2)):
        found = (engines[1].logits(own[image : image + 1]), second.logits(foreign[image : image + 1]))[index]
        np.testing.assert_array_equal(found[0], expected[index][image])


def test_images_may_lie_in_memory_in_any_way(engines: dict[int, Engine]) -> None:
    images = CHILD.draw_images(4)
    expected = engines[1].logits(images)
    channels_last = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    larger = np.zeros((8, 3, 14, 14), np.uint8)
    larger[::2, :, 1:13, 1:13] = images
    frozen = images.copy()
    frozen.flags.writeable = False
    for same in (channels_last, larger[::2, :, 1:13, 1:13], frozen):
        before = same.copy()
        np.testing.assert_array_equal(engines[2].logits(same), expected)
        np.testing.assert_array_equal(same, before)


def test_probabilities_are_the_softmax(engines: dict[int, Engine]) -> None:
    images = CHILD.draw_images(5)
    logits = engines[1].logits(images).astype(np.float64)
    exponentials = np.exp(logits)
    found = engines[1].probabilities(images)
    np.testing.assert_allclose(found, exponentials / exponentials.sum(axis=1, keepdims=True), rtol=1e-5)
    assert engines[1].probabilities(images[:0]).shape == (0, 4)


def test_probabilities_of_huge_scores() -> None:
    child = make_child(DEAD["one edge"], num_classes=2)
    with torch.no_grad():
        child.network.classifier.bias.copy_(torch.tensor([1000.0, -1000.0]))
    found = Engine(child.model, num_threads=1).probabilities(child.draw_images(1))
    np.testing.assert_array_equal(found, [[1, 0]])


# ---------------------------------------------------------------- wrong input


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        ("float32", (3, 12, 12)),
        ("int8", (3, 12, 12)),
        ("bool", (3, 12, 12)),
        ("uint8", (1, 12, 12)),
        ("uint8", (3, 12, 8)),
        ("uint8", (3, 8, 8)),
        ("uint8", (12, 12, 3)),
        ("uint8", (12, 12)),
        ("uint8", (3, 12, 12, 1)),
        ("uint8", ()),
    ],
)
def test_other_images_are_refused(dtype: str, shape: tuple[int, ...], count: int, engines: dict[int, Engine]) -> None:
    for score in (engines[1].logits, engines[1].probabilities):
        with pytest.raises(DataError, match=r"expected uint8 images of shape \(B, 3, 12, 12\)") as caught:
            score(np.zeros((count, *shape), dtype))
        assert dtype in str(caught.value)
        assert str((count, *shape)) in str(caught.value)


@pytest.mark.parametrize("num_threads", [0, -1])
def test_threads_that_are_none_are_refused(num_threads: int) -> None:
    with pytest.raises(UsageError, match=f"at least 1 thread, got {num_threads}"):
        Engine(CHILD.model, num_threads=num_threads)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        Engine.load(tmp_path / "missing")


# ---------------------------------------------------------------- without torch


RUN = """
import sys
from pathlib import Path
import numpy as np
from cpnas_cli.deploy.engine import Engine, machine_code
images, logits = sys.argv[2:]
np.save(logits, Engine.load(Path(sys.argv[1]), num_threads=1).logits(np.load(images)))
print(sorted({"torch", "torchvision", "pydantic", "numba"} & sys.modules.keys()))
"""


def test_a_packed_model_runs_without_torch(tmp_path: Path, engines: dict[int, Engine]) -> None:
    """In a process of its own, from the file alone; and without numba, where the engine is compiled."""
    machine_code.prepare()
    images = CHILD.draw_images(3)
    files = [tmp_path / name for name in (PACKED_NAME, "images.npy", "logits.npy")]
    save_packed(CHILD.model, files[0])
    np.save(files[1], images)
    words = [sys.executable, "-c", RUN, *map(str, files)]
    answer = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == "['pydantic']"
    np.testing.assert_array_equal(np.load(files[2]), engines[1].logits(images))
