"""Every node of a Child, as PyTorch computes it in evaluation mode and as the packed engine leaves it in memory."""

from typing import Any, NamedTuple

import numpy as np
import torch
from children import Child

from cpnas_cli.deploy.engine import Engine
from cpnas_cli.deploy.engine import program as p
from cpnas_cli.networks.cells import Cell
from cpnas_cli.networks.modules.node import Node


class Computed(NamedTuple):
    """A node of one image: its value, float32 (C, H, W), and which signs are +1, bool (C, H, W)."""

    value: np.ndarray
    signs: np.ndarray


def reference_nodes(child: Child, images: np.ndarray) -> list[Computed]:
    """Of the first image: the stem, then both inputs and the four nodes of each cell, endings done."""
    found: list[Computed] = []

    def record(module: torch.nn.Module, inputs: Any, output: Node | torch.Tensor) -> None:
        del inputs
        node = output if isinstance(output, Node) else Node(output)
        value, num_parts = node.value[0].numpy(), 4 if isinstance(module, Cell) else 1
        shift = np.zeros(len(value), np.float32) if node.shift is None else node.shift.numpy()
        signs = value + shift[:, None, None] >= 0
        found.extend(map(Computed, np.split(value, num_parts), np.split(signs, num_parts)))

    network = child.network
    handles = [(network.stem if network.stem_ending is None else network.stem_ending).register_forward_hook(record)]
    for cell in network.cells:
        assert isinstance(cell, Cell)
        inputs = [
            cell.endings[name] if (name := str(index)) in cell.endings else preprocessing
            for index, preprocessing in enumerate(cell.preprocessing)
        ]
        handles += [module.register_forward_hook(record) for module in (*inputs, cell)]
    child.logits(images)
    for handle in handles:
        handle.remove()
    return found


def engine_nodes(child: Child, images: np.ndarray, references: list[Computed]) -> list[Computed]:
    """The same of the engine: after each instruction what it has left in memory."""
    runner, found = Engine(child.model, num_threads=1).runner, list[Computed]()
    shapes = iter(reference.value.shape for reference in references)
    kinds = [row[p.KIND] for row in runner.program.instructions]
    for index, columns in enumerate(runner.program.instructions):
        runner.run(images, index, index + 1)
        if columns[p.KIND] == p.NODE or (columns[p.KIND] == p.STEM and kinds[index + 1] != p.STEM):
            (channels, *_), size = next(shapes), columns[p.SIZE]
            values, words = runner._working[0][0], runner._working[1][0]
            pixels = columns[p.OUT] + np.arange(size**2) * columns[p.PIXEL]
            value = values[pixels + np.arange(channels)[:, None]].reshape(channels, size, size)
            found.append(Computed(value, _signs(words, columns, channels)))
    return found


def _signs(words: np.ndarray, columns: np.ndarray, channels: int) -> np.ndarray:
    y, x = np.arange(columns[p.SIZE])[:, None], np.arange(columns[p.SIZE])
    channel = np.arange(channels)[:, None, None]
    place = columns[p.SIGNS] + y * columns[p.SIGNS_ROW] + x + channel // 32 * columns[p.SIGNS_PLANE]
    return (words[place] >> (channel % 32).astype(np.uint32) & 1).astype(bool)


def check_every_node(child: Child, *, seed: int = 1) -> list[Computed]:
    """Both are the same to the bit; what PyTorch computes."""
    images = child.draw_images(1, seed=seed)
    expected = reference_nodes(child, images)
    found = engine_nodes(child, images, expected)
    assert len(found) == len(expected) == 1 + 6 * len(child.network.cells)
    for index, (own, other) in enumerate(zip(found, expected, strict=True)):
        np.testing.assert_array_equal(own.value, other.value, err_msg=str(index))
        np.testing.assert_array_equal(own.signs, other.signs, err_msg=str(index))
    return expected
