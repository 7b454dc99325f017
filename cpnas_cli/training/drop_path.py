"""Drop-path: edges of the cells that are left out at random, for each image its own."""

import torch
from torch import Tensor

from cpnas_cli.randomness import torch_generator


def drop_probability(drop_path: float, *, epoch: int, num_epochs: int) -> float:
    """In an epoch, from 0: it rises linearly, and would be `drop_path` after the last one.

    Source: the public code of DARTS, arXiv 1806.09055.
    """
    return drop_path * epoch / num_epochs


def draw_kept(
    num_images: int, num_edges: int, *, probability: float, seed: int, purpose: str, index: tuple[int, ...]
) -> Tensor:
    """(B, E) for each image and edge: 0 with this probability, else 1 / (1 - probability), so that the mean is 1.

    Source: Larsson, Maire and Shakhnarovich, "FractalNet", 2017, arXiv 1605.07648, as DARTS's public code has it.

    Args:
      seed, purpose, index: what the draw depends on, see `randomness`.
    """
    generator = torch_generator(seed, purpose, *index)
    is_kept_BE = torch.rand(num_images, num_edges, generator=generator) >= probability
    return is_kept_BE / (1 - probability)
