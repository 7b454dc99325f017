"""What users type wrong and what disks do to files: one line that says what came, the exit code, and nothing broken.

Most commands run in this process, because starting Python and torch takes longer than the tests.
"""

import copy
import errno
import json
import os
import shutil
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import CELL, DOCUMENT, GENOTYPE, error_line, error_of, invoke
from conftest import TINY_OPTIONS
from forks import fork
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file
from typer.testing import Result

from cpnas_cli.data.idx import FASHION_MNIST
from cpnas_cli.search_space import OPERATIONS, Genotype
from cpnas_cli.storage.genotype_file import genotype_document
from cpnas_cli.storage.tensors import load_tensors, save_tensors
from cpnas_cli.training import stages

FOLDER_OPTIONS = ["--preset", "folder", "--set", "data.image_size=16", "--set", "network.num_channels=4"]
FOLDER_OPTIONS += ["--set", "network.num_cells=3", "--set", "train.num_epochs=1", "--set", "search.batch_size=4"]


@pytest.fixture(autouse=True)
def _in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test runs in its own folder, and none leaves a half-written file there."""
    monkeypatch.chdir(tmp_path)
    yield
    assert list(tmp_path.rglob("*.tmp")) == []


def usage_error(*words: str | Path) -> str:
    """The message of a command that is wrong: exit 2, one line in all."""
    before = sorted(Path().rglob("*"))
    result = invoke(*words)
    message = error_of(result, code=2)
    assert result.stderr.count("\n") == 1
    assert sorted(Path().rglob("*")) == before  # wrong usage writes nothing
    return message


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---------------------------------------------------------------- wrong usage: exit 2


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["search", "--preset", "digit"], ["unknown preset 'digit'", "'digits'", "cifar10-small"]),
        (["presets", "show", "nonsense"], ["unknown preset 'nonsense'", "digits"]),
        (["search", "--preset", "none.yaml"], ["none.yaml", "No such file"]),
        (["search", "--set", "search.beta_pp=2"], ["unknown setting 'search.beta_pp'", "'search.beta_p'"]),
        (["search", "--set", "beta_p=2"], ["unknown setting 'beta_p'", "'search.beta_p'"]),
        (["search", "--set", "nonsense"], ["section.key=value", "'nonsense'"]),
        (["search", "--set", "search.beta_p=[1"], ["search.beta_p", "'[1'"]),
        (["search", "--set", "search.beta_p=two"], ["search.beta_p", "number", "'two'"]),
        (["search", "--set", "search.beta_p=-1"], ["search.beta_p", "greater than or equal to 0", "-1"]),
        (["search", "--set", "search.num_passes=0"], ["search.num_passes", "greater than or equal to 1", "got 0"]),
        (["search", "--beta-p", "-1"], ["search.beta_p", "-1"]),
        (["search", "--beta-p", "nan"], ["search.beta_p", "nan"]),
        (["search", "--seed", "-1"], ["seed", "greater than or equal to 0", "-1"]),
        (["search", "--set", "data.image_size=10"], ["data.image_size", "multiple of 4", "got 10"]),
        (
            ["search", "--set", "data.image_size=30", "--set", "network.stem_stride=2"],
            ["data.image_size", "multiple of 8", "network.stem_stride=2", "got 30"],
        ),
        (["search", "--set", "network.num_channels=5"], ["network.num_channels", "multiple of 2", "5"]),
        (["search", "--set", "search.num_channels=3"], ["search.num_channels", "multiple of 2", "3"]),
        (["search", "--strategy", "cpnass"], ["search.strategy", "'cpnas'", "'bnas'", "'random'", "'cpnass'"]),
        (["search", "--strategy", "bnas", "--beta-p", "2"], ["bnas", "beta_P = 0", "--strategy cpnas"]),
        (
            ["search", "--strategy", "bnas", "--set", "search.beta_p=2"],
            ["bnas is cpnas at beta_P = 0", "got search.beta_p=2", "--strategy cpnas"],
        ),
        (["search", "--indicator", "print"], ["search.indicator", "'penalized' or 'printed'", "'print'"]),
        (
            ["search", "--strategy", "random", "--indicator", "printed"],
            ["random uses no indicator", "--strategy cpnas"],
        ),
        (["search", "--set", "search.evaluation=later"], ["search.evaluation", "'after_pass'", "'later'"]),
        (["search", "--set", "search.credit=all"], ["search.credit", "'draw' or 'regression'", "'all'"]),
        (["search", "--set", "pcdarts.num_epochs=2"], ["pcdarts.frozen_epochs=15", "--set pcdarts.frozen_epochs=1"]),
        (["search", "--set", "train.num_epochs=yes"], ["train.num_epochs", "expected a number", "got True"]),
        (["search", "--set", "seed=010"], ["seed", "octal", "got 010", "write 10"]),
        (["search", "--max-time", "soon"], ["--max-time", "1h30m", "'soon'"]),
        (["search", "--max-time", "-5s"], ["--max-time", "'-5s'"]),
        (["search", "--max-time", "5s later"], ["--max-time", "'5s later'"]),
        (["train", "g.json", "--precision", "half"], ["--precision", "binary", "full", "'half'"]),
        (["train", "g.json", "--precision", "full", "--with-parent"], ["--precision full", "--with-parent"]),
        (["search", "--resume"], ["--resume", "--out FOLDER"]),
        (["train", "g.json", "--resume"], ["--resume", "--out FOLDER"]),
        (["train", "--resume"], ["--resume", "--out FOLDER"]),
        (["train", "--out", "new", "--resume"], ["no training to resume in new", "GENOTYPE"]),
        (["search", "--data-dir", "."], ["digits", "folder"]),
        (["search", "--device", "tpu"], ["'tpu'", "auto, cpu, cuda, mps"]),
        (["show", "g.json", "--out", "picture.gif"], ["picture.gif", ".svg", ".png"]),
        (["search", "--beta-p", "two"], ["search.beta_p", "'two'"]),
        (["search", "--seed", "1.5"], ["seed", "1.5"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0] in ("search", "train", "show", "presets") else "",
)
def test_wrong_usage_is_one_line_that_says_what_came(words: list[str], parts: list[str]) -> None:
    Path("g.json").write_text(json.dumps(DOCUMENT))
    message = usage_error(*words)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["serch"], ["'serch'", "'search'"]),
        (["search", "--sed", "1"], ["--sed", "--seed"]),
        (["search", "--nonsense"], ["--nonsense"]),
        (["search", "extra"], ["extra"]),
        (["search", "--out"], ["--out"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_what_the_parser_refuses_says_what_came(words: list[str], parts: list[str]) -> None:
    """Typer writes these itself: the usage, and as the last line the error."""
    result = invoke(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    last = result.stderr.rstrip("\n").split("\n")[-1]
    for part in parts:
        assert part.lower() in last.lower()
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("option", ["--preset", "--max-time"])
def test_an_empty_option_is_not_a_missing_one(option: str) -> None:
    """As a script with an unset variable types it."""
    usage_error("search", "--strategy", "random", "--out", "run", option, "")


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("cuda", "mps"):
        message = error_of(invoke("search", "--device", name, "--out", "run"), code=1)
        assert f"--device {name}" in message
        assert "--device cpu" in message
    assert not Path("run").exists()


# ---------------------------------------------------------------- data: exit 1


def search_folder(root: str | Path, *words: str | Path) -> Result:
    return invoke("search", *FOLDER_OPTIONS, "--strategy", "random", "--data-dir", root, "--out", "run", *words)


def data_error(root: Path, *words: str | Path) -> str:
    message = error_of(search_folder(root, *words), code=1)
    assert not Path("run").exists()
    return message


def test_the_image_folder_of_these_tests_is_good(image_folder: Path) -> None:
    assert search_folder(image_folder).exit_code == 0


def test_a_folder_of_images_must_be_named() -> None:
    message = error_of(invoke("search", *FOLDER_OPTIONS, "--out", "run"), code=1)
    assert "--data-dir FOLDER" in message
    assert "train/CLASS" in message


@pytest.mark.parametrize("kind", ["missing", "a file", "without train", "train is a file", "without test", "empty"])
def test_a_data_folder_without_its_parts(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "images"
    named = {"without test": "test", "a file": "images", "missing": "images"}.get(kind, "train")
    if kind == "a file":
        root.write_text("no folder")
    elif kind != "missing":
        root.mkdir()
    if kind in ("without test", "empty"):
        (root / "train" / "cat").mkdir(parents=True)
    if kind == "empty":
        (root / "train" / "cat").rmdir()
        (root / "test").mkdir()
    if kind == "without train":
        (root / "test").mkdir()
    if kind == "train is a file":
        (root / "train").write_text("no folder")
    message = data_error(root)
    assert str(root) in message
    assert "train/CLASS/*" in message or f"{root / 'train'}/CLASS/*" in message
    assert named in message or (kind == "without test" and "val" in message)


def test_a_class_folder_without_images_is_named(image_folder: Path) -> None:
    (image_folder / "train" / "middle").mkdir()
    (image_folder / "train" / "middle" / ".hidden.png").write_bytes(b"")
    assert str(image_folder / "train" / "middle") in data_error(image_folder)


def test_a_test_part_without_images_is_named(image_folder: Path) -> None:
    for path in (image_folder / "test").glob("*/*"):
        path.unlink()
    assert str(image_folder / "test") in data_error(image_folder)


def test_one_class_is_too_few(image_folder: Path) -> None:
    for part in ("train", "test"):
        shutil.rmtree(image_folder / part / "light")
    message = data_error(image_folder)
    assert "dark" in message
    assert "at least two" in message


def test_a_class_that_only_the_test_images_have_is_named(image_folder: Path) -> None:
    shutil.copytree(image_folder / "test" / "dark", image_folder / "test" / "black")
    shutil.copytree(image_folder / "test" / "dark", image_folder / "test" / "Black")
    message = data_error(image_folder)
    assert "Black, black" in message
    assert str(image_folder / "test") in message


def damage(path: Path, kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    if kind == "text":
        path.write_text("no image")
    elif kind == "empty":
        path.write_bytes(b"")
    else:
        name, _, share = kind.partition(" ")
        Image.fromarray(pixels).save(path, format=name)
        whole = path.read_bytes()
        if share == "flipped":
            start = len(whole) // 2
            flipped = bytes(255 - byte for byte in whole[start : start + 40])
            path.write_bytes(whole[:start] + flipped + whole[start + 40 :])
        else:
            path.write_bytes(whole[: round(len(whole) * float(share))])


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize(
    "kind",
    ["text", "empty", "png 0.01", "png 0.5", "png 0.9", "jpeg 0.01", "jpeg 0.5", "jpeg 0.9", "gif 0.5", "bmp 0.5"],
)
def test_an_image_that_cannot_be_read_is_named(image_folder: Path, kind: str, part: str) -> None:
    path = image_folder / part / "dark" / "bad.png"
    damage(path, kind)
    assert str(path) in data_error(image_folder)
    cache = Path(os.environ["CPNAS_CACHE_DIR"])
    assert not [entry for entry in cache.rglob("*") if part == "train" and entry.is_file()]


def test_a_flipped_png_is_named(image_folder: Path) -> None:
    path = image_folder / "train" / "dark" / "bad.png"
    damage(path, "png flipped")
    assert str(path) in data_error(image_folder)


def test_too_few_images_for_a_search_write_no_run(tmp_path: Path) -> None:
    """So that the corrected command may use the same folder."""
    message = error_of(
        invoke("search", *TINY_OPTIONS, "--set", "search.validation_fraction=0.01", "--out", "run"), code=1
    )
    assert "40 training images" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("name", ["cifar10", "cifar100", "mnist", "fashion-mnist"])
def test_a_download_without_a_network(name: str, named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError(OSError(errno.ENETUNREACH, "Network is unreachable"))

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    monkeypatch.setitem(vars(FASHION_MNIST), "installed", tmp_path / "not installed")
    (tmp_path / "data").mkdir()
    options = ["--data-dir", "data"] if named else []
    result = invoke("search", "--preset", "cifar10", "--set", f"data.name={name}", *options, "--out", "run", "--json")
    message = error_of(result, code=1)
    folder = tmp_path / ("data" if named else "cache/datasets")
    assert f"{name} is not in {folder}" in message
    assert "could not be downloaded" in message
    assert "etwork is unreachable" in message or "rror downloading" in message
    assert "--data-dir" in message
    files = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python", "mnist": "MNIST/raw"}
    assert files.get(name, "FashionMNIST/raw") in message
    assert ("dataset-fashion-mnist" in message) == (name == "fashion-mnist")
    assert not Path("run").exists()


# ---------------------------------------------------------------- genotypes: exit 1


def without_edge(document: Any) -> None:
    del document["normal"][4]


def edge_twice(document: Any) -> None:
    document["normal"].append(document["normal"][4])


def edge_backwards(document: Any) -> None:
    document["reduce"][4] |= {"from": 3, "to": 2}


def edge_of_lists(document: Any) -> None:
    document["reduce"][4] |= {"from": [2], "to": {}}


def unknown_op(document: Any) -> None:
    document["reduce"][4]["op"] = "conv_7x7"


def disconnected(document: Any) -> None:
    for edge in document["normal"]:
        if edge["from"] < 2:
            edge["op"] = "none"


def other_schema(document: Any) -> None:
    document["schema"] = "cpnas.genotype/2"


def without_cell(document: Any) -> None:
    del document["reduce"]


SPOILT: list[tuple[Callable[[Any], None], list[str]]] = [
    (other_schema, ["'cpnas.genotype/1'", "'cpnas.genotype/2'"]),
    (without_cell, ["'reduce'"]),
    (unknown_op, ["'conv_7x7'", "2->3", "reduce", ", ".join(OPERATIONS)]),
    (without_edge, ["2->3", "normal", "missing"]),
    (edge_twice, ["2->3", "normal", "twice"]),
    (edge_backwards, ["3->2", "reduce", "backwards"]),
    (edge_of_lists, ["[2]", "reduce"]),
    (disconnected, ["normal", "disconnected", "0 and 1"]),
]


def commands_on(path: str | Path) -> list[list[str]]:
    return [["train", str(path), "--out", "run"], ["show", str(path)], ["show", str(path), "--json"]]


@pytest.mark.parametrize(("spoil", "parts"), SPOILT, ids=[spoil.__name__ for spoil, _ in SPOILT])
def test_a_bad_genotype_is_refused_by_every_command(spoil: Callable[[Any], None], parts: list[str]) -> None:
    document = copy.deepcopy(DOCUMENT)
    spoil(document)
    Path("bad.json").write_text(json.dumps(document))
    for words in commands_on("bad.json"):
        message = error_of(invoke(*words), code=1)
        for part in ["bad.json", *parts]:
            assert part in message
    assert sorted(path.name for path in Path().iterdir()) == ["bad.json"]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "no genotype at bad.json"),
        (b"", "truncated"),
        (json.dumps(DOCUMENT).encode()[:-20], "truncated"),
        (b"\xff\xfe\x00", "JSON"),
        (b"[" * 100_000, "JSON"),
        (b"[]", "list"),
        (b"null", "NoneType"),
    ],
    ids=["missing", "empty", "truncated", "binary", "nested", "list", "null"],
)
def test_a_genotype_file_that_cannot_be_read(content: bytes | None, part: str) -> None:
    if content is not None:
        Path("bad.json").write_bytes(content)
    for words in commands_on("bad.json"):
        message = error_of(invoke(*words), code=1)
        assert part in message
        assert "bad.json" in message
    assert not Path("run").exists()


def test_a_folder_without_a_genotype_is_named(tmp_path: Path) -> None:
    for words in commands_on(tmp_path):
        assert str(tmp_path / "genotype.json") in error_of(invoke(*words), code=1)


@pytest.mark.parametrize("provenance", [None, [], "by hand", 3, {"real_parts": 7}, {"real_parts": ["stem"]}])
def test_a_strange_provenance_is_no_traceback(provenance: Any) -> None:
    """A genotype that someone wrote by hand: shown, or refused in one line."""
    Path("g.json").write_text(json.dumps({**DOCUMENT, "provenance": provenance}))
    result = invoke("show", "g.json")
    if result.exit_code:
        assert "provenance" in error_of(result, code=1)
    else:
        assert "sep_conv_3x3" in result.stdout


# ---------------------------------------------------------------- folders of runs: exit 1


@pytest.fixture(scope="module")
def partial_search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny search that was stopped after one draw; to be copied."""
    folder = tmp_path_factory.mktemp("partial") / "search"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    result = invoke("search", *TINY_OPTIONS, "--out", folder, "--max-time", "0.01s")
    torch.set_num_threads(threads)
    assert result.exit_code == 75, result.output
    assert len((folder / "history.jsonl").read_text().splitlines()) == 1
    return folder


