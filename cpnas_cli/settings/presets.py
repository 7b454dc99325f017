"""The presets: named runs as YAML files that hold what differs from the defaults, each with its reason as a comment."""

import difflib
from pathlib import Path
from typing import Any

import yaml

from cpnas_cli.errors import UsageError
from cpnas_cli.settings.fields import did_you_mean


def presets_folder() -> Path:
    """`presets/` inside the installed package, or beside it in a source checkout."""
    package = Path(__file__).parents[1]
    for folder in (package / "presets", package.parent / "presets"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"the presets are missing from the installation in {package}")


def preset_names() -> list[str]:
    return sorted(path.stem for path in presets_folder().glob("*.yaml"))


def preset_text(name: str) -> str:
    """The file of a preset, comments and all.

    Raises:
      UsageError: no preset has this name.
    """
    names = preset_names()
    if name not in names:
        near = did_you_mean(difflib.get_close_matches(name, names, n=1, cutoff=0.5))
        raise UsageError(f"unknown preset {name!r}{near}; choose from {', '.join(names)}")
    return (presets_folder() / f"{name}.yaml").read_text(encoding="utf-8")


def preset_comment(name: str) -> list[str]:
    """The lines of a preset's opening comment, without the `#`."""
    comment = []
    for line in preset_text(name).splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# ").strip())
    return comment


def preset_summary(name: str) -> str:
    """The first sentence of a preset's opening comment."""
    return " ".join(preset_comment(name)).partition(". ")[0].rstrip(".")


def preset_reasons(name: str) -> dict[str, str]:
    """{"section.key": comment} of every setting in a preset's file; "" without a comment on its line."""
    text = preset_text(name)
    lines = text.splitlines()
    found: dict[str, str] = {}

    def visit(node: Any, prefix: str) -> None:
        for key_node, value_node in node.value:
            key = f"{prefix}{key_node.value}"
            if isinstance(value_node, yaml.MappingNode):
                visit(value_node, f"{key}.")
            else:
                end = value_node.end_mark
                found[key] = lines[end.line][end.column :].partition("# ")[2].strip()

    visit(yaml.compose(text, yaml.SafeLoader), "")
    return found
