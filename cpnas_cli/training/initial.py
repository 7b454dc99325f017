"""What a training begins with: the weights of a former training of the same network, if its settings name one.

More epochs, more images, or other classes, for which the classifier alone is fresh. Optimizer, moving average, class
means and auxiliary head start afresh, and images are normalized by their own mean and deviation.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpnas_cli.data.dataset import Dataset
from cpnas_cli.errors import RunError, UsageError, shell_word
from cpnas_cli.networks.network import Network, build_network
from cpnas_cli.networks.shapes import PRECISIONS, NetworkName
from cpnas_cli.runs.folder import RunFolder, differing_operations
from cpnas_cli.search_space import Genotype
from cpnas_cli.settings import Config
from cpnas_cli.storage.tensors import load_into
from cpnas_cli.training.network_training import NetworkTraining
from cpnas_cli.training.trained_network import TrainedNetwork, read_trained_file, trained_files

_CLASSIFIER = "classifier."
_MOST_NAMED = 3  # differences in an error's line


@dataclass(frozen=True, eq=False)
class InitialWeights:
    """Of one network.

    Attributes:
      file: where they are from.
      has_classifier: whether they go as far as the scores: the classes are the same, in the same order.
    """

    file: Path
    trained: TrainedNetwork
    has_classifier: bool

    def load_into(self, network: Network) -> None:
        """The network becomes what was trained, but for a classifier of other classes.

        Raises:
          CheckpointError: it is another network, see `initial_weights`.
        """
        weights = dict(self.trained.network.state_dict())
        if not self.has_classifier:
            own = network.state_dict()
            weights = {name: own[name] if name.startswith(_CLASSIFIER) else weights[name] for name in weights}
        load_into(network, weights, path=self.file)

    def record(self) -> dict[str, Any]:
        """What the result says of it: the file and a hash (BLAKE2) of its bytes, and which classifier it is."""
        digest = hashlib.blake2b(self.file.read_bytes(), digest_size=16).hexdigest()
        return {"file": str(self.file), "hash": digest, "classifier": "kept" if self.has_classifier else "fresh"}

    def note(self, name: NetworkName, classes: tuple[str, ...]) -> str:
        """One line for the user."""
        text = f"the {name} begins with the weights of {self.file}"
        if self.has_classifier:
            return text
        return f"{text}; its classifier is fresh, for {len(classes)} classes and not those {len(self.trained.classes)}"


def begin(
    training: NetworkTraining, config: Config, genotype: Genotype, dataset: Dataset, *, is_wanted: bool
) -> str | None:
    """Give a network the weights that its settings name, before its first epoch; returns a line for the user.

    Args, Raises: see `initial_weights`.
    """
    if config.train.init_from is None:
        return None
    name = training.name
    weights = initial_weights(name, config, genotype, dataset, is_wanted=is_wanted)
    if weights is None:
        return f"{config.train.init_from} holds no {name}; this one begins with its own draw"
    training.begin_with(weights.load_into, record=weights.record())
    return weights.note(name, dataset.classes)


def initial_weights(
    name: NetworkName, config: Config, genotype: Genotype, dataset: Dataset, *, is_wanted: bool
) -> InitialWeights | None:
    """The weights that a network begins with; None: its own draw.

    Args:
      is_wanted: whether the former training must have this network, as the one that is asked for; a Parent that only
        teaches or stands beside begins with its own draw where there was none.

    Raises:
      UsageError: there is no such training, or it trained another network; says in what they differ. CheckpointError.
    """
    source = config.train.init_from
    if source is None:
        return None
    found = _read(Path(source), name)
    if found is None:
        if not is_wanted:
            return None
        raise UsageError(
            f"{shell_word(source)} holds no trained {name}; name another training with --init-from, or leave it out"
        )
    file, trained = found
    differences = _differences(trained, config, genotype, dataset)
    if differences:
        raise UsageError(
            f"the {name} of {shell_word(source)} is another network ({'; '.join(differences[:_MOST_NAMED])}); "
            "--init-from takes the weights of the same: leave out GENOTYPE and --preset for its genotype and settings"
        )
    return InitialWeights(file, trained, has_classifier=trained.classes == dataset.classes)


def _read(place: Path, name: NetworkName) -> tuple[Path, TrainedNetwork] | None:
    """The file with the network of this name, in a run's folder or the file itself; None without it.

    Raises:
      UsageError: there is no training. CheckpointError.
    """
    try:
        files = [place] if place.is_file() else trained_files(RunFolder(place))
    except (RunError, OSError):
        what = "holds no trained network" if place.exists() else "does not exist"
        raise UsageError(
            f"{shell_word(place)} {what}; --init-from expects the folder of a training, or its model.safetensors"
        ) from None
    for file in files:
        trained = read_trained_file(file)
        if trained.name == name:
            return file, trained
    return None


def _differences(trained: TrainedNetwork, config: Config, genotype: Genotype, dataset: Dataset) -> list[str]:
    """ "what there, what now" of all that makes it another network; empty if the weights fit, but the classifier's."""
    if trained.genotype != genotype:
        return differing_operations(trained.genotype, genotype)
    if trained.num_image_channels != dataset.num_image_channels:
        return [f"image channels: {trained.num_image_channels} there, {dataset.num_image_channels} now"]
    expected = build_network(
        config.network,
        precision=PRECISIONS[trained.name],
        num_image_channels=dataset.num_image_channels,
        num_classes=len(trained.classes),
        seed=config.seed,
        genotype=genotype,
    )
    if _shapes(expected) == _shapes(trained.network):
        return []
    there, now = (each.model_dump(mode="json") for each in (trained.config.network, config.network))
    return [f"network.{key}: {there[key]} there, {now[key]} now" for key in now if there[key] != now[key]]


def _shapes(network: Network) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
