"""What a search shows while it runs, fed with the records of a whole one."""

import io
import json
from pathlib import Path
from typing import Any

from conftest import TINY_SETTINGS

import cpnas_cli as cpnas
from cpnas_cli.cli.styled_console import StyledConsole
from cpnas_cli.cli.views.runs import SearchView, search_view, trend
from cpnas_cli.networks.operations.base import operation_of
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.settings import load_config
from cpnas_cli.settings.config import flat_settings


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


def test_it_shows_how_a_whole_architecture_is_chosen(tmp_path: Path) -> None:
    """Scored passes at the end, then what was chosen on every edge; the time left ends with them."""
    tiny = flat_settings(load_config(overrides=[*TINY_SETTINGS, "search.num_left=7", "search.final_passes=2"]))
    found = cpnas.search(out=tmp_path / "run", settings={name: tiny[name] for name in tiny if name != "data.dir"})
    view: Any = search_view(RunFolder(found.folder).config(), num_images=1433)
    said: list[str] = []
    view.line = said.append
    shown = []
    for record in found.history():
        view.notify(record)
        shown.append(lines_of(view, 80)[0])
    assert view.done == view.total
    choice = found.history()[-1]
    assert [line for line in said if line.startswith("the best of")] == [
        f"the best of 2 passes chosen, z {choice['z']:.4f}"
    ]
    assert sum("scored pass 1/2" in line for line in said) == sum("scored pass 2/2" in line for line in said) == 7
    assert any("round 2/2" in line for line in shown)
    leads = [line.split() for line in lines_of(view, 200) if line.startswith(("normal", "reduce"))]
    for kind, *names in leads:
        assert names == [operation_of(op).short for op in choice[kind]]


def test_a_trend_is_drawn_between_its_ends() -> None:
    assert trend([0.0, 0.5, 1.0], width=10) == "▁▅█"
    assert trend([0.0, 0.5, 1.0], width=2) == "▁█"
    assert trend([0.3, 0.3], width=10) == "▁▁"
