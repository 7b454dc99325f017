"""Every benchmark with one command: a table each on standard output and, if asked for, one JSON document."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import (
    child_step,
    convolution,
    draws,
    engine_profile,
    epochs,
    growth,
    memory,
    predict,
    preset_step,
    product,
    profile,
    search_step,
    sign,
    startup,
)
from benchmarks.tables import Rows, environment, positive, print_environment, print_table
from benchmarks.workload import TINY, Workload

SCHEMA = "cpnas.benchmarks/1"
APART = (
    "on their own: python -m benchmarks.workers (minutes), python -m benchmarks.predict_memory (minutes), "
    "python -m benchmarks.architecture_table (hours), python -m benchmarks.gpu (an NVIDIA GPU), "
    "python -m benchmarks.c_source (a C compiler, the onnx extra)"
)
TINY_WORKLOAD = Workload(TINY, num_images=64)


@dataclass(frozen=True)
class Benchmark:
    """A function that gives the rows of a table, and with which arguments: of a full run and of a quick one."""

    title: str
    tabulate: Callable[..., Rows]
    full: Mapping[str, Any]
    quick: Mapping[str, Any]


BENCHMARKS = {
    "startup": Benchmark(startup.TITLE, startup.tabulate, {"repetitions": 3}, {"repetitions": 1, "warmup": 0}),
    "epochs": Benchmark(
        epochs.TITLE, epochs.tabulate, {"repetitions": 3}, {"workload": TINY_WORKLOAD, "repetitions": 2}
    ),
    "child_step": Benchmark(
        child_step.TITLE, child_step.tabulate, {"repetitions": 5, "warmup": 1}, {"shapes": (TINY,), "repetitions": 3}
    ),
    "preset_step": Benchmark(
        preset_step.TITLE, preset_step.tabulate, {"repetitions": 5}, {"presets": ("digits",), "repetitions": 1}
    ),
    "search_step": Benchmark(
        search_step.TITLE, search_step.tabulate, {"repetitions": 8, "warmup": 1}, {"shapes": (TINY,), "repetitions": 8}
    ),
    "sign": Benchmark(sign.TITLE, sign.tabulate, {"repetitions": 8}, {"shapes": (TINY,), "repetitions": 3}),
    "profile": Benchmark(
        profile.TITLE, profile.tabulate, {"repetitions": 2}, {"workload": TINY_WORKLOAD, "repetitions": 1}
    ),
    "growth": Benchmark(
        growth.TITLE, growth.tabulate, {"repetitions": 7}, {"workload": TINY_WORKLOAD, "repetitions": 2}
    ),
    "draws": Benchmark(draws.TITLE, draws.tabulate, {}, {"workload": TINY_WORKLOAD, "num_draws": 8}),
    "memory": Benchmark(memory.TITLE, memory.tabulate, {"repetitions": 1}, {"shapes": (TINY,), "repetitions": 1}),
    "convolution": Benchmark(
        convolution.TITLE,
        convolution.tabulate,
        {"repetitions": 7},
        {"images": convolution.IMAGES[-1:], "repetitions": 3},
    ),
    "predict": Benchmark(
        predict.TITLE,
        predict.tabulate,
        {"num_images": 20_000, "repetitions": 3},
        {"networks": ("folder",), "num_images": 64, "repetitions": 1},
    ),
    "product": Benchmark(product.TITLE, product.tabulate, {"repetitions": 7}, {"channels": 64, "repetitions": 3}),
    "engine_profile": Benchmark(
        engine_profile.TITLE, engine_profile.tabulate, {"repetitions": 20}, {"names": ("digits",), "repetitions": 1}
    ),
}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", metavar="NAME[,NAME]", help="these and no others, see --list")
    parser.add_argument("--list", action="store_true", help="the names of all benchmarks, and nothing else")
    parser.add_argument("--quick", action="store_true", help="tiny shapes and few repetitions: does everything run?")
    parser.add_argument(
        "--repetitions", type=positive, help="timed calls of each function; else as each benchmark has it"
    )
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all rows into this file")
    return parser


def chosen(only: str | None) -> list[str]:
    """The names of the benchmarks to run, in the order of the registry.

    Raises:
      ValueError: an unknown name, in one line.
    """
    if only is None:
        return list(BENCHMARKS)
    names = [name.strip() for name in only.split(",")]
    for name in names:
        if name not in BENCHMARKS:
            raise ValueError(f"unknown benchmark {name!r}; choose from {', '.join(BENCHMARKS)}")
    return [name for name in BENCHMARKS if name in names]


def run(names: Sequence[str], *, quick: bool, repetitions: int | None, threads: int, json_file: Path | None) -> None:
    """Print a table of each benchmark, and write the document anew after each."""
    document: dict[str, Any] = {"schema": SCHEMA, "quick": quick, "environment": {}, "benchmarks": {}}
    for name in names:
        benchmark = BENCHMARKS[name]
        arguments = dict(benchmark.quick if quick else benchmark.full)
        if repetitions is not None and "repetitions" in arguments:
            arguments["repetitions"] = repetitions
        torch.set_num_threads(threads)  # each time: a benchmark may change it
        print(f"{name} ...", file=sys.stderr, flush=True)
        started = time.perf_counter()
        rows = benchmark.tabulate(**arguments)
        seconds = round(time.perf_counter() - started, 1)
        print_table(f"{name}: {benchmark.title} ({seconds:.0f} s)", rows)
        torch.set_num_threads(threads)
        document["environment"] = environment()
        document["benchmarks"][name] = {"title": benchmark.title, "seconds": seconds, "rows": rows}
        if json_file is not None:
            json_file.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    print_environment()


def print_list() -> None:
    for name, benchmark in BENCHMARKS.items():
        print(f"{name:12} {benchmark.title}")
    print(APART)


def main(words: Sequence[str] | None = None) -> None:
    parser = make_parser()
    arguments = parser.parse_args(words)
    if arguments.list:
        print_list()
        return
    try:
        names = chosen(arguments.only)
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    if arguments.json is not None and not arguments.json.absolute().parent.is_dir():
        parser.exit(2, f"--json: there is no folder {arguments.json.absolute().parent}\n")
    run(
        names,
        quick=arguments.quick,
        repetitions=arguments.repetitions,
        threads=arguments.threads,
        json_file=arguments.json,
    )


if __name__ == "__main__":
    main()
