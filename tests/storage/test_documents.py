"""Genotype documents, files that are replaced whole or not at all, and what a run folder refuses."""

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cpnas_cli
from cpnas_cli.errors import CpnasError, GenotypeError, RunError
from cpnas_cli.runs.folder import RunFolder, open_run
from cpnas_cli.search_space import OPERATIONS, Genotype, draw_uniform
from cpnas_cli.settings import Config, config_yaml, load_config
from cpnas_cli.storage.documents import read_json, replacing, write_json, write_text
from cpnas_cli.storage.genotype_file import genotype_document, parse_genotype, read_genotype

FEW = settings(max_examples=30, deadline=None, derandomize=True)

GENOTYPE = draw_uniform(seed=0)
DOCUMENT = genotype_document(GENOTYPE, provenance={"strategy": "random", "seed": 0})

CONNECTED_CELLS = st.tuples(*[st.sampled_from(OPERATIONS)] * 14).filter(lambda cell: set(cell[:4]) != {"none"})
JSON_VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


def one_line(error: BaseException) -> str:
    message = str(error)
    assert isinstance(error, CpnasError)
    assert message
    assert "\n" not in message
    return message


# ---------------------------------------------------------------- genotype documents


@FEW
@given(normal=CONNECTED_CELLS, reduce=CONNECTED_CELLS, provenance=st.dictionaries(st.text(), JSON_VALUES, max_size=3))
def test_a_genotype_survives_writing_and_reading(
    tmp_path_factory: pytest.TempPathFactory,
    normal: tuple[str, ...],
    reduce: tuple[str, ...],
    provenance: dict[str, Any],
) -> None:
    genotype = Genotype(normal, reduce)
    path = tmp_path_factory.getbasetemp() / "genotype.json"
    write_json(path, genotype_document(genotype, provenance=provenance))
    read, document = read_genotype(path)
    assert read == genotype
    assert document["provenance"] == provenance


def test_the_document_is_the_published_format() -> None:
    assert list(DOCUMENT) == ["schema", "normal", "reduce", "provenance"]
    assert DOCUMENT["schema"] == "cpnas.genotype/1"
    pairs = [(0, 2), (1, 2), (0, 3), (1, 3), (2, 3), (0, 4), (1, 4), (2, 4), (3, 4)]
    pairs += [(0, 5), (1, 5), (2, 5), (3, 5), (4, 5)]
    for kind, cell in (("normal", GENOTYPE.normal), ("reduce", GENOTYPE.reduce)):
        assert DOCUMENT[kind] == [
            {"from": origin, "to": to, "op": op} for (origin, to), op in zip(pairs, cell, strict=True)
        ]


def test_the_edges_may_come_in_any_order() -> None:
    document = copy.deepcopy(DOCUMENT)
    document["normal"].reverse()
    document["reduce"].sort(key=lambda edge: edge["op"])
    assert parse_genotype(document) == GENOTYPE


def test_a_run_folder_stands_for_its_genotype(tmp_path: Path) -> None:
    write_json(tmp_path / "genotype.json", DOCUMENT)
    assert read_genotype(tmp_path) == (GENOTYPE, DOCUMENT)


def edge_op(document: Any, op: Any) -> None:
    document["reduce"][4]["op"] = op


def edge_ends(document: Any, origin: Any, to: Any) -> None:
    document["normal"][4] |= {"from": origin, "to": to}


