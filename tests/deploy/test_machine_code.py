"""The compiled engine as it is kept: whatever has become of the file, the engine runs, and says at most one line."""

import ast
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from children import everywhere, make_child

import cpnas_cli
from cpnas_cli.cli.commands.export import export
from cpnas_cli.deploy.engine import Engine, machine_code

ROOT = Path(cpnas_cli.__file__).parent
CHILD = make_child(everywhere("sep_conv_3x3"), image_size=8)


@pytest.fixture(scope="module")
def code() -> tuple[str, bytes]:
    """Compiled once, or as it was kept."""
    machine_code.prepare()
    return machine_code._kept() or machine_code._compiled()


@pytest.fixture
def compilations(code: tuple[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """One entry for each time that something would be compiled; what is kept lies in this test's folders alone."""
    found: list[str] = []

    def compiled() -> tuple[str, bytes]:
        found.append("compiled")
        return code

    monkeypatch.setattr(machine_code, "_compiled", compiled)
    monkeypatch.setattr(machine_code, "folders", lambda: [tmp_path / "first", tmp_path / "second"])
    return found


@pytest.fixture
def start() -> Callable[[], np.ndarray]:
    """The scores of an image, as in a new process."""

    def scores() -> np.ndarray:
        machine_code.run_images.cache_clear()
        return Engine(CHILD.model, num_threads=1).logits(CHILD.draw_images(1))

    return scores


def kept_in(folder: Path) -> Path:
    return folder / machine_code._name()


def shorten(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip(content: bytes) -> bytes:
    """One bit of the code."""
    return content[:-1000] + bytes([content[-1000] ^ 1]) + content[-999:]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: content[:0],
    "one byte": lambda content: content[:1],
    "a header alone": lambda content: content[:60],
    "half": shorten,
    "one bit": flip,
    "more behind it": lambda content: content + b"\0",
    "noise": lambda content: np.random.default_rng(0).bytes(len(content)),
    "of another program": lambda content: b"\x7fELF" + content[4:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_replaced_in_silence(
    damage: str,
    tmp_path: Path,
    compilations: list[str],
    start: Callable[[], np.ndarray],
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = start()
    file = kept_in(tmp_path / "first")
    content = file.read_bytes()
    file.write_bytes(DAMAGES[damage](content))
    np.testing.assert_array_equal(start(), expected)
    assert len(compilations) == 2
    assert file.read_bytes() == content
    np.testing.assert_array_equal(start(), expected)
    assert len(compilations) == 2
    assert [path.name for path in (tmp_path / "first").iterdir()] == [file.name]
    assert not caplog.records


def test_where_the_first_folder_takes_nothing_the_second_one_does(
    tmp_path: Path, compilations: list[str], start: Callable[[], np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    """A file in the folder's place, as root may write everywhere else."""
    (tmp_path / "first").write_text("")
    start()
    start()
    assert len(compilations) == 1
    assert kept_in(tmp_path / "second").is_file()
    assert not caplog.records


def test_a_folder_in_the_place_of_the_file(
    tmp_path: Path, compilations: list[str], start: Callable[[], np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    kept_in(tmp_path / "first").mkdir(parents=True)
    (kept_in(tmp_path / "first") / "own").write_text("")
    start()
    start()
    assert len(compilations) == 1
    assert kept_in(tmp_path / "second").is_file()
    assert len(list((tmp_path / "first").iterdir())) == 1
    assert not caplog.records


def test_where_nothing_can_be_kept_one_line_says_so(
    tmp_path: Path, compilations: list[str], start: Callable[[], np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).write_text("")
    with caplog.at_level(logging.WARNING):
        start()
    (record,) = caplog.records
    assert "\n" not in record.getMessage()
    assert str(tmp_path / "first") in record.getMessage()
    start()
    assert len(compilations) == 2


def test_a_full_disk_leaves_nothing_unfinished(
    tmp_path: Path, compilations: list[str], start: Callable[[], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace(source: Path, target: Path) -> None:
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr("os.replace", replace)
    start()
    assert len(compilations) == 1
    assert not list(tmp_path.rglob(".engine*"))
    assert not list(tmp_path.rglob("engine*"))


def test_preparing_keeps_what_a_process_needs(
    tmp_path: Path, compilations: list[str], start: Callable[[], np.ndarray]
) -> None:
    machine_code.prepare()
    machine_code.prepare()
    assert kept_in(tmp_path / "first").is_file()
    start()
    assert len(compilations) == 1


@pytest.mark.parametrize(("format_", "num_prepared"), [("packed", 1), ("onnx", 0), ("c", 0)])
def test_an_export_for_this_engine_prepares_it(
    format_: str, num_prepared: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After the line about the file."""
    exported = SimpleNamespace(
        file="model", num_bytes=1, header_bytes=None, needed=None, format=format_, network="child"
    )
    printed: list[str] = []
    monkeypatch.setattr("cpnas_cli.deploy.export.export_run", lambda *_, **__: exported)
    monkeypatch.setattr(machine_code, "prepare", lambda: printed.append(capsys.readouterr().out))
    export(Path("run"), format_=format_)
    assert len(printed) == num_prepared
    assert all("model: 1 bytes" in text for text in printed)


# ---------------------------------------------------------------- what it depends on


def imported(file: Path) -> set[Path]:
    """Files of this project that a file imports, also those that they import."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cpnas_cli."):
            module = ROOT.parent / str(node.module).replace(".", "/")
            names = [module / f"{alias.name}.py" for alias in node.names] + [module.with_suffix(".py")]
            found |= {path for path in names if path.is_file()}
    return found


def test_every_file_that_is_compiled_counts() -> None:
    team = ROOT / "deploy" / "engine" / "team.py"
    found, following = {team}, imported(team)
    while following:
        found |= following
        following = {path for each in following for path in imported(each)} - found
    assert sorted(str(path.relative_to(ROOT)) for path in found) == sorted(machine_code.COMPILED)


@pytest.mark.parametrize("name", machine_code.COMPILED)
def test_what_was_compiled_from_other_sources_is_not_used(name: str, tmp_path: Path) -> None:
    for each in machine_code.COMPILED:
        (tmp_path / each).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / each).write_bytes((ROOT / each).read_bytes())
    assert machine_code._sources(tmp_path) == machine_code._sources()
    with (tmp_path / name).open("a") as file:
        file.write("#")
    assert machine_code._sources(tmp_path) != machine_code._sources()


def test_the_processor_and_what_numba_is_told_count(monkeypatch: pytest.MonkeyPatch) -> None:
    names = set[str]()
    for cpu in (None, "haswell", "znver4"):
        if cpu is not None:
            monkeypatch.setenv("NUMBA_CPU_NAME", cpu)
        machine_code._name.cache_clear()
        names.add(machine_code._name())
    monkeypatch.undo()
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_name", lambda: "another")
    machine_code._name.cache_clear()
    names.add(machine_code._name())
    monkeypatch.undo()
    machine_code._name.cache_clear()
    assert len(names) == 4
