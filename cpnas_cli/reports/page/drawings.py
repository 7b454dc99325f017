"""The figures of matplotlib within a page: its SVG, with the page's colours in place of those of paper."""

import io
import re
from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.figure import Figure

from cpnas_cli.reports.page.blocks import Drawing
from cpnas_cli.reports.page.words import visible

# {colour of a figure: variable of the page's style}; other colours are seen on light and on dark
_VARIABLES = {
    "#ffffff": "--paper",
    "#000000": "--ink",
    "#1a1a1a": "--ink",
    "#333333": "--ink",
    "#555555": "--soft",
    "#767676": "--soft",
    "#dfe3e8": "--fill",
    "#eff1f4": "--fill-light",
    "#f7f7f7": "--fill-light",
    "#c9ced6": "--line",
    "#cccccc": "--line",
    "#e3e3e3": "--line",
    "#bdbdbd": "--faint",
    "#a0a0a0": "--faint",
    "#d55e00": "--look-1",
    "#0072b2": "--look-2",
    "#009e73": "--look-3",
    "#56b4e9": "--look-4",
    "#e69f00": "--look-5",
}
_COLOUR = re.compile("#[0-9a-fA-F]{6}(?![0-9a-zA-Z])")


def figure_drawing(
    draw: Callable[[], Figure],
    *,
    name: str,
    title: str,
    description: str,
    caption: str = "",
    look: Mapping[str, Any] | None = None,
) -> Drawing:
    """A figure as a part of the page; the same figure gives the same text.

    Args:
      name: unique in the page. title, description: for those who do not see it.
      look: matplotlib settings that hold while it is drawn.
    """
    settings: Any = {"svg.hashsalt": name, "svg.fonttype": "none", **(look or {})}
    written = io.StringIO()
    with rc_context(settings):
        draw().savefig(written, format="svg", metadata={"Date": None})
    return Drawing(_inline(written.getvalue(), name, title, description), caption, wide=True, label=title)


def _inline(text: str, name: str, title: str, description: str) -> Markup:
    """Without what makes it a document of its own: head, metadata, style, size in points and shared ids."""
    head, _, body = text[text.index("<svg") :].partition(">")
    found = re.search(r'viewBox="([^"]+)"', head)
    assert found is not None, head
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.DOTALL)
    # ids are of this figure alone: two figures have an axes_1 each
    body = re.sub(r'\bid="([^"]+)"', lambda match: f'id="{name}-{match[1]}"', body)
    body = re.sub(r'href="#([^"]+)"', lambda match: f'href="#{name}-{match[1]}"', body)
    body = re.sub(r"url\(#([^)]+)\)", lambda match: f"url(#{name}-{match[1]})", body)
    # in a style, not in a text, which may speak of a colour
    body = re.sub(r'style="[^"]*"', lambda match: _COLOUR.sub(_variable, match[0]), body)
    return Markup(
        f'<svg class="figure" role="img" aria-labelledby="{name}-title {name}-desc" viewBox="{found[1]}">'
        f'<title id="{name}-title">{escape(visible(title))}</title>'
        f'<desc id="{name}-desc">{escape(visible(description))}</desc>{body}'
    )


def _variable(match: re.Match[str]) -> str:
    variable = _VARIABLES.get(match[0].lower())
    return match[0] if variable is None else f"var({variable})"
