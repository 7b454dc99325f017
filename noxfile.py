"""The habits, `nox -s lint types tests slow`, and a fast loop for one room, `nox -s room -- runs`.

Inside an active virtual environment the sessions run right there and install nothing. Elsewhere, or with
`nox --force-venv-backend venv`, each makes a fresh one and installs the project with its development tools.
"""

import os
from pathlib import Path

import nox

nox.needs_version = ">=2024.10"
nox.options.default_venv_backend = "none" if "VIRTUAL_ENV" in os.environ else "venv"
nox.options.sessions = ["lint", "types", "tests"]

ROOT = Path(__file__).parent
NONE_FOUND = 5  # pytest's exit code where there is no such test


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: its rules and its format."""
    prepare(session)
    check_style(session, *(session.posargs or ["."]))


@nox.session
def types(session: nox.Session) -> None:
    """Pyright."""
    prepare(session)
    session.run("pyright", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The pages as a site in `site/`; a link or an anchor that leads nowhere is an error."""
    prepare(session)
    session.run("mkdocs", "build", "--quiet", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def tests(session: nox.Session) -> None:
    """The fast tests; some of them: `nox -s tests -- tests/runs -k lock`."""
    prepare(session)
    session.run("pytest", *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """The tests that take longer than a few seconds."""
    prepare(session)
    session.run("pytest", "-m", "slow", "-n", "2", *session.posargs, success_codes=[0, NONE_FOUND])


@nox.session
def room(session: nox.Session) -> None:
    """One room, linted, typed and tested: `nox -s room -- runs`; what follows the name goes to pytest."""
    names = rooms()
    name, *words = session.posargs or [""]
    if name not in names:
        session.error(f"nox -s room -- NAME expects a room, got {name!r}; choose from {', '.join(names)}")
    prepare(session)
    code, *tested = names[name]
    check_style(session, code, *tested)
    session.run("pyright", code, *tested)
    if tested:
        session.run("pytest", *tested, *words)


def prepare(session: nox.Session) -> None:
    """What the session needs, where it has an environment of its own."""
    if session.venv_backend != "none":
        session.install("-e", ".[dev]")


def check_style(session: nox.Session, *paths: str) -> None:
    session.run("ruff", "check", *paths)
    session.run("ruff", "format", "--check", *paths)


def rooms() -> dict[str, list[str]]:
    """{name: [its code, its tests where there are any]}: of the product, and the benchmarks."""
    found = {}
    for code in (*sorted((ROOT / "cpnas_cli").iterdir()), ROOT / "benchmarks"):
        if code.stem.startswith("_"):
            continue
        tested = [ROOT / "tests" / code.stem, ROOT / "tests" / f"test_{code.stem}.py"]
        paths = [code, *(path for path in tested if path.exists())]
        found[code.stem] = [str(path.relative_to(ROOT)) for path in paths]
    return found
