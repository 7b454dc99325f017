"""Peak memory of `cpnas predict` by the number of images, each time in a process of its own.

MiB of resident memory from the start of the process to its end: Python, the libraries, the engine's compiled code
and all else. The images are links to a thousand JPEG files, all in one folder, whose names are what grows; and once
more in folders of a thousand.
`python -m benchmarks.predict_memory --images 1000 100000`
"""

import argparse
import contextlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.tables import Rows

TITLE = "peak memory of cpnas predict"
NUM_FILES = 1000
MIB = 2**20


def classify(model: str, folder: str) -> None:
    """The command, silent; called in a process that has imported nothing else."""
    from cpnas_cli.cli.app import app

    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        app(["predict", model, folder, "--json"], standalone_mode=False)


def link_images(files: Sequence[Path], folder: Path, count: int, *, per_folder: int) -> None:
    for index in range(count):
        below = folder / f"{index // per_folder:03d}"
        below.mkdir(parents=True, exist_ok=True)
        (below / f"{index:06d}.jpg").hardlink_to(files[index % len(files)])


def tabulate(network: str = "folder", *, counts: Sequence[int]) -> "Rows":
    from benchmarks.predict import model_of, write_images
    from cpnas_cli.deploy.packed_file import save_packed
    from cpnas_cli.efficiency.process_memory import peak_memory_of, peak_source

    rows = []
    with tempfile.TemporaryDirectory(prefix="cpnas-predict-") as name:
        write_images(Path(name) / "files", NUM_FILES)
        files = sorted((Path(name) / "files").rglob("*.jpg"))
        save_packed(model_of(network), model := Path(name) / "packed")
        for count in counts:
            peaks = {}
            for form, per_folder in (("in one folder", count), ("in folders of 1,000", 1000)):
                folder = Path(name) / f"{count}-{per_folder}"
                if not folder.exists():
                    link_images(files, folder, count, per_folder=per_folder)
                peaks[form] = peak_memory_of("benchmarks.predict_memory:classify", str(model), str(folder)) / MIB
            rows.append({"network": network, "images": count, **{f"{form}, MiB": peak for form, peak in peaks.items()}})
    return [{**row, "peak by": peak_source()} for row in rows]


def main() -> None:
    from benchmarks.tables import positive, print_environment, print_table

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=positive, nargs="+", default=[1000, 10_000, 100_000])
    arguments = parser.parse_args()
    print_table(TITLE, tabulate(counts=arguments.images))
    print_environment()


if __name__ == "__main__":
    main()