@pytest.fixture(scope="module")
def partial_training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A genotype and, beside it in run/, its training that was stopped after one epoch of three; to be copied."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "g.json").write_text(json.dumps(DOCUMENT))
    words = ["train", folder / "g.json", *TINY_OPTIONS, "--out", folder / "run"]
    assert invoke(*words, "--max-time", "0.01s").exit_code == 75
    return folder


@pytest.fixture
def search_run(partial_search: Path, tmp_path: Path) -> Path:
    return shutil.copytree(partial_search, tmp_path / "run")


@pytest.fixture
def training_run(partial_training: Path, tmp_path: Path) -> Path:
    shutil.copytree(partial_training, tmp_path, dirs_exist_ok=True)
    return tmp_path / "run"


@pytest.fixture
def trained_run(training_run: Path) -> Path:
    result = invoke("train", "g.json", "--out", "run", "--resume")
    assert result.exit_code == 0, result.output
    return training_run


def test_a_folder_that_holds_a_run_is_left_alone(search_run: Path, training_run: Path) -> None:
    before = contents(search_run)
    for words in (["search", *TINY_OPTIONS], ["search"], ["train", "g.json", *TINY_OPTIONS]):
        message = error_of(invoke(*words, "--out", "run"), code=1)
        assert "run already holds a run" in message
        assert "--resume" in message
    assert contents(search_run) == before


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("mine")
    Path("g.json").write_text(json.dumps(DOCUMENT))
    for words in (["search", *TINY_OPTIONS], ["train", "g.json", *TINY_OPTIONS]):
        message = error_of(invoke(*words, "--out", "thesis"), code=1)
        assert "thesis is not empty and holds no run" in message
        assert "--out" in message
    assert contents(tmp_path / "thesis") == {"thesis.tex": b"mine"}


