"""Memory and time of a training on a folder of very many images, by their number.

The images are links to a thousand JPEG files of 64x64 pixels. Each number of them is one `cpnas train` of one epoch, of
a tiny network, in a process of its own, with an empty cache; then, with `--halves`, one in which half of the images
validate (`data.validation_fraction`), and the first draw of a search, which always parts its images, each with what the
first has decoded. Its memory is sampled ten times a second (Linux alone):
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
STOPPED = 75  # at --max-time
FIELDS = {"RssAnon": "private", "RssFile": "mapped"}


def make_folder(root: Path, files: Sequence[Path], count: int) -> None:
    """Two classes of so many training images in all, and of a hundred to test."""
    for part, number in (("train", count), ("test", 100)):
        for index, name in enumerate(("a", "b")):
            link_images(files[index::2], root / part / name, number // 2, per_folder=1000)


def commands_on(work: Path, *, halves: bool) -> dict[str, list[str]]:
    """{what it does: the command and its own settings}."""
    write_json(genotype := work / "genotype.json", genotype_document(draw_uniform(seed=0, draw=0), provenance={}))
    train = ["train", str(genotype)]
    commands = {"training": train}
    if halves:
        commands["training, half validate"] = [*train, "--set", "data.validation_fraction=0.5"]
        commands["search, one draw"] = ["search", "--set", "search.batch_size=256", "--max-time", "1s"]
    return commands


def measure(command: Sequence[str], folder: Path, work: Path, *, out: Path) -> dict[str, float]:
    """Seconds, and MiB at their peak."""
    words = [*command, "--data-dir", str(folder), "--out", str(out), "--preset", "digits"]
    words += [word for setting in SETTINGS for word in ("--set", setting)]
    peaks = dict.fromkeys(FIELDS.values(), 0.0)
    started = time.monotonic()
    environment = {**os.environ, "CPNAS_CACHE_DIR": str(work / "cache")}
    line = [sys.executable, "-m", "cpnas_cli", *words]
    with subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        while process.poll() is None:
            for name, mebibytes in memory_of(process.pid).items():
                peaks[name] = max(peaks[name], mebibytes)
            time.sleep(0.1)
        if process.returncode not in (0, STOPPED):
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


def tabulate(counts: Sequence[int], *, halves: bool) -> Rows:
    rows = []
    for count in counts:
        with tempfile.TemporaryDirectory(prefix="cpnas-large-") as name:
            work = Path(name)
            write_images(work / "files", NUM_FILES, size=64)
            make_folder(work / "images", sorted((work / "files").rglob("*.jpg")), count)
            for index, (what, command) in enumerate(commands_on(work, halves=halves).items()):
                found = measure(command, work / "images", work, out=work / f"run-{index}")
                rows.append(
                    {
                        "what": what,
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
    parser.add_argument("--halves", action="store_true", help="also where the images are parted")
    arguments = parser.parse_args()
    print_table(TITLE, tabulate(arguments.images, halves=arguments.halves))
    print_environment()


if __name__ == "__main__":
    main()
