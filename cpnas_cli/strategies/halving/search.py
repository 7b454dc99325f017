"""Successive halving (Jamieson and Talwalkar, arXiv 1502.07943) of genotypes, each trained with the final recipe.

    alive = random genotypes
    for round in 0..num_rounds - 1:
        for genotype in alive:
            train it anew for first_epochs * 2^round epochs on the training part, judge it on the validation part
        alive = the better half of them, rounded up
    return the best of the last round

Differs from the paper: a round trains anew instead of going on, with the whole schedule in its epochs (ours: a rate
that has fallen to its end ranks better than a schedule that is cut off). No weights are shared, and the network is the
one that is trained in the end: `network.num_cells` and `.num_channels`. Ties go to the genotype that was drawn first.

After every training the history is committed to the run's journal. A training has a run folder of its own within the
run's, in which it resumes after its last epoch, and which is removed when the training is recorded.
"""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cpnas_cli.data.dataset import Dataset
from cpnas_cli.data.splits import split_for_search
from cpnas_cli.distributed.device import open_device
from cpnas_cli.errors import RunError
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.runs.journal import Journal
from cpnas_cli.search_space import Genotype, draw_uniform
from cpnas_cli.settings import Config, HalvingConfig
from cpnas_cli.storage.documents import advice_for
from cpnas_cli.strategies.base import Search
from cpnas_cli.strategies.budgets.feasibility import Feasibility, feasibility_of
from cpnas_cli.strategies.halving.recipe import shortened
from cpnas_cli.training.training import Training

CHECKPOINT_SCHEMA = "cpnas.halving-checkpoint/1"
CHECKPOINT_KEYS = ("num_trainings",)
TRAININGS = "trainings"
"""Of a run: the folder of the training that is not recorded yet."""


def draw_candidates(config: Config, feasibility: Feasibility | None) -> list[Genotype]:
    """The genotypes of the first round: the seed's first random draws, of which the strategy `random` gives one."""
    draw_one = draw_uniform if feasibility is None else feasibility.draw
    return [draw_one(seed=config.seed, draw=draw) for draw in range(config.halving.num_genotypes)]


def better_half(accuracies: Mapping[int, float]) -> list[int]:
    """The draws with the highest accuracies, the best first: half of them, rounded up. Ties go to the first draw."""
    ranked = sorted(accuracies, key=lambda draw: (-accuracies[draw], draw))
    return ranked[: math.ceil(len(ranked) / 2)]


def numbers_of_trainings(settings: HalvingConfig) -> list[int]:
    """How many genotypes each round trains."""
    numbers = [settings.num_genotypes]
    while len(numbers) < settings.num_rounds:
        numbers.append(math.ceil(numbers[-1] / 2))
    return numbers


def num_epochs_of(settings: HalvingConfig, round_index: int) -> int:
    """Epochs of a training in this round, from 0."""
    return settings.first_epochs * 2**round_index


@dataclass
class HalvingState:
    """Which round it is, whose turn, and how the others of the round did; a function of the history alone.

    Attributes:
      alive: the draws that are trained in this round, in their order.
      accuracies: of those that were, by draw.
    """

    settings: HalvingConfig
    round_index: int = 0
    alive: list[int] = field(default_factory=list)
    accuracies: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.alive = self.alive or list(range(self.settings.num_genotypes))

    @property
    def finished(self) -> bool:
        return self.round_index == self.settings.num_rounds

    @property
    def draw(self) -> int:
        """The one that is to be trained next."""
        return self.alive[len(self.accuracies)]

    def give(self, record: Mapping[str, Any]) -> None:
        """Take note of what the history says."""
        if record["event"] == "draw":
            self.accuracies[record["draw"]] = record["accuracy_child"]
        elif record["event"] == "halve":
            self.alive, self.accuracies = sorted(record["kept"]), {}
            self.round_index += 1

    def end_of_round(self) -> dict[str, Any] | None:
        """The record of who goes on, if all of the round are trained."""
        if len(self.accuracies) < len(self.alive):
            return None
        kept = better_half(self.accuracies)
        is_last = self.round_index + 1 == self.settings.num_rounds
        return {"event": "halve", "round": self.round_index, "kept": kept[:1] if is_last else kept}