def disconnect(document: Any, kind: str) -> None:
    for edge in document[kind]:
        if edge["from"] < 2:
            edge["op"] = "none"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: d.update(schema="cpnas.genotype/2"), "expected schema 'cpnas.genotype/1', got 'cpnas.genotype/2'"),
        (lambda d: d.update(schema="cpnas.result/1"), "expected schema 'cpnas.genotype/1', got 'cpnas.result/1'"),
        (lambda d: d.pop("schema"), "expected schema 'cpnas.genotype/1', got None"),
        (lambda d: d.pop("reduce"), "'reduce' must be a list of 14 edges, got NoneType"),
        (lambda d: d.update(normal={}), "'normal' must be a list of 14 edges, got dict"),
        (lambda d: d.update(normal=[]), "edge 0->2 of the normal cell is missing"),
        (lambda d: d["normal"].pop(), "edge 4->5 of the normal cell is missing"),
        (lambda d: d["reduce"].pop(7), "edge 2->4 of the reduce cell is missing"),
        (lambda d: d["reduce"].append(d["reduce"][3]), "edge 1->3 of the reduce cell is given twice"),
        (lambda d: edge_ends(d, 0, 2), "edge 0->2 of the normal cell is given twice"),
        (lambda d: edge_ends(d, 3, 2), "edge 3->2 of the normal cell does not exist: it runs backwards"),
        (lambda d: edge_ends(d, 5, 4), "edge 5->4 of the normal cell does not exist: it runs backwards"),
        (lambda d: edge_ends(d, 0, 6), "edge 0->6 of the normal cell does not exist: edges run"),
        (lambda d: edge_ends(d, 0, 1), "edge 0->1 of the normal cell does not exist: edges run"),
        (lambda d: edge_ends(d, 2, 2), "edge 2->2 of the normal cell does not exist"),
        (lambda d: edge_ends(d, -1, 2), "edge -1->2 of the normal cell does not exist"),
        (lambda d: edge_ends(d, "2", "3"), "an edge of the normal cell must be whole numbers"),
        (lambda d: edge_ends(d, [2], {}), "an edge of the normal cell must be whole numbers"),
        (lambda d: edge_ends(d, None, 3), "an edge of the normal cell must be whole numbers"),
        (lambda d: edge_ends(d, False, 3), "an edge of the normal cell must be whole numbers"),
        (lambda d: d["normal"][4].pop("to"), "an edge of the normal cell must have from, to and op"),
        (lambda d: d["normal"].__setitem__(0, "none"), "an edge of the normal cell must have from, to and op"),
        (lambda d: edge_op(d, "conv_7x7"), "unknown operation 'conv_7x7' on edge 2->3 of the reduce cell"),
        (lambda d: edge_op(d, "None"), "unknown operation 'None' on edge 2->3 of the reduce cell"),
        (lambda d: edge_op(d, None), "op of edge 2->3 of the reduce cell must be a text"),
        (lambda d: edge_op(d, ["none"]), "op of edge 2->3 of the reduce cell must be a text"),
        (lambda d: disconnect(d, "normal"), "the normal cell is disconnected"),
        (lambda d: disconnect(d, "reduce"), "the reduce cell is disconnected"),
    ],
)
def test_a_bad_genotype_is_refused(tmp_path: Path, spoil: Callable[[Any], object], message: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    spoil(document)
    with pytest.raises(GenotypeError, match=re.escape(message)):
        parse_genotype(document)
    path = tmp_path / "g.json"
    path.write_text(json.dumps(document))
    with pytest.raises(GenotypeError, match=re.escape(message)) as caught:
        read_genotype(path)
    assert one_line(caught.value).startswith(f"{path}: ")
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("document", [[], "text", 1, None, [DOCUMENT]])
def test_a_genotype_is_an_object(document: Any) -> None:
    with pytest.raises(GenotypeError, match=f"expected a JSON object .* got {type(document).__name__}"):
        parse_genotype(document)


def test_a_truncated_genotype_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    write_json(tmp_path / "whole.json", DOCUMENT)
    whole = (tmp_path / "whole.json").read_bytes()
    path = tmp_path / "part.json"
    for length in [*range(0, len(whole) - 2, 97), len(whole) - 2]:
        path.write_bytes(whole[:length])
        with pytest.raises(GenotypeError, match="is not complete JSON") as caught:
            read_genotype(path)
        assert one_line(caught.value).startswith(str(path))


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "binary.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(GenotypeError, match="is not complete JSON") as caught:
        read_genotype(path)
    one_line(caught.value)


def test_a_missing_genotype_is_named(tmp_path: Path) -> None:
    for path, named in ((tmp_path / "no.json", "no.json"), (tmp_path, "genotype.json")):
        with pytest.raises(GenotypeError, match="`cpnas search` writes one") as caught:
            read_genotype(path)
        assert str(tmp_path / named) in one_line(caught.value)
    (tmp_path / "file").write_text("{}")
    with pytest.raises(GenotypeError, match="cannot read"):
        read_genotype(tmp_path / "file" / "genotype.json")


# ---------------------------------------------------------------- replacing a file


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.json"
    write_json(path, {"a": 1})
    write_json(path, {"b": [1, None, "é"]})
    assert read_json(path) == {"b": [1, None, "é"]}
    assert path.read_text(encoding="utf-8").endswith("}\n")
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with path.open() as reader:
        with replacing(path) as temporary:
            temporary.write_text("half")
            assert path.read_text() == "old"
            assert temporary.parent == path.parent  # a rename within one file system
            temporary.write_text("new")
        assert path.read_text() == "new"
        assert reader.read() == "old"  # another file took its place; it was not written over
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(RunError if isinstance(error, OSError) else type(error)) as caught:
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    if isinstance(error, OSError):
        message = one_line(caught.value)
        assert str(path) in message
        assert "No space left on device" in message
        assert "--resume" in message


def test_an_exception_leaves_no_new_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), replacing(tmp_path / "a.txt"):
        raise ValueError("no")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_what_is_no_json_is_not_written(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises((ValueError, TypeError)):
        write_json(path, {"a": value})
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(RunError, match="cannot write") as caught:
        write_text(tmp_path / "file" / "a.txt", "new")
    one_line(caught.value)
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunError, match="cannot write"):
        write_text(tmp_path / "folder", "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_the_advice_is_the_writers(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    path = tmp_path / "file" / "a.txt"
    with pytest.raises(RunError, match=r"; what was saved before is intact: free some space and go on with --resume$"):
        write_text(path, "new")
    with pytest.raises(RunError) as caught:
        write_text(path, "new", advice="choose another --csv")
    assert str(caught.value) == f"cannot write {path}: File exists; choose another --csv"


# A file may grow to 8 KiB in this process, as on a disk that is nearly full; every write asks for more.
WITHOUT_SPACE = """
import json, resource, signal, sys
from pathlib import Path
import torch
from cpnas_cli.storage.tensors import save_tensors
from cpnas_cli.errors import RunError
from cpnas_cli.storage.documents import write_json, write_text
from cpnas_cli.runs.folder import RunFolder

folder = Path(sys.argv[1])
large = "x" * 100_000
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
writes = {
    "a.txt": lambda path: write_text(path, large),
    "b.json": lambda path: write_json(path, {"a": large}),
    "c.safetensors": lambda path: save_tensors(path, {"a": torch.zeros(10_000)}, schema="s/1", state={}),
    "history.jsonl": lambda path: RunFolder(path.parent).append_history({"a": large}),
}
messages = {}
for name, write in writes.items():
    try:
        write(folder / name)
    except RunError as error:
        messages[name] = str(error)
write_text(folder / "small.txt", "fits")
sys.stdout.write(json.dumps(messages))
"""


def test_a_full_disk_leaves_what_was_saved(tmp_path: Path) -> None:
    old = '{"event": "epoch"}\n'
    names = ["a.txt", "b.json", "c.safetensors", "history.jsonl"]
    for name in names:
        (tmp_path / name).write_text(old)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_SPACE, str(tmp_path)],
        cwd=Path(cpnas_cli.__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    messages = json.loads(done.stdout)
    assert list(messages) == names
    for name, message in messages.items():
        assert message.startswith(f"cannot write {tmp_path / name}: ")
        assert "File too large" in message
        assert "--resume" in message
        assert "\n" not in message
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "small.txt"])
    for name in names[:3]:
        assert (tmp_path / name).read_text() == old
    # a history is appended to: half a line may be there, and goes when the checkpoint is resumed
    run = RunFolder(tmp_path)
    assert (tmp_path / "history.jsonl").read_text().startswith(old)
    run.truncate_history(len(old))
    assert run.history() == [{"event": "epoch"}]


