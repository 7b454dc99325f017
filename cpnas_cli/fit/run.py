"""A fit from its photos to its packed model, each step where the last one ended."""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lightning_fabric import Fabric

from cpnas_cli.data.dataset import Dataset, load_dataset
from cpnas_cli.deploy.engine import Engine
from cpnas_cli.deploy.export import export_run
from cpnas_cli.deploy.latency import NETWORK_SECONDS, undisturbed_seconds
from cpnas_cli.deploy.packed_file import PACKED_NAME
from cpnas_cli.errors import CpnasError, UsageError
from cpnas_cli.fit.folder import Asked, FitFolder, is_planned, same_fit
from cpnas_cli.fit.plan import SEARCH_SHARE, Times, chosen_plan, epochs_enough, epochs_in_time, time_text
from cpnas_cli.fit.planning import choices_of_plan, fixed_epochs, num_steps_of, plan_fit, seconds_after, ways_of
from cpnas_cli.fit.widths import Measured
from cpnas_cli.genotypes.shipped import shipped_genotype
from cpnas_cli.networks.shapes import NetworkName
from cpnas_cli.runs.deadline import Deadline, parse_duration
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.runs.journal import Notify
from cpnas_cli.runs.lock import locked
from cpnas_cli.runs.opening import open_run_for
from cpnas_cli.search_space import Genotype
from cpnas_cli.settings import Config
from cpnas_cli.storage.documents import TRAINING_SCHEMA
from cpnas_cli.storage.genotype_file import provenance_of, read_genotype
from cpnas_cli.strategies import run_search
from cpnas_cli.strategies.base import Search
from cpnas_cli.strategies.checks import check_search
from cpnas_cli.strategies.time_left import SearchTimeLeft
from cpnas_cli.training.checks import check_of_genotype
from cpnas_cli.training.evaluation import evaluation_of
from cpnas_cli.training.trained_networks import trained_networks
from cpnas_cli.training.training import Training


@dataclass(frozen=True)
class Watcher:
    """Who is told what happens: texts, and the records of the search (of so many images) and of the training."""

    say: Callable[[str], None]
    search: Callable[[Config, int], AbstractContextManager[Notify]]
    training: Callable[[Config, tuple[NetworkName, ...]], AbstractContextManager[Notify]]


@contextlib.contextmanager
def open_fit(asked: Asked, *, folder: Path, device: Fabric, watcher: Watcher) -> Iterator["Fit"]:
    """The fit in this folder, planned where it is new; nobody else has it until the block ends.

    Raises:
      DataError: nothing can be learnt from the photos. UsageError: a budget or the time does not allow any network.
      RunError: the folder holds something else, or is in use.
    """
    place = FitFolder(folder)
    document = place.read()
    if document is None:
        document = plan_fit(asked, device, say=watcher.say)
        place.make()
    with locked(folder):
        document = same_fit(place.read() or document, asked, folder)
        place.write(document)
        yield Fit(place, asked, document, device, watcher)


