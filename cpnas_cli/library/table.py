"""Results as small HTML tables, for notebooks."""

from collections.abc import Iterable
from html import escape


def html_table(rows: Iterable[tuple[str, str]], *, caption: str) -> str:
    """Two columns, name and value; everything is escaped."""
    body = "".join(
        f'<tr><th scope="row" style="text-align: left">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in rows
    )
    return f"<table><caption>{escape(caption)}</caption><tbody>{body}</tbody></table>"


def percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"
