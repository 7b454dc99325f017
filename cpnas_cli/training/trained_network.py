"""A trained network with all that it takes to use it, one record; its file, `cpnas.model/1`, is written and read here.

The file holds the weights and, in its header, a description: the settings, the genotype, the precision, the classes
in the order of the scores, and how images are normalized. Everything that comes from a file is checked before it is
used, also that the weights are those of the network described.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from cpnas_cli.errors import CheckpointError, GenotypeError, RunError, shell_word
from cpnas_cli.networks.layers import Surroundings, layers_of
from cpnas_cli.networks.network import Network, build_network
from cpnas_cli.networks.shapes import PRECISIONS, NetworkName, Precision
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.search_space import Genotype
from cpnas_cli.settings import STORED, Config, DataConfig, config_from_document
from cpnas_cli.storage.documents import MODEL_SCHEMA
from cpnas_cli.storage.genotype_file import genotype_document, parse_genotype, provenance_of
from cpnas_cli.storage.tensors import load_into, load_tensors, save_tensors

NETWORK_NAMES: tuple[NetworkName, ...] = ("child", "parent")  # those that have a file of this kind

_ADVICE = "restore the file, or train the network again"
_MAX_SHOWN = 200  # characters of what comes from the file, in an error's line


class Normalization(NamedTuple):
    """Of the channels of images with pixels in [0, 1]: (pixels - mean) / std."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A Child or a Parent with its weights.

    The weights are read together with the description, not when they are first used: what is wrong with a file is then
    said where it is read, and a training that replaces the file meanwhile cannot leave a description with other
    weights.

    Attributes:
      network: read from a file it is on the CPU, in evaluation mode.
      config: of its training.
      provenance: where the genotype comes from.
      classes: in the order of the scores.
      normalization: of the images that it was trained with.
      num_image_channels: 1 or 3.
    """

    network: Network
    config: Config
    genotype: Genotype
    provenance: Mapping[str, Any]
    classes: tuple[str, ...]
    normalization: Normalization
    num_image_channels: int

    @property
    def precision(self) -> Precision:
        return PRECISIONS[self.name]

    @property
    def name(self) -> NetworkName:
        return "child" if self.network.precision == "binary" else "parent"

    @property
    def image_size(self) -> int:
        """S, pixels."""
        return self.config.data.image_size

    def genotype_document(self) -> dict[str, Any]:
        """`cpnas.genotype/1`."""
        return genotype_document(self.genotype, provenance=self.provenance)

    def data_settings(self, data_dir: Path | None = None) -> DataConfig:
        """Its own data, or that of another folder, with the channels that it was trained with.

        Nothing is trained on another folder, so that no share of it has to validate.

        Raises:
          UsageError: its data set reads no folder.
        """
        document = self.config.model_dump(mode="json")
        document["data"]["num_channels"] = self.num_image_channels
        if data_dir is not None:
            document["data"] |= {"dir": str(data_dir.resolve()), "validation_fraction": 0.0}
        return config_from_document(document, stored=True).data

    def untrained_parent(self) -> Network:
        """The Parent of this network as it is before any training, in evaluation mode."""
        return build_network(
            self.config.network,
            precision="full",
            num_image_channels=self.num_image_channels,
            num_classes=len(self.classes),
            seed=self.config.seed,
            genotype=self.genotype,
        ).eval()


# ---------------------------------------------------------------- in a run's folder


def save_trained(run: RunFolder, trained: TrainedNetwork, *, asked_for: NetworkName) -> None:
    """The network that was asked for is the run's model; a Parent beside its Child has a file of its own.

    Raises:
      RunError: it cannot be written.
    """
    write_trained(trained, run.file(RunFolder.MODEL if trained.name == asked_for else RunFolder.PARENT_MODEL))


def trained_files(run: RunFolder) -> list[Path]:
    """The files of a run's trained networks: of the one that was asked for, then of its Parent.

    Raises:
      RunError: there is none.
    """
    files = [run.file(name) for name in (RunFolder.MODEL, RunFolder.PARENT_MODEL) if run.file(name).exists()]
    if not files:
        raise RunError(
            f"{run.path} holds no trained network; `cpnas train GENOTYPE --out {shell_word(run.path)}` makes one"
        )
    return files


def read_trained(run: RunFolder, network: str | None = None) -> TrainedNetwork:
    """The Child or the Parent of a run; without `network` the one that was asked for.

    Raises:
      RunError: the run has none of this kind. CheckpointError: a file is damaged or not of this version.
    """
    for file in trained_files(run):
        trained = _read_of_run(file)
        if network in (None, trained.name):
            return trained
    raise RunError(f"{run.path} holds no trained {network}; leave out --network, or name another run")


def read_all_trained(run: RunFolder) -> list[TrainedNetwork]:
    """Every network of a run: the one that was asked for, then its Parent where it has one of its own.

    Raises:
      RunError: there is none. CheckpointError: a file is damaged or not of this version, or the two are no pair.
    """
    files = trained_files(run)
    found = [_read_of_run(file) for file in files]
    if len(found) > 1 and not _are_a_pair(*found):
        raise CheckpointError(f"{files[1]} is not the Parent of the network in {files[0]}; move one of them away")
    return found


def read_named(path: Path, network: str | None = None) -> TrainedNetwork:
    """The network of a file, as best.safetensors; or one of the run in a folder, see `read_trained`.

    Raises:
      RunError: it is not of this kind. CheckpointError.
    """
    if not os.path.isfile(path):
        return read_trained(RunFolder(path), network)
    trained = read_trained_file(path)
    if network not in (None, trained.name):
        raise RunError(f"{path} holds a {trained.name}, no {network}; leave out --network, or name another file")
    return trained


def read_all_named(path: Path) -> list[TrainedNetwork]:
    """The network of a file; or all of the run in a folder, see `read_all_trained`.

    Raises:
      RunError, CheckpointError: see there.
    """
    return [read_trained_file(path)] if os.path.isfile(path) else read_all_trained(RunFolder(path))


def _are_a_pair(first: TrainedNetwork, second: TrainedNetwork) -> bool:
    def shared(trained: TrainedNetwork) -> tuple[Any, ...]:
        return trained.config.network, trained.genotype, trained.classes, trained.normalization

    return first.name != second.name and shared(first) == shared(second)


def _read_of_run(file: Path) -> TrainedNetwork:
    trained = read_trained_file(file)
    if file.name == RunFolder.PARENT_MODEL and trained.name != "parent":
        raise CheckpointError(f"{file} is a 1-bit Child; expected a full-precision Parent; {_ADVICE}")
    return trained


# ---------------------------------------------------------------- the file


class _Description(BaseModel):
    """The state in the header of a file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    config: Config
    genotype: dict[str, Any]
    precision: Precision
    classes: tuple[str, ...] = Field(min_length=1)
    mean: tuple[Annotated[float, Field(ge=0, le=1, strict=True)], ...]
    std: tuple[Annotated[float, Field(gt=0, le=1, strict=True)], ...]
    num_image_channels: Literal[1, 3]

    @model_validator(mode="after")
    def _every_channel_is_normalized(self) -> Self:
        if not len(self.mean) == len(self.std) == self.num_image_channels:
            raise ValueError(f"expected mean and std of {self.num_image_channels} channels")
        return self

    @model_validator(mode="after")
    def _has_a_genotype(self) -> Self:
        try:
            parse_genotype(self.genotype)
            json.dumps(provenance_of(self.genotype), allow_nan=False)  # it goes on into JSON documents
        except (GenotypeError, ValueError) as error:
            raise ValueError(f"genotype: {error}") from None
        return self


