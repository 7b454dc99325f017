"""A training step of the small presets, as it is and with each of its operations as PyTorch alone has it.

Convolutions by `torch.nn.functional.conv2d`, PReLU by `torch.prelu`, every second pixel by slices, each apart and all
together, on random architectures. Seconds of the processor, so that other programs count little, on one thread.
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from unittest import mock

import torch
import torch.nn.functional as F

from benchmarks.tables import Rows, run_alone
from benchmarks.training_step import TimedStep, training_step
from cpnas_cli.binarization import fast_convolution, thinning
from cpnas_cli.data.dataset import Dataset, ImageSet
from cpnas_cli.efficiency.timing import interleaved, paired_ratio
from cpnas_cli.networks.modules import ending
from cpnas_cli.networks.shapes import NetworkName
from cpnas_cli.search_space import draw_uniform
from cpnas_cli.settings import Config, load_config

TITLE = "a training step of the small presets, by what PyTorch alone would do"
PRESETS = ("digits", "fashion-mnist-small")
NETWORKS: tuple[NetworkName, ...] = ("parent", "child")


PATCHES: Mapping[str, Callable[[], contextlib.AbstractContextManager[object]]] = {
    "convolutions": lambda: mock.patch.object(fast_convolution, "convolve", F.conv2d),
    "PReLU": lambda: mock.patch.object(ending, "prelu", torch.prelu),
    "every second pixel": lambda: mock.patch.object(thinning.Thinned, "apply", thinning.sliced),
}
KINDS: Mapping[str, tuple[str, ...]] = {"nothing": (), **{name: (name,) for name in PATCHES}, "all": tuple(PATCHES)}


def noise(config: Config) -> Dataset:
    """A batch of grey images of the preset's size, in ten classes."""
    size = config.data.image_size
    images = torch.randint(256, (config.train.batch_size, 1, size, size), dtype=torch.uint8)
    part = ImageSet(images, torch.arange(len(images)) % 10)
    return Dataset(part, part, tuple(map(str, range(10))), mean=(0.5,), std=(0.29,))


def step_of(config: Config, name: NetworkName, *, draw: int) -> TimedStep:
    """Of the random architecture with this number."""
    dataset = noise(config)
    batch = torch.randn(dataset.train.images.shape), dataset.train.labels
    return training_step(config, name, draw_uniform(seed=0, draw=draw), dataset, batch)


def timed(step: TimedStep, patches: Sequence[str]) -> Callable[[], float]:
    """Seconds of one step with these operations of PyTorch."""

    def measured() -> float:
        with contextlib.ExitStack() as stack:
            for name in patches:
                stack.enter_context(PATCHES[name]())
            started = time.process_time()
            step()
            return time.process_time() - started

    return measured


def tabulate(presets: Sequence[str] = PRESETS, *, num_draws: int = 6, repetitions: int) -> Rows:
    torch.set_num_threads(1)
    rows = []
    for preset in presets:
        config = load_config(preset)
        for name in NETWORKS:
            seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
            for draw in range(num_draws):
                step = step_of(config, name, draw=draw)
                kinds = {kind: timed(step, patches) for kind, patches in KINDS.items()}
                for kind, values in interleaved(kinds, repetitions=repetitions, warmups=1).items():
                    seconds[kind] += values
            rows += [
                {
                    "preset": preset,
                    "network": name,
                    "by PyTorch alone": kind,
                    "ms": 1000 * statistics.median(values),
                    "as it is / this": paired_ratio(seconds["nothing"], values).median,
                }
                for kind, values in seconds.items()
            ]
    return rows


if __name__ == "__main__":
    run_alone(__doc__, TITLE, tabulate, repetitions=9)
