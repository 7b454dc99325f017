"""Settings and folders of what a function starts, as the commands have them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cpnas_cli.library.paths import AnyPath
from cpnas_cli.runs.folder import settings_beside
from cpnas_cli.settings import Config, load_config


def settings_of(
    source: AnyPath,
    *,
    settings: Mapping[str, Any] | None,
    values: Mapping[str, Any],
    data_dir: AnyPath | None,
    seed: int | None,
    stored: bool,
) -> Config:
    """The settings of a preset or a YAML file, changed.

    Args:
      settings: {"section.key": value} as given by the caller, where None is null. values: the same of other arguments;
        None: not given.
      stored: see `settings.load_config`.

    Raises:
      UsageError: an unknown preset or setting, or values that do not fit.
    """
    folder = None if data_dir is None else str(Path(data_dir).resolve())
    nulls = [f"{key}=null" for key, value in (settings or {}).items() if value is None]
    arguments = {"seed": seed, "data.dir": folder, **values}
    given = {**(settings or {}), **{key: value for key, value in arguments.items() if value is not None}}
    return load_config(source, overrides=nulls, values=given, stored=stored)


def source_of(out: AnyPath, *, resume: bool, preset: AnyPath | None, otherwise: AnyPath) -> AnyPath:
    """Where the settings are read: of the run in the folder, if that is to go on, else the preset, else `otherwise`.

    Raises:
      RunError: the settings of the run are not those that it was started with.
    """
    if preset is not None:
        return preset
    return (settings_beside(Path(out)) if resume else None) or otherwise
