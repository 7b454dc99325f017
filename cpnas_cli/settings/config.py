"""A complete run's settings: all sections, validated together, written and compared."""

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Self

import yaml
from pydantic import BaseModel, Field, ValidationError, ValidationInfo, model_validator

from cpnas_cli import registry
from cpnas_cli.errors import UsageError
from cpnas_cli.settings.fields import STORED, Section, did_you_mean, is_section, setting, starts_something
from cpnas_cli.settings.sections import DataConfig, NetworkConfig, SearchConfig, stem_stride_for
from cpnas_cli.settings.strategy_sections import FairConfig, HalvingConfig, PcDartsConfig, SposConfig
from cpnas_cli.settings.train_section import TrainConfig

DEFAULT_PRESET = "digits"


class Config(Section):
    """A complete run."""

    seed: int = setting(0, "all randomness of a run is derived from it (--seed)", origin="ours: the first", ge=0)
    data: DataConfig = DataConfig()
    network: NetworkConfig = Field(default_factory=NetworkConfig)  # which asks the registry: not while this is imported
    search: SearchConfig = SearchConfig()
    pcdarts: PcDartsConfig = PcDartsConfig()
    halving: HalvingConfig = HalvingConfig()
    fair: FairConfig = FairConfig()
    spos: SposConfig = SposConfig()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _data_fit_their_source(self) -> Self:
        registry.registered(registry.DATASETS, self.data.name).check(self.data)
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

    @model_validator(mode="after")
    def _gradients_that_can_be_compiled(self, info: ValidationInfo) -> Self:
        changing = self.network.follows_progress()
        if starts_something(info) and self.train.compile and changing:
            raise ValueError(
                f"train.compile cannot have a gradient that changes at every step, got {changing}; "
                "add --set train.compile=false"
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

    def check_search_network(self) -> None:
        """Refuse channels of the shared network that the block cannot work on; a training does not ask for them.

        Raises:
          UsageError: see `Block.check`.
        """
        asked = self.search_network().num_channels
        try:
            self.network.check_block(asked)
        except ValueError as error:
            nearest = min(
                filter(self._can_search, range(2, self.network.num_channels + 1, 2)), key=lambda n: abs(n - asked)
            )
            raise UsageError(
                f"the network that the search trains has search.num_channels={self.search.num_channels}: {error}; "
                f"--set search.num_channels={nearest} does"
            ) from None

    def _can_search(self, num_channels: int) -> bool:
        try:
            self.network.check_block(num_channels)
        except ValueError:
            return False
        return True


def config_from_document(document: Mapping[str, Any], *, stored: bool = False) -> Config:
    """Validate a nested mapping of settings.

    Args:
      stored: they start nothing: they are of a run, a model or an experiment that is there, see `fields.STORED`, and
        what a document of an older version leaves out is as it was then, see `as_it_was`.

    Raises:
      UsageError: an unknown key, a value out of range, or values that do not fit together.
    """
    return validated(as_it_was(document) if stored else document, stored=stored)


def validated(document: Mapping[str, Any], *, stored: bool, preset: str = DEFAULT_PRESET) -> Config:
    """The same, with today's default for whatever is left out, and the stride of the stem where it is null.

    Args:
      preset: whose settings an error names to be looked at.
    """
    _refuse_unknown_keys(document, Config, preset=preset)
    document = _with_stem_stride(document)
    try:
        return Config.model_validate(document, context=STORED if stored else None)
    except ValidationError as error:
        raise UsageError(f"{_describe(error)}; `cpnas presets show {preset}` lists the settings") from None


_BEFORE = {
    "indicator": "printed",
    "evaluation": "after_draw",
    "credit": "draw",
    "performance": "accuracy",
    "warmup_epochs": 0,
    "scored_passes": 0,
    "num_left": 1,
}
"""Of `search`: what a search did before the setting was there, where that need not be today's default."""


_ALWAYS = {"seed", "data", "network", "search", "train"}
"""What the settings of a run have had in every version; the other sections came later."""


def as_it_was(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of a run of an older version, with what was not asked then; any other document as it is.

    A run's settings are complete, so that what they leave out came later. A preset leaves out what has its default.
    """
    search = document.get("search")
    is_complete = document.keys() >= _ALWAYS
    if not is_complete or not isinstance(search, Mapping) or not search.keys() >= {"strategy", "beta_p", "num_passes"}:
        return document
    return {**document, "search": {**_BEFORE, **search}}


def config_yaml(config: Config) -> str:
    """The resolved settings as YAML that `load_config` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def flat_settings(config: Config) -> dict[str, Any]:
    """{"section.key": value} of every setting."""
    return dict(_flatten(config.model_dump(mode="json")))


def differing_settings(old: Config, new: Config, *, but: Collection[str] = ()) -> list[str]:
    """ "key: old there, new now" of every setting that differs.

    Args:
      but: "section.key" of those that may.
    """
    before, after = flat_settings(old), flat_settings(new)
    differing = (key for key in before if before[key] != after[key] and key not in but)
    return [f"{key}: {before[key]!r} there, {after[key]!r} now" for key in differing]


def _refuse_unknown_keys(document: Mapping[str, Any], model: type[BaseModel], *, preset: str, prefix: str = "") -> None:
    for key, value in document.items():
        field = model.model_fields.get(str(key))
        if field is None:
            inner_key = f".{next(iter(value))}" if isinstance(value, Mapping) and value else ""
            full_key = f"{prefix}{key}{inner_key}"
            raise UsageError(
                f"unknown setting {full_key!r}{_nearest_key(full_key)}; "
                f"`cpnas presets show {preset}` lists the settings"
            )
        inner: Any = field.annotation
        if is_section(inner):
            if not isinstance(value, Mapping):
                raise UsageError(f"{prefix}{key} is a section; expected {key}.name=value, got {value!r}")
            _refuse_unknown_keys(value, inner, preset=preset, prefix=f"{prefix}{key}.")


def _with_stem_stride(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Null is the stride that suits the images; a run's settings hold the number."""
    network, data = document.get("network"), document.get("data", {})
    if not isinstance(network, Mapping) or network.get("stem_stride", 1) is not None:
        return document
    size = data.get("image_size", DataConfig().image_size)
    if not isinstance(size, int):  # refused by name, not for the stride
        size = DataConfig().image_size
    return {**document, "network": {**network, "stem_stride": stem_stride_for(size)}}


def _nearest_key(name: str) -> str:
    """The same last part in every other section, the most similar first; else the most similar name."""
    known: Sequence[str] = sorted(flat_settings(Config()))
    last_part = name.rpartition(".")[2]
    same = [key for key in known if key.rpartition(".")[2] == last_part]
    near = difflib.get_close_matches(name, same, n=len(same), cutoff=0) if same else []
    return did_you_mean(near or difflib.get_close_matches(name, known, n=1, cutoff=0.5))


def _describe(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if not isinstance(part, int))
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if first["type"] == "value_error":
        return f"{key}: {message}" if key and not message.startswith(f"{key}.") else message
    return f"{key}: {message}, got {first['input']!r}"


def _flatten(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
