"""A page as HTML: the template with its style and its script, everything in one file."""

from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from cpnas_cli.reports.page.blocks import Page
from cpnas_cli.reports.page.words import visible


def render(page: Page) -> str:
    """The whole file; what is not `Markup` is escaped, and made visible where it would not be seen."""
    template = _environment().from_string(_part("page.html.j2"))
    # ours, so no text of a run is in them
    style, script = Markup(_part("page.css")), Markup(_part("sort.js"))
    return template.render(page=page, style=style, script=script) + "\n"


@cache
def _environment() -> Environment:
    return Environment(
        autoescape=True, undefined=StrictUndefined, finalize=_shown, trim_blocks=True, lstrip_blocks=True
    )


def _shown(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _part(name: str) -> str:
    return (files("cpnas_cli.reports.page") / "template" / name).read_text(encoding="utf-8")