def search_halving(search: Search) -> Genotype:
    """Search by successive halving; resumes from the run's journal, and within the training that was interrupted.

    Raises:
      MaxTimeReached: the time is up; saved after the last epoch. NonFiniteLossError: see `Training`. CheckpointError,
        RunError.
    """
    journal = Journal(search.run, schema=CHECKPOINT_SCHEMA, keys=CHECKPOINT_KEYS)
    state, num_trainings = HalvingState(search.config.halving), 0
    saved = journal.resume()
    feasibility = feasibility_of(search, saved.records if saved else ())
    genotypes = draw_candidates(search.config, feasibility)
    if saved is not None:
        num_trainings = saved.state["num_trainings"]
        for record in saved.records:
            state.give(record)
        journal.accept(saved)
        saved.replay(search.notify)
    halves = split_dataset(search) if not state.finished else None
    while halves is not None and not state.finished:
        record = _train(search, halves, genotypes[state.draw], round_index=state.round_index, draw=state.draw)
        state.give(record)
        records = [record] if feasibility is None or num_trainings else [feasibility.record(), record]
        end = state.end_of_round()
        if end is not None:
            state.give(end)
            records.append(end)
        num_trainings += 1
        journal.commit(records, {}, {"num_trainings": num_trainings})
        shutil.rmtree(search.run.file(TRAININGS), ignore_errors=True)
        for one in records:
            search.notify(one)
        if not state.finished:
            search.deadline.check(record["seconds"])
    return genotypes[state.alive[0]]


def split_dataset(search: Search) -> Dataset:
    """The two halves of the training images, the validation half in place of the test images, which nobody reads."""
    config, whole = search.config, search.dataset
    training, validation = split_for_search(
        whole.train, validation_fraction=config.search.validation_fraction, seed=config.seed
    )
    return Dataset(training, validation, whole.classes, whole.mean, whole.std)


def _train(search: Search, halves: Dataset, genotype: Genotype, *, round_index: int, draw: int) -> dict[str, Any]:
    """Train and judge one genotype; returns its history record."""
    config, folder = search.config, _folder_of(search.run, round_index=round_index, draw=draw)
    num_epochs = num_epochs_of(config.halving, round_index)
    fabric = search.fabric
    if config.train.dtype != config.search.dtype:  # the search's device was opened for the steps of a search
        fabric = open_device(fabric.device.type, dtype=config.train.dtype)
    watched = {"event": "progress", "round": round_index, "draw": draw, "num_epochs": num_epochs}

    def notify(record: Mapping[str, Any]) -> None:
        if record["event"] == "progress":
            search.notify({**record, **watched})
        elif record["event"] == "note" and not record.get("passing"):
            search.notify(record)

    result = Training(
        folder,
        config.model_copy(update={"train": shortened(config.train, num_epochs)}),
        genotype,
        halves,
        fabric=fabric,
        networks=("child",),
        provenance={},
        deadline=search.deadline,
        notify=notify,
    ).train()
    return {
        "event": "draw",
        "round": round_index,
        "draw": draw,
        "num_epochs": num_epochs,
        "normal": list(genotype.normal),
        "reduce": list(genotype.reduce),
        "accuracy_child": result["accuracy_test"],
        "accuracy_parent": result["accuracy_parent_test"],
        "z": result["accuracy_test"],
        "seconds": round(result["seconds"] + (result["seconds_parent"] or 0.0), 3),
    }


def _folder_of(run: RunFolder, *, round_index: int, draw: int) -> RunFolder:
    """The folder of this training, made if it has not begun; those of others, which are recorded, are removed."""
    folder = run.file(TRAININGS) / f"round-{round_index}-draw-{draw}"
    if run.file(TRAININGS).is_dir():
        for other in run.file(TRAININGS).iterdir():
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make {folder}: {error.strerror or error}; {advice_for(error)}") from error
    return RunFolder(folder)


def num_epochs_trained(history: Sequence[Mapping[str, Any]]) -> int:
    """Of all networks, the Parents among them."""
    draws = [record for record in history if record["event"] == "draw"]
    return sum(record["num_epochs"] * (1 if record["accuracy_parent"] is None else 2) for record in draws)