@pytest.mark.parametrize("words", [[], ["--resume"]])
@pytest.mark.parametrize("out", ["file", "file/run"])
def test_an_out_that_is_a_file_is_left_alone(out: str, words: list[str]) -> None:
    Path("file").write_text("mine")
    # with --resume it is wrong usage already: there is no run
    message = error_of(invoke("search", "--strategy", "random", "--out", out, *words), code=2 if words else 1)
    assert "file" in message
    assert Path("file").read_text() == "mine"


def test_a_name_that_is_too_long_is_one_line() -> None:
    error_of(invoke("search", "--strategy", "random", "--out", "x" * 300), code=1)


def test_a_resumed_search_keeps_its_settings(search_run: Path) -> None:
    before = contents(search_run)
    message = error_of(invoke("search", "--out", "run", "--resume", "--beta-p", "3"), code=1)
    assert "search.beta_p: 0.25 there, 3.0 now" in message
    message = error_of(invoke("search", *TINY_OPTIONS, "--seed", "7", "--out", "run", "--resume"), code=1)
    assert "seed: 0 there, 7 now" in message
    assert contents(search_run) == before


def test_a_resumed_training_keeps_its_genotype_and_networks(training_run: Path) -> None:
    before = contents(training_run)
    other = Genotype(CELL, ("sep_conv_5x5", *CELL[1:]))
    Path("other.json").write_text(json.dumps(genotype_document(other, provenance={})))
    message = error_of(invoke("train", "other.json", "--out", "run", "--resume"), code=1)
    assert "another genotype.json" in message
    message = error_of(invoke("train", "g.json", "--with-parent", "--out", "run", "--resume"), code=1)
    assert "another training.json" in message
    message = error_of(invoke("train", "g.json", "--out", "run", "--resume", "--set", "train.num_epochs=9"), code=1)
    assert "train.num_epochs: 3 there, 9 now" in message
    assert contents(training_run) == before


