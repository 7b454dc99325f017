"""Real values as the Child stores them: what it computes with when it is evaluated, and what a packed file holds.

A value in float16 is rounded to nearest and kept within what float16 can express; a filter in int8 has a scale of its
own, 1/127 of its largest weight, and is rounded to nearest.
"""

import torch
from torch import Tensor

FLOAT32, FLOAT16, INT8 = "float32", "float16", "int8"
LARGEST_INT8 = 127


def stored(values: Tensor, real_format: str) -> Tensor:
    """float32 -> float32, rounded as the format does; any shape, no gradient."""
    values = values.detach()
    if real_format == FLOAT32:
        return values
    largest = torch.finfo(torch.float16).max
    return values.clamp(-largest, largest).half().float()


def stored_filters(weight: Tensor, weight_format: str) -> tuple[Tensor, Tensor]:
    """The filters as they are stored, and the scale of each that is not in them.

    Args:
      weight: (C_out, ...), float32.

    Returns:
      (C_out, ...), whole numbers in [-127, 127] for int8, and (C_out,), 1 for the other formats.
    """
    weight = weight.detach()
    if weight_format != INT8:
        return stored(weight, weight_format), torch.ones(len(weight), device=weight.device)
    largest_C = weight.flatten(1).abs().amax(dim=1)
    scale_C = torch.where(largest_C > 0, largest_C / LARGEST_INT8, 1.0)
    whole = torch.round(weight / scale_C.view(-1, *[1] * (weight.dim() - 1)))
    return whole.clamp(-LARGEST_INT8, LARGEST_INT8), scale_C
