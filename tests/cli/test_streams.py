"""What becomes of standard output and error: full, closed, of another encoding, or a terminal that obeys."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import DOCUMENT, error_line, invoke
from PIL import Image
from terminal import run_on_terminal

from cpnas_cli.cli.styled_console import StyledConsole
from cpnas_cli.storage.documents import write_json

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


def cpnas(folder: Path, *words: str, **settings) -> subprocess.CompletedProcess:
    environment = {**os.environ, "COLUMNS": "200", **settings.pop("environment", {})}
    return subprocess.run(
        [sys.executable, "-m", "cpnas_cli", *words], cwd=folder, env=environment, text=True, check=False, **settings
    )


def closed(number: int) -> Callable[[], None]:
    return lambda: os.close(number)


@needs_full
@pytest.mark.parametrize("words", [["presets", "list"], ["--help"], ["presets", "list", "--json"]])
def test_a_full_standard_output_is_one_line(tmp_path: Path, words: list[str]) -> None:
    with FULL.open("w") as full:
        answer = cpnas(tmp_path, *words, stdout=full, stderr=subprocess.PIPE)
    assert answer.returncode == 1
    assert error_line(answer.stderr).startswith("cannot write to standard output: No space left on device")
    assert answer.stderr.count("\n") == 1


def test_a_closed_standard_output_is_one_line(tmp_path: Path) -> None:
    answer = cpnas(tmp_path, "presets", "list", stderr=subprocess.PIPE, preexec_fn=closed(1))
    assert answer.returncode == 1
    assert error_line(answer.stderr).startswith("cannot write to standard output: Bad file descriptor")


def test_without_standard_error_a_command_works(tmp_path: Path) -> None:
    whole = cpnas(tmp_path, "presets", "list", stdout=subprocess.PIPE)
    answer = cpnas(tmp_path, "presets", "list", stdout=subprocess.PIPE, preexec_fn=closed(2))
    assert (answer.returncode, answer.stdout) == (0, whole.stdout)
    if FULL.exists():
        with FULL.open("w") as full:
            assert cpnas(tmp_path, "show", "nothing", stdout=subprocess.PIPE, stderr=full).returncode == 1


def test_a_character_that_the_encoding_lacks_is_spelled_out(tmp_path: Path) -> None:
    for name in ("dog", "\u00e9t\u00e9"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(2):
            pixels = np.full((8, 8), len(name) * 20 + index, np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"photos/{name}/{index}.png")
    words = ["data", "photos", "--set", "data.image_size=8"]
    plain = cpnas(tmp_path, *words, stdout=subprocess.PIPE, environment={"PYTHONIOENCODING": "utf-8"})
    ascii_ = cpnas(tmp_path, *words, stdout=subprocess.PIPE, environment={"PYTHONIOENCODING": "ascii"})
    assert plain.returncode == ascii_.returncode == 0
    assert "\u00e9t\u00e9" in plain.stdout
    assert ascii_.stdout == plain.stdout.replace("\u00e9", "\\xe9")


def test_a_deleted_working_folder_is_one_line(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    answer = cpnas(gone, "presets", "list", stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=gone.rmdir)
    assert answer.returncode == 2
    assert error_line(answer.stderr).startswith("the working folder cannot be used (No such file or directory)")


# ---------------------------------------------------------------- what commands a terminal


HOSTILE = "[/x]\x1b[31m\u202e\x07"


def test_rich_shows_what_it_is_given_and_its_own_styles() -> None:
    written = io.StringIO()
    console = StyledConsole(file=written, force_terminal=True, color_system="standard", width=80)
    console.print(HOSTILE, style="bold", highlight=False)
    console.print("[bold]two[/bold]\nlines", highlight=False)
    text = written.getvalue()
    assert text.startswith("\x1b[1m[/x]\\x1b[31m\\u202e")
    assert "[bold]two[/bold]\nlines\n" in text
    assert text.count("\x1b") == 2


def test_nothing_that_a_genotype_or_a_path_holds_commands_the_terminal(tmp_path: Path) -> None:
    provenance = {"strategy": HOSTILE, "dataset": "[red]", "seed": 0}
    name = "\x1b]0;title.json"
    write_json(tmp_path / name, {**DOCUMENT, "provenance": provenance})
    code, text = run_on_terminal(tmp_path, "show", name)
    assert code == 0
    assert "found by: [/x]\\x1b[31m\\u202e, [red], seed 0" in text.replace("\\x07", "")
    assert "\x1b[31m" not in text.split("normal cell")[0]
    code, text = run_on_terminal(tmp_path, "show", "\x1b]0;nothing")
    assert (code, "\x1b" in text) == (1, False)
    assert "\\x1b]0;nothing" in text


@pytest.mark.parametrize(
    "words",
    [["runs"], ["evaluate"], ["figure"], ["show"], ["data"], ["rank", "x"], ["export"], ["estimate-efficiency"]],
    ids=" ".join,
)
def test_a_name_that_is_too_long_is_one_line(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(words[0], "a" * 300, *words[1:])
    assert result.exit_code == 1
    assert "File name too long" in error_line(result.stderr)
