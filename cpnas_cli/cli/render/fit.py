"""What `cpnas fit` did, as text for people, on standard output."""

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cpnas_cli.cli.console import printable
from cpnas_cli.cli.render.evaluation import print_evaluation
from cpnas_cli.cli.render.runs import percent
from cpnas_cli.errors import shell_word
from cpnas_cli.runs.deadline import duration, parse_duration
from cpnas_cli.settings.amounts import DURATIONS


def print_fit(document: Mapping[str, Any], folder: Path) -> None:
    print_evaluation(document["evaluation"])
    print()
    for line in fit_lines(document, folder):
        print(printable(line))


def fit_lines(document: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """What was done and why, and what to type next."""
    result, data = document["result"], document["data"]
    yield (
        f"photos: {len(data['classes']):,} classes, {data['num_train_images']:,} images to train and "
        f"{data['num_test_images']:,} to test in {document['asked']['photos']}"
    )
    for note in document["notes"]:
        yield f"  note: {note}"
    yield f"genotype: {document['genotype']}"
    for choice in document["choices"]:
        yield f"{choice['setting']}={choice['value']}: {choice['why']}"
    if document.get("child_epochs") is not None:  # older fits have none
        yield f"epochs of the Child: {document['child_epochs']}, fewer, because the teacher took longer than planned"
    parent = result["accuracy_parent_test"]
    teacher = "" if parent is None else f"; its full-precision teacher {percent(parent)}"
    yield (
        f"accuracy: {percent(result['accuracy_test'])} of the test images "
        f"(by chance {percent(1 / len(data['classes']))}{teacher})"
    )
    asked = document["asked"]["max_latency"]
    is_slow = asked is not None and result["seconds_per_image"] > DURATIONS.value(asked)
    yield (
        f"packed: {result['file_bytes']:,} bytes, {DURATIONS.show(result['seconds_per_image'])} for an image on one "
        f"thread of this machine{f': over --max-latency {asked} when it was measured' if is_slow else ''}"
    )
    if result["c"] is None:
        yield f"no C source: {result['c_error']}"
    else:
        yield (
            f"C source: flash {result['c']['flash_bytes']:,} and RAM {result['c']['ram_bytes']:,} bytes; "
            f"{shell_word(folder / result['c']['folder'] / 'README.md')} says how to compile it for a board"
        )
    yield f"page to look at: {shell_word(folder / 'report.html')}"
    yield f"time: {_times(document)}"
    yield ""
    yield "next:"
    for command in next_commands(document, folder):
        yield f"  {command}"


def _times(document: Mapping[str, Any]) -> str:
    seconds, asked = document["seconds"], document["asked"]["time"]
    parts = {"photos and measuring": seconds["check"], "search": seconds["search"]}
    parts["training"] = document["result"]["seconds_training"]
    parts["the rest"] = seconds.get("finish")  # older fits did not keep it
    known = {name: value for name, value in parts.items() if value is not None}
    total, planned = sum(known.values()), seconds["training_planned"]
    text = f"{duration(total)} of --time {asked}: " + ", ".join(
        f"{name} {duration(value)}" for name, value in known.items()
    )
    is_over = total > parse_duration(asked, option="--time")
    if is_over or known["training"] > 1.2 * planned:
        text += f" (planned {duration(planned)}: the machine was slower than when it was measured)"
    return text


def next_commands(document: Mapping[str, Any], folder: Path) -> list[str]:
    """To be typed as they are, but for the IMAGE."""
    packed, training = shell_word(folder / document["result"]["file"]), shell_word(folder / "train")
    c_source = document["result"]["c"]
    commands = [
        f"cpnas predict {packed} IMAGE...",
        f"cpnas evaluate {training} --csv answers.csv",
    ]
    if find_spec("onnxscript") is not None:  # of the onnx extra
        commands.append(f"cpnas export {training} --format onnx")
    if c_source is not None:
        commands.insert(1, f"make -C {shell_word(folder / c_source['folder'])}")
    return commands
