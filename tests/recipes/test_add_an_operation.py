"""The recipe "add an operation", carried out: from search to prediction with nine operations."""

import json
from pathlib import Path

import pytest
from applied_recipe import Run, apply_recipe, check_prediction, runner_of
from conftest import PUBLISHED_RULES

from cpnas_cli.search_space import EDGES, OPERATIONS

NEW = "sep_conv_7x7"
TINY = (
    *PUBLISHED_RULES,
    "data.num_train=100",
    "data.num_test=60",
    "network.num_channels=4",
    "search.num_channels=null",
    "network.stem_multiplier=1",
    "search.batch_size=25",
    "search.num_calibration_batches=1",
    "train.num_epochs=3",
    "train.batch_size=20",
)
OPTIONS = [word for setting in TINY for word in ("--set", setting)]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    apply_recipe("Add an operation", table="OPERATIONS", folder=tmp_path)
    return runner_of(tmp_path)


def write_genotype(path: Path) -> None:
    """The new operation on every other edge: at both strides, alone and beside each of the others."""
    others = [op for op in OPERATIONS if op != "none"]
    ops = [NEW if index % 2 == 0 else others[index // 2 % len(others)] for index in range(len(EDGES))]
    cells = {
        kind: [{"from": i, "to": j, "op": op} for (i, j), op in zip(EDGES, ops, strict=True)]
        for kind in ("normal", "reduce")
    }
    path.write_text(json.dumps({"schema": "cpnas.genotype/1", **cells, "provenance": {}}))


@pytest.mark.slow
def test_an_operation_of_one_file_and_one_line_is_searched(run: Run, tmp_path: Path) -> None:
    run("search", *OPTIONS, "--out", "search", "--json")
    records = [json.loads(line) for line in (tmp_path / "search/history.jsonl").read_text().splitlines()]
    draws = [record for record in records if record["event"] == "draw"]
    assert [record["num_candidates"] for record in draws[:10]] == [9] * 9 + [8]
    assert len(draws) == sum(range(2, 10))
    for edge in range(len(EDGES)):  # in the first pass every edge has each of the nine once
        assert sorted(record["normal"][edge] for record in draws[:9]) == sorted((*OPERATIONS, NEW))
    run("search", *OPTIONS, "--strategy", "pcdarts", "--set", "pcdarts.num_epochs=1", "--set",
        "pcdarts.frozen_epochs=0", "--set", "pcdarts.batch_size=25", "--out", "pcdarts", "--json")  # fmt: skip
    strengths = json.loads((tmp_path / "pcdarts/history.jsonl").read_text().splitlines()[-1])
    assert NEW in json.dumps(strengths)


@pytest.mark.slow
def test_an_operation_of_one_file_and_one_line_is_trained_and_predicts(run: Run, tmp_path: Path) -> None:
    write_genotype(tmp_path / "genotype.json")
    shown = run("show", "genotype.json", "--out", "cells.svg").stdout
    assert f"7 {NEW}" in shown
    assert "sep 7\u00d77" in (tmp_path / "cells.svg").read_text(encoding="utf-8")
    estimated = json.loads(run("estimate-efficiency", "genotype.json", "--json").stdout)
    kernels = {layer["name"].split(".", 4)[-1]: layer["kernel_size"] for layer in estimated["layers"]}
    assert kernels[f"{NEW}.convolution"] == 7
    published = run("estimate-efficiency", "genotype.json", "--set", "network.block=separable", "--json").stdout
    assert {7} == {e["kernel_size"] for e in json.loads(published)["layers"] if e["name"].endswith(f"{NEW}.depthwise")}
    run("train", "genotype.json", *OPTIONS, "--out", "training")
    check_prediction(run, tmp_path)
    run("export", "training", "--format", "onnx", "--out", "model.onnx")


def test_it_is_among_the_choices_where_another_is_wrong(run: Run, tmp_path: Path) -> None:
    write_genotype(tmp_path / "genotype.json")
    text = (tmp_path / "genotype.json").read_text()
    (tmp_path / "genotype.json").write_text(text.replace("max_pool_3x3", "max_pool_9x9"))
    refused = run("show", "genotype.json", code=1)
    assert "unknown operation 'max_pool_9x9'" in refused.stderr
    assert f"dil_conv_5x5, {NEW}" in refused.stderr
