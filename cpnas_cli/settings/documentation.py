"""What the settings say about themselves: a record of each, and from it the documented YAML and docs/settings.md."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

import yaml
from pydantic.fields import FieldInfo

from cpnas_cli.settings.config import Config, flat_settings
from cpnas_cli.settings.fields import documented, is_section
from cpnas_cli.settings.loading import load_config
from cpnas_cli.settings.presets import preset_comment, preset_names, preset_reasons

REGENERATE = "python -m cpnas_cli.settings > docs/settings.md"


@dataclass(frozen=True)
class Setting:
    """One setting as it is declared.

    Attributes:
      key: "section.key". allowed: its type and range in words. unit: "" where it has none.
      origin: of the default: who published it, or "ours" with the reason.
    """

    key: str
    default: Any
    allowed: str
    unit: str
    description: str
    origin: str

    @property
    def section(self) -> str:
        """ "" for `seed`."""
        return self.key.rpartition(".")[0]

    @property
    def help(self) -> str:
        """One line for a shell."""
        return f"{self.description} [{', '.join(filter(None, (self.unit, self.allowed)))}]"


def documented_settings() -> tuple[Setting, ...]:
    """Every setting, in the order of the files."""
    return tuple(_settings(Config, ""))


def documented_yaml(preset: str) -> str:
    """The resolved settings of a preset as YAML that loads to the same, with what each decides and its origin.

    Raises:
      UsageError: no preset has this name.
    """
    values, reasons = flat_settings(load_config(preset)), preset_reasons(preset)
    lines = [f"# {line}".rstrip() for line in preset_comment(preset)]
    lines += ["", "# Every setting: above it what it decides, behind it who published it, or why it is ours."]
    section = ""
    for entry in documented_settings():
        if entry.section != section:
            section = entry.section
            lines += ["", f"{section}:"]
        elif not section:
            lines.append("")
        indent = "  " if section else ""
        name, value = entry.key.rpartition(".")[2], yaml_value(values[entry.key])
        lines.append(f"{indent}# {entry.help}")
        lines.append(f"{indent}{name}: {value}  # {reasons.get(entry.key) or entry.origin}")
    return "\n".join(lines) + "\n"


def settings_markdown() -> str:
    """docs/settings.md."""
    return "\n".join([*_introduction(), *_tables(), *_preset_tables()]) + "\n"


def yaml_value(value: Any) -> str:
    """A value as it is written in YAML, on one line."""
    return yaml.safe_dump([value], default_flow_style=True, width=float("inf")).strip()[1:-1]


def _settings(section: Any, prefix: str) -> Iterator[Setting]:
    for name, field in section.model_fields.items():
        if is_section(field.annotation):
            yield from _settings(field.annotation, f"{prefix}{name}.")
        else:
            yield Setting(
                key=f"{prefix}{name}",
                default=_plain(field.default),
                allowed=_allowed(field),
                unit=documented(field, "unit") or "",
                description=field.description or "",
                origin=documented(field, "origin") or "",
            )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _allowed(field: FieldInfo) -> str:
    """ "whole number from 3 to 100, or null"."""
    names = documented(field, "names")
    annotation: Any = field.annotation
    parts = get_args(annotation)
    nullable = type(None) in parts
    if nullable:
        (annotation,) = (part for part in parts if part is not type(None))
    if names is not None:
        text = _choices(names)
    elif annotation in (int, float):
        text = f"{'whole number' if annotation is int else 'number'}{_range(field)}"
    elif annotation in (bool, str):
        text = "true or false" if annotation is bool else "text"
    elif getattr(annotation, "__origin__", None) is tuple:
        text = f"list of {_choices(get_args(get_args(annotation)[0]))}"
    else:
        text = _choices(get_args(annotation))
    return f"{text}, or null" if nullable else text


def _choices(values: Any) -> str:
    *most, last = map(str, values)
    return f"{', '.join(most)} or {last}" if most else last


_LIMITS = {
    "ge": "of {} or more",
    "gt": "above {}",
    "le": "up to {}",
    "lt": "below {}",
    "multiple_of": "a multiple of {}",
}


def _range(field: FieldInfo) -> str:
    limits = {name: f"{getattr(limit, name):g}" for limit in field.metadata for name in _LIMITS if hasattr(limit, name)}
    words = [f"from {limits.pop('ge')} to {limits.pop('le')}"] if {"ge", "le"} <= limits.keys() else []
    words += [_LIMITS[name].format(limit) for name, limit in limits.items()]
    return f" {', '.join(words)}" if words else ""


def _introduction() -> Iterator[str]:
    yield "# Settings"
    yield ""
    yield f"<!-- made from cpnas_cli/settings by `{REGENERATE}`; do not edit -->"
    yield ""
    yield "Every setting can be given in a YAML file (`--preset FILE.yaml`) or with `--set SECTION.KEY=VALUE`."
    yield "A preset holds what differs from the defaults below; `cpnas presets show NAME` prints the resolved whole."
    yield "The origin says who published the default, or, where it is ours, why it was chosen."


def _tables() -> Iterator[str]:
    section = None
    for entry in documented_settings():
        if entry.section != section:
            section = entry.section
            model: Any = Config.model_fields[section].annotation if section else Config
            about = model.__doc__ if section else "All randomness of a run."
            yield from ("", f"## {section or 'seed'}", "", about or "", "")
            yield "| setting | default | allowed | unit | decides | origin of the default |"
            yield "| --- | --- | --- | --- | --- | --- |"
        cells = (f"`{entry.key}`", f"`{yaml_value(entry.default)}`", entry.allowed, entry.unit)
        yield _row(*cells, entry.description, entry.origin)


def _preset_tables() -> Iterator[str]:
    yield from ("", "## Presets", "", "What each changes, and why.")
    for name in preset_names():
        values = flat_settings(load_config(name))
        yield from ("", f"### {name}", "", *preset_comment(name))
        yield from ("", "| setting | value | why |", "| --- | --- | --- |")
        for key, reason in preset_reasons(name).items():
            yield _row(f"`{key}`", f"`{yaml_value(values[key])}`", reason)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
