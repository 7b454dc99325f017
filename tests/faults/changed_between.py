"""What is changed between the start of a training and its `--resume`: refused by name, or without effect."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import made_runs
from photos import make_photos
from PIL import Image
from safetensors.numpy import load_file


@dataclass(frozen=True)
class Change:
    """
    Attributes:
      make: changes what is there, of the run and of its photos; returns words that are typed besides.
      says: what the refusal names; None: it goes on to the same weights.
    """

    make: Callable[[Path, Path], list[str]]
    says: str | None


def _pixel(run: Path, photos: Path) -> list[str]:
    del run
    path = photos / "train/disc/000.png"
    image = Image.open(path)
    image.putpixel((3, 3), (1, 2, 3))
    image.save(path)
    return []


def _image_more(run: Path, photos: Path) -> list[str]:
    del run
    shutil.copy(photos / "train/disc/000.png", photos / "train/disc/more.png")
    return []


def _image_gone(run: Path, photos: Path) -> list[str]:
    del run
    (photos / "train/box/001.png").unlink()
    return []


def _class_renamed(run: Path, photos: Path) -> list[str]:
    del run
    for part in ("train", "test"):
        (photos / part / "disc").rename(photos / part / "dial")
    return []


def _folder_gone(run: Path, photos: Path) -> list[str]:
    del run
    shutil.rmtree(photos)
    return []


def _another_setting(run: Path, photos: Path) -> list[str]:
    del run, photos
    return ["--set", "train.learning_rate=0.5"]


def _config(run: Path, photos: Path) -> list[str]:
    del photos
    path = run / "config.yaml"
    path.write_text(path.read_text().replace("num_epochs: 2", "num_epochs: 3"))
    return []


def _another_seed(run: Path, photos: Path) -> list[str]:
    del run, photos
    return ["--seed", "1"]


def _time_of_files(run: Path, photos: Path) -> list[str]:
    for path in [*photos.rglob("*.png"), *run.rglob("*")]:
        path.touch()
    return []


def _moved(run: Path, photos: Path) -> list[str]:
    del run
    return ["--data-dir", str(photos.rename(photos.with_name("moved")))]


CHANGES = {
    "one pixel of an image": Change(_pixel, "images"),
    "one image more": Change(_image_more, "images"),
    "one image less": Change(_image_gone, "images"),
    "a class renamed": Change(_class_renamed, "other images"),
    "the images removed": Change(_folder_gone, "no data folder"),
    "another setting typed": Change(_another_setting, "train.learning_rate"),
    "another seed typed": Change(_another_seed, "seed"),
    "config.yaml edited": Change(_config, "config.yaml was changed"),
    "times of all files": Change(_time_of_files, None),
    "the images moved, and named": Change(_moved, None),
}


def weights(run: Path) -> dict[str, bytes]:
    """Of a trained network, whose file also says where its images were."""
    return {name: array.tobytes() for name, array in load_file(run / "model.safetensors").items()}


def outcomes(made: Path) -> dict[str, str]:
    """Of each change: "refused", "the same", or what is wrong."""
    place, log = made / "changed", made / "log"
    photos = place / "photos"
    make_photos(photos / "train", count=20, size=8)
    make_photos(photos / "test", count=5, size=8)
    options = ["--set", "data.name=folder", "--set", "data.num_channels=3", *made_runs.OPTIONS]
    options += ["--set", "data.num_train=null", "--set", "data.num_test=null", "--data-dir", str(photos)]
    words = ["train", str(made / "search/genotype.json"), *options, "--out", str(place / "run")]
    started = made_runs.run(log, *words, "--max-time", "0.01s")
    assert started.code == 75, started.stderr
    shutil.copytree(place, kept := made / "kept")
    whole = made_runs.run(log, *words, "--resume")
    assert whole.code == 0, whole.stderr
    expected, found = weights(place / "run"), dict[str, str]()
    for name, change in CHANGES.items():
        shutil.rmtree(place)
        shutil.copytree(kept, place)
        more = change.make(place / "run", photos)
        ended = made_runs.run(log, "train", "--out", str(place / "run"), "--resume", *more)
        if change.says is None:
            same = ended.code == 0 and weights(place / "run") == expected
            found[name] = "the same" if same else f"DIFFERENT ({ended.code}: {ended.stderr[-300:]})"
        else:
            refused = ended.code in (1, 2) and change.says in ended.stderr and "Traceback" not in ended.stderr
            found[name] = "refused" if refused else f"DIFFERENT ({ended.code}: {ended.stderr[-300:]})"
    return found
