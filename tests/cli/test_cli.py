"""The command line: help, completion, presets, show, and the live view on a real terminal."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import TINY_OPTIONS
from terminal import run_on_terminal
from typer.testing import CliRunner

from cpnas_cli import __version__
from cpnas_cli.cli.app import app
from cpnas_cli.cli.console import said_if_slow
from cpnas_cli.settings import config_from_document, load_config, preset_names

runner = CliRunner()


def test_help_needs_no_torch():
    """What keeps `cpnas --help` fast."""
    code = (
        "import sys\n"
        "from cpnas_cli.cli.app import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'torchvision', 'numpy', 'lightning_fabric', 'sklearn', 'matplotlib', 'pydantic'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    for command in (
        "search", "train", "fit", "data", "evaluate", "ablate-beta", "compare-strategies", "figure",
        "estimate-efficiency", "efficiency", "export", "predict", "show", "runs", "presets",
    ):  # fmt: skip
        assert command in answer.stdout


@pytest.mark.parametrize(
    "command",
    [
        ["search"],
        ["train"],
        ["fit"],
        ["data"],
        ["evaluate"],
        ["ablate-beta"],
        ["compare-strategies"],
        ["figure"],
        ["estimate-efficiency"],
        ["efficiency", "report"],
        ["efficiency", "measure"],
        ["export"],
        ["predict"],
        ["show"],
        ["runs"],
        ["presets", "list"],
        [],
    ],
)
def test_every_command_explains_itself(command):
    answer = runner.invoke(app, [*command, "--help"])
    assert answer.exit_code == 0
    assert "Usage" in answer.stdout


def test_the_list_of_commands_is_not_cut_off() -> None:
    """At 80 columns, where a terminal has no more."""
    answer = runner.invoke(app, ["--help"], env={"COLUMNS": "80"})
    lines = answer.stdout.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert len(lines) >= 16
    assert [line for line in lines if line.endswith("...") or len(line) > 80 or not line.startswith("  ")] == []
    assert all(line[2] != " " for line in lines)  # nor wrapped


def test_both_entry_points_are_the_same_program():
    outputs = []
    for words in ([str(Path(sys.executable).with_name("cpnas"))], [sys.executable, "-m", "cpnas_cli"]):
        answer = subprocess.run([*words, "--version"], capture_output=True, text=True, check=True)
        outputs.append(answer.stdout)
    assert outputs == [f"cpnas {__version__}\n"] * 2


@pytest.mark.parametrize(
    ("typed", "position", "expected"),
    [
        ("cpnas se", 1, "search"),
        ("cpnas search --preset cifar10-l", 3, "cifar10-large"),
        ("cpnas search --set data.im", 3, "data.image_size="),
        ("cpnas search --strategy pc", 3, "pcdarts"),
        ("cpnas runs --sort ac", 3, "accuracy"),
        ("cpnas runs --filter state=ru", 3, "state=running"),
        ("cpnas export RUN --format pa", 4, "packed"),
        ("cpnas compare-strategies --strategies random,pc", 3, "random,pcdarts"),
    ],
)
def test_bash_completion(typed, position, expected):
    program = str(Path(sys.executable).with_name("cpnas"))
    environment = {
        **os.environ,
        "_CPNAS_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(position),
    }
    answer = subprocess.run([program], env=environment, capture_output=True, text=True, check=False)
    assert expected in answer.stdout.split(), answer.stderr


def test_presets_are_listed_and_shown():
    listed = runner.invoke(app, ["presets", "list", "--json"])
    names = json.loads(listed.stdout)["presets"]
    assert set(names) == set(preset_names())
    assert all(summary for summary in names.values())
    shown = runner.invoke(app, ["presets", "show", "digits"])
    origin = "ours: a small one ranks best where the lead is penalized; 2 is published"
    assert f"\n  beta_p: 0.25  # {origin}\n" in shown.stdout
    assert "# ours" in shown.stdout
    assert config_from_document(yaml.safe_load(shown.stdout)) == load_config("digits")


def test_show_draws_both_cells(tiny_search, tmp_path):
    answer = runner.invoke(app, ["show", str(tiny_search), "--out", str(tmp_path / "cells.svg")])
    assert answer.exit_code == 0, answer.output
    document = json.loads((tiny_search / "genotype.json").read_text())
    for kind in ("normal", "reduce"):
        for operation in {entry["op"] for entry in document[kind]}:
            assert operation in answer.stdout
    assert "1-bit in the Child: grouped convolutions" in answer.stdout
    assert (tmp_path / "cells.svg").read_text().lstrip().startswith("<?xml")
    as_json = runner.invoke(app, ["show", str(tiny_search), "--json"])
    document.pop("blake2b", None)  # of the file
    assert json.loads(as_json.stdout) == document


def test_show_says_what_stays_real(tiny_search, tmp_path):
    document = json.loads((tiny_search / "genotype.json").read_text())
    document["provenance"]["real_parts"] = ["preprocessing"]
    (tmp_path / "genotype.json").write_text(json.dumps(document))
    answer = runner.invoke(app, ["show", str(tmp_path / "genotype.json")])
    real = answer.stdout.partition("real in the Child:")[2]
    assert "preprocessing" in real.replace("shortcut around the preprocessing", "")


@pytest.mark.slow
def test_the_live_view_of_a_search_and_a_training(tiny_search, tmp_path):
    code, text = run_on_terminal(tmp_path, "search", *TINY_OPTIONS, "--out", "run")
    assert code == 0, text
    for part in ("draw 35/35", "round 1/7", "normal", "reduce", "0->2", "4->5", "best Child", "its Parent"):
        assert part in text
    assert (tmp_path / "run/genotype.json").read_bytes() == (tiny_search / "genotype.json").read_bytes()
    code, text = run_on_terminal(tmp_path, "train", "run/genotype.json", "--out", "trained")
    assert code == 0, text
    for part in ("epoch 3/3", "cross-entropy", "test accuracy"):
        assert part in text
    assert "compactness" not in text  # the term has no weight here


def test_without_a_terminal_there_is_a_plain_line_per_draw(cpnas_here):
    answer = cpnas_here("search", *TINY_OPTIONS, "--out", "run", "--max-time", "0.01s")
    lines = [line for line in answer.stderr.splitlines() if line.startswith("draw ")]
    assert len(lines) == 1
    assert lines[0].startswith("draw 1/35  8 candidates  pass 1/1  Child ")
    assert "\x1b" not in answer.stderr


def test_what_takes_long_says_why(capsys):
    with said_if_slow("compiling", seconds=0.01):
        time.sleep(0.3)
    assert capsys.readouterr() == ("", "compiling\n")
    with said_if_slow("compiling", seconds=60):
        pass
    assert capsys.readouterr() == ("", "")
