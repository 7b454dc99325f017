"""One setting: its default, description, unit, range and origin, written down once where it is declared.

Help, completion, `cpnas presets show` and docs/settings.md are made from this (`documentation`).
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo


def setting(
    default: Any,
    description: str,
    *,
    origin: str,
    unit: str | None = None,
    names: Mapping[str, str] | None = None,
    **limits: float,
) -> Any:
    """A field of a section.

    Args:
      default: what holds where neither a preset nor an option says otherwise.
      description: what it decides.
      origin: of the default: who published it ("DARTS", "published, (4.15)"), or "ours" with the reason.
      unit: of a number, where it has one ("pixels").
      names: the registry's table whose names are allowed.
      limits: `ge`, `gt`, `le`, `lt` and `multiple_of` of pydantic.
    """
    documented = {"unit": unit, "origin": origin, "names": names}
    return Field(default=default, description=description, json_schema_extra=documented, **limits)  # pyright: ignore


def documented(field: FieldInfo, what: str) -> Any:
    """The `unit`, `origin` or `names` that a field was declared with."""
    extra = field.json_schema_extra
    return extra.get(what) if isinstance(extra, dict) else None


def is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def quoted_choices(names: Iterable[str]) -> str:
    """ "'a', 'b' or 'c'"."""
    *most, last = map(repr, names)
    return f"{', '.join(most)} or {last}" if most else last


def did_you_mean(near: Sequence[str]) -> str:
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


class Section(BaseModel):
    """Settings that belong together; frozen, and what it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_meant(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse `num_epochs: yes`, which would be 1, and names that the registry does not have."""
        field = cls.model_fields[info.field_name or ""]
        if isinstance(value, bool) and _is_number(field.annotation):
            raise ValueError(f"expected a number, got {value}; YAML reads yes and on as true, no and off as false")
        names = documented(field, "names")
        if names is not None and (not isinstance(value, str) or value not in names):
            near = difflib.get_close_matches(value, names, n=1) if isinstance(value, str) else []
            raise ValueError(f"input should be {quoted_choices(names)}, got {value!r}{did_you_mean(near)}")
        return value


def _is_number(annotation: Any) -> bool:
    """Of int, float, a choice of numbers, or one of these or null."""
    parts = get_args(annotation) or (annotation,)
    return any(part in (int, float) or type(part) in (int, float) or _is_number_choice(part) for part in parts)


def _is_number_choice(annotation: Any) -> bool:
    return any(type(value) in (int, float) for value in get_args(annotation))


STORED = {"stored": True}
"""The validation context of settings that start nothing: those of a run, a model or an experiment that is there.

Each value is judged as ever, but not whether they fit together: an older version may have allowed what this one would
not start, and what such a run has left can be read all the same.
"""


def starts_something(info: ValidationInfo) -> bool:
    """Whether the settings are those of something new, see `STORED`."""
    return not (info.context or {}).get("stored", False)


def check_first_epochs(section: str, name: str, first: int, num_epochs: int, *, why: str) -> None:
    """Refuse a beginning that takes all epochs.

    Raises:
      ValueError: `section.name` is not below `section.num_epochs`.
    """
    if first >= num_epochs:
        raise ValueError(
            f"{section}.{name}={first} must be below {section}.num_epochs={num_epochs}, or {why}; "
            f"add --set {section}.{name}={num_epochs // 2}"
        )


def check_learning_rates(section: str, *, start: float, end: float) -> None:
    """Refuse a cosine that rises.

    Raises:
      ValueError: `section.learning_rate_min` is above `section.learning_rate`.
    """
    if end > start:
        raise ValueError(
            f"{section}.learning_rate_min={end!r}, where the cosine ends, is above {section}.learning_rate={start!r}, "
            f"where it begins; add --set {section}.learning_rate_min={start!r}, or less"
        )
