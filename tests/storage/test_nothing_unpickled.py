"""No file that is read can run a program: none is unpickled, and none is YAML that builds objects.

The oracle is a file that makes a folder when it is unpickled, or built.
"""

import ast
import os
import pickle
from pathlib import Path

import pytest
from command_line import DOCUMENT, invoke
from torchvision import datasets
from written_runs import epoch_record, result_document, write, write_training

import cpnas_cli

LOADERS = ("pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve")
"""Modules that make objects from bytes."""
CALLS = {
    *(f"{library}.{name}" for library in ("torch", "np", "numpy") for name in ("load", "save")),
    *("torch.jit.load", "np.fromfile", "yaml.unsafe_load", "yaml.full_load", "eval", "exec", "compile", "__import__"),
}


class Harm:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The folder that would be made."""
    return tmp_path / "harmed"


@pytest.fixture(params=[0, pickle.HIGHEST_PROTOCOL])
def harmful(request: pytest.FixtureRequest, mark: Path) -> bytes:
    return pickle.dumps(Harm(mark), protocol=request.param)


def test_the_content_is_harmful(harmful: bytes, mark: Path) -> None:
    pickle.loads(harmful)
    assert mark.is_dir()


def run_at(folder: Path) -> Path:
    result = result_document(("a", "b"))
    run = write_training(folder / "run", [epoch_record(epoch) for epoch in range(3)], result=result)
    write(run / "genotype.json", DOCUMENT)
    return run


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("genotype.json", ["show", "run"]),
        ("config.yaml", ["train", "--out", "run", "--resume"]),
        ("dataset.json", ["report", "run"]),
        ("history.jsonl", ["report", "run"]),
        ("result.json", ["report", "run"]),
        ("checkpoint/state.safetensors", ["train", "--out", "run", "--resume"]),
        ("model.safetensors", ["evaluate", "run"]),
        ("model.safetensors", ["export", "run"]),
        ("model.packed.safetensors", ["predict", "run/model.packed.safetensors", "photo.png"]),
        ("preset.yaml", ["search", "--preset", "run/preset.yaml", "--out", "new"]),
        ("photo.png", ["predict", "run", "run/photo.png"]),
        ("experiment.json", ["figure", "run/experiment.json"]),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_no_file_is_unpickled(
    file: str, words: list[str], harmful: bytes, mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = run_at(tmp_path) / file
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(harmful)
    result = invoke(*words)
    assert "Traceback" not in result.stderr
    assert result.exit_code in (1, 2) or words[0] == "report", result.output
    assert not mark.exists()


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir [{mark}]", "!!python/object/new:os.mkdir [{mark}]"])
@pytest.mark.parametrize("words", [["search", "--preset", "s.yaml"], ["train", "--out", "run", "--resume"], ["runs"]])
def test_no_tag_of_yaml_builds_anything(
    tag: str, words: list[str], mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run, text = run_at(tmp_path), f"seed: {tag.format(mark=mark)}\n"
    write(run / "config.yaml", text)
    write(tmp_path / "s.yaml", text)
    assert invoke(*words).exit_code == (0 if words == ["runs"] else 2 if "--preset" in words else 1)
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["CIFAR10", "CIFAR100"])
def test_of_pickled_images_only_the_published_are_loaded(kind: str, harmful: bytes, mark: Path, tmp_path: Path) -> None:
    """CIFAR comes pickled; torchvision compares the MD5 of every file first."""
    own = getattr(datasets, kind)
    for name, _ in (*own.train_list, *own.test_list, (own.meta["filename"], "")):
        (tmp_path / own.base_folder).mkdir(exist_ok=True)
        (tmp_path / own.base_folder / name).write_bytes(harmful)
    name = f"data.name={kind.lower()}"
    result = invoke("train", "--set", name, "--data-dir", tmp_path, "--out", tmp_path / "new")
    assert result.exit_code != 0
    assert not mark.exists()


def test_the_source_imports_and_calls_nothing_of_the_kind() -> None:
    package = Path(cpnas_cli.__file__).parent
    found = [
        f"{path.relative_to(package)}: {what}"
        for path in sorted(package.rglob("*.py"))
        for what in loaders(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def loaders(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found += [name for name in names if name.split(".")[0] in LOADERS]
        elif isinstance(node, ast.Call) and (name := ast.unparse(node.func)) in CALLS:
            found.append(name)
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            found.append(node.arg)
    return found


@pytest.mark.parametrize(
    "source", ["from pickle import loads", "torch.load('f')", "import dill as d", "f(allow_pickle=True)", "eval('')"]
)
def test_the_source_is_searched_well(source: str) -> None:
    assert len(loaders(source)) == 1
