"""What `cpnas search` and `cpnas show` say of the indicator, and what a search shows while it runs."""

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import DOCUMENT, invoke
from conftest import PUBLISHED_RULES, TINY_OPTIONS

from cpnas_cli import strategies
from cpnas_cli.cli.views.runs import search_view
from cpnas_cli.search_space import EDGES
from cpnas_cli.settings import load_config

PROVENANCE = {"strategy": "cpnas", "beta_p": 2.0, "seed": 0, "dataset": "digits", "num_passes": 1}


def found(**provenance: Any) -> dict[str, Any]:
    return {**DOCUMENT, "provenance": {**PROVENANCE, **provenance}}


def searched(document: dict[str, Any], monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    """`cpnas search` with a search that is played."""
    monkeypatch.setattr(strategies, "run_search", lambda _: document)
    return invoke("search", *TINY_OPTIONS, "--out", "run", *words)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_search_that_prefers_worse_children_says_so_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """b = 0.25: z falls as the Child gets better from beta_P = 1 / (1 - b) = 1.33 on."""
    document = found(indicator="printed", parent_slope=0.25)
    result = searched(document, monkeypatch, "--indicator", "printed", *words)
    assert result.exit_code == 0, result.output
    (warning,) = (line for line in result.stderr.splitlines() if line.startswith("warning: "))
    assert "prefers worse Children" in warning
    assert "gains 0.25 where its Child gains 1" in warning
    assert warning.endswith("use --indicator penalized, or a --beta-p below 1.3")
    if words:
        assert json.loads(result.stdout) == document
    else:
        assert "indicator: printed, beta_P 2; slope b of the Parent's accuracy on the Child's" in result.stdout
        assert "over the draws: 0.25\n" in result.stdout
    assert "\n  indicator: printed\n" in Path("run/config.yaml").read_text()


@pytest.mark.parametrize(
    ("provenance", "line"),
    [
        ({"indicator": "penalized", "parent_slope": 0.25}, "over the draws: 0.25\n"),
        ({"indicator": "printed", "parent_slope": 0.75}, "over the draws: 0.75\n"),
        ({"indicator": "penalized", "parent_slope": None}, "over the draws: -, because the Child never varied\n"),
        ({"strategy": "bnas", "beta_p": 0.0, "indicator": None, "parent_slope": None}, None),
        ({"strategy": "random", "beta_p": None}, None),
    ],
)
def test_another_search_reports_its_slope_without_a_warning(
    monkeypatch: pytest.MonkeyPatch, provenance: dict[str, Any], line: str | None
) -> None:
    result = searched(found(**provenance), monkeypatch)
    assert "warning" not in result.stderr
    assert (line in result.stdout) if line else ("slope" not in result.stdout)


@pytest.mark.parametrize(
    ("provenance", "origin"),
    [
        ({"indicator": "penalized"}, "cpnas, beta_P 2.0, indicator penalized, digits, seed 0, T 1"),
        ({}, "cpnas, beta_P 2.0, indicator printed, digits, seed 0, T 1"),  # of an older version
        ({"strategy": "bnas", "beta_p": 0.0}, "bnas, beta_P 0.0, digits, seed 0, T 1"),
    ],
)
def test_a_genotype_is_shown_with_its_indicator(provenance: dict[str, Any], origin: str) -> None:
    Path("g.json").write_text(json.dumps(found(**provenance)))
    result = invoke("show", "g.json")
    assert result.exit_code == 0, result.output
    assert f"found by: {origin}\n" in result.stdout


def test_a_search_after_passes_and_without_a_parent_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    cells = dict.fromkeys(("normal", "reduce"), ["skip_connect"] * len(EDGES))
    draw = {"event": "draw", "num_candidates": 2, "pass": 0, **cells, "seconds": 1.0}
    nothing = {"accuracy_child": None, "accuracy_parent": None, "z": None}
    child = {"accuracy_child": [0.25, 0.75], "accuracy_parent": None, "z": [0.25, 0.75]}
    view: Any = search_view(load_config(overrides=PUBLISHED_RULES), num_images=1433)
    with view:
        for index in range(2):
            view.notify({**draw, "draw": index, **nothing})
        view.notify({"event": "pass", "num_candidates": 2, "pass": 0, **child, "seconds": 0.5})
        view.notify({**draw, "draw": 0, "accuracy_child": 0.5, "accuracy_parent": None, "z": 0.5})
        view.render()
    lines = capsys.readouterr().err.splitlines()
    assert "draw 2/35  2 candidates  pass 1/1  validated with its pass  1.0 s" in lines[1]
    assert lines[2] == "pass 1/1  2 candidates  on average Child 50.00 %  0.5 s"
    assert "Child 50.00 %  z 0.5000" in lines[3]
