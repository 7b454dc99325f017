"""The benchmark of the C program: its float C computes what PyTorch does, and its rows say what they should."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from c_programs import needed
from children import every_operation

from benchmarks import c_source, float_c
from cpnas_cli.deploy.onnx import onnx_bytes
from cpnas_cli.settings import Config

TINY: dict[str, dict[str, Any]] = {
    "separable": {"num_cells": 3, "num_channels": 4, "stem_multiplier": 1},
    "residual": {"num_cells": 3, "num_channels": 4, "stem_multiplier": 1, "block": "residual", "group_width": 2},
}


@pytest.mark.parametrize("block", TINY)
def test_the_float_c_computes_what_the_parent_does(block: str) -> None:
    config = Config.model_validate({"data": {"image_size": 8}, "network": TINY[block]})
    _, parent = c_source.networks_of(config, every_operation())
    source = float_c.FloatC(onnx_bytes(parent, image_size=8))
    flags = ("-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=undefined", "-fno-sanitize-recover=all")
    scores = c_source.float_scores(source.text, compiler=needed("gcc"), flags=flags)
    images = np.random.default_rng(0).normal(size=(2, 1, 3, 8, 8)).astype(np.float32)
    for image in images:  # the second one finds the memory of the first
        with torch.inference_mode():
            expected = parent(torch.from_numpy(image)).logits.numpy()[0]
        np.testing.assert_allclose(scores(image), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    weights = sum(parameter.numel() for parameter in parent.parameters())
    assert 0.5 * weights < source.flash_bytes / 4 < 2 * weights


@pytest.mark.slow(seconds=20)
def test_rows_set_each_program_against_the_one_beside_it() -> None:
    needed("gcc")
    config = Config.model_validate({"data": {"image_size": 8}, "network": TINY["separable"]})
    rows = c_source.measure(config, every_operation(), repetitions=3)
    times = {row["program"]: row["ms"] for row in rows}
    assert list(times) == [
        "engine", "1-bit C, -O2", "float C of the Parent, -O2",
        "1-bit C, -O3 -march=native", "float C of the Parent, -O3 -march=native",
    ]  # fmt: skip
    for row in rows:
        beside = row["program"].replace("float C of the Parent", "1-bit C")
        assert row["to the 1-bit C, same flags"] == pytest.approx(row["ms"] / times[beside])
        assert row["to the engine"] == pytest.approx(row["ms"] / times["engine"])
        if row["program"] != "engine":
            assert row["static RAM bytes"] > 1000
            assert row["code, constants bytes"] > 10_000
    json.dumps(rows, allow_nan=False)


def test_a_program_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    needed("gcc")

    def wrong(*_: Any, **__: Any) -> Callable[[np.ndarray], np.ndarray]:
        return lambda _: np.arange(10, dtype=np.float32)

    monkeypatch.setattr(c_source, "FloatC", lambda _: SimpleNamespace(text=""))
    monkeypatch.setattr(c_source, "onnx_bytes", lambda *_, **__: b"")
    monkeypatch.setattr(c_source, "float_scores", wrong)
    monkeypatch.setattr(c_source, "CProgram", lambda *_, **__: None)
    monkeypatch.setattr(c_source.runtimes, "packed_call", lambda *_, **__: lambda: np.ones((1, 10), np.float32))
    monkeypatch.setattr(c_source.runtimes, "c_call", lambda *_: lambda: np.ones((1, 10), np.float32))
    config = Config.model_validate({"data": {"image_size": 8}, "network": TINY["separable"]})
    with pytest.raises(RuntimeError, match="float C of the Parent, -O2: its scores differ by"):
        c_source.measure(config, every_operation(), repetitions=1)
