"""Every example of docs/library.md and every cell of the notebook, carried out in their order in one folder."""

import ast
import contextlib
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "library.md"


@pytest.mark.slow
def test_the_examples_run_as_they_stand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examples = re.findall(r"(?ms)^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"))
    assert len(examples) == 5
    names: dict[str, object] = {}
    with contextlib.chdir(tmp_path):
        for example in examples:
            exec(compile(example, str(PAGE), "exec"), names)
    said = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\d+\.\d % of 364 test images", said[0])
    assert [line.split()[0] for line in said[1:49]] == ["8"] * 48  # six passes of 8 candidates are scored one by one
    assert [line.split()[0] for line in said[49:59]] == [str(digit) for digit in range(10)]
    assert said[59].startswith("white.png ((")
    assert [line.partition(" ((")[0] for line in said[60:62]] == ["0", "1"]
    assert said[62:] == ["(8, 8, 1)"]


def shown_by(cell: str, names: dict[str, object]) -> Any:
    """Runs a cell; the value of its last line, which a notebook shows, if that is an expression."""
    *lines, last = ast.parse(cell).body
    if not isinstance(last, ast.Expr):
        lines.append(last)
    exec(compile(ast.Module(lines, []), "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if isinstance(last, ast.Expr) else None


@pytest.mark.slow
def test_the_notebook_runs_and_shows_something(tmp_path: Path) -> None:
    notebook = json.loads((DOCS / "first-network.ipynb").read_text(encoding="utf-8"))
    names: dict[str, object] = {}
    with contextlib.chdir(tmp_path):
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        search, training, evaluation, answers = (shown_by("".join(cell["source"]), names) for cell in cells)
    assert ET.fromstring(search._repr_svg_()).tag.endswith("svg")
    assert f"{100 * training.accuracy:.2f} %" in training._repr_html_()
    assert "<table" in evaluation._repr_html_()
    assert {name for name, _ in answers} <= {str(digit) for digit in range(10)}
    assert len(answers) == 10
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)  # kept without
