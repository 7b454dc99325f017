"""Memory and time of a training on a folder of very many images, by their number.

The images are links to a thousand JPEG files of 64x64 pixels. Each number of them is one `cpnas train` of one epoch, of
a tiny network, in a process of its own, with an empty cache. Its memory is sampled ten times a second (Linux alone):
"private" is what the process must have, "mapped" what the system may take back: pages of the decoded images' file, and
of libraries. `python -m benchmarks.large_folder --images 20000 200000`
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.predict import write_images
from benchmarks.predict_memory import link_images
from benchmarks.tables import Rows, positive, print_environment, print_table
from cpnas_cli.search_space import draw_uniform
from cpnas_cli.storage.documents import write_json
from cpnas_cli.storage.genotype_file import genotype_document

TITLE = "a training on a large folder of images"
NUM_FILES = 1000
SETTINGS = (
    "data.name=folder", "data.image_size=64", "network.stem_convolutions=3", "network.stem_stride=8",
    "network.num_cells=3", "network.num_channels=4", "network.group_width=4", "network.stem_multiplier=1",
    "train.num_epochs=1", "train.batch_size=256", "train.teacher_weight=0",
)  # fmt: skip
FIELDS = {"RssAnon": "private", "RssFile": "mapped"}


def make_folder(root: Path, files: Sequence[Path], count: int) -> None:
    """Two classes of so many training images in all, and of a hundred to test."""
    for part, number in (("train", count), ("test", 100)):
        for index, name in enumerate(("a", "b")):
            link_images(files[index::2], root / part / name, number // 2, per_folder=1000)


def train(folder: Path, work: Path) -> dict[str, float]:
    """Seconds, and MiB at their peak."""
    write_json(genotype := work / "genotype.json", genotype_document(draw_uniform(seed=0, draw=0), provenance={}))
    words = ["train", str(genotype), "--data-dir", str(folder), "--out", str(work / "run"), "--preset", "digits"]
    words += [word for setting in SETTINGS for word in ("--set", setting)]
    peaks = dict.fromkeys(FIELDS.values(), 0.0)
    started = time.monotonic()
    environment = {**os.environ, "CPNAS_CACHE_DIR": str(work / "cache")}
    command = [sys.executable, "-m", "cpnas_cli", *words]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        while process.poll() is None:
            for name, mebibytes in memory_of(process.pid).items():
                peaks[name] = max(peaks[name], mebibytes)
            time.sleep(0.1)
        if process.returncode:
            assert process.stderr is not None
            sys.exit(process.stderr.read().decode())
    return {"seconds": time.monotonic() - started, **peaks}


def memory_of(pid: int) -> dict[str, float]:
    """MiB now; nothing of a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    values = dict(line.split(":", 1) for line in lines)
    return {name: int(values[field].split()[0]) / 1024 for field, name in FIELDS.items() if field in values}


def tabulate(counts: Sequence[int]) -> Rows:
    rows = []
    for count in counts:
        with tempfile.TemporaryDirectory(prefix="cpnas-large-") as name:
            work = Path(name)
            write_images(work / "files", NUM_FILES, size=64)
            make_folder(work / "images", sorted((work / "files").rglob("*.jpg")), count)
            found = train(work / "images", work)
            rows.append(
                {
                    "images": count,
                    "decoded MiB": count * 3 * 64 * 64 / 2**20,
                    "private MiB": found["private"],
                    "mapped MiB": found["mapped"],
                    "seconds": found["seconds"],
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=positive, nargs="+", default=[20_000, 200_000])
    arguments = parser.parse_args()
    print_table(TITLE, tabulate(arguments.images))
    print_environment()


if __name__ == "__main__":
    main()
