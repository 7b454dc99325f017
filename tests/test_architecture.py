"""The rooms import downwards only; their order is held by reading every import."""

import ast
import graphlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import cpnas_cli

PACKAGE = Path(cpnas_cli.__file__).parent

# From the top to the bottom: a room imports from itself and from what stands below it.
ROOMS = (
    "__main__",
    "cli",
    "library",
    "reports",
    "experiments",
    "fit",
    "deploy",
    "efficiency",
    "strategies",
    "training",
    "runs",
    "networks",
    "binarization",
    "data",
    "distributed",
    "genotypes",
    "storage",
    "losses",
    "search_space",
    "settings",
    "registry",
    "randomness",
    "errors",
    "__init__",
)
RANKS = {room: rank for rank, room in enumerate(reversed(ROOMS))}

# A library and the only part of the package that may import it; None: nobody.
ONLY_IN = {"typer": "cli", "rich": "cli", "matplotlib": "reports", "jinja2": "reports", "click": None}


def read_sources() -> dict[str, str]:
    """{"cpnas_cli.strategies.base": source} of every module of the package."""
    sources = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("cpnas_cli", *path.relative_to(PACKAGE).with_suffix("").parts)
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        sources[name] = path.read_text(encoding="utf-8")
    return sources


def part_of(module: str) -> str:
    """The name in `RANKS` that a module of the package belongs to."""
    return module.split(".")[1] if "." in module else "__init__"


def imports_of(tree: ast.AST, modules: Mapping[str, str]) -> Iterator[str]:
    """Every module that is imported, inside functions too; `from package import module` gives the module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                yield inner if inner in modules else origin


def find_violations(sources: Mapping[str, str]) -> list[str]:
    """What the modules do that they may not; empty if all is well."""
    found = []
    same_rank: dict[str, set[str]] = {}
    for module, source in sources.items():
        tree = ast.parse(source)
        part = part_of(module)
        if part not in RANKS:
            found.append(f"{module} has no rank")
            continue
        if {"util", "utils"} & set(module.split(".")):
            found.append(f"{module} is not named after a concept")
        for target in imports_of(tree, sources):
            top = target.split(".")[0]
            if target.startswith("."):
                found.append(f"{module} imports relatively")
            elif top != "cpnas_cli":
                if ONLY_IN.get(top, part) != part:
                    found.append(f"{module} imports {top}")
            elif target not in sources or part_of(target) not in RANKS:
                found.append(f"{module} imports {target}, which is no module with a rank")
            elif module == "cpnas_cli" and part_of(target) in ("library", "errors"):
                pass  # the names of the package itself, loaded when they are asked for
            elif RANKS[part_of(target)] > RANKS[part]:
                found.append(f"{module} imports {target}, which stands higher")
            elif RANKS[part_of(target)] == RANKS[part]:
                same_rank.setdefault(module, set()).add(target)
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        if "print" in names and part != "cli":  # called, or handed on to be called
            found.append(f"{module} prints")
    try:
        graphlib.TopologicalSorter(same_rank).prepare()
    except graphlib.CycleError as error:
        found.append(f"cycle: {' -> '.join(error.args[1])}")
    return found


def test_the_package_keeps_its_order() -> None:
    sources = read_sources()
    assert {
        "cpnas_cli",
        "cpnas_cli.errors",
        "cpnas_cli.strategies",
        "cpnas_cli.strategies.cpnas.search",
    } <= sources.keys()
    assert find_violations(sources) == []


def test_the_imports_are_found() -> None:
    """The check above sees what is known to be there."""
    sources = read_sources()
    imports = {module: set(imports_of(ast.parse(source), sources)) for module, source in sources.items()}
    assert {"cpnas_cli.errors", "cpnas_cli.randomness"} <= imports["cpnas_cli.search_space"]
    assert {"cpnas_cli.networks.network", "cpnas_cli.strategies.base", "torch"} <= imports[
        "cpnas_cli.strategies.cpnas.shared_networks"
    ]
    assert "cpnas_cli" in imports["cpnas_cli.runs.environment"]  # from cpnas_cli import __version__


def test_errors_import_nothing_of_ours() -> None:
    sources = read_sources()
    assert not [name for name in imports_of(ast.parse(sources["cpnas_cli.errors"]), sources) if "cpnas" in name]


BASE = {
    "cpnas_cli": "",
    "cpnas_cli.search_space": "",
    "cpnas_cli.networks": "",
    "cpnas_cli.networks.network": "",
    "cpnas_cli.cli.app": "",
}


@pytest.mark.parametrize(
    ("module", "source", "violation"),
    [
        (
            "cpnas_cli.search_space",
            "import cpnas_cli.networks.network",
            "cpnas_cli.search_space imports cpnas_cli.networks.network, which stands",
        ),
        (
            "cpnas_cli.search_space",
            "from cpnas_cli import networks",
            "imports cpnas_cli.networks, which stands higher",
        ),
        (
            "cpnas_cli.search_space",
            "def f():\n    from cpnas_cli.cli.app import g",
            "cpnas_cli.cli.app, which stands higher",
        ),
        ("cpnas_cli.strategies", "import cpnas_cli.reports.x", "cpnas_cli.reports.x, which is no module with a rank"),
        ("cpnas_cli.search_space", "from . import networks", "cpnas_cli.search_space imports relatively"),
        ("cpnas_cli.search_space", "from .networks import x", "cpnas_cli.search_space imports relatively"),
        ("cpnas_cli.training.training", "import rich.console", "cpnas_cli.training.training imports rich"),
        ("cpnas_cli.reports.page", "from typer import echo", "cpnas_cli.reports.page imports typer"),
        (
            "cpnas_cli.cli.commands.show",
            "from matplotlib import pyplot",
            "cpnas_cli.cli.commands.show imports matplotlib",
        ),
        ("cpnas_cli.cli.commands.show", "import click", "cpnas_cli.cli.commands.show imports click"),
        ("cpnas_cli.reports.page", "print(1)", "cpnas_cli.reports.page prints"),
        ("cpnas_cli.training.training", "notify = print", "cpnas_cli.training.training prints"),
        ("cpnas_cli.cli.utils", "", "cpnas_cli.cli.utils is not named after a concept"),
        ("cpnas_cli.helpers", "", "cpnas_cli.helpers has no rank"),
    ],
)
def test_a_violation_is_found(module: str, source: str, violation: str) -> None:
    found = find_violations({**BASE, module: source})
    assert any(violation in line for line in found), found


def test_a_cycle_within_a_rank_is_found() -> None:
    three = {
        "cpnas_cli.networks.network": "import cpnas_cli.networks.cells",
        "cpnas_cli.networks.cells": "from cpnas_cli.networks.operations import x",
        "cpnas_cli.networks.operations": "def f():\n    from cpnas_cli.networks import network",
    }
    assert [line for line in find_violations({**BASE, **three}) if line.startswith("cycle")]
    assert find_violations({**BASE, **three, "cpnas_cli.networks.operations": ""}) == []


def test_what_is_allowed_is_allowed() -> None:
    fine = {
        "cpnas_cli.cli.app": "import typer, rich\nfrom cpnas_cli.networks.network import x\nprint(1)",
        "cpnas_cli.reports.page": "import matplotlib\nconsole.print(1)",
        "cpnas_cli.networks.x": "import torch\nfrom cpnas_cli import __version__\nfrom cpnas_cli.search_space import E",
    }
    assert find_violations({**BASE, **fine}) == []
