"""All figures of an NVIDIA GPU with one command, in less than nine minutes: `python -m benchmarks.gpu`.

CIFAR-10's size and settings (preset `cifar10`: 8 cells, 16 channels, batch 256, 25,000 + 25,000 images), with images of
noise; how long a search takes does not depend on what it sees. What no longer fits into `--max-minutes` is left out,
and said to be.

layouts    depthwise convolutions, forward and backward: channels_last as everywhere here, and planes for them alone
steps      one eager training step of Child, Parent and PC-DARTS (weights and architecture)
draws      a draw (both networks trained and validated): eager and graphs, in turn, with peak memory
search     the whole search, 105 draws, with graphs and bfloat16, and how much of the time the GPU was busy
trainings  an epoch of the Child and of the Parent with the Child-Parent loss: float32, bfloat16, torch.compile
"""

import argparse
import contextlib
import functools
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.epochs import train_one_epoch
from benchmarks.tables import Rows, print_environment, print_table
from benchmarks.training_step import NOWHERE, noise_batch, step_of_pcdarts
from benchmarks.workload import Shape, Workload
from cpnas_cli.data.dataset import Dataset
from cpnas_cli.distributed.device import open_device
from cpnas_cli.efficiency.timing import interleaved, paired_ratio, seconds_of
from cpnas_cli.errors import MaxTimeReached
from cpnas_cli.networks.shapes import PRECISIONS
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.search_space import ALL_CANDIDATES, Genotype, draw_pass, draw_uniform
from cpnas_cli.settings import Config, DtypeName, load_config
from cpnas_cli.strategies.base import Search
from cpnas_cli.strategies.cpnas.graphed_networks import GraphedNetworks
from cpnas_cli.strategies.cpnas.search import search_cpnas
from cpnas_cli.strategies.cpnas.shared_networks import SharedNetworks
from cpnas_cli.strategies.cpnas.state import num_draws_of_search

SCHEMA = "cpnas.benchmarks-gpu/1"
NUM_IMAGES = 50_000
NUM_IMAGES_OF_STEPS = 20 * 256  # half of them train: 10 steps
NUM_IMAGES_OF_TRAININGS = 100 * 128  # 100 steps
TARGET_MINUTES = 3.0
DTYPES: tuple[DtypeName, ...] = ("float32", "bfloat16")
ENGINES: dict[str, type[SharedNetworks]] = {"eager": SharedNetworks, "graphs": GraphedNetworks}


def preset(**settings: object) -> Config:
    return load_config("cifar10", overrides=[f"{key.replace('__', '.')}={value}" for key, value in settings.items()])


def shape_of_search(config: Config) -> Shape:
    network = config.search_network()
    return Shape(network.num_cells, network.num_channels, config.data.image_size, config.search.batch_size)


def noise(config: Config, num_images: int) -> Dataset:
    return Workload(shape_of_search(config), num_images).dataset()


def make_search(config: Config, dataset: Dataset, *, device: str, run: RunFolder = NOWHERE, **more: Any) -> Search:
    fabric = open_device(device, dtype=config.search.dtype)
    return Search(run, config, dataset, fabric, **more)


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_mib() -> float:
    """Of the memory that PyTorch took from the device since the last `reset_peak`."""
    return torch.cuda.max_memory_reserved() / 2**20 if torch.cuda.is_available() else float("nan")


def reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def draw_timer(networks: SharedNetworks, genotypes: Iterator[Genotype]) -> Callable[[], float]:
    """A call does one draw with the next genotype and returns its seconds."""
    draws = itertools.count()

    def draw() -> float:
        genotype, index = next(genotypes), next(draws)
        return _synchronized_seconds(lambda: networks.scores(genotype, draw=index, starting=lambda _: None))

    return draw


def tabulate_draws(
    *, max_seconds: float, num_images: int = NUM_IMAGES, repetitions: int = 2, device: str = "cuda"
) -> Rows:
    """Seconds of a draw, eager and with graphs in turn over the same genotypes, and the peak memory of each alone."""
    left = Deadline(max_seconds)
    dataset = noise(preset(), num_images)
    first_pass = draw_pass(ALL_CANDIDATES, seed=0, pass_index=0)
    rows: Rows = []
    for dtype in reversed(DTYPES):  # that of the search first
        if rows and left.seconds_left() <= max_seconds / 2:
            break
        peaks, timers = {}, {}
        for engine, kind in ENGINES.items():
            reset_peak()
            networks = kind(make_search(preset(search__dtype=dtype), dataset, device=device))
            timers[engine] = draw_timer(networks, itertools.cycle(first_pass))
            timers[engine]()
            peaks[engine] = peak_mib()
        seconds = interleaved(timers, repetitions=repetitions, warmups=0)
        for engine, values in seconds.items():
            rows.append(
                {
                    "engine": engine,
                    "type": dtype,
                    "images": num_images,
                    "seconds of a draw": statistics.fmean(values),
                    "eager / this": statistics.fmean(seconds["eager"]) / statistics.fmean(values),
                    "105 draws, minutes": 105 * statistics.fmean(values) / 60,
                    "peak MiB": peaks[engine],
                }
            )
    return rows


