"""What a network of a width takes: bytes, time for an image, seconds of a training step; the last two on this machine.

Times for an image are measured with a packed model that was never trained, which is as fast as a trained one: a table
of operations (`deploy.latency`) is for searches, which ask of thousands of genotypes.
"""

import itertools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from cpnas_cli.data.dataset import Dataset
from cpnas_cli.deploy.latency import LATENCY
from cpnas_cli.deploy.resources import SIZE
from cpnas_cli.efficiency.timing import seconds_of
from cpnas_cli.errors import UsageError
from cpnas_cli.networks.shapes import NetworkName
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.search_space import Genotype
from cpnas_cli.settings import Config, change_config
from cpnas_cli.settings.amounts import DURATIONS, SIZES
from cpnas_cli.training.training import Training

WIDTHS = (128, 96, 80, 64, 48, 40, 32, 24, 16, 12, 8, 4)
"""`network.num_channels` that are tried, as far as the network's block can have them."""

MOST_STEPS, ENOUGH_SECONDS, FEWEST_STEPS = 12, 2.0, 3
"""A step is repeated so often, or until it was this long and this often."""


@dataclass(frozen=True)
class Sized:
    """The network of a width, before anything is timed."""

    num_channels: int
    config: Config
    bytes: float


@dataclass(frozen=True)
class Measured:
    """A width on this machine.

    Attributes:
      bytes: of the packed file. seconds_per_image: packed, one thread; None where nobody asked.
      seconds_of_step: {"parent": ..., "child": ...}, that of the Child with the answers of its teacher.
      seconds_of_answer: of the Parent on a batch, without training.
    """

    num_channels: int
    bytes: float
    seconds_per_image: float | None
    seconds_of_step: Mapping[str, float]
    seconds_of_answer: float

    @property
    def seconds_of_both(self) -> float:
        """A step of each network."""
        return sum(self.seconds_of_step.values())


def sized_widths(config: Config, genotype: Genotype, dataset: Dataset, *, fixed: int | None) -> list[Sized]:
    """The widths whose packed file is within `search.max_size`, from the widest.

    Args:
      fixed: the one that is asked for; None: see `WIDTHS`.

    Raises:
      UsageError: none is; says how small one gets.
    """
    found = list[Sized]()
    for num_channels in WIDTHS if fixed is None else (fixed,):
        try:
            wide = change_config(config, {"network.num_channels": num_channels})
        except UsageError:  # the block cannot have so many
            if fixed is not None:
                raise
            continue
        found.append(Sized(num_channels, wide, SIZE.found(genotype, wide, dataset)))
    asked = config.search.max_size
    if asked is None:
        return found
    fitting = [width for width in found if width.bytes <= SIZES.value(asked)]
    if not fitting:
        least = found[-1]
        raise UsageError(
            f"--max-size {asked}: the smallest network, of {least.num_channels} channels, takes "
            f"{SIZES.show(least.bytes)}; type at least --max-size {int(least.bytes)}B"
        )
    return fitting


def fast_widths(sized: list[Sized], genotype: Genotype, dataset: Dataset) -> list[tuple[Sized, float | None]]:
    """Those within `search.max_latency` with their seconds for an image; without such a budget all, unmeasured.

    Of the widths from the widest, those below the first one that is fast enough are not measured.

    Raises:
      UsageError: none is fast enough, or the engine cannot run them here; says how fast one gets.
    """
    asked = sized[0].config.search.max_latency
    if asked is None:
        return [(width, None) for width in sized]
    seconds = 0.0
    for index, width in enumerate(sized):
        seconds = LATENCY.found(genotype, width.config, dataset)
        if seconds <= DURATIONS.value(asked):
            return [(width, seconds), *((narrower, None) for narrower in sized[index + 1 :])]
    raise UsageError(
        f"--max-latency {asked}: the smallest network that may be taken, of {sized[-1].num_channels} channels, needs "
        f"{DURATIONS.show(seconds)} for an image here; type a longer one, or a smaller --set data.image_size"
    )


def measured_widths(
    widths: list[tuple[Sized, float | None]], genotype: Genotype, dataset: Dataset, fabric: Fabric
) -> Iterator[Measured]:
    """Each with the seconds of its steps, measured when it is asked for; from the widest, see `no_slower`."""
    wider: Measured | None = None
    for width, seconds_per_image in widths:
        found = _measured(width, seconds_per_image, genotype, dataset, fabric)
        wider = found if wider is None else no_slower(found, wider)
        yield wider


def no_slower(width: Measured, wider: Measured) -> Measured:
    """A narrower network takes no longer than a wider one: where the clock says so, something else came in between."""
    steps = {name: min(seconds, wider.seconds_of_step[name]) for name, seconds in width.seconds_of_step.items()}
    answer = min(width.seconds_of_answer, wider.seconds_of_answer)
    return replace(width, seconds_of_step=steps, seconds_of_answer=answer)


def _measured(
    width: Sized, seconds_per_image: float | None, genotype: Genotype, dataset: Dataset, fabric: Fabric
) -> Measured:
    config = width.config
    training = Training(
        RunFolder(Path()),  # nothing is written
        config,
        genotype,
        dataset,
        fabric=fabric,
        networks=("child", "parent"),
        provenance={},
        deadline=Deadline(),
    )
    batches = list(
        itertools.islice(
            training.pipeline.training_batches(
                training.dataset.train, batch_size=config.train.batch_size, seed=0, purpose="timing", epoch=0
            ),
            FEWEST_STEPS,
        )
    )
    names: tuple[NetworkName, ...] = ("parent", "child")
    steps = {name: training.new_train_step(name) for name in names}
    seconds = {name: _seconds_of_batch(step, batches, fabric) for name, step in steps.items()}
    with torch.no_grad(), fabric.autocast():
        answered = _seconds_of_batch(lambda images, _: steps["parent"].network(images), batches, fabric)
    if config.train.teacher_weight > 0:
        seconds["child"] += answered
    return Measured(width.num_channels, width.bytes, seconds_per_image, seconds, answered)


def _seconds_of_batch(call: Callable[..., object], batches: Sequence[tuple[Tensor, ...]], fabric: Fabric) -> float:
    """The median of some calls on these batches, after one that does not count."""

    def finished(batch: tuple[Tensor, ...]) -> None:
        call(*batch)
        if fabric.device.type == "cuda":
            torch.cuda.synchronize(fabric.device)

    finished(batches[0])
    times = list[float]()
    for batch in itertools.islice(itertools.cycle(batches), MOST_STEPS):
        times.append(seconds_of(lambda batch=batch: finished(batch)))
        if len(times) >= FEWEST_STEPS and sum(times) >= ENOUGH_SECONDS:
            break
    return statistics.median(times)
