"""A command on several processes: which of them this is, and the one that starts the others and waits for them.

Nothing here imports torch: a process has its number of threads in its environment before torch reads it.
"""

import os
from dataclasses import dataclass
from typing import Literal

from cpnas_cli.distributed.launch import _OURS
from cpnas_cli.errors import UsageError


@dataclass(frozen=True)
class World:
    """This process among those that run one command together.

    Attributes:
      rank: from 0; the first one writes and speaks.
      size: how many they are; local_size: how many on each machine.
      launcher: who started them; None: this process is the only one.
    """

    rank: int = 0
    size: int = 1
    local_size: int = 1
    launcher: Literal["cpnas", "torchrun", "srun"] | None = None

    @property
    def is_first(self) -> bool:
        return self.rank == 0


def this_world() -> World:
    """As the environment says: torchrun's variables (ours are the same), else those of a step of srun."""
    numbers = [_number(name) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")]
    if None not in numbers:
        rank, size = numbers[0] or 0, numbers[2] or 1
        local_size = _number("LOCAL_WORLD_SIZE") or size
        return World(rank, size, local_size, "cpnas" if _OURS in os.environ else "torchrun")
    rank, size = _number("SLURM_PROCID"), _number("SLURM_NTASKS") or 1
    # a batch script has no step, and an interactive shell's step has one task
    if rank is None or "SLURM_STEP_ID" not in os.environ or size == 1 or _number("SLURM_STEP_NUM_TASKS") == 1:
        return World()
    return World(rank, size, _number("SLURM_NTASKS_PER_NODE") or 0, "srun")


def _number(variable: str) -> int | None:
    text = os.environ.get(variable, "")
    return int(text) if text.isascii() and text.isdecimal() else None


def check_shares(*, batch_size: int, num_parts: int, num_processes: int, num_images: int | None = None) -> None:
    """Refuse a batch that does not go to the processes in equal parts of two images or more.

    Args:
      batch_size: `train.batch_size`. num_parts: `train.gradient_accumulation_steps`, each cut over the processes.
      num_images: of the training set, where it is known; a smaller one than a batch is the batch.

    Raises:
      UsageError: see above.
    """
    batch = batch_size if num_images is None else min(batch_size, num_images)
    shares = num_parts * num_processes
    if batch % shares == 0 and batch // shares >= 2:
        return
    what = (
        f"train.batch_size={batch_size}"
        if batch == batch_size
        else f"the training set of {batch} images, which is one batch,"
    )
    ways = [f"{num_processes} processes"] if num_processes > 1 else []
    ways += [f"{num_parts} gradient accumulation steps"] if num_parts > 1 else []
    if not ways:
        raise UsageError(f"{what} has no batch statistics; at least 2 images are needed")
    advice = f"choose a multiple of {shares} from {2 * shares} up"
    if batch < batch_size:
        advice = "use fewer of them, or more training images"
    raise UsageError(f"{what} does not divide into {' times '.join(ways)} with 2 images each or more; {advice}")