# ---------------------------------------------------------------- run folders


def start(path: Path, config: Config | None = None, **options: Any) -> RunFolder:
    options = {"resume": False, "environment": {"schema": "cpnas.environment/1"}} | options
    return open_run(path, config or load_config(), **options)


def refused(path: Path, config: Config | None = None, **options: Any) -> str:
    """The message; the folder is as it was."""

    def contents() -> dict[Path, bytes | None]:
        return {p: p.read_bytes() if p.is_file() else None for p in [path, *path.rglob("*")]}

    before = contents()
    with pytest.raises(RunError) as caught:
        start(path, config, **options)
    assert contents() == before
    message = one_line(caught.value)
    assert str(path) in message
    assert "--out" in message
    return message


def test_a_new_run_holds_its_settings(tmp_path: Path) -> None:
    config = load_config(overrides=["seed=3"])
    owned = {"genotype.json": "{}\n"}
    run = start(tmp_path / "a" / "run", config, environment={"schema": "e", "torch": "2"}, owned=owned)
    assert sorted(path.name for path in run.path.iterdir()) == ["config.yaml", "environment.json", "genotype.json"]
    assert run.config() == config
    assert run.file("config.yaml").read_text() == config_yaml(config)
    assert read_json(run.file("environment.json")) == {"schema": "e", "torch": "2"}
    assert run.file("genotype.json").read_text() == "{}\n"
    assert run.history() == []


@pytest.mark.parametrize("hidden", [None, ".gitkeep"])
def test_an_empty_folder_will_do(tmp_path: Path, hidden: str | None) -> None:
    if hidden:
        (tmp_path / hidden).touch()
    assert start(tmp_path).config() == load_config()


