"""What a search shows while it runs, fed with the records of a whole one."""

import io
import json
from pathlib import Path
from typing import Any

from cpnas_cli.cli.styled_console import StyledConsole
from cpnas_cli.cli.views.runs import SearchView, search_view, trend
from cpnas_cli.runs.folder import RunFolder


def lines_of(view: SearchView, width: int) -> list[str]:
    view.console = StyledConsole(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    view.console.print(view.render())
    return view.console.file.getvalue().splitlines()  # pyright: ignore[reportAttributeAccessIssue]


def test_it_says_what_matters_in_80_columns(tiny_search: Path) -> None:
    records = [json.loads(line) for line in (tiny_search / "history.jsonl").read_text().splitlines()]
    draws = [record for record in records if record["event"] == "draw"]
    view: Any = search_view(RunFolder(tiny_search).config(), num_images=1433)
    assert "8 candidates on every edge" in lines_of(view, 80)
    for record in records:
        view.notify({**record, "resumed": True})
    shown = lines_of(view, 80)
    assert all(len(line.rstrip()) <= 80 for line in shown)
    assert not [line for line in shown if "…" in line]
    children = [draw["accuracy_child"] for draw in draws]
    best = children.index(max(children))
    parent = draws[best]["accuracy_parent"]
    assert f"best Child {100 * max(children):.2f} %, its Parent {100 * parent:.2f} %, in draw {best + 1}" in shown
    # the last rounds leave one operation on every edge: what leads is what is found
    genotype = json.loads((tiny_search / "genotype.json").read_text())
    (normal,) = (line.split()[1:] for line in shown if line.startswith("normal"))
    kinds = {"sep_conv_3x3": "sep3", "dil_conv_5x5": "dil5", "max_pool_3x3": "max", "skip_connect": "skip"}
    for name, edge in zip(normal, genotype["normal"], strict=True):
        assert kinds.get(edge["op"], name) == name
    (abandoned,) = (line for line in shown if line.startswith("gone/28 "))
    counts = [int(part.split()[1]) for part in abandoned.partition(" ")[2].split(", ")]
    assert sum(counts) == 28 * 7
    narrow = lines_of(view, 40)
    assert all(len(line.rstrip()) <= 40 for line in narrow)


def test_a_trend_is_drawn_between_its_ends() -> None:
    assert trend([0.0, 0.5, 1.0], width=10) == "▁▅█"
    assert trend([0.0, 0.5, 1.0], width=2) == "▁█"
    assert trend([0.3, 0.3], width=10) == "▁▁"
