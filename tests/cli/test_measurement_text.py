"""A measurement as text and as a figure: of today, and of one that was taken before there were other runtimes."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cpnas_cli.cli.render.measurement import print_measurement
from cpnas_cli.reports.efficiency import draw_speedups, speedups_info

OLD = Path(__file__).parent.parent.parent / "docs" / "results" / "efficiency-convolutions" / "measurement.json"


@pytest.fixture
def old() -> dict[str, Any]:
    document = json.loads(OLD.read_text(encoding="utf-8"))
    for key in ("fastest_peers", "peer_agreement"):  # should it be taken again
        document.pop(key, None)
    for row in document["operations"]:
        for key in ("fastest", "speedup_fastest", "seconds_openvino_float32", "seconds_openvino_bfloat16"):
            row.pop(key, None)
    return document


@pytest.fixture
def new(old: dict[str, Any]) -> dict[str, Any]:
    """The same with what has been added since."""
    document = copy.deepcopy(old)
    fastest = {"threads": 1, "batch_size": 1, "runtime": "OpenVINO, Parent bfloat16"}
    document["fastest_peers"] = [{**fastest, "seconds_median": 0.0054, "times_packed": 2.4321}]
    agreement = {"runtime": "OpenVINO, Parent int8", "with": "PyTorch eager, Parent float32", "num_images": 500}
    document["peer_agreement"] = [{**agreement, "same_class": 487, "largest_relative_difference": 0.25}]
    document["not_measured"] = {"one": "no compiler", "two": "no OpenVINO", "three": "no compiler"}
    for index, row in enumerate(document["operations"]):
        row["fastest"] = "OpenVINO, Parent float32"
        row["speedup_fastest"] = 3.3 if index else None
        row["seconds_openvino_float32"] = {"median": 77.7e-6, "p10": 1e-6, "p90": 1e-3}
        row["seconds_openvino_bfloat16"] = None
    return document


def test_an_older_document_is_still_read(old: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    print_measurement(old)
    out = capsys.readouterr().out
    assert "The fastest" not in out
    assert "to the fastest" not in out
    assert "OpenVINO" not in out
    assert "sep_conv_3x3" in out
    info = speedups_info(old)
    assert all(row.fastest is None for row in info.rows)
    (axes,) = draw_speedups(info).axes
    assert [line.get_label() for line in axes.lines if not str(line.get_label()).startswith("_")] == [
        "estimated", "measured",
    ]  # fmt: skip


def test_the_fastest_runtime_is_named(new: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    print_measurement(new)
    out = capsys.readouterr().out
    assert "The fastest of the Parent's: OpenVINO, Parent bfloat16, 2.43 times the packed engine's." in out
    assert "not measured: one; three: no compiler\n" in out
    assert "not measured: two: no OpenVINO\n" in out
    assert "77.7 us" in out
    (agreement,) = (line.split() for line in out.splitlines() if "487" in line)
    assert agreement[-3:] == ["500", "487", "2.5e-01"]
    title = next(line for line in out.splitlines() if "to the fastest" in line)
    assert "OpenVINO" in title
    assert "bfloat16" not in title  # not measured at all


def test_the_figure_has_a_mark_for_the_fastest(new: dict[str, Any]) -> None:
    info = speedups_info(new)
    assert [row.fastest for row in info.rows] == [None, *[3.3] * (len(info.rows) - 1)]
    assert "2.4 against the fastest (OpenVINO, Parent bfloat16)" in info.caption
    (axes,) = draw_speedups(info).axes
    (marks,) = (line for line in axes.lines if line.get_label() == "against the fastest")
    assert np.asarray(marks.get_xdata()).tolist() == [3.3] * (len(info.rows) - 1)