def test_a_training_is_not_resumed_as_a_search(training_run: Path) -> None:
    before = contents(training_run)
    message = error_of(invoke("search", "--out", "run", "--resume"), code=1)
    assert str(Path("run")) in message
    assert contents(training_run) == before
    # killed before its first checkpoint: a search would replace the genotype that is trained
    shutil.rmtree(training_run / "checkpoint")
    (training_run / "history.jsonl").unlink()
    before = contents(training_run)
    error_of(invoke("search", "--out", "run", "--resume", "--max-time", "0.01s"), code=1)
    assert contents(training_run) == before


def test_a_search_is_not_resumed_as_a_training(search_run: Path) -> None:
    before = contents(search_run)
    Path("g.json").write_text(json.dumps(DOCUMENT))
    message = error_of(invoke("train", "g.json", "--out", "run", "--resume"), code=1)
    assert "another kind" in message
    assert contents(search_run) == before


# ---------------------------------------------------------------- checkpoints: exit 1


def refused_checkpoint(run: Path, *words: str) -> str:
    """The message of a resume; checkpoint and history are as they were."""
    before = contents(run)
    message = error_of(invoke(*words, "--out", run, "--resume"), code=1)
    assert contents(run) == before
    assert str(run / "checkpoint" / "state.safetensors") in message
    return message


