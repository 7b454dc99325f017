"""Settings from a preset or a file, with the changes that are asked for on the command line."""

import copy
import datetime
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cpnas_cli.errors import UsageError
from cpnas_cli.settings.config import DEFAULT_PRESET, Config, as_it_was, flat_settings, validated
from cpnas_cli.settings.presets import preset_names, preset_text
from cpnas_cli.settings.sections import fixed_beta_p
from cpnas_cli.settings.strict_yaml import read_yaml


def load_config(
    source: str | Path = DEFAULT_PRESET,
    *,
    overrides: Sequence[str] = (),
    values: Mapping[str, Any] | None = None,
    stored: bool = False,
) -> Config:
    """The settings of a preset or a YAML file, with changes.

    Args:
      source: a preset's name, or the path of a YAML file (a path ends in .yaml or .yml); the settings of a run of an
        older version are as they were then, see `as_it_was`.
      overrides: "section.key=value" texts, the value in YAML; later ones win.
      values: {"section.key": value}, applied last; a value that is None is left out.
      stored: see `fields.STORED`.

    Raises:
      UsageError: unknown preset or key, unreadable file, a value out of range, or values that do not fit together.
    """
    document = as_it_was(_parse_yaml(*_read_source(source)))
    changes = [parse_override(text) for text in overrides]
    changes += [(key, value) for key, value in (values or {}).items() if value is not None]
    preset = str(source) if str(source) in preset_names() else DEFAULT_PRESET
    return _changed(document, changes, stored=stored, preset=preset)


def change_config(config: Config, values: Mapping[str, Any], *, stored: bool = False) -> Config:
    """The same settings with {"section.key": value} changed, as `load_config` changes those of a file.

    Args:
      stored: see `config_from_document`.

    Raises:
      UsageError: as in `load_config`.
    """
    return _changed(config.model_dump(mode="json"), values.items(), stored=stored)


def _changed(
    document: Mapping[str, Any],
    changes: Iterable[tuple[str, Any]],
    *,
    stored: bool,
    preset: str = DEFAULT_PRESET,
) -> Config:
    """What is asked for is refused where it contradicts itself; what merely stands in the document gives way."""
    changes = list(changes)
    changed = copy.deepcopy(dict(document))
    for key, value in changes:
        _set(changed, key, value)
    if "search.beta_p" not in dict(changes):
        _drop_beta_p_of_another_strategy(changed, {_strategy(document), _strategy(changed)})
    return validated(changed, stored=stored, preset=preset)


def _drop_beta_p_of_another_strategy(document: dict[str, Any], strategies: set[str]) -> None:
    """Where one of the strategies fixes beta_P, the document's value says nothing about the other.

    A value that no strategy could have stays, to be refused.
    """
    search = document.get("search")
    if isinstance(search, dict) and any(fixed_beta_p(name) is not None for name in strategies):
        value = search.get("beta_p")
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
            del search["beta_p"]


def _strategy(document: Mapping[str, Any]) -> str:
    search = document.get("search")
    return str(search.get("strategy", "")) if isinstance(search, Mapping) else ""


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
        document = read_yaml(text, origin=origin)
    except (yaml.YAMLError, ValueError) as error:  # a ValueError for a date that does not exist, for one
        raise UsageError(f"{origin} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise UsageError(f"{origin} holds no settings; expected sections such as data, network, search, train")
    return document


def parse_override(text: str) -> tuple[str, Any]:
    """The key and the value of section.key=value.

    Raises:
      UsageError: it has no key, or its value is not YAML.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise UsageError(f"--set expects section.key=value, got {text!r}; for example --set search.num_passes=2")
    try:
        return key, _yaml_value(value, origin=f"--set {key}")
    except (yaml.YAMLError, ValueError):
        raise UsageError(f"--set {key}: {value!r} is not a YAML value") from None


def _yaml_value(text: str, *, origin: str) -> Any:
    value = read_yaml(text, origin=origin)
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
    values = flat_settings(Config())
    for depth, section in enumerate(sections, start=1):
        inner = document.setdefault(section, {})
        if not isinstance(inner, dict) or ".".join(sections[:depth]) in values:
            raise UsageError(f"unknown setting {key!r}: {section} is a value, not a section")
        document = inner
    document[name] = value