def test_a_folder_with_a_run_is_not_started_again(tmp_path: Path) -> None:
    start(tmp_path)
    message = refused(tmp_path)
    assert "already holds a run" in message
    assert "--resume" in message


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    assert "is not empty and holds no run" in refused(tmp_path)


@pytest.mark.parametrize("resume", [False, True])
def test_a_file_is_no_folder(tmp_path: Path, resume: bool) -> None:
    (tmp_path / "file").write_text("mine")
    assert "is a file" in refused(tmp_path / "file", resume=resume)


def test_the_same_run_goes_on(tmp_path: Path) -> None:
    config = load_config(overrides=["train.learning_rate=1e-5", "network.real_parts=[preprocessing]"])
    start(tmp_path, config, owned={"genotype.json": "{}"}, environment={"first": True})
    run = start(tmp_path, config, owned={"genotype.json": "{}"}, environment={"first": False}, resume=True)
    assert run == RunFolder(tmp_path)
    assert read_json(tmp_path / "environment.json") == {"first": True}


def test_a_run_that_died_while_it_was_made_is_made_again(tmp_path: Path) -> None:
    """config.yaml comes last; without it nothing was done yet."""
    start(tmp_path, owned={"genotype.json": "{}"})
    (tmp_path / "config.yaml").unlink()
    start(tmp_path, owned={"genotype.json": "{}"}, resume=True)
    assert (tmp_path / "config.yaml").exists()


def test_a_missing_folder_may_be_resumed(tmp_path: Path) -> None:
    """So that a job that is started again and again has one command line."""
    assert start(tmp_path / "run", resume=True).config() == load_config()


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["search.beta_p=3"], "search.beta_p: 2.0 there, 3.0 now"),
        (["seed=1"], "seed: 0 there, 1 now"),
        (["network.real_parts=[preprocessing]"], "network.real_parts: [] there, ['preprocessing'] now"),
        (["seed=1", "train.num_epochs=7", "train.batch_size=8"], "seed: 0 there, 1 now (and 2 more)"),
    ],
)
def test_other_settings_are_another_run(tmp_path: Path, overrides: list[str], expected: str) -> None:
    start(tmp_path)
    message = refused(tmp_path, load_config(overrides=overrides), resume=True)
    assert f"was started with other settings: {expected}; " in message


def test_another_genotype_is_another_run(tmp_path: Path) -> None:
    start(tmp_path, owned={"genotype.json": "one"})
    assert "another genotype.json" in refused(tmp_path, owned={"genotype.json": "two"}, resume=True)


def test_a_search_is_not_resumed_as_a_training(tmp_path: Path) -> None:
    start(tmp_path)
    message = refused(tmp_path, owned={"networks.json": "[]"}, resume=True)
    assert "a run of another kind (it has no networks.json)" in message


# ---------------------------------------------------------------- the history


def test_the_history_is_appended_to(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    records = [{"event": "draw", "z": 0.5}, {"event": "abandon", "text": "é\n\u2028"}, {"event": "epoch"}]
    sizes = []
    for record in records:
        sizes.append(run.append_history(record))
        assert sizes[-1] == (tmp_path / "history.jsonl").stat().st_size
    assert run.history() == records
    assert (tmp_path / "history.jsonl").read_bytes().count(b"\n") == 3
    with pytest.raises(ValueError, match="JSON"):
        run.append_history({"loss": float("nan")})
    assert run.history() == records


def test_what_came_after_the_checkpoint_is_dropped(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    first = run.append_history({"epoch": 0})
    second = run.append_history({"epoch": 1})
    run.truncate_history(second)
    assert run.history() == [{"epoch": 0}, {"epoch": 1}]
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"epoch": 2, "lo')  # killed while it wrote
    run.truncate_history(first)
    assert run.history() == [{"epoch": 0}]
    run.append_history({"epoch": 1})
    assert run.history() == [{"epoch": 0}, {"epoch": 1}]
    run.truncate_history(0)
    assert run.history() == []


def test_a_history_shorter_than_the_checkpoint_is_refused(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.truncate_history(0)  # nothing there, nothing lost
    with pytest.raises(RunError, match="it has 0 bytes of the 10"):
        run.truncate_history(10)
    size = run.append_history({"epoch": 0})
    with pytest.raises(RunError, match="does not fit"):
        run.truncate_history(size + 1)
    assert run.history() == [{"epoch": 0}]


def test_a_history_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot write") as caught:
        RunFolder(tmp_path / "none").append_history({})
    assert "--resume" in one_line(caught.value)
