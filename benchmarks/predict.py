"""`cpnas predict` over a folder of small JPEG files, beside decoding them alone on the same threads.

In turn: the files decoded as the command decodes them and thrown away; the network alone, on as many images in
memory; and the command itself in this process, its lines written to nowhere. Python's start and the reading of
compiled code are in none of them.
The files are 32x32 pixels of smooth noise, some 1,000 bytes each; the networks were never trained.
`python -m benchmarks.predict --images 20000`
"""

import argparse
import contextlib
import json
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.epochs import GENOTYPE
from benchmarks.tables import Rows, environment, positive, print_environment, print_table
from benchmarks.workload import SHAPES, Workload
from cpnas_cli.deploy.packed_file import PackedModel, save_packed
from cpnas_cli.deploy.untrained import untrained_model
from cpnas_cli.efficiency.timing import interleaved_seconds, paired_ratio
from cpnas_cli.settings import load_config

TITLE = "cpnas predict against decoding alone"
SIZE = 32
# What `cpnas fit` trains by itself, at this size; the smallest and the largest network of the documents
NETWORKS = {
    "folder": ("folder", [f"data.image_size={SIZE}"]),
    "cifar10-small": ("cifar10-small", []),
    "cifar10, 36 channels": ("cifar10", ["network.num_channels=36"]),
}
FILES_PER_FOLDER = 1000


def write_images(folder: Path, count: int, *, size: int = SIZE) -> None:
    """JPEG files in folders of a thousand."""
    generator = np.random.default_rng(0)
    for index in range(count):
        below = folder / f"{index // FILES_PER_FOLDER:03d}"
        below.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        coarse.resize((size, size), Image.Resampling.BICUBIC).save(below / f"{index:06d}.jpg", quality=90)


def model_of(name: str) -> PackedModel:
    preset, overrides = NETWORKS[name]
    return untrained_model(GENOTYPE, load_config(preset, overrides=overrides), Workload(SHAPES[0], 10).dataset())


def decode_alone(folder: Path, model: PackedModel, *, num_threads: int) -> int:
    """The number of images decoded."""
    from cpnas_cli.deploy.predict import decode_ahead, walk_images

    with ThreadPoolExecutor(num_threads) as workers:
        return sum(map(len, decode_ahead(workers, walk_images([folder], []), model, num_threads=num_threads)))


def predict(folder: Path, model: Path, *, num_threads: int) -> int:
    """The command, silent; returns its exit code."""
    from cpnas_cli.cli.app import app

    words = ["predict", str(model), str(folder), "--threads", str(num_threads)]
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        return app(words, standalone_mode=False) or 0


def calls_of(model: PackedModel, folder: Path, file: Path, *, num_images: int) -> dict[str, Callable[[], object]]:
    from cpnas_cli.deploy.engine import Engine

    num_threads = torch.get_num_threads()
    save_packed(model, file)
    engine = Engine(model, num_threads=num_threads)
    images = np.random.default_rng(0).integers(0, 256, (num_images, 3, SIZE, SIZE), dtype=np.uint8)
    return {
        "decoding": lambda: decode_alone(folder, model, num_threads=num_threads),
        "network": lambda: engine.logits(images),
        "predict": lambda: predict(folder, file, num_threads=num_threads),
    }


def tabulate(networks: Sequence[str] = tuple(NETWORKS), *, num_images: int, repetitions: int) -> Rows:
    rows = []
    with tempfile.TemporaryDirectory(prefix="cpnas-predict-") as name:
        folder = Path(name) / "images"
        write_images(folder, num_images)
        for network in networks:
            calls = calls_of(model_of(network), folder, Path(name) / "packed", num_images=num_images)
            seconds = interleaved_seconds(calls, repetitions=repetitions, warmups=1)
            medians = {call: statistics.median(values) for call, values in seconds.items()}
            rows.append(
                {
                    "network": network,
                    "images": num_images,
                    "decoding alone s": medians["decoding"],
                    "network alone s": medians["network"],
                    "predict s": medians["predict"],
                    "predict / decoding": paired_ratio(seconds["predict"], seconds["decoding"]).median,
                    "images per second": num_images / medians["predict"],
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=positive, default=20_000)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), metavar="NAME")
    parser.add_argument("--repetitions", type=positive, default=5, help="timed calls of each")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = tabulate(arguments.networks, num_images=arguments.images, repetitions=arguments.repetitions)
    if arguments.json:
        document: dict[str, Any] = {"benchmark": TITLE, "environment": environment(), "rows": rows}
        print(json.dumps(document, indent=2))
        return
    print_table(TITLE, rows)
    print_environment()


if __name__ == "__main__":
    main()
