"""docs/commands.md names every command with every option; how typer breaks its lines is typer's."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

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


ROOT = Path(__file__).parents[2]
GUIDES = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in ("fit", "steps", "deploy"))]
SHARED = {"--help", "--version", "--install-completion"}


def typed(page: Path) -> Iterator[list[str]]:
    """The words of every cpnas command in the page's shell blocks, up to a pipe or a comment."""
    for block in re.findall(r"(?ms)^```sh\n(.*?)^```", page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("cpnas "):
                yield shlex.split(re.split(r" [|>#&]", line)[0])[1:]


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_what_a_page_tells_to_type_can_be_typed(page: Path) -> None:
    commands = set(command_names())
    lines = list(typed(page))
    assert lines
    for words in lines:
        name = tuple(words[:2]) if tuple(words[:2]) in commands else tuple(words[:1])
        if name[0].startswith("--"):
            assert set(words) <= SHARED
            continue
        assert name in commands, words
        unknown = {word.partition("=")[0] for word in words if word.startswith("--")} - set(options(help_of(name)))
        assert not unknown, words


def test_the_table_of_the_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = {tuple(words.split()) for words in re.findall(r"`cpnas ((?:[a-z-]+ ?)+)", text)}
    reached = {name[:length] for name in named for length in (1, 2)}
    # `cpnas efficiency report` is another name of estimate-efficiency, `presets show` stands beside `presets list`
    assert set(command_names()) - reached == {("efficiency", "report"), ("presets", "show")}


def test_links_of_the_readme_lead_somewhere() -> None:
    """Files and headings, as GitHub names them; MkDocs looks after those of docs/."""
    links = re.findall(r"\]\(([^)\s]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(links) > 20
    for link in links:
        file, _, anchor = link.partition("#")
        target = ROOT / file if file else ROOT / "README.md"
        assert target.exists(), link
        if anchor:
            heads = re.findall(r"(?m)^#+ (.*)$", target.read_text(encoding="utf-8"))
            anchors = [re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads]
            assert anchor in anchors, link
