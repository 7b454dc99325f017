"""A command that a message names can be typed as it stands there, whatever the folder is called."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import DOCUMENT, error_of, invoke
from conftest import TINY_OPTIONS

from cpnas_cli.deploy.predict import find_packed
from cpnas_cli.deploy.trained_pair import read_pair
from cpnas_cli.errors import CpnasError, shell_word

NAME = "a b; c"


def _read_pair() -> object:
    return read_pair(Path(NAME), data_dir=None)


def commands(text: str) -> list[list[str]]:
    """The words of the commands in backticks, as a shell would read them."""
    return [shlex.split(command) for command in re.findall("`(.*?)`", text)]


@pytest.mark.parametrize("name", [NAME, "it's", "$HOME", "-x", "a", "*", "é\u2028"])
def test_a_word_is_read_back_as_it_was(name: str) -> None:
    assert shlex.split(f"cpnas show {shell_word(Path(name))} --json") == ["cpnas", "show", name, "--json"]


@pytest.mark.parametrize(
    ("message", "command"),
    [
        (lambda: error_of(invoke("evaluate", NAME), code=1), ["cpnas", "train", "GENOTYPE", "--out", NAME]),
        (lambda: error_of(invoke("export", NAME), code=1), ["cpnas", "train", "GENOTYPE", "--out", NAME]),
        (
            lambda: message_of(lambda: read_pair(Path(NAME), data_dir=None)),
            ["cpnas", "train", "GENOTYPE", "--out", NAME],
        ),
        (lambda: message_of(lambda: find_packed(Path(NAME))), ["cpnas", "export", NAME]),
    ],
    ids=["evaluate", "export", "measure", "predict"],
)
def test_the_command_of_an_error_can_be_typed(
    message: Callable[[], str], command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(NAME).mkdir()
    assert commands(message()) == [command]


def message_of(action: Callable[[], object]) -> str:
    with pytest.raises(CpnasError) as caught:
        action()
    return str(caught.value)


def test_the_next_commands_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(NAME).mkdir()
    searched = invoke("search", "--strategy", "random", "--out", f"{NAME}/search")
    assert searched.exit_code == 0, searched.output
    line = searched.stdout.splitlines()[-1].partition("next, train the 1-bit Child:")[2]
    assert shlex.split(line) == ["cpnas", "train", f"{NAME}/search/genotype.json"]
    Path("g.json").write_text(json.dumps(DOCUMENT))
    words = [*TINY_OPTIONS, "--out", f"{NAME}/run"]
    stopped = invoke("train", "g.json", *words, "--max-time", "0.01s")
    line = stopped.stderr.splitlines()[-1].partition("go on with: ")[2]
    assert shlex.split(line) == ["cpnas", "train", "g.json", "--out", f"{NAME}/run", "--resume"]
    trained = invoke(*shlex.split(line)[1:])
    assert trained.exit_code == 0, trained.output
    line = trained.stdout.splitlines()[-1].partition("next, evaluate it again:")[2]
    assert shlex.split(line) == ["cpnas", "evaluate", f"{NAME}/run"]
    refused = error_of(invoke("export", f"{NAME}/run", "--out", f"{NAME}/run/model.safetensors"), code=2)
    assert shlex.split(refused)[:2] == ["--out", f"{NAME}/run/model.safetensors"]
