"""What a network of a width takes: bytes, time for an image, seconds of a training step; the last two on this machine.

Times for an image are measured with a packed model that was never trained, which is as fast as a trained one: a table
of operations (`deploy.latency`) is for searches, which ask of thousands of genotypes.
"""

import itertools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

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
from cpnas_cli.runs.threads import threads_of_run
from cpnas_cli.search_space import Genotype
from cpnas_cli.settings import Config, change_config
from cpnas_cli.settings.amounts import DURATIONS, SIZES
from cpnas_cli.training.training import Training

WIDTHS = (128, 96, 80, 64, 48, 40, 32, 24, 16, 12, 8, 4)
"""`network.num_channels` that are tried, as far as the network's block can have them."""

MOST_STEPS, ENOUGH_SECONDS, FEWEST_STEPS = 12, 2.0, 3
"""Steps are repeated so often, or until they were this long for each width, and this often."""


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
      seconds_of_step: {"parent": ..., "child": ...} with the making of a batch, and that of the Child with the answers
        of its teacher.
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

    @property
    def seconds_alone(self) -> float:
        """A step of a Child that has no teacher."""
        return self.seconds_of_step["child"] - self.seconds_of_answer


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


def open_timers(
    widths: list[tuple[Sized, float | None]], genotype: Genotype, dataset: Dataset, fabric: Fabric
) -> Iterator["StepTimer"]:
    """A timer of each width, made when it is asked for; from the widest."""
    for width, seconds_per_image in widths:
        yield StepTimer(width, seconds_per_image, genotype, dataset, fabric)


class Timed(Protocol):
    """A width whose steps can be timed, once more at a time."""

    def time_once(self) -> float:
        """Seconds that it took."""
        ...

    def measured(self) -> Measured:
        """By what was timed so far."""
        ...


def timed_in_turn(timers: Sequence[Timed]) -> list[Measured]:
    """All of them once, and again: a machine that is slower for a while is so for each of them, not for one.

    Returns the widths in the same order, from the widest, see `no_slower`.
    """
    spent = [0.0] * len(timers)
    for turn in range(MOST_STEPS):
        for index, timer in enumerate(timers):
            spent[index] += timer.time_once()
        if turn + 1 >= FEWEST_STEPS and sum(spent) >= ENOUGH_SECONDS * len(timers):
            break
    measured = list[Measured]()
    for timer in timers:
        found = timer.measured()
        measured.append(no_slower(found, measured[-1]) if measured else found)
    return measured


def no_slower(width: Measured, wider: Measured) -> Measured:
    """A narrower network takes no longer than a wider one: where the clock says so, something else came in between."""
    steps = {name: min(seconds, wider.seconds_of_step[name]) for name, seconds in width.seconds_of_step.items()}
    answer = min(width.seconds_of_answer, wider.seconds_of_answer)
    return replace(width, seconds_of_step=steps, seconds_of_answer=answer)


class StepTimer:
    """Times steps of the networks of a width: the batch is made, the Parent learns from it, the Child, and the Parent
    answers.

    When it is made, `FEWEST_STEPS` of each are timed, after one that does not count.
    """

    def __init__(
        self, width: Sized, seconds_per_image: float | None, genotype: Genotype, dataset: Dataset, fabric: Fabric
    ) -> None:
        self.width, self.seconds_per_image, self.fabric = width, seconds_per_image, fabric
        training = Training(
            RunFolder(Path()),  # nothing is written
            width.config,
            genotype,
            dataset,
            fabric=fabric,
            networks=("child", "parent"),
            provenance={},
            deadline=Deadline(),
        )
        self._batches = _endless_batches(training)
        names: tuple[NetworkName, ...] = ("parent", "child")
        self._steps = {name: training.new_train_step(name) for name in names}
        self.seconds: dict[str, list[float]] = {}
        self.time_once()
        self.seconds = {"batch": [], "parent": [], "child": [], "answer": []}
        for _ in range(FEWEST_STEPS):
            self.time_once()

    def time_once(self) -> float:
        batch = tuple[Tensor, ...]()

        def make_batch() -> None:
            nonlocal batch
            batch = next(self._batches)

        calls: dict[str, Callable[[], object]] = {"batch": make_batch}
        calls |= {name: lambda step=step: step(*batch) for name, step in self._steps.items()}
        calls["answer"] = lambda: self._answer(batch[0])
        spent = 0.0
        with threads_of_run(self.width.config, device_type=self.fabric.device.type):  # as in the training
            for name, call in calls.items():
                seconds = seconds_of(lambda call=call: self._finished(call))
                self.seconds.setdefault(name, []).append(seconds)
                spent += seconds
        return spent

    def measured(self) -> Measured:
        batch, parent, child, answer = (
            statistics.median(self.seconds[name]) for name in ("batch", "parent", "child", "answer")
        )
        steps = {"parent": batch + parent, "child": batch + child + answer}
        return Measured(self.width.num_channels, self.width.bytes, self.seconds_per_image, steps, answer)

    def _answer(self, x_BCHW: Tensor) -> None:
        with torch.no_grad(), self.fabric.autocast():
            self._steps["parent"].network(x_BCHW)

    def _finished(self, call: Callable[[], object]) -> None:
        call()
        if self.fabric.device.type == "cuda":
            torch.cuda.synchronize(self.fabric.device)


def _endless_batches(training: Training) -> Iterator[tuple[Tensor, ...]]:
    for epoch in itertools.count():
        yield from training.pipeline.training_batches(
            training.dataset.train,
            batch_size=training.config.train.batch_size,
            seed=0,
            purpose="timing",
            epoch=epoch,
        )
