"""No name of a strategy decides anything outside `strategies/`: the sources are read for constants that could."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import cpnas_cli
from cpnas_cli.registry import STRATEGIES
from cpnas_cli.settings import Config

PACKAGE = Path(cpnas_cli.__file__).parent
INSIDE = ("registry.py", "strategies/")
PROGRAM = "cpnas"  # the program and a strategy have the same name

# Where the program is meant: {module: how often}
OF_THE_PROGRAM = {
    "cli/commands/train.py": 1,  # who launched the processes
    "cli/console.py": 1,
    "deploy/onnx.py": 1,  # a key of the versions that a file carries
    "deploy/packed_file.py": 1,
    "reports/page/run_chapter.py": 1,  # commands to type again
    "reports/page/what_was_run.py": 1,
    "reports/page/words.py": 2,
    "runs/environment.py": 1,
    "storage/checksum.py": 1,
}


def sources() -> Iterator[tuple[str, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE).as_posix()
        if not module.startswith(INSIDE):
            yield module, path.read_text(encoding="utf-8")


def words_of(node: ast.Constant) -> Iterator[str]:
    """The names in a constant: a text that is one, or a list of them with commas."""
    if isinstance(node.value, str):
        words = [word.strip() for word in node.value.split(",")]
        if set(words) <= STRATEGIES.keys():
            yield from words


def decides(node: ast.AST) -> Iterator[ast.AST]:
    """Where a constant decides: compared, matched, a key, in a set, given a name, or given as the strategy."""
    match node:
        case ast.Compare():
            for operand in (node.left, *node.comparators):
                yield operand
                if isinstance(operand, ast.Tuple | ast.List):
                    yield from operand.elts
        case ast.MatchValue():
            yield node.value
        case ast.Dict():
            yield from (key for key in node.keys if key is not None)
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "strategy":
                    yield value
        case ast.Set():
            yield from node.elts
        case ast.Assign():
            yield node.value
            if isinstance(node.value, ast.Tuple | ast.List):
                yield from node.value.elts
        case ast.keyword(arg="strategy"):
            yield node.value


def has_another_meaning(word: str, module: str) -> bool:
    """The program's name, and in the settings that of a section."""
    return word == PROGRAM or (module.startswith("settings/") and word in Config.model_fields)


def is_pooling(word: str, module: str) -> bool:
    """The mean over 2x2 pixels is a pooling of the same name as a strategy."""
    return word == "halving" and module.startswith(("networks/", "deploy/"))


def is_default(module: str, node: ast.AST) -> bool:
    """`strategy: ... = "cpnas"` of the settings."""
    return (
        module == "settings/sections.py" and isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "strategy"
    )


def find_names(module: str, source: str) -> list[str]:
    """Every name of a strategy in this module that may decide something, as "module:line: name"."""
    tree = ast.parse(source)
    allowed = {id(inner) for node in ast.walk(tree) if is_default(module, node) for inner in ast.walk(node)}
    deciding = {id(constant) for node in ast.walk(tree) for constant in decides(node)}
    found = []
    for node in ast.walk(tree):
        # a name that also means something else may stand where it decides nothing, the others nowhere
        if isinstance(node, ast.Constant) and id(node) not in allowed:
            words = [word for word in words_of(node) if id(node) in deciding or not has_another_meaning(word, module)]
            words = [word for word in words if not is_pooling(word, module)]
            found += [f"{module}:{node.lineno}: {word}" for word in words]
    return found


def test_no_module_outside_knows_a_strategy_by_name() -> None:
    found = [place for module, source in sources() for place in find_names(module, source)]
    of_the_program = [place for place in found if place.split(":")[0] in OF_THE_PROGRAM and place.endswith(PROGRAM)]
    assert [place for place in found if place not in of_the_program] == []
    counts = {module: sum(place.startswith(f"{module}:") for place in of_the_program) for module in OF_THE_PROGRAM}
    assert counts == OF_THE_PROGRAM


@pytest.mark.parametrize(
    "source",
    [
        "if config.search.strategy == 'cpnas': pass",
        "samples = strategy in ('cpnas', x)",
        "samples = strategy in {'cpnas'}",
        "SAMPLING = ('cpnas', 'bnas')",
        "REFERENCE = 'cpnas'",
        "DEFAULT = 'random,pcdarts'",
        "match name:\n    case 'x' | 'cpnas': pass",
        "views = {'cpnas': 1}",
        "update = {'strategy': 'cpnas'}",
        "member(group, strategy='cpnas')",
        "Literal['cpnas', 'bnas']",
        "print('random')",
        "if strategy != 'pcdarts': pass",
    ],
)
def test_a_name_that_decides_is_found(source: str) -> None:
    assert find_names("experiments/plan.py", source)


@pytest.mark.parametrize(
    "source",
    [
        "help = 'cpnas, the program, or random'",
        "describe(command=['cpnas', 'train'])",
        "Typer(name='cpnas')",
        "'random numbers'",
        "import random",
        "if launcher == 'torchrun': pass",
    ],
)
def test_what_decides_nothing_is_left_alone(source: str) -> None:
    assert find_names("experiments/plan.py", source) == []


def test_only_the_settings_have_a_default() -> None:
    source = "class SearchConfig:\n    strategy: str = 'random'"
    assert find_names("settings/sections.py", source) == []
    assert find_names("cli/options.py", source) == ["cli/options.py:2: random"]