def foreign_checkpoint(path: Path, kind: str) -> None:
    whole = path.read_bytes()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "garbage":
        path.write_bytes(np.random.default_rng(0).bytes(1000))
    elif kind == "text":
        path.write_text("no checkpoint")
    elif kind == "random tensors":
        save_file({"a": np.zeros(3, np.float32)}, path)
    elif kind == "another schema":
        save_tensors(path, {"child": torch.zeros(3)}, schema="cpnas.model/1", state={"num_draws": 1})
    elif kind == "metadata that is no JSON":
        save_file({"a": np.zeros(3, np.float32)}, path, metadata={"cpnas": "{"})
    elif kind == "metadata of another shape":
        save_file({"a": np.zeros(3, np.float32)}, path, metadata={"cpnas": "[]"})
    else:
        path.write_bytes(whole[: round(len(whole) * float(kind))])


FOREIGN = ["0.001", "0.5", "0.999", "empty", "garbage", "text", "random tensors", "another schema"]
FOREIGN += ["metadata that is no JSON", "metadata of another shape"]


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_checkpoint_of_a_search_that_cannot_be_used(search_run: Path, kind: str) -> None:
    foreign_checkpoint(search_run / "checkpoint" / "state.safetensors", kind)
    refused_checkpoint(search_run, "search")


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_checkpoint_of_a_training_that_cannot_be_used(training_run: Path, kind: str) -> None:
    foreign_checkpoint(training_run / "checkpoint" / "state.safetensors", kind)
    refused_checkpoint(training_run, "train", "g.json")