def tabulate_layouts(*, batch_size: int = 256, repetitions: int = 10, device: str = "cuda") -> Rows:
    """Milliseconds of depthwise convolutions; the second kind changes the layout before, and after."""
    rows = []
    for channels, size in ((16, 32), (32, 16), (64, 8)):
        for kernel_size, dilation in ((3, 1), (5, 1), (3, 2), (5, 2)):
            for dtype in (torch.float32, torch.bfloat16):
                x = torch.randn(batch_size, channels, size, size, device=device, dtype=dtype)
                x = x.to(memory_format=torch.channels_last).requires_grad_()
                weight = torch.randn(channels, 1, kernel_size, kernel_size, device=device, dtype=dtype)
                weight.requires_grad_()
                shape = {"padding": dilation * (kernel_size - 1) // 2, "dilation": dilation, "groups": channels}

                def last(x=x, weight=weight, shape=shape) -> None:
                    y = F.conv2d(x, weight, **shape)
                    torch.autograd.grad(y, (x, weight), torch.ones_like(y))

                def planes(x=x, weight=weight, shape=shape) -> None:
                    y = F.conv2d(x.contiguous(), weight.contiguous(), **shape)
                    y = y.contiguous(memory_format=torch.channels_last)
                    torch.autograd.grad(y, (x, weight), torch.ones_like(y))

                calls = {
                    name: functools.partial(_synchronized_seconds, call)
                    for name, call in (("last", last), ("planes", planes))
                }
                seconds = interleaved(calls, repetitions=repetitions, warmups=2)
                rows.append(
                    {
                        "batch, channels, pixels": f"{batch_size}, {channels}, {size}",
                        "filter": f"{kernel_size}x{kernel_size} dilation {dilation}",
                        "type": str(dtype).removeprefix("torch."),
                        "channels_last ms": 1000 * statistics.median(seconds["last"]),
                        "planes ms": 1000 * statistics.median(seconds["planes"]),
                        "channels_last / planes": paired_ratio(seconds["last"], seconds["planes"]).median,
                    }
                )
    return rows


def tabulate_steps(*, num_images: int = NUM_IMAGES_OF_STEPS, repetitions: int = 4, device: str = "cuda") -> Rows:
    """Milliseconds of a training step: a draw's epoch without its validation, over the number of its steps."""
    config = preset(search__dtype="float32", search__validation_fraction=0.5)
    dataset = noise(config, num_images)
    search = make_search(config, dataset, device=device)
    shared = SharedNetworks(search)
    num_steps, shape = shared.num_steps, shape_of_search(config)
    measurements: dict[str, Callable[[], float]] = {}
    genotypes = draw_pass(ALL_CANDIDATES, seed=0, pass_index=0)
    for name in PRECISIONS:
        turns = itertools.cycle(genotypes)
        measurements[f"{name} eager"] = functools.partial(
            _synchronized_seconds, lambda name=name, turns=turns: shared.train(name, next(turns), draw=0)
        )
    pcdarts = step_of_pcdarts(search, noise_batch(shape, device=device))
    measurements["pcdarts eager"] = lambda: num_steps * _synchronized_seconds(pcdarts)
    seconds = interleaved(measurements, repetitions=repetitions, warmups=1)
    means = {name: 1000 * statistics.fmean(values) / num_steps for name, values in seconds.items()}
    both = means["child eager"] + means["parent eager"]
    return [
        {
            "batch": shape.batch_size,
            "Child ms": means["child eager"],
            "Parent ms": means["parent eager"],
            "PC-DARTS ms": means["pcdarts eager"],
            "Child / Parent": means["child eager"] / means["parent eager"],
            "(Child + Parent) / PC-DARTS": both / means["pcdarts eager"],
        }
    ]


def _synchronized_seconds(function: Callable[[], object]) -> float:
    def call() -> None:
        function()
        synchronize()

    synchronize()
    return seconds_of(call)


class BusyShare:
    """How much of the time at least one kernel ran, in %, as nvidia-smi samples it; None where it cannot say."""

    def __enter__(self) -> "BusyShare":
        self.samples: list[float] = []
        words = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=200"]
        if torch.cuda.is_available():
            words += ["-i", f"GPU-{torch.cuda.get_device_properties(0).uuid}"]
        try:
            self._process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        except OSError:
            self._process = None
            return self
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(ValueError):  # [N/A]
                self.samples.append(float(line))

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._thread.join(timeout=5)

    @property
    def percent(self) -> float | None:
        return statistics.fmean(self.samples) if self.samples else None


def tabulate_search(*, max_seconds: float, num_images: int = NUM_IMAGES, device: str = "cuda") -> Rows:
    """The whole search through the product's own code: history, checkpoints and all."""
    config = preset(search__engine="graphs", search__dtype="bfloat16")
    dataset, total = noise(config, num_images), num_draws_of_search(config.search)
    seconds: list[float] = []

    def notify(record: Mapping[str, Any]) -> None:
        if record["event"] == "draw":
            seconds.append(record["seconds"])

    reset_peak()
    with tempfile.TemporaryDirectory() as folder, BusyShare() as busy:
        started = time.monotonic()
        search = make_search(
            config, dataset, device=device, run=RunFolder(Path(folder)), deadline=Deadline(max_seconds), notify=notify
        )
        with contextlib.suppress(MaxTimeReached):
            search_cpnas(search)
        elapsed = time.monotonic() - started
    return [
        {
            "engine": config.search.engine,
            "type": config.search.dtype,
            "images": num_images,
            "draws": f"{len(seconds)} of {total}",
            "minutes": elapsed / 60,
            "minutes for all draws": elapsed / len(seconds) * total / 60,
            "target": TARGET_MINUTES,
            "median seconds of a draw": statistics.median(seconds),
            "GPU busy %": busy.percent,
            "peak MiB": peak_mib(),
        }
    ]


def tabulate_trainings(*, num_images: int = NUM_IMAGES_OF_TRAININGS, device: str = "cuda") -> Rows:
    """Seconds of an epoch with the Child-Parent loss; the first of two epochs is not counted."""
    rows = []
    for dtype in DTYPES:
        config = preset(train__dtype=dtype, train__num_epochs=1000)
        for name in PRECISIONS:
            rows.append({"network": name, "type": dtype, "compiled": False, **_epoch(config, name, num_images, device)})
    return rows


def tabulate_compiled(*, num_images: int = NUM_IMAGES_OF_TRAININGS, device: str = "cuda") -> Rows:
    """The same with torch.compile."""
    config = preset(train__dtype="bfloat16", train__compile="true", train__num_epochs=1000)
    return [{"network": "child", "type": "bfloat16", "compiled": True, **_epoch(config, "child", num_images, device)}]


def _epoch(config: Config, name: Any, num_images: int, device: str) -> dict[str, float]:
    dataset = noise(config, num_images)
    reset_peak()
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        times = [
            train_one_epoch(config, dataset, draw_uniform(seed=0), name, Path(folder), device=device) for _ in range(2)
        ]
        total = time.monotonic() - started
    return {
        "seconds of an epoch": times[1],
        "images per second": num_images / times[1],
        "seconds before it": total - times[1],
        "peak MiB": peak_mib(),
    }


def compiled_in_time(max_seconds: float) -> Rows:
    """`tabulate_compiled` in a process of its own, which is ended when its time is up."""
    code = "import json; from benchmarks import gpu; print(json.dumps(gpu.tabulate_compiled()))"
    try:
        answer = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=max_seconds, check=True
        )
    except subprocess.TimeoutExpired:
        return [{"network": "child", "compiled": f"not within {max_seconds:.0f} s"}]
    except subprocess.CalledProcessError as error:
        return [{"network": "child", "compiled": f"failed: {error.stderr.strip().splitlines()[-1:]}"}]
    return json.loads(answer.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-minutes", type=float, default=8.5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures as one JSON document too")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("benchmarks.gpu: no CUDA device that torch can use; nothing to measure", file=sys.stderr)
        raise SystemExit(1)
    left = Deadline(60 * arguments.max_minutes)
    properties = torch.cuda.get_device_properties(0)
    device = {"device": properties.name, "memory MiB": properties.total_memory // 2**20, "cuda": torch.version.cuda}
    print(", ".join(f"{key} {value}" for key, value in device.items()))
    # what must be left to begin with each, seconds, from estimates; the search comes early because it matters most
    sections: dict[str, tuple[float, Callable[[], Rows]]] = {
        "layouts": (20, tabulate_layouts),
        "steps": (40, tabulate_steps),
        "search": (60, lambda: tabulate_search(max_seconds=min(left.seconds_left() - 200, 240))),
        "draws": (60, lambda: tabulate_draws(max_seconds=max(left.seconds_left() - 80, 0))),
        "trainings": (50, tabulate_trainings),
        "compiled": (40, lambda: compiled_in_time(left.seconds_left() - 10)),
    }
    tables: dict[str, Rows] = {}
    for name, (needed, tabulate) in sections.items():
        if left.seconds_left() < needed:
            print(f"{name}: left out, {left.seconds_left():.0f} s are left of {arguments.max_minutes:g} minutes")
            continue
        reset_peak()
        tables[name] = tabulate()
        print_table(name, tables[name])
        if arguments.json:  # after every table, so that nothing is lost
            document = {"schema": SCHEMA, "environment": device, "tables": tables}
            arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print_environment()


if __name__ == "__main__":
    main()
