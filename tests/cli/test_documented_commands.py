"""docs/commands.md names every command with every option; how typer breaks its lines is typer's."""

import re
from pathlib import Path

from cpnas_cli.cli.documentation import command_names, commands_markdown, help_of

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"


def options(text: str) -> list[str]:
    return re.findall(r"(?m)^  (--[a-z-]+)", text)


def test_the_page_has_what_the_commands_have() -> None:
    assert {("search",), ("train",), ("efficiency", "measure"), ("presets", "show")} <= set(command_names())
    assert ("compare",) not in set(command_names())  # hidden
    sections = re.split(r"(?m)^## cpnas ", PAGE.read_text(encoding="utf-8"))[1:]
    pages = {section.partition("\n")[0]: section for section in sections}
    assert list(pages) == [" ".join(words) for words in command_names()]
    for words in command_names():
        now = help_of(words)
        assert "--help" in options(now)
        assert options(pages[" ".join(words)]) == options(now), "run: python -m cpnas_cli.cli > docs/commands.md"
        said = now.split("\n\n")[1].split()  # what it does
        assert " ".join(said) in " ".join(pages[" ".join(words)].split())


def test_it_is_written_as_the_page_says() -> None:
    text = commands_markdown()
    assert text.startswith("# Commands\n\nWritten by `python -m cpnas_cli.cli`")
    assert text.count("Usage: cpnas ") == len(list(command_names()))
