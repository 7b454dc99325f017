"""What goes into a run: the settings, the presets that name complete sets of them, and overrides.

Settings are frozen; unknown keys are refused with the nearest valid name.
"""

import datetime
import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cpnas_cli.errors import UsageError

DEFAULT_PRESET = "digits"

DataName = Literal["digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "folder"]
StrategyName = Literal["cpnas", "bnas", "random", "pcdarts"]
EstimatorName = Literal["clipped", "polynomial"]
RealPart = Literal["preprocessing", "factorized_reduction"]
OptimizerName = Literal["sgd", "adam"]
DtypeName = Literal["float32", "bfloat16"]
EngineName = Literal["eager", "graphs"]

STRATEGIES: tuple[str, ...] = get_args(StrategyName)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataConfig(_Section):
    """The images: which, where, how large, and how they are varied in training."""

    name: DataName = "digits"
    dir: str | None = None  # folder of the data set; none is needed for digits
    image_size: int = Field(default=8, ge=4, le=1024)  # pixels, square; images are resized to it
    num_channels: Literal[1, 3] | None = None  # null: 1 if every image is grey, else 3
    num_train: int | None = Field(default=None, ge=2)  # a fixed, class-balanced subset; null: all
    num_test: int | None = Field(default=None, ge=1)
    crop_padding: int = Field(default=0, ge=0)  # pixels around the image for the random crop; 0: no crop
    flip: bool = False  # mirror left and right
    cutout: int = Field(default=0, ge=0)  # side of the square that is set to the mean, pixels; 0: none


class NetworkConfig(_Section):
    """The network that a genotype becomes."""

    num_cells: int = Field(default=3, ge=3, le=100)  # with the 2 reduction cells
    num_channels: int = Field(default=16, ge=2, le=1024, multiple_of=2)  # of a node of the first cell
    stem_multiplier: int = Field(default=3, ge=1, le=8)  # the stem has this many times num_channels
    stem_stride: Literal[1, 2, 4] = 1
    estimator: EstimatorName = "clipped"  # pseudo-gradient of the sign of activations
    real_parts: tuple[RealPart, ...] = ()  # kept in full precision in the Child; (): full W1A1
    shortcut: bool = True  # a real-valued, parameter-free shortcut around the preprocessing


class SearchConfig(_Section):
    """Algorithm 9."""

    strategy: StrategyName = "cpnas"
    beta_p: float = Field(default=2.0, ge=0)  # (4.15)
    num_passes: int = Field(default=1, ge=1)  # T
    num_cells: int | None = Field(default=None, ge=3, le=100)  # of the shared network; null: network.num_cells
    num_channels: int | None = Field(default=None, ge=2, le=1024, multiple_of=2)  # null: network.num_channels
    batch_size: int = Field(default=64, ge=2)
    optimizer: OptimizerName = "sgd"
    learning_rate: float = Field(default=0.05, gt=0)
    learning_rate_min: float = Field(default=0.001, ge=0)  # where the cosine over all draws ends
    momentum: float = Field(default=0.9, ge=0, lt=1)  # SGD only
    weight_decay: float = Field(default=3e-4, ge=0)
    clip_norm: float = Field(default=5.0, gt=0)  # norm of the gradient at most
    validation_fraction: float = Field(default=0.5, gt=0, lt=1)  # of the training set
    num_calibration_batches: int = Field(default=4, ge=1)  # batch norm statistics before each evaluation
    random_draw: int = Field(default=0, ge=0)  # which of the seed's draws the random strategy gives
    engine: EngineName = "eager"  # graphs: the steps of a draw as CUDA graphs; for cpnas and bnas, CUDA only
    dtype: DtypeName = "float32"  # of activations and convolutions in training; weights are float32 always


class PcDartsConfig(_Section):
    """The search of `pcdarts`; the defaults are those of its public code."""

    num_epochs: int = Field(default=50, ge=1)
    frozen_epochs: int = Field(default=15, ge=0)  # the first ones, in which the architecture parameters stay
    partial_channels: int = Field(default=4, ge=2, le=64)  # 1 / this many channels go through the mixed operation
    batch_size: int = Field(default=256, ge=2)
    optimizer: OptimizerName = "sgd"
    learning_rate: float = Field(default=0.1, gt=0)
    learning_rate_min: float = Field(default=0.001, ge=0)  # where the cosine over all epochs ends
    momentum: float = Field(default=0.9, ge=0, lt=1)  # SGD only
    weight_decay: float = Field(default=3e-4, ge=0)
    clip_norm: float = Field(default=5.0, gt=0)
    architecture_learning_rate: float = Field(default=6e-4, gt=0)  # of Adam with beta1 0.5
    architecture_weight_decay: float = Field(default=1e-3, ge=0)


class TrainConfig(_Section):
    """The training of the final network, with (4.17) and (4.18)."""

    num_epochs: int = Field(default=40, ge=1)
    batch_size: int = Field(default=64, ge=2)
    optimizer: OptimizerName = "adam"
    learning_rate: float = Field(default=0.005, gt=0)
    learning_rate_min: float = Field(default=0.0, ge=0)  # where the cosine ends
    warmup_epochs: int = Field(default=0, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)  # SGD only
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float = Field(default=5.0, gt=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    kernel_weight: float = Field(default=0.001, ge=0)  # of the first term of (4.17); 0: without it
    lambda_compactness: float = Field(default=1e-5, ge=0)  # lambda of (4.17); 0: without it
    class_mean_rate: float = Field(default=0.5, gt=0, le=1)  # of the running class means
    gradient_accumulation_steps: int = Field(default=1, ge=1)  # parts of a batch, each with statistics of its own
    dtype: DtypeName = "float32"  # of activations and convolutions in training; weights are float32 always
    compile: bool = False  # torch.compile

    @model_validator(mode="after")
    def _parts_are_equal(self) -> Self:
        if self.batch_size % self.gradient_accumulation_steps:
            raise ValueError(
                f"train.batch_size={self.batch_size} does not go through in {self.gradient_accumulation_steps} equal "
                "parts; choose a train.gradient_accumulation_steps that divides it"
            )
        if self.batch_size == self.gradient_accumulation_steps:
            raise ValueError(
                "train.gradient_accumulation_steps leaves one image at a time, which has no batch statistics; "
                f"at most {self.batch_size // 2}"
            )
        return self


class Config(_Section):
    """A complete run."""

    seed: int = Field(default=0, ge=0)
    data: DataConfig = DataConfig()
    network: NetworkConfig = NetworkConfig()
    search: SearchConfig = SearchConfig()
    pcdarts: PcDartsConfig = PcDartsConfig()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _bnas_is_beta_zero(self) -> Self:
        """bnas is cpnas at beta_P = 0, whatever a preset says."""
        if self.search.strategy == "bnas" and self.search.beta_p != 0:
            return self.model_copy(update={"search": self.search.model_copy(update={"beta_p": 0.0})})
        return self

    @model_validator(mode="after")
    def _digits_need_no_folder(self) -> Self:
        if self.data.name == "digits" and self.data.dir is not None:
            raise ValueError(
                "data.name=digits reads no folder; for your own images use --preset folder, or --set data.name=folder"
            )
        return self

    @model_validator(mode="after")
    def _two_reductions(self) -> Self:
        factor = 4 * self.network.stem_stride
        if self.data.image_size % factor:
            raise ValueError(
                f"data.image_size must be a multiple of {factor} to survive two reductions "
                f"at network.stem_stride={self.network.stem_stride}, got {self.data.image_size}"
            )
        return self

    def search_network(self) -> NetworkConfig:
        """The network settings of the shared network: `search.num_cells` and `.num_channels` where given."""
        return self.network.model_copy(
            update={
                "num_cells": self.search.num_cells or self.network.num_cells,
                "num_channels": self.search.num_channels or self.network.num_channels,
            }
        )


def presets_folder() -> Path:
    """`presets/` inside the installed package, or beside it in a source checkout."""
    package = Path(__file__).parent
    for folder in (package / "presets", package.parent / "presets"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"the presets are missing from the installation in {package}")


def preset_names() -> list[str]:
    return sorted(path.stem for path in presets_folder().glob("*.yaml"))


def preset_text(name: str) -> str:
    """The YAML of a preset, comments and all.

    Raises:
      UsageError: no preset has this name.
    """
    names = preset_names()
    if name not in names:
        raise UsageError(f"unknown preset {name!r}{_nearest(name, names)}; choose from {', '.join(names)}")
    return (presets_folder() / f"{name}.yaml").read_text(encoding="utf-8")


def preset_summary(name: str) -> str:
    """The first sentence of a preset's opening comment."""
    comment = []
    for line in preset_text(name).splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# ").strip())
    return " ".join(comment).partition(". ")[0].rstrip(".")


def load_config(
    source: str | Path = DEFAULT_PRESET, *, overrides: Sequence[str] = (), values: Mapping[str, Any] | None = None
) -> Config:
    """The settings of a preset or a YAML file, with changes.

    Args:
      source: a preset's name, or the path of a YAML file (a path ends in .yaml or .yml).
      overrides: "section.key=value" texts, the value in YAML; later ones win.
      values: {"section.key": value}, applied last; a value that is None is left out.

    Raises:
      UsageError: unknown preset or key, unreadable file, or a value out of range.
    """
    document = _parse_yaml(*_read_source(source))
    for key, value in (_parse_override(text) for text in overrides):
        _set(document, key, value)
    for key, value in (values or {}).items():
        if value is not None:
            _set(document, key, value)
    return config_from_document(document)


def config_from_document(document: Mapping[str, Any]) -> Config:
    """Validate a nested mapping of settings.

    Raises:
      UsageError: an unknown key, or a value out of range.
    """
    _refuse_unknown_keys(document, Config)
    try:
        return Config.model_validate(document)
    except ValidationError as error:
        raise UsageError(f"{_describe(error)}; `cpnas presets show {DEFAULT_PRESET}` lists the settings") from None


def config_yaml(config: Config) -> str:
    """The resolved settings as YAML that `load_config` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def flat_settings(config: Config) -> dict[str, Any]:
    """{"section.key": value} of every setting."""
    return dict(_flatten(config.model_dump(mode="json")))


def differing_settings(old: Config, new: Config) -> list[str]:
    """ "key: old there, new now" of every setting that differs."""
    before, after = flat_settings(old), flat_settings(new)
    return [f"{key}: {before[key]!r} there, {after[key]!r} now" for key in before if before[key] != after[key]]


def _read_source(source: str | Path) -> tuple[str, str]:
    path = Path(source)
    if path.suffix not in (".yaml", ".yml"):
        return preset_text(str(source)), f"preset {source}"
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the settings file {path}: {error}") from None


def _parse_yaml(text: str, origin: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # a ValueError for a date that does not exist, for one
        raise UsageError(f"{origin} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise UsageError(f"{origin} holds no settings; expected sections such as data, network, search, train")
    return document


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set expects section.key=value, got {text!r}; for example --set search.num_passes=2")
    try:
        return key.strip(), _yaml_value(value)
    except (yaml.YAMLError, ValueError):
        raise UsageError(f"--set {key}: {value!r} is not a YAML value") from None


def _yaml_value(text: str) -> Any:
    value = yaml.safe_load(text)
    if isinstance(value, datetime.date):
        return str(value)
    if isinstance(value, str) and not text.strip().startswith(("'", '"')):  # YAML 1.1 reads 1e-3 as a text
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _set(document: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        inner = document.setdefault(section, {})
        if not isinstance(inner, dict):
            raise UsageError(f"unknown setting {key!r}: {section} is a value, not a section")
        document = inner
    document[name] = value


def _refuse_unknown_keys(document: Mapping[str, Any], model: type[BaseModel], prefix: str = "") -> None:
    for key, value in document.items():
        field = model.model_fields.get(str(key))
        if field is None:
            inner_key = f".{next(iter(value))}" if isinstance(value, Mapping) and value else ""
            full_key = f"{prefix}{key}{inner_key}"
            raise UsageError(
                f"unknown setting {full_key!r}{_nearest(full_key, sorted(_all_keys(Config)))}; "
                f"`cpnas presets show {DEFAULT_PRESET}` lists the settings"
            )
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, _Section):
            if not isinstance(value, Mapping):
                raise UsageError(f"{prefix}{key} is a section; expected {key}.name=value, got {value!r}")
            _refuse_unknown_keys(value, inner, f"{prefix}{key}.")


def _all_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, _Section):
            yield from _all_keys(inner, f"{prefix}{name}.")
        else:
            yield prefix + name


def _nearest(name: str, known: Sequence[str]) -> str:
    """The same last part in other sections, the most similar first; else the most similar name."""
    last_part = name.rpartition(".")[2]
    near = [key for key in known if key.rpartition(".")[2] == last_part]
    near = difflib.get_close_matches(name, near, n=3, cutoff=0) or difflib.get_close_matches(
        name, known, n=1, cutoff=0.5
    )
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def _describe(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if not isinstance(part, int))
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if first["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key}: {message}, got {first['input']!r}"


def _flatten(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