@dataclass
class Fit:
    """A fit that holds its folder; made by `open_fit`.

    Attributes:
      document: `cpnas.fit/1`, as it is written.
    """

    place: FitFolder
    asked: Asked
    document: dict[str, Any]
    device: Fabric
    watcher: Watcher

    def run(self) -> dict[str, Any]:
        """What is left of it; returns the document.

        Raises:
          UsageError: not one epoch fits into what the search has left of the time. RunError: a file cannot be written.
          CpnasError: see `run_search` and `Training.train`.
        """
        if self._is_done():
            return self.document
        if self.asked.search:
            self._search()
        for choice in self.document["choices"]:
            self.watcher.say(f"{choice['setting']}={choice['value']}: {choice['why']}")
        self._finish(self._train())
        return self.document

    def _is_done(self) -> bool:
        return self.document["result"] is not None and (self.place.path / PACKED_NAME).exists()

    def _write(self, **changes: Any) -> None:
        self.document = {**self.document, **changes}
        self.place.write(self.document)

    def _config(self) -> Config:
        return self.asked.config(self.document["choices"])

    # ------------------------------------------------------------ search

    def _search(self) -> None:
        """To the end, and then the number of epochs by the time that is left."""
        config, run = self._config(), self.place.search
        if not run.file(RunFolder.GENOTYPE).exists():
            dataset = load_dataset(config.data)
            with (
                open_run_for(
                    config,
                    folder=run.path,
                    fabric=self.device,
                    resume=True,
                    deadline=Deadline(),
                    check=check_search,
                    dataset=dataset,
                ) as opened,
                self.watcher.search(config, len(dataset.train)) as notify,
            ):
                self.watcher.say(f"searching with {config.search.strategy}: {run.path}")
                clock = SearchClock(config, self.asked, notify, num_images=len(dataset.train))
                run_search(Search(opened.run, config, dataset, self.device, opened.deadline, clock.notify))
        if not is_planned(self.document):
            self._plan_epochs(config)

    def _plan_epochs(self, config: Config) -> None:
        dataset = load_dataset(config.data)
        spent = sum(record.get("seconds") or 0.0 for record in self.place.search.history())
        measured = self._measured(config)
        times = Times(
            parse_duration(self.asked.time, option="--time"),
            self.document["seconds"]["check"] + spent,
            seconds_after(measured, config, dataset),
        )
        num_steps = num_steps_of(config, dataset)
        plan = chosen_plan(
            ways_of(measured, self.asked, config, num_steps=num_steps),
            times,
            enough=epochs_enough(num_steps),
            fixed=fixed_epochs(self.asked, config),
        )
        choices = choices_of_plan(self.asked, plan, measured, dataset, config)
        seconds = {"search": round(spent, 3), "training_planned": round(plan.seconds, 3)}
        self._write(
            choices=[*self.document["choices"], *map(asdict, choices)], seconds={**self.document["seconds"], **seconds}
        )

    def _measured(self, config: Config) -> Measured:
        """The width that is trained."""
        chosen = config.network.num_channels
        (width,) = (each for each in self.document["widths"] if each["num_channels"] == chosen)
        return Measured(
            chosen, width["bytes"], width["seconds_per_image"], width["seconds_of_step"], width["seconds_of_answer"]
        )

    # ------------------------------------------------------------ training

    def _child_epochs(self, config: Config, dataset: Dataset) -> int | None:
        """Fewer than planned, where the teacher took so long that the Child would end too late; None: as planned.

        By the seconds in the history alone, so that a fit that goes on decides the same.
        """
        epochs = [record for record in self.place.training.history() if record["event"] == "epoch"]
        taken = [record["seconds"] for record in epochs if record["network"] == "parent"]
        if not taken or fixed_epochs(self.asked, config) is not None:
            return None
        measured, seconds = self._measured(config), self.document["seconds"]
        num_steps, planned = num_steps_of(config, dataset), config.train.num_epochs
        last = taken[-max(len(taken) // 4, 3) :]  # so many that a short disturbance is no reason
        slowness = statistics.median(last) / (num_steps * measured.seconds_of_step["parent"])
        spent = seconds["check"] + (seconds["search"] or 0.0) + sum(taken)
        left = parse_duration(self.asked.time, option="--time") - spent
        num_epochs = epochs_in_time(
            planned,
            seconds_of_epoch=slowness * num_steps * measured.seconds_of_step["child"],
            left=left - slowness * seconds_after(measured, config, dataset),
            fewest=min(config.train.first_stage_epochs + config.train.warmup_epochs + 1, planned),
        )
        if num_epochs == planned:
            return None
        self._write(child_epochs=num_epochs)
        self.watcher.say(
            f"{num_epochs} epoch{'s' * (num_epochs > 1)} of the Child instead of {planned}, to keep --time "
            f"{self.asked.time}: the last ones of the teacher took {slowness:.2g} times as long as measured"
        )
        return num_epochs

    def _genotype(self) -> tuple[Genotype, Mapping[str, Any]]:
        if self.asked.search:
            return read_genotype(self.place.search.file(RunFolder.GENOTYPE))
        shipped = shipped_genotype()
        return shipped.genotype, shipped.document

    def _train(self) -> dict[str, Any]:
        """The teacher and the Child; returns `cpnas.result/1`."""
        config = self._config()
        genotype, document = self._genotype()
        networks = trained_networks(config, ("child",))
        with open_run_for(
            config,
            folder=self.place.training.path,
            fabric=self.device,
            resume=True,
            deadline=Deadline(),
            check=check_of_genotype(genotype, networks, self.place.training.path),
            documents={
                RunFolder.GENOTYPE: document,
                RunFolder.TRAINING: {"schema": TRAINING_SCHEMA, "networks": list(networks)},
            },
        ) as opened:
            for note in (*opened.dataset.notes, *opened.notes):
                self.watcher.say(f"note: {note}")
            self.watcher.say(f"training the {' and the '.join(networks)}: {opened.run.path}")
            with self.watcher.training(config, networks) as notify:
                return Training(
                    opened.run,
                    config,
                    genotype,
                    opened.dataset,
                    fabric=self.device,
                    networks=networks,
                    provenance=provenance_of(document),
                    deadline=opened.deadline,
                    notify=notify,
                    shortened=lambda name: self._child_epochs(config, opened.dataset) if name == "child" else None,
                ).train()

    # ------------------------------------------------------------ what comes of it

    def _finish(self, result: Mapping[str, Any]) -> None:
        started = time.monotonic()
        self.watcher.say("evaluating, packing and measuring")
        training, packed = self.place.training.path, self.place.path / PACKED_NAME
        evaluation = evaluation_of(training, data_dir=None, device=self.device.device).document
        exported = export_run(training, format_="packed", out=packed)
        seconds_training = result["seconds"] + (result["seconds_parent"] or 0.0)
        found = {
            "accuracy_test": result["accuracy_test"],
            "accuracy_parent_test": result["accuracy_parent_test"],
            "size_bits": result["size_bits"],
            "file": PACKED_NAME,
            "file_bytes": exported.num_bytes,
            "seconds_per_image": _seconds_per_image(packed),
            "seconds_training": round(seconds_training, 3),
            **self._c_source(training),
        }
        seconds = {**self.document["seconds"], "finish": round(time.monotonic() - started, 3)}
        self._write(result=found, evaluation=evaluation, seconds=seconds)

    def _c_source(self, training: Path) -> dict[str, Any]:
        """The C program, or why there is none."""
        try:
            source = export_run(training, format_="c", out=self.place.c_source)
        except CpnasError as error:
            return {"c": None, "c_error": " ".join(str(error).split())}
        assert source.needed is not None
        needed = {"flash_bytes": source.needed.flash, "ram_bytes": source.needed.ram}
        return {"c": {"folder": self.place.c_source.name, **needed}, "c_error": None}


def _seconds_per_image(packed: Path) -> float:
    """One image, one thread; what it takes when nothing else comes in between."""
    engine = Engine.load(packed, num_threads=1)
    model = engine.model
    shape = (1, model.num_image_channels, model.image_size, model.image_size)
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return undisturbed_seconds({"network": lambda: engine.logits(image)}, duration=NETWORK_SECONDS)["network"]


class SearchClock:
    """Passes the records of a search on, and ends it early if it would take more than its share of the time.

    That is decided once, by the first records, so that a search that goes on decides the same.
    """

    NUM_TIMED = 3

    def __init__(self, config: Config, asked: Asked, notify: Notify, *, num_images: int) -> None:
        self.asked, self._notify = asked, notify
        self.left = SearchTimeLeft(config, num_images=num_images)
        self.spent, self.num_timed, self.is_decided = 0.0, 0, False

    def notify(self, record: Mapping[str, Any]) -> None:
        self._notify(record)
        self.left.notify(record)
        self.spent += record.get("seconds") or 0.0
        self.num_timed += record["event"] in ("draw", "epoch")
        if self.is_decided or self.num_timed < self.NUM_TIMED:
            return
        self.is_decided = True
        expected = self.spent + (self.left.seconds or 0.0)
        if expected > SEARCH_SHARE * parse_duration(self.asked.time, option="--time"):
            raise UsageError(
                f"--time {self.asked.time}: the search would take about {time_text(expected)} here, and half of the "
                f"time is for it; type at least --time {time_text(expected / SEARCH_SHARE)} with --search, or leave it "
                "out in another --out"
            )
