"""Which network is meant: a genotype, its settings, and the images and classes around it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cpnas_cli import registry
from cpnas_cli.errors import RunError, UsageError
from cpnas_cli.networks.layers import Surroundings
from cpnas_cli.runs.folder import RunFolder, settings_beside
from cpnas_cli.search_space import Genotype
from cpnas_cli.settings import DEFAULT_PRESET, Config, DataConfig, NetworkConfig, load_config
from cpnas_cli.storage.documents import read_document
from cpnas_cli.storage.genotype_file import read_genotype


@dataclass(frozen=True)
class NamedNetwork:
    """A genotype with all that its network depends on.

    Attributes:
      path: the genotype or run that was named. source: where the settings come from, for people.
    """

    path: Path
    genotype: Genotype
    network: NetworkConfig
    shape: Surroundings
    source: str


def read_named_network(
    path: Path,
    *,
    preset: str | None = None,
    overrides: Sequence[str] = (),
    num_image_channels: int | None = None,
    num_classes: int | None = None,
) -> NamedNetwork:
    """The network of a genotype file, of a search or of a training; no image is read.

    Args:
      path: a training's folder has settings of its own. A genotype takes those of the run that it lies
        in, or of the default preset.
      preset, overrides: as in `load_config`.
      num_image_channels, num_classes: where they are not those of the data set.

    Raises:
      GenotypeError, UsageError, RunError.
    """
    genotype, _ = read_genotype(path)
    run = RunFolder(path if path.is_dir() else path.parent)
    trained = path.is_dir() and (run.file(RunFolder.TRAINING).exists() or run.file(RunFolder.MODEL).exists())
    if trained and (preset or overrides or num_image_channels or num_classes):
        raise UsageError(
            f"{path} is a training, whose network is fixed; leave out --preset, --set, --image-channels and "
            f"--num-classes, or name {path / RunFolder.GENOTYPE} instead"
        )
    beside = settings_beside(run.path) if preset is None else None
    source = preset if preset is not None else beside or DEFAULT_PRESET
    config = load_config(source, overrides=overrides, stored=beside is not None)
    known = _recorded(run, config.data) or _known(config.data)
    channels, classes = num_image_channels or known[0], num_classes or known[1]
    if channels is None or classes is None:
        lacking = [
            option
            for option, value in (("--image-channels 1 or 3", channels), ("--num-classes N", classes))
            if value is None
        ]
        raise UsageError(f"data.name={config.data.name} does not say what its images are; add {' and '.join(lacking)}")
    shape = Surroundings(config.data.image_size, channels, classes)
    return NamedNetwork(path, genotype, config.network, shape, str(beside) if beside else f"preset {source}")


def _known(data: DataConfig) -> tuple[int | None, int | None]:
    source = registry.registered(registry.DATASETS, data.name)
    return data.num_channels or source.num_image_channels, source.num_classes


def _recorded(run: RunFolder, data: DataConfig) -> tuple[int, int] | None:
    """Channels and classes of the images that the run has seen, if these are the images meant."""
    file = run.file(RunFolder.DATASET)
    if not (file.exists() and run.file(RunFolder.CONFIG).exists()) or not _same_images(run.config(), data):
        return None
    document = read_document(file)
    match document:
        case {"image_shape": [int(channels), int(), int()], "classes": [_, _, *_] as classes}:
            return channels, len(classes)
    raise RunError(f"{file} does not say image_shape and classes; restore the file or start a new run")


def _same_images(config: Config, data: DataConfig) -> bool:
    return all(getattr(config.data, key) == getattr(data, key) for key in ("name", "dir", "num_channels"))
