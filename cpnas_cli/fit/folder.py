"""The folder of a fit: what was asked and chosen (`fit.json`), and the runs that it is made of.

What is chosen is written once, before anything is trained by it, and read whenever the fit goes on: seconds are never
measured twice, so that a fit that was killed goes on as the same one.
"""

import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cpnas_cli.errors import RunError, UsageError
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.settings import Config, load_config
from cpnas_cli.storage.documents import FIT_SCHEMA, read_document, write_json

PRESET = "folder"
DEFAULT_MAX_SIZE, DEFAULT_TIME = "64KiB", "20m"


@dataclass(frozen=True)
class Asked:
    """What was typed.

    Attributes:
      photos: the folder, from the root of the file system.
      max_size, max_latency: budgets, see `settings.amounts`. time: for all of it, see `parse_duration`.
      settings: "section.key=value" texts.
    """

    photos: str
    max_size: str = DEFAULT_MAX_SIZE
    max_latency: str | None = None
    time: str = DEFAULT_TIME
    search: bool = False
    seed: int = 0
    settings: tuple[str, ...] = ()

    @property
    def keys(self) -> set[str]:
        """Settings that are not to be chosen."""
        return {text.partition("=")[0].strip() for text in self.settings}

    def config(self, choices: Collection[Mapping[str, Any]] = ()) -> Config:
        """The settings of the training, as far as they are chosen.

        Args:
          choices: as in `fit.json`.

        Raises:
          UsageError: a setting or a budget is none, or two do not fit together.
        """
        values = {
            "seed": self.seed,
            "data.name": "folder",
            "data.dir": self.photos,
            "search.max_size": self.max_size,
            "search.max_latency": self.max_latency,
        }
        chosen = {each["setting"]: each["value"] for each in choices if each["setting"] not in self.keys}
        return load_config(PRESET, overrides=self.settings, values=values | chosen)

    def document(self) -> dict[str, Any]:
        """As `fit.json` keeps it."""
        return asdict(self) | {"settings": list(self.settings)}

    @staticmethod
    def of_document(document: Mapping[str, Any]) -> "Asked":
        """The reverse of `document`."""
        return Asked(**{**document, "settings": tuple(document["settings"])})


@dataclass(frozen=True)
class FitFolder:
    """The folder of a fit, and what is in it."""

    path: Path

    @property
    def document(self) -> Path:
        return self.path / "fit.json"

    @property
    def search(self) -> RunFolder:
        return RunFolder(self.path / "search")

    @property
    def training(self) -> RunFolder:
        return RunFolder(self.path / "train")

    @property
    def c_source(self) -> Path:
        return self.path / "c"

    def read(self) -> dict[str, Any] | None:
        """`fit.json`; None if there is none.

        Raises:
          RunError: it is damaged, or something else lies in the folder.
        """
        if not self.document.exists():
            self._check_unused()
            return None
        document = read_document(self.document)
        try:
            if document["schema"] != FIT_SCHEMA:
                raise RunError(f"{self.document}: expected schema {FIT_SCHEMA!r}, got {document['schema']!r}")
            Asked.of_document(document["asked"])
        except (LookupError, TypeError) as error:
            raise RunError(f"{self.document} is damaged ({error}); restore it, or choose another --out") from None
        return document

    def _check_unused(self) -> None:
        try:
            names = os.listdir(self.path) if self.path.exists() else []
        except OSError as error:
            raise RunError(f"cannot use {self.path}: {error.strerror or error}; choose another --out") from None
        if any(not name.startswith(".") for name in names):
            raise RunError(f"{self.path} is not empty and holds no fit; choose another --out")

    def make(self) -> None:
        """
        Raises:
          RunError: it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot make {self.path}: {error.strerror or error}; choose another --out") from None

    def write(self, document: Mapping[str, Any]) -> None:
        write_json(self.document, document)


def is_planned(document: Mapping[str, Any]) -> bool:
    """Whether all is chosen, the number of epochs last."""
    return document["seconds"]["training_planned"] is not None


def same_fit(document: Mapping[str, Any], asked: Asked, folder: Path) -> dict[str, Any]:
    """The document of a fit that goes on; more time may be given as long as the training is not planned.

    Raises:
      RunError: something else is asked than it was started with.
    """
    there, now = document["asked"], asked.document()
    free = () if is_planned(document) else ("time",)
    for key, value in now.items():
        if there.get(key) != value and key not in free:
            raise RunError(
                f"{folder} was started with another {key}: {there.get(key)!r} there, {value!r} now; "
                "choose another --out"
            )
    return {**document, "asked": now}


def asked_there(folder: Path) -> Asked:
    """What the fit in a folder was asked for.

    Raises:
      UsageError: there is none. RunError: see `FitFolder.read`.
    """
    if not FitFolder(folder).document.exists():
        raise UsageError(f"no fit to resume in {folder}; name PHOTOS to start one, or check the name")
    document = FitFolder(folder).read()
    assert document is not None
    return Asked.of_document(document["asked"])
