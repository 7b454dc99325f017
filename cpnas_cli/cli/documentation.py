"""docs/commands.md: the help of every command, as the command line prints it."""

import contextlib
import io
from collections.abc import Iterator, Sequence

import typer

from cpnas_cli.cli.app import app


def commands_markdown() -> str:
    """The page, in the order of `cpnas --help`."""
    parts = ["# Commands\n\nWritten by `python -m cpnas_cli.cli`: what `cpnas COMMAND --help` prints.\n"]
    parts += [f"\n## cpnas {' '.join(words)}\n\n```text\n{help_of(words)}```\n" for words in command_names()]
    return "".join(parts)


def command_names() -> Iterator[tuple[str, ...]]:
    """The words of every command that is not hidden; of a group its commands."""
    for command in app.registered_commands:
        if not command.hidden:
            yield (str(command.name),)
    for group in app.registered_groups:
        for command in getattr(group.typer_instance, "registered_commands", ()):
            yield str(group.name), str(command.name)


def help_of(words: Sequence[str]) -> str:
    """What `cpnas WORDS --help` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit, typer.Exit):
        app([*words, "--help"], prog_name="cpnas")
    return "\n".join(line.rstrip() for line in printed.getvalue().strip().splitlines()) + "\n"
