"""Commands that make an experiment larger: what is typed, what --resume keeps, and what is said. Nothing is trained."""

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import error_of, invoke
from played_experiments import DATASET, PlayedExecutor
from played_frontiers import PlayedExecutor as PlayedFrontier
from played_frontiers import play_timing

from cpnas_cli.data import dataset
from cpnas_cli.experiments import executors
from cpnas_cli.reports import experiments as figures_of_experiments
from cpnas_cli.reports import frontier as figures_of_frontiers

SETTINGS = ["--set", "data.num_train=40", "--set", "data.num_test=20", "--set", "train.num_epochs=1"]


@pytest.fixture(autouse=True)
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Tasks are played and figures are not drawn; the seeds of the documents that they were to be drawn from."""
    seeds: list[list[int]] = []

    def draw(document: dict[str, Any], _: Path) -> list[Path]:
        seeds.append(document["seeds"])
        return []

    monkeypatch.chdir(tmp_path)
    described = DATASET | {"image_shape": [1, 8, 8], "classes": list("0123456789")}
    monkeypatch.setattr(dataset, "describe_dataset", lambda _: described)
    monkeypatch.setattr("played_experiments.DATASET", described)
    monkeypatch.setattr("played_frontiers.DATASET", described)
    monkeypatch.setattr(figures_of_experiments, "save_figures", draw)
    monkeypatch.setattr(figures_of_frontiers, "save_frontier", draw)
    play_timing(monkeypatch)
    monkeypatch.setattr(executors, "LocalExecutor", lambda *_, **__: PlayedExecutor())
    return seeds


def document_of(*words: str, said: str | None) -> dict[str, Any]:
    """What the command prints; all its members have finished.

    Args:
      said: the line on what is added; None: nothing is.
    """
    answer = invoke(*words, "--out", "run", "--json")
    assert answer.exit_code == 0, answer.output
    added = [line for line in answer.stderr.splitlines() if line.startswith("adds ")]
    assert added == ([said] if said else [])
    document = json.loads(answer.stdout)
    assert {member["state"] for member in document["members"]} == {"finished"}
    return document


def test_a_comparison_grows_by_what_is_typed(drawn: list[list[int]]) -> None:
    words = ["compare-strategies", *SETTINGS, "--strategies", "random,cpnas", "--random-draws", "2"]
    document_of(*words, "--seeds", "0", said=None)
    document = document_of(*words, "--seeds", "0,1", said="adds 3 members to the 3 of run")
    assert (document["seeds"], document["groups"], document["random_draws"]) == ([0, 1], ["random", "cpnas"], 2)
    assert document_of("compare", "--resume", said=None) == document
    assert document_of(*words, "--seeds", "0,1", said=None) == document
    assert drawn == [[0], [0, 1], [0, 1], [0, 1]]


def test_resume_keeps_what_is_not_typed() -> None:
    """The settings too: without --resume they would be those of the preset."""
    document_of("compare", *SETTINGS, "--strategies", "random,bnas", "--random-draws", "1", "--seeds", "0", said=None)
    document_of("compare", "--resume", "--seeds", "0,1", said="adds 2 members to the 2 of run")
    document_of("compare", "--resume", "--random-draws", "3", said="adds 4 members to the 4 of run")
    document = document_of(
        "compare", "--resume", "--strategies", "bnas,random,cpnas", said="adds 2 members to the 8 of run"
    )
    assert (document["seeds"], document["groups"], document["random_draws"]) == ([0, 1], ["bnas", "random", "cpnas"], 3)
    assert document["config"]["train"]["num_epochs"] == 1
    assert len(document["grown_by"]) == 3
    assert document_of("compare", "--resume", said=None) == document


def test_an_ablation_grows_by_betas_indicators_and_seeds() -> None:
    document_of("ablate", *SETTINGS, "--betas", "0,1", "--seeds", "0", said=None)
    document_of("ablate", *SETTINGS, "--betas", "0,1,2", "--seeds", "0", said="adds 1 member to the 2 of run")
    document_of("ablate", "--resume", "--indicators", "penalized,printed", said="adds 3 members to the 3 of run")
    document = document_of(
        "ablate", "--resume", "--betas", "2,1,0", "--seeds", "0,5", said="adds 6 members to the 6 of run"
    )
    assert document["groups"] == [f"{name} {beta}" for name in ("penalized", "printed") for beta in (2, 1, 0)]
    assert document["seeds"] == [0, 5]


@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_what_leaves_members_out_is_one_line(resume: list[str]) -> None:
    words = ["compare", *SETTINGS, "--strategies", "random,bnas", "--random-draws", "1"]
    document_of(*words, "--seeds", "0,1", said=None)
    before = Path("run/experiment.json").read_bytes()
    message = error_of(invoke(*words, "--seeds", "1", "--out", "run", *resume), code=1)
    assert message.startswith(
        "run holds more than this command asks for (seeds: 0,1 there, 1 now); type --seeds 0,1, or choose another --out"
    )
    assert Path("run/experiment.json").read_bytes() == before


def test_resume_of_the_other_kind_is_refused() -> None:
    document_of("ablate", *SETTINGS, "--betas", "0", "--seeds", "0", said=None)
    message = error_of(invoke("compare", "--resume", "--seeds", "0,1", "--out", "run"), code=1)
    assert message == "run holds another experiment (ablation, not comparison)"


def test_a_frontier_grows(monkeypatch: pytest.MonkeyPatch, drawn: list[list[int]]) -> None:
    monkeypatch.setattr(executors, "LocalExecutor", lambda *_, **__: PlayedFrontier())
    words = ["frontier", *SETTINGS, "--baseline-bytes", "2KiB,16KiB"]
    there = document_of(*words, "--widths", "1", "--seeds", "0", said=None)
    assert len(there["cnn_widths"]) == 2
    timed = "; all networks are timed again at the end"
    document_of(*words, "--widths", "1,2", "--seeds", "0", said=f"adds 1 member to the 4 of run{timed}")
    document_of("frontier", "--resume", "--seeds", "0,3", said="adds 4 members to the 5 of run")
    sizes = "2KiB,16KiB,64KiB"
    document = document_of(
        "frontier", "--resume", "--baseline-bytes", sizes, said=f"adds 2 members to the 9 of run{timed}"
    )
    assert (document["widths"], document["seeds"]) == ([1, 2], [0, 3])
    assert document["cnn_widths"][:2] == there["cnn_widths"]
    assert document_of("frontier", "--resume", said=None) == document
    assert drawn == [[0], [0], [0, 3], [0, 3], [0, 3]]
    message = error_of(invoke(*words, "--widths", "2", "--seeds", "0,3", "--out", "run"), code=1)
    assert message.startswith(
        "run holds more than this command asks for (widths: 1,2 there, 2 now); type --widths 1,2 --baseline-bytes "
    )
    options = message.partition("--baseline-bytes ")[2].partition(", or ")[0]
    answer = document_of(*words[:-2], "--widths", "1,2", "--baseline-bytes", options, "--seeds", "0,3", said=None)
    assert answer == document
