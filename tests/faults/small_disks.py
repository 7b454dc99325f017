"""Disks without room for runs, outputs and caches: one line; with room again the same bytes. Root and Linux alone."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import made_runs
from killed_commands import COMMANDS, digest, undisturbed
from photos import make_photos

NO_SPACE = "No space left on device"


@contextlib.contextmanager
def small_disk(folder: Path, *, kibibytes: int) -> Iterator[Path]:
    """
    Raises:
      PermissionError: this user, or this container, may mount nothing.
    """
    folder.mkdir(exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        raise PermissionError(mounted.stderr.decode(errors="replace"))
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def make_room(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)


def outcomes(made: Path, *, run_kibibytes: tuple[int, ...] = (8, 32, 96, 160)) -> dict[str, str]:
    """Of each disk: what happened, or what is wrong ("DIFFERENT")."""
    found = dict[str, str]()
    for name in ("search", "train"):
        whole = undisturbed(made, name).digest
        for size in run_kibibytes:
            with small_disk(made / "disk", kibibytes=size) as disk:
                found[f"run of {name} on {size} KiB"] = _run(made, name, disk / "run", whole)
    for name in ("export", "report"):
        with small_disk(made / "disk", kibibytes=4) as disk:
            found[f"output of {name} on 4 KiB"] = _output(made, name, disk / "file")
    with small_disk(made / "disk", kibibytes=4) as disk:
        found["cache on 4 KiB"] = _cache(made, disk / "cache")
    return found


def _run(made: Path, name: str, run: Path, whole: dict) -> str:
    command, log = COMMANDS[name], made / "log"
    words = command.words(made, run)
    ended = made_runs.run(log, *words)
    if ended.code != 0 and not _is_one_line(ended):
        return f"DIFFERENT ({ended.code}: {ended.stderr[-300:]})"
    make_room(run.parent)
    if ended.code != 0:
        again = made_runs.run(log, *words, *(command.resumes if (run / "config.yaml").exists() else ()))
        if again.code != 0:
            return f"DIFFERENT ({again.code}: {again.stderr[-300:]})"
    said = "one line, then " if ended.code else "room enough, "
    return f"{said}as undisturbed" if digest(run) == whole else "DIFFERENT (other bytes)"


def _output(made: Path, name: str, out: Path) -> str:
    ended = made_runs.run(made / "log", *COMMANDS[name].words(made, out))
    left = list(out.parent.iterdir())
    return "one line, no file" if _is_one_line(ended) and not left else f"DIFFERENT ({ended}, {left})"


def _cache(made: Path, cache: Path) -> str:
    """Of decoded images: a training works without, and says so."""
    photos, log = make_photos(made / "large-photos", count=12, size=32), made / "log"
    options = ["--preset", "folder", "--set", "data.image_size=32", *made_runs.OPTIONS, "--data-dir", str(photos)]
    options = [word if word != "data.num_test=20" else "data.num_test=4" for word in options]
    options = [word if word != "data.num_train=40" else "data.num_train=20" for word in options]
    words, digests, said = ["train", str(made / "search/genotype.json"), *options], [], ""
    for number, folder in enumerate((cache, made / "cache")):
        run = made / f"cached-{number}"
        ended = made_runs.run(
            log, *words, "--out", str(run), prepare=lambda at=folder: os.environ.update(CPNAS_CACHE_DIR=str(at))
        )
        if ended.code != 0:
            return f"DIFFERENT ({ended.code}: {ended.stderr[-300:]})"
        digests.append(digest(run))
        said = said or ended.stderr
    noted = NO_SPACE in said and "are not cached" in said
    return "noted, as with room" if noted and digests[0] == digests[1] else f"DIFFERENT ({said[-300:]})"


def _is_one_line(ended: made_runs.Ended) -> bool:
    last = ended.stderr.rstrip("\n").split("\n")[-1]
    return (
        ended.code == 1 and last.startswith("cpnas: error: ") and NO_SPACE in last and "Traceback" not in ended.stderr
    )
