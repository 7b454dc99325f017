"""The recipe "add a strategy", carried out: the lines of docs/recipes.md on a copy of the package, run by commands."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from applied_recipe import Run, apply_recipe, runner_of
from PIL import Image
from sklearn.datasets import load_digits

from cpnas_cli.search_space import draw_uniform

TINY = (
    "data.num_train=40",
    "data.num_test=20",
    "network.num_channels=4",
    "search.num_channels=null",
    "network.stem_multiplier=1",
    "train.num_epochs=1",
    "train.batch_size=20",
)
OPTIONS = [word for setting in TINY for word in ("--set", setting)]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`cpnas WORDS` of a copy of the package to which the recipe was applied."""
    new = apply_recipe("Add a strategy", table="STRATEGIES", folder=tmp_path)
    assert new == tmp_path / "copy/cpnas_cli/strategies/toy.py"
    return runner_of(tmp_path)


def most_convolutions(seed: int) -> dict[str, list[str]]:
    """What the recipe's strategy must find."""
    draws = [draw_uniform(seed=seed, draw=draw) for draw in range(100)]
    counts = [sum("conv" in op for op in (*draw.normal, *draw.reduce)) for draw in draws]
    best = draws[counts.index(max(counts))]
    return {"normal": list(best.normal), "reduce": list(best.reduce)}


@pytest.mark.slow
def test_a_strategy_of_one_file_and_one_line_goes_from_search_to_prediction(run: Run, tmp_path: Path) -> None:
    searched = run("search", *OPTIONS, "--strategy", "toy", "--seed", "3", "--out", "search", "--json")
    document = json.loads(searched.stdout)
    assert document["provenance"]["strategy"] == "toy"
    assert {kind: [edge["op"] for edge in document[kind]] for kind in ("normal", "reduce")} == most_convolutions(3)

    trained = run("train", "search", "--out", "training", "--json")
    assert json.loads(trained.stdout)["num_epochs"] == 1
    run("export", "training", "--out", "model.safetensors")
    digits: Any = load_digits()
    digit = digits.images[0]
    Image.fromarray(np.round(digit * 255 / 16).astype(np.uint8)).save(tmp_path / "digit.png")
    predicted = run("predict", "model.safetensors", "digit.png")
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
    members = {member["name"]: member for member in json.loads(compared.stdout)["members"]}
    assert members.keys() == {"toy-seed-0", "random-seed-0-draw-0"}
    assert {member["state"] for member in members.values()} == {"finished"}
    toy = members["toy-seed-0"]
    assert toy["genotype"] == most_convolutions(0)
    assert (toy["strategy"], toy["beta_p"], toy["draw"], toy["search"]["num_epochs"]) == ("toy", None, None, 0)

    refused = run("search", "--strategy", "tog", code=2)
    assert "toy" in refused.stderr
    described = " ".join(run("search", "--help").stdout.split())
    assert "toy: of a hundred draws the one with the most convolutions" in described
    assert "toy," in run("compare-strategies", "--help").stdout  # among those that are compared by default
    refused = run("search", "--strategy", "toy", "--beta-p", "1", code=2)
    assert "toy uses no beta_P, got --beta-p 1; use --strategy cpnas" in refused.stderr


def test_it_is_completed(run: Run) -> None:
    """By the shell's completion, which asks the program; with its summary where the shell shows one."""
    program = "import sys; sys.argv[0] = 'cpnas'; from cpnas_cli.cli.app import main; main()"
    typed = {"_CPNAS_COMPLETE": "complete_bash", "COMP_WORDS": "cpnas search --strategy t", "COMP_CWORD": "3"}
    assert run(program=program, environment=typed).stdout.split() == ["toy"]
    typed = {"_CPNAS_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "cpnas search --strategy t"}
    shown = run(program=program, environment=typed).stdout
    assert "of a hundred draws the one with the most convolutions" in shown
