"""Folders of images as chance makes them: every file is used, skipped by name or refused; nothing commands a terminal.

Seeded and bounded. The oracle is a walk through the folder that knows nothing of the program.
"""

import io
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import invoke
from PIL import Image

from cpnas_cli.data.class_folders import read_class_folders
from cpnas_cli.data.folder import FOLDER
from cpnas_cli.data.inspection import inspect_folder
from cpnas_cli.errors import DataError
from cpnas_cli.settings import DataConfig

NAMES = ("a", "photo 1", "\u00e9t\u00e9", "\u72ac", "x[1]", "[red]", "\x1b[31mred", "l\nine", "-o", "'; ls", "a" * 200)
NAMES += ("\u202etxt", ".hidden", "Thumbs.db", "caf\udce9", "%s%n", "~", "$HOME", "b\\c", " ")
ENDINGS = ("", ".png", ".jpg", ".txt", ".PNG", ".heic", ".gif")
WHOLE = io.BytesIO()
Image.frombytes("RGB", (6, 5), bytes(range(90))).save(WHOLE, "png")


def fill(folder: Path, generator: random.Random, *, depth: int) -> None:
    """A few files and folders with any names and contents."""
    for _ in range(generator.randrange(1, 6)):
        path = folder / f"{generator.choice(NAMES)}{generator.randrange(9)}{generator.choice(ENDINGS)}"
        if path.exists() or path.is_symlink():
            continue
        kind = generator.choice(("image", "image", "image", "text", "cut", "empty", "link", "loop", "pipe", "folder"))
        if kind == "folder" and depth:
            path.mkdir()
            fill(path, generator, depth=depth - 1)
        elif kind == "link":
            path.symlink_to(generator.choice((folder / "nowhere", "/dev/null", folder.parent)))
        elif kind == "loop":
            path.symlink_to(path)
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            contents = {"image": WHOLE.getvalue(), "cut": WHOLE.getvalue()[:60], "empty": b""}
            path.write_bytes(contents.get(kind, bytes(generator.randrange(256) for _ in range(50))))


def make_tree(root: Path, seed: int) -> Path:
    generator = random.Random(seed)
    root.mkdir()
    parts = [root] if generator.random() < 0.5 else [root / "train", root / "test"]
    classes = generator.sample(NAMES, generator.randrange(1, 5))
    for part in parts:
        for name in classes:
            (part / name).mkdir(parents=True, exist_ok=True)
            for index in range(generator.randrange(4)):
                (part / name / f"{index}.png").write_bytes(WHOLE.getvalue())
            fill(part / name, generator, depth=2)
    fill(root, generator, depth=1)
    return root


def files_of(folder: Path) -> Iterator[Path]:
    """All that is no folder, in folders that are not hidden, behind no link."""
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name.lower() != "__macosx"]
        for name in [*files, *(name for name in folders if (Path(here) / name).is_symlink())]:
            if not name.startswith(".") and name.lower() not in ("thumbs.db", "desktop.ini"):
                yield Path(here) / name


@pytest.mark.parametrize("seed", range(40))
def test_no_file_is_lost_in_silence(seed: int, tmp_path: Path) -> None:
    root = make_tree(tmp_path / "photos", seed)
    found = read_class_folders(root, test_fraction=0.2)
    used = {path for path, _ in (*found.train, *found.test)}
    skipped = {each.path for each in found.skipped}
    assert not used & skipped
    if not found.problems:
        # of links to folders what is in them counts; beside train/ and test/ only what is called an image
        lost = {path for path in files_of(root) if not path.is_dir()} - used - skipped
        has_parts = (root / "train").is_dir()
        beside = {path for path in lost if has_parts and path.relative_to(root).parts[0] not in ("train", "test")}
        assert {path for path in beside if path.suffix in (".png", ".jpg", ".PNG", ".heic", ".gif")} == set()
        assert lost == beside


@pytest.mark.parametrize("seed", range(20))
def test_a_training_has_its_images_or_one_line(seed: int, tmp_path: Path) -> None:
    root = make_tree(tmp_path / "photos", seed)
    inspected, config = inspect_folder(root, test_fraction=0.2), DataConfig(name="folder", dir=str(root), image_size=8)
    if inspected.problems:
        with pytest.raises(DataError):
            FOLDER.load(config)
    else:
        loaded = FOLDER.load(config)
        assert len(loaded.train) + len(loaded.test) == len(inspected.seen)


@pytest.mark.parametrize("seed", range(8))
def test_nothing_of_it_commands_the_terminal(seed: int, tmp_path: Path) -> None:
    answer = invoke("data", make_tree(tmp_path / "photos", seed))
    assert answer.exit_code in (0, 1)
    for text in (answer.stdout, answer.stderr):
        assert not {"\x1b", "\u202e", "\udce9"} & set(text)
