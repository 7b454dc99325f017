"""The recipe "add a strategy", carried out: the lines of docs/recipes.md on a copy of the package, run by commands."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import cpnas_cli
from cpnas_cli.search_space import draw_uniform
from cpnas_cli.settings import presets_folder

RECIPES = Path(__file__).parents[2] / "docs" / "recipes.md"
TINY = (
    "data.num_train=40",
    "data.num_test=20",
    "network.num_channels=4",
    "network.stem_multiplier=1",
    "train.num_epochs=1",
    "train.batch_size=20",
)
OPTIONS = [word for setting in TINY for word in ("--set", setting)]

Run = Callable[..., subprocess.CompletedProcess[str]]


def blocks_of(section: str) -> dict[str, str]:
    """{what the first line's comment says: the lines below} of the Python blocks of a section of the recipes."""
    text = RECIPES.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    blocks = (textwrap.dedent(block) for block in re.findall(r"^ *```python\n(.*?)^ *```$", text, re.S | re.M))
    return {head.removeprefix("# "): rest for head, _, rest in (block.partition("\n") for block in blocks)}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`cpnas WORDS` of a copy of the package to which the recipe was applied."""
    copy = tmp_path / "copy"
    shutil.copytree(Path(cpnas_cli.__file__).parent, copy / "cpnas_cli", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(presets_folder(), copy / "presets", dirs_exist_ok=True)
    blocks = blocks_of("Add a strategy")
    assert blocks.keys() == {"cpnas_cli/strategies/toy.py", "cpnas_cli/registry.py, in STRATEGIES"}
    (copy / "cpnas_cli/strategies/toy.py").write_text(blocks["cpnas_cli/strategies/toy.py"])
    registry = copy / "cpnas_cli/registry.py"
    before, opening, after = registry.read_text().partition("STRATEGIES: dict[str, str] = {\n")
    assert opening
    registry.write_text(before + opening + blocks["cpnas_cli/registry.py, in STRATEGIES"] + after)

    def run(*words: str | Path, as_code: bool = False, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *(["-c"] if as_code else ["-m", "cpnas_cli"]), *map(str, words)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(copy), "COLUMNS": "200", **environment},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    return run


def most_convolutions(seed: int) -> dict[str, list[str]]:
    """What the recipe's strategy must find."""
    draws = [draw_uniform(seed=seed, draw=draw) for draw in range(100)]
    counts = [sum("conv" in op for op in (*draw.normal, *draw.reduce)) for draw in draws]
    best = draws[counts.index(max(counts))]
    return {"normal": list(best.normal), "reduce": list(best.reduce)}


@pytest.mark.slow
def test_a_strategy_of_one_file_and_one_line_goes_from_search_to_prediction(run: Run, tmp_path: Path) -> None:
    searched = run("search", *OPTIONS, "--strategy", "toy", "--seed", "3", "--out", "search", "--json")
    assert searched.returncode == 0, searched.stderr
    document = json.loads(searched.stdout)
    assert document["provenance"]["strategy"] == "toy"
    assert {kind: [edge["op"] for edge in document[kind]] for kind in ("normal", "reduce")} == most_convolutions(3)

    trained = run("train", "search", "--out", "training", "--json")
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout)["num_epochs"] == 1
    exported = run("export", "training", "--out", "model.safetensors")
    assert exported.returncode == 0, exported.stderr
    digits: Any = load_digits()
    digit = digits.images[0]
    Image.fromarray(np.round(digit * 255 / 16).astype(np.uint8)).save(tmp_path / "digit.png")
    predicted = run("predict", "model.safetensors", "digit.png")
    assert predicted.returncode == 0, predicted.stderr
    path, name, probability = predicted.stdout.split("\t")
    assert path == "digit.png"
    assert name in {str(digit) for digit in range(10)}
    assert 0 < float(probability.strip().removesuffix("%")) <= 100


@pytest.mark.slow
def test_it_is_compared_with_others_and_offered(run: Run, tmp_path: Path) -> None:
    compared = run(
        "compare-strategies", *OPTIONS, "--strategies", "toy,random", "--seeds", "0", "--random-draws", "1",
        "--out", "experiment", "--json",
    )  # fmt: skip
    assert compared.returncode == 0, compared.stderr
    members = {member["name"]: member for member in json.loads(compared.stdout)["members"]}
    assert members.keys() == {"toy-seed-0", "random-seed-0-draw-0"}
    assert {member["state"] for member in members.values()} == {"finished"}
    toy = members["toy-seed-0"]
    assert toy["genotype"] == most_convolutions(0)
    assert (toy["strategy"], toy["beta_p"], toy["draw"], toy["search"]["num_epochs"]) == ("toy", None, None, 0)

    refused = run("search", "--strategy", "tog")
    assert refused.returncode == 2
    assert "toy" in refused.stderr
    described = " ".join(run("search", "--help").stdout.split())
    assert "toy: of a hundred draws the one with the most convolutions" in described
    assert "toy," in run("compare-strategies", "--help").stdout  # among those that are compared by default
    refused = run("search", "--strategy", "toy", "--beta-p", "1")
    assert refused.returncode == 2
    assert "toy uses no beta_P, got --beta-p 1; use --strategy cpnas" in refused.stderr


def test_it_is_completed(run: Run) -> None:
    """By the shell's completion, which asks the program; with its summary where the shell shows one."""
    program = ["import sys; sys.argv[0] = 'cpnas'; from cpnas_cli.cli.app import main; main()"]
    typed = {"COMP_WORDS": "cpnas search --strategy t", "COMP_CWORD": "3"}
    assert run(*program, as_code=True, _CPNAS_COMPLETE="complete_bash", **typed).stdout.split() == ["toy"]
    typed = {"_TYPER_COMPLETE_ARGS": "cpnas search --strategy t"}
    shown = run(*program, as_code=True, _CPNAS_COMPLETE="complete_zsh", **typed).stdout
    assert "of a hundred draws the one with the most convolutions" in shown