def write_trained(trained: TrainedNetwork, path: Path) -> None:
    """Replace the file by this network.

    Raises:
      RunError: it cannot be written; the old file is as it was.
    """
    state = {
        "config": trained.config.model_dump(mode="json"),
        "genotype": trained.genotype_document(),
        "precision": trained.precision,
        "classes": list(trained.classes),
        "mean": list(trained.normalization.mean),
        "std": list(trained.normalization.std),
        "num_image_channels": trained.num_image_channels,
    }
    save_tensors(path, trained.network.state_dict(), schema=MODEL_SCHEMA, state=state)


def read_trained_file(path: Path) -> TrainedNetwork:
    """The network of a file, on the CPU in evaluation mode.

    Raises:
      CheckpointError: there is no such file, it is truncated or of another schema, its description lacks something, has
        something unknown or out of range, or the weights are not finite or not those of the network described.
    """
    tensors, state = load_tensors(path, schema=MODEL_SCHEMA)
    try:
        description = _Description.model_validate(state, context=STORED)
    except ValidationError as error:
        raise CheckpointError(f"{path} {_reason(error)}; {_ADVICE}") from None
    genotype = parse_genotype(description.genotype)
    _check_size(description, genotype, tensors, path)
    network = build_network(
        description.config.network,
        precision=description.precision,
        num_image_channels=description.num_image_channels,
        num_classes=len(description.classes),
        seed=description.config.seed,
        genotype=genotype,
    )
    load_into(network, tensors, path=path)
    _check_finite(tensors, path)
    return TrainedNetwork(
        network.eval(),
        description.config,
        genotype,
        provenance_of(description.genotype),
        description.classes,
        Normalization(description.mean, description.std),
        description.num_image_channels,
    )


def _check_size(description: _Description, genotype: Genotype, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse a small file that describes a large network, before that takes memory."""
    shape = Surroundings(description.config.data.image_size, description.num_image_channels, len(description.classes))
    layers = layers_of(description.config.network, genotype, shape, precision=description.precision)
    needed = sum(layer.num_binary_weights + layer.num_real_weights for layer in layers)
    found = sum(tensor.numel() for tensor in tensors.values())
    if needed > found:
        raise CheckpointError(f"{path} describes a network of {needed:,} weights and holds {found:,} values; {_ADVICE}")


def _check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path} has values in {name} that are not finite; {_ADVICE}")


def _reason(error: ValidationError) -> str:
    """What is wrong with a description first: the key, what was expected, what came."""
    first = error.errors()[0]
    place = first["loc"]
    key = _cut(".".join(map(str, place)).encode("unicode_escape").decode())
    fields = {1: _Description.model_fields, 2: Config.model_fields}.get(len(place), {})
    expected = f"; expected {', '.join(fields)}" if fields else ""
    if first["type"] == "missing":
        return f"lacks {key}{expected}"
    if first["type"] == "extra_forbidden":
        return f"has {key}, which this version does not know{expected}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":  # of ours, which says all
        return f"has a wrong {key or 'description'}: {_cut(message)}"
    return f"has a wrong {key}: {message[0].lower()}{message[1:]}, got {_cut(repr(first['input']))}"


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."
