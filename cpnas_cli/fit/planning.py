"""What a fit chooses before it trains: by what the photos are, and by what networks take on this machine."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from cpnas_cli.data.dataset import Dataset, load_dataset
from cpnas_cli.data.inspection import inspect_folder, inspection_document
from cpnas_cli.deploy.engine import machine_code
from cpnas_cli.fit.choices import Choice, check_photos, choices_of_photos, choices_of_search, notes_on
from cpnas_cli.fit.folder import Asked
from cpnas_cli.fit.plan import (
    KEPT_BACK,
    SEARCH_SHARE,
    Plan,
    Times,
    Way,
    chosen_plan,
    epochs_enough,
    measure_enough,
    time_text,
)
from cpnas_cli.fit.widths import Measured, StepTimer, fast_widths, open_timers, sized_widths, timed_in_turn
from cpnas_cli.genotypes.shipped import ShippedGenotype, shipped_genotype
from cpnas_cli.runs.deadline import parse_duration
from cpnas_cli.search_space import Genotype
from cpnas_cli.settings import Config
from cpnas_cli.settings.amounts import DURATIONS, SIZES
from cpnas_cli.storage.documents import FIT_SCHEMA
from cpnas_cli.training.checks import check_training

AFTER_SECONDS, NUM_EVALUATIONS = 5.0, 4
"""After the training: packing, measuring, and each network over the test images twice."""


def plan_fit(asked: Asked, device: Fabric, *, say: Callable[[str], None]) -> dict[str, Any]:
    """`cpnas.fit/1` of a new fit: what the photos are, and all that is chosen; nothing is written.

    Raises:
      DataError: nothing can be learnt from the photos. UsageError: a budget or the time does not allow any network.
    """
    started = time.monotonic()
    seconds = parse_duration(asked.time, option="--time")
    config = asked.config()
    say(f"looking at the photos in {asked.photos}")
    data = inspection_document(inspect_folder(Path(asked.photos), test_fraction=config.data.test_fraction))
    check_photos(data)
    notes = notes_on(data)
    for note in notes:
        say(f"note: {note}")
    choices = choices_of_photos(data, asked=asked.keys, image_size=config.data.image_size)
    if asked.search:
        choices += choices_of_search(asked.keys)
    config = asked.config([asdict(choice) for choice in choices])
    dataset = load_dataset(config.data)
    check_training(config, dataset, device)
    shipped = shipped_genotype()
    say("measuring what networks take here (on a new machine the engine is compiled first, once, some 20 seconds)")
    machine_code.prepare()
    kept_back = KEPT_BACK + (SEARCH_SHARE if asked.search else 0)
    measured, plan = _measured_plan(
        asked,
        config,
        shipped.genotype,
        dataset,
        device,
        lambda after: Times(seconds, time.monotonic() - started, after, kept_back),
    )
    choices.append(_choice_of_width(asked, plan, measured))
    if not asked.search:
        choices += choices_of_plan(asked, plan, _of_width(measured, plan), dataset, config)
    return {
        "schema": FIT_SCHEMA,
        "asked": asked.document(),
        "data": _data_record(data),
        "notes": notes,
        "genotype": _origin(shipped, asked),
        "choices": [asdict(choice) for choice in choices],
        "widths": [_record_of(width, num_steps=num_steps_of(config, dataset)) for width in measured],
        "seconds": {
            "check": round(time.monotonic() - started, 3),
            "search": None,
            "training_planned": None if asked.search else round(plan.seconds, 3),
            "finish": None,
        },
        "child_epochs": None,
        "result": None,
        "evaluation": None,
    }


def _measured_plan(
    asked: Asked,
    config: Config,
    genotype: Genotype,
    dataset: Dataset,
    device: Fabric,
    times: Callable[[float], Times],
) -> tuple[list[Measured], Plan]:
    """The widths that were measured, and what is made of them.

    Args:
      times: of the seconds after the training.
    """
    num_steps = num_steps_of(config, dataset)
    enough = epochs_enough(num_steps)
    fixed = config.network.num_channels if "network.num_channels" in asked.keys else None
    widths = fast_widths(sized_widths(config, genotype, dataset, fixed=fixed), genotype, dataset)
    timers = list[StepTimer]()

    def first_look() -> Iterator[Way]:
        for timer in open_timers(widths, genotype, dataset, device):
            timers.append(timer)
            yield ways_of(timer.measured(), asked, config, num_steps=num_steps)[0]

    def times_now() -> Times:
        return times(seconds_after(timers[-1].measured(), config, dataset))

    epochs = fixed_epochs(asked, config)
    measure_enough(first_look(), times_now, enough=enough, fixed=epochs)
    measured = timed_in_turn(timers)
    ways = [way for width in measured for way in ways_of(width, asked, config, num_steps=num_steps)]
    return measured, chosen_plan(ways, times_now(), enough=enough, fixed=epochs)


def ways_of(width: Measured, asked: Asked, config: Config, *, num_steps: int) -> list[Way]:
    """With its teacher and without; one of them where that is asked for.

    Args:
      num_steps: of an epoch.
    """
    alone = Way(width.num_channels, num_steps * width.seconds_alone, is_taught=False)
    if config.train.teacher_weight == 0:
        return [alone]
    if config.train.teacher is not None:  # which is trained already
        return [Way(width.num_channels, num_steps * width.seconds_of_step["child"])]
    taught = Way(width.num_channels, num_steps * width.seconds_of_both)
    return [taught] if "train.teacher_weight" in asked.keys else [taught, alone]


def fixed_epochs(asked: Asked, config: Config) -> int | None:
    return config.train.num_epochs if "train.num_epochs" in asked.keys else None


def num_steps_of(config: Config, dataset: Dataset) -> int:
    """Of an epoch."""
    return max(len(dataset.train) // config.train.batch_size, 1)


def seconds_after(width: Measured, config: Config, dataset: Dataset) -> float:
    num_batches = len(dataset.test) / min(config.train.batch_size, len(dataset.train))
    return AFTER_SECONDS + NUM_EVALUATIONS * num_batches * width.seconds_of_answer


def _of_width(measured: list[Measured], plan: Plan) -> Measured:
    (width,) = (each for each in measured if each.num_channels == plan.num_channels)
    return width


def _choice_of_width(asked: Asked, plan: Plan, measured: list[Measured]) -> Choice:
    width = _of_width(measured, plan)
    takes = f"{SIZES.show(width.bytes)} packed"
    if width.seconds_per_image is not None:
        takes += f" and {DURATIONS.show(width.seconds_per_image)} for an image"
    if "network.num_channels" in asked.keys:
        return Choice("network.num_channels", plan.num_channels, takes, by="--set")
    limits = f"--max-size {asked.max_size}"
    if asked.max_latency is not None:
        limits += f" and --max-latency {asked.max_latency}"
    why = f"{takes}: the widest within {limits}"
    if plan.num_channels != measured[0].num_channels:
        why = f"{takes}; wider ones within {limits} would have too few epochs in --time {asked.time}"
    return Choice("network.num_channels", plan.num_channels, why)


def choices_of_plan(asked: Asked, plan: Plan, width: Measured, dataset: Dataset, config: Config) -> list[Choice]:
    """Whether there is a teacher, where there is none, and the number of epochs."""
    num_steps = num_steps_of(config, dataset)
    steps = "1 step" if num_steps == 1 else f"{num_steps:,} steps"
    if plan.is_taught:
        why = f"an epoch of the teacher and one of the Child have {steps} of {width.seconds_of_both:.2g} s each here"
    else:
        why = f"an epoch of the Child has {steps} of {width.seconds_alone:.2g} s here"
    why += f": {time_text(plan.seconds)} of --time {asked.time}"
    if "train.num_epochs" in asked.keys:
        epochs = Choice("train.num_epochs", plan.num_epochs, why, by="--set")
    elif plan.num_epochs == 2 * epochs_enough(num_steps):
        epochs = Choice("train.num_epochs", plan.num_epochs, f"{why}, twice as many as are known to be enough")
    else:
        epochs = Choice("train.num_epochs", plan.num_epochs, why)
    if plan.is_taught or config.train.teacher_weight == 0:
        return [epochs]
    taught = math.floor(plan.seconds / (num_steps * width.seconds_of_both))
    why = f"no teacher: there would be time for {taught:,} epochs with it, and for {plan.num_epochs:,} without"
    return [Choice("train.teacher_weight", 0, why), epochs]


def _data_record(data: Mapping[str, Any]) -> dict[str, Any]:
    """What `fit.json` keeps of `cpnas.data/1`."""
    sizes = data["sizes"]
    return {
        "classes": data["classes"],
        "num_train_images": data["num_train_images"],
        "num_test_images": data["num_test_images"],
        "test_fraction": data["split"] and data["split"]["test_fraction"],
        "num_channels": data["num_channels"],
        "width_median": sizes["width"]["median"],
        "height_median": sizes["height"]["median"],
        "imbalance": data["imbalance"] and data["imbalance"]["ratio"],
        "num_duplicates_across_split": sum(entry["across_split"] for entry in data["duplicates"]),
    }


def _record_of(width: Measured, *, num_steps: int) -> dict[str, Any]:
    return {
        "num_channels": width.num_channels,
        "bytes": int(width.bytes),
        "seconds_per_image": width.seconds_per_image,
        "seconds_of_step": dict(width.seconds_of_step),
        "seconds_of_answer": width.seconds_of_answer,
        "seconds_of_epoch": num_steps * width.seconds_of_both,
    }


def _origin(shipped: ShippedGenotype, asked: Asked) -> str:
    if asked.search:
        return "searched on these photos"
    origin = shipped.document["provenance"]
    return f"the shipped one, {shipped.name}: found by {origin['strategy']} on {origin['dataset']}, {origin['found']}"
