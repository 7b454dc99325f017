"""Train from Python."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cpnas_cli.library.classifying import Classifier, load
from cpnas_cli.library.evaluating import Evaluated, evaluate
from cpnas_cli.library.paths import AnyPath
from cpnas_cli.library.searching import Event, Found
from cpnas_cli.library.settings import settings_of, source_of
from cpnas_cli.library.table import html_table, percent
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder, goes_on, settings_beside
from cpnas_cli.settings import DEFAULT_PRESET


@dataclass(frozen=True)
class Trained:
    """A training that has ended; in a notebook it is a table.

    Attributes:
      folder: of the run. document: `cpnas.result/1`.
    """

    folder: Path
    document: Mapping[str, Any] = field(repr=False)

    @property
    def accuracy(self) -> float:
        """Of the network that was trained, on the test images after the last epoch; a fraction."""
        return self.document["accuracy_test"]

    @property
    def accuracy_parent(self) -> float | None:
        """Of its Parent, if one was trained with it."""
        return self.document["accuracy_parent_test"]

    def evaluate(self, *, data_dir: AnyPath | None = None, device: str = "auto") -> Evaluated:
        """See `evaluate`."""
        return evaluate(self.folder, data_dir=data_dir, device=device)

    def export(self, kind: Literal["packed", "onnx", "c"] = "packed", *, out: AnyPath | None = None) -> Path:
        """Write the network for inference, as `cpnas export` does; returns the file, or the folder of C source.

        Raises:
          UsageError, CpnasError: see `cpnas export`.
        """
        from cpnas_cli.deploy.export import export_run

        return export_run(self.folder, format_=kind, out=None if out is None else Path(out)).file

    def load(self) -> Classifier:
        """The packed network, which is written if it is not there yet."""
        from cpnas_cli.deploy.packed_file import PACKED_NAME

        file = self.folder / PACKED_NAME
        return load(file if file.exists() else self.export())

    def _repr_html_(self) -> str:
        network = "1-bit Child" if self.document["network"] == "child" else "full-precision Parent"
        rows = [(f"{network}, test accuracy", percent(self.accuracy))]
        if self.document["network"] == "child" and self.accuracy_parent is not None:
            rows.append(("its Parent, test accuracy", percent(self.accuracy_parent)))
        rows += [
            ("size for inference", f"{self.document['size_bits'] / 8192:.1f} KiB"),
            ("epochs", str(self.document["num_epochs"])),
            ("test images", f"{self.document['num_test_images']:,}"),
        ]
        return html_table(rows, caption=str(self.folder))


def train(
    genotype: AnyPath | Found,
    *,
    out: AnyPath,
    preset: AnyPath | None = None,
    with_parent: bool = False,
    teacher: AnyPath | None = None,
    init_from: AnyPath | None = None,
    settings: Mapping[str, Any] | None = None,
    data_dir: AnyPath | None = None,
    seed: int | None = None,
    device: str = "auto",
    resume: bool = False,
    max_seconds: float | None = None,
    notify: Callable[[Event], None] = lambda _: None,
) -> Trained:
    """Train the 1-bit Child of a genotype, as `cpnas train` does, to its end.

    Args:
      genotype: what a search found, a genotype.json, or the folder of a search.
      preset: a preset's name or the path of a YAML file; None: the settings of the search that the genotype lies
        beside, or of the run that goes on, or else digits.
      with_parent: whether its Parent is trained too. teacher: the folder of a training whose network teaches it.
      init_from: the folder of a training of the same network, with whose weights it begins.
      out, settings, data_dir, seed, device, resume, max_seconds, notify: see `search`.

    Raises:
      UsageError, DataError, RunError, CheckpointError: see their texts. MaxTimeReached: saved; `resume` goes on.
    """
    from cpnas_cli.distributed.device import open_device
    from cpnas_cli.runs.opening import open_run_for
    from cpnas_cli.storage.documents import TRAINING_SCHEMA
    from cpnas_cli.storage.genotype_file import provenance_of, read_genotype
    from cpnas_cli.training.checks import check_of_genotype
    from cpnas_cli.training.trained_networks import trained_networks
    from cpnas_cli.training.training import Training

    path = genotype.genotype_file if isinstance(genotype, Found) else Path(genotype)
    parsed, document = read_genotype(path)
    beside = settings_beside(path if path.is_dir() else path.parent) if preset is None else None
    config = settings_of(
        source_of(out, resume=resume, preset=preset, otherwise=beside or DEFAULT_PRESET),
        settings=settings,
        values={
            "train.teacher": None if teacher is None else str(Path(teacher).resolve()),
            "train.init_from": None if init_from is None else str(Path(init_from).resolve()),
        },
        data_dir=data_dir,
        seed=seed,
        stored=goes_on(Path(out), resume=resume),
    )
    networks = trained_networks(config, ("child", "parent") if with_parent else ("child",))
    with open_run_for(
        config,
        folder=Path(out),
        fabric=open_device(device, dtype=config.train.dtype),
        resume=resume,
        deadline=Deadline(max_seconds),
        check=check_of_genotype(parsed, networks, Path(out)),
        documents={
            RunFolder.GENOTYPE: document,
            RunFolder.TRAINING: {"schema": TRAINING_SCHEMA, "networks": list(networks)},
        },
    ) as opened:
        training = Training(
            opened.run,
            config,
            parsed,
            opened.dataset,
            fabric=opened.fabric,
            networks=networks,
            provenance=provenance_of(document),
            deadline=opened.deadline,
            notify=notify,
        )
        return Trained(Path(out), training.train())
