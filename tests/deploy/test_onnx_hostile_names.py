"""Names of classes that would command something are plain text in an ONNX model."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from children import everywhere, make_child

from cpnas_cli.deploy.onnx import write_onnx

HOSTILE = (
    '"; system("id"); "',
    '{"classes": []}',
    "\x1b[2J\x07\x7f",
    "l\nine\0end",
    "\u202e\u2028",
    "\udcff".encode("utf-8", "replace").decode(),
    "a" * 5000,
)


@pytest.mark.slow
def test_hostile_names_are_read_back(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    child = make_child(everywhere("skip_connect"), num_classes=len(HOSTILE))
    write_onnx(replace(child.trained, classes=HOSTILE), tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    metadata = {each.key: each.value for each in model.metadata_props}
    assert json.loads(metadata["classes"]) == list(HOSTILE)
    assert not any(name in str(model.graph) for name in HOSTILE[:1])