def test_a_checkpoint_of_a_search_with_other_channels(search_run: Path, tmp_path: Path) -> None:
    words = ["search", *TINY_OPTIONS, "--set", "network.num_channels=2", "--out", "other", "--max-time", "0.01s"]
    assert invoke(*words).exit_code == 75
    for name in ("checkpoint/state.safetensors", "history.jsonl"):
        shutil.copy(tmp_path / "other" / name, search_run / name)
    assert "another search" in refused_checkpoint(search_run, "search")


def test_a_checkpoint_of_a_training_of_another_network(training_run: Path, tmp_path: Path) -> None:
    for name, change, options in (
        ("channels", GENOTYPE, ["--set", "network.num_channels=8"]),
        ("genotype", Genotype(CELL, ("sep_conv_5x5", *CELL[1:])), []),
    ):
        Path("other.json").write_text(json.dumps(genotype_document(change, provenance={})))
        words = ["train", "other.json", *TINY_OPTIONS, *options, "--out", name]
        assert invoke(*words, "--max-time", "0.01s").exit_code == 75
        for file in ("checkpoint/state.safetensors", "history.jsonl"):  # which belong together
            shutil.copy(tmp_path / name / file, training_run / file)
        message = refused_checkpoint(training_run, "train", "g.json")
        assert "another network" in message


@pytest.mark.parametrize("kind", ["search", "training"])
def test_a_checkpoint_that_fits_no_network_leaves_the_history_whole(kind: str, request: pytest.FixtureRequest) -> None:
    """Though it says how long the history was, and the history is longer."""
    run = request.getfixturevalue(f"{kind}_run")
    words = ["search"] if kind == "search" else ["train", "g.json"]
    checkpoint = run / "checkpoint" / "state.safetensors"
    with safe_open(checkpoint, framework="np") as file:
        metadata = json.loads(file.metadata()["cpnas"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    name = max(tensors, key=lambda name: tensors[name].size)
    del metadata["blake2b"]
    changed = {**tensors, name: tensors[name][:-1].copy()}
    save_file(changed, checkpoint, metadata={"cpnas": json.dumps(metadata)})
    with (run / "history.jsonl").open("a") as history:
        history.write('{"event": "dr')
    expected = "is of another search" if kind == "search" else "belongs to another network"
    assert expected in refused_checkpoint(run, *words)


def test_a_search_checkpoint_is_no_training_checkpoint(training_run: Path, partial_search: Path) -> None:
    shutil.copy(partial_search / "checkpoint/state.safetensors", training_run / "checkpoint/state.safetensors")
    assert "schema" in refused_checkpoint(training_run, "train", "g.json")


@pytest.mark.parametrize("kind", ["missing", "shorter", "damaged"])
def test_a_history_that_does_not_fit_its_checkpoint(search_run: Path, kind: str) -> None:
    history = search_run / "history.jsonl"
    size = history.stat().st_size
    if kind == "missing":
        history.unlink()
    else:
        history.write_bytes(b"\0" * (size if kind == "damaged" else size - 1))
    message = error_of(invoke("search", "--out", "run", "--resume"), code=1)
    assert str(Path("run") / "history.jsonl") in message


# ---------------------------------------------------------------- trained networks: exit 1


@pytest.mark.parametrize("kind", ["missing", "empty", "a search"])
def test_evaluate_needs_a_trained_network(kind: str, search_run: Path) -> None:
    folder = search_run if kind == "a search" else Path(kind)
    if kind == "empty":
        folder.mkdir()
    message = error_of(invoke("evaluate", folder), code=1)
    assert f"{folder} holds no trained network" in message
    assert "cpnas train" in message


def test_evaluate_refuses_a_damaged_network(trained_run: Path) -> None:
    path = trained_run / "model.safetensors"
    whole = path.read_bytes()
    for kind in FOREIGN:
        path.write_bytes(whole)
        if kind == "another schema":
            save_tensors(path, {"child": torch.zeros(3)}, schema="cpnas.search-checkpoint/1", state={})
        else:
            foreign_checkpoint(path, kind)
        assert str(Path("run") / "model.safetensors") in error_of(invoke("evaluate", "run"), code=1)


def test_a_result_that_is_not_json_is_named(trained_run: Path) -> None:
    (trained_run / "result.json").write_text('{"schema": ')
    for words in (["evaluate", "run"], ["train", "g.json", "--out", "run", "--resume"]):
        assert "result.json" in error_of(invoke(*words), code=1)


def test_evaluate_on_other_images_than_digits_is_refused(trained_run: Path, image_folder: Path) -> None:
    """As `cpnas search --data-dir` with digits is."""
    assert "digits" in error_of(invoke("evaluate", "run", "--data-dir", image_folder), code=2)


@pytest.fixture
def folder_run(image_folder: Path) -> Path:
    Path("g.json").write_text(json.dumps(DOCUMENT))
    words = ["train", "g.json", *FOLDER_OPTIONS, "--data-dir", image_folder, "--out", "folder-run"]
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    return Path("folder-run")


def test_evaluate_on_other_classes_names_them(folder_run: Path, image_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(image_folder, tmp_path / "other")
    for part in ("train", "test"):
        (tmp_path / "other" / part / "dark").rename(tmp_path / "other" / part / "black")
    message = error_of(invoke("evaluate", folder_run, "--data-dir", "other"), code=1)
    assert "['dark', 'light']" in message
    assert "['black', 'light']" in message


def test_evaluate_shows_a_colour_network_grey_images(folder_run: Path, image_folder: Path, tmp_path: Path) -> None:
    for path in image_folder.rglob("*.png"):
        target = tmp_path / "grey" / path.relative_to(image_folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.convert("L").save(target)
    result = invoke("evaluate", folder_run, "--data-dir", "grey", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["num_test_images"] == 8


# ---------------------------------------------------------------- a full disk


# A file may grow to so many bytes in this process, as on a disk that is nearly full.
WITH_LITTLE_SPACE = """
import resource, signal, sys
from cpnas_cli.cli.app import app
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
app(sys.argv[2:], prog_name="cpnas")
"""


def test_a_full_disk_loses_nothing(search_run: Path, tiny_search: Path, tmp_path: Path) -> None:
    checkpoint = search_run / "checkpoint" / "state.safetensors"
    before = checkpoint.read_bytes()
    limit = len(before) // 2
    assert (search_run / "history.jsonl").stat().st_size < limit // 4
    words = [str(limit), "search", "--out", "run", "--resume"]
    environment = {**os.environ, "COLUMNS": "200"}
    process = fork(tmp_path, words, environment=environment, program=WITH_LITTLE_SPACE)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1, stderr
    message = error_line(stderr)
    assert str(Path("run/checkpoint/state.safetensors")) in message
    assert "--resume" in message
    assert checkpoint.read_bytes() == before
    assert list(search_run.rglob("*.tmp")) == []
    assert invoke("search", "--out", "run", "--resume").exit_code == 0
    assert (search_run / "genotype.json").read_bytes() == (tiny_search / "genotype.json").read_bytes()


# ---------------------------------------------------------------- a loss that becomes NaN


DIVERGE = ["optimizer=sgd", "learning_rate=1e30", "clip_norm=1e30"]


def diverging(section: str) -> list[str]:
    return [word for setting in DIVERGE for word in ("--set", f"{section}.{setting}")]


def test_a_search_whose_loss_becomes_nan_says_where(tmp_path: Path) -> None:
    words = ["search", *TINY_OPTIONS, *diverging("search"), "--set", "search.batch_size=5", "--out", "run"]
    message = error_of(invoke(*words), code=1)
    assert "NaN or infinite in step " in message
    assert " of 4, draw 1 of 35, " in message
    assert "child" in message or "parent" in message
    assert "search.learning_rate" in message
    assert not (tmp_path / "run" / "genotype.json").exists()
    assert not (tmp_path / "run" / "history.jsonl").exists()


def test_a_training_whose_loss_becomes_nan_keeps_the_last_good_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rate becomes infinite in the second half of four epochs of two steps."""

    def rate(start: float, end: float, progress: float) -> float:
        return start if progress < 0.5 else float("inf")

    Path("g.json").write_text(json.dumps(DOCUMENT))
    with monkeypatch.context() as patched:
        patched.setattr(stages, "cosine", rate)
        words = ["train", "g.json", *TINY_OPTIONS, "--set", "train.num_epochs=4", "--out", "run"]
        message = error_of(invoke(*words), code=1)
    assert "NaN or infinite in step 2 of 2, epoch 3 of 4, child" in message
    assert "after epoch 2" in message
    assert "train.learning_rate" in message
    tensors, state = load_tensors(tmp_path / "run/checkpoint/state.safetensors", schema="cpnas.training-checkpoint/1")
    assert state["epoch"] == 2
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert len((tmp_path / "run/history.jsonl").read_text().splitlines()) == 2
    assert not (tmp_path / "run" / "result.json").exists()
    assert invoke("train", "g.json", "--out", "run", "--resume").exit_code == 0
    assert len((tmp_path / "run/history.jsonl").read_text().splitlines()) == 4


def test_weights_that_the_last_step_spoils_are_no_result(tmp_path: Path) -> None:
    """The loss of the only step is finite; what it makes of the weights is not."""
    Path("g.json").write_text(json.dumps(DOCUMENT))
    words = ["train", "g.json", *TINY_OPTIONS, "--set", "train.num_epochs=1", "--set", "train.batch_size=40"]
    words += ["--set", "train.optimizer=sgd", "--set", "train.learning_rate=1e38", "--set", "train.clip_norm=1e38"]
    message = error_of(invoke(*words, "--out", "run"), code=1)
    assert "epoch 1 of 1, child" in message
    assert not (tmp_path / "run" / "result.json").exists()
    assert not (tmp_path / "run" / "model.safetensors").exists()
