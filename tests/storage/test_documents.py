"""Genotype documents, and files that are replaced whole or not at all."""

import copy
import errno
import json
import os
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
from cpnas_cli.search_space import OPERATIONS, Genotype, draw_uniform
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
    with pytest.raises(RunError, match=r"; what was saved before is intact: go on with --resume when this is mended"):
        write_text(path, "new")
    with pytest.raises(RunError) as caught:
        write_text(path, "new", advice="choose another --csv")
    assert str(caught.value) == f"cannot write {path}: File exists; choose another --csv"


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free some space and go on with --resume"),
        (errno.EDQUOT, "free some space and go on with --resume"),
        (errno.EFBIG, "free some space and go on with --resume"),
        (errno.EACCES, "get the permission to write there and go on with --resume, or choose another --out"),
        (errno.EPERM, "get the permission to write there and go on with --resume, or choose another --out"),
        (errno.EROFS, "get the permission to write there and go on with --resume, or choose another --out"),
        (errno.EIO, "go on with --resume when this is mended, or choose another --out"),
        (None, "go on with --resume when this is mended, or choose another --out"),
    ],
)
def test_the_advice_fits_what_was_in_the_way(tmp_path: Path, number: int | None, advice: str) -> None:
    path = tmp_path / "a.txt"
    reason = "went wrong" if number is None else os.strerror(number)
    with pytest.raises(RunError) as caught, replacing(path):
        raise OSError(number, reason)
    assert str(caught.value) == f"cannot write {path}: {reason}; what was saved before is intact: {advice}"


def test_a_link_to_a_folder_that_is_gone_is_no_full_disk(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(RunError) as caught:
        write_text(tmp_path / "link" / "a.txt", "new")
    assert "space" not in one_line(caught.value)


# A file may grow to 8 KiB in this process, as on a disk that is nearly full; every write asks for more.
WITHOUT_SPACE = """
import json, resource, signal, sys
from pathlib import Path
import torch
from cpnas_cli.storage.tensors import save_tensors
from cpnas_cli.errors import RunError
from cpnas_cli.storage.documents import write_json, write_text

folder = Path(sys.argv[1])
large = "x" * 100_000
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
writes = {
    "a.txt": lambda path: write_text(path, large),
    "b.json": lambda path: write_json(path, {"a": large}),
    "c.safetensors": lambda path: save_tensors(path, {"a": torch.zeros(10_000)}, schema="s/1", state={}),
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
    names = ["a.txt", "b.json", "c.safetensors"]
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
        assert message.endswith("free some space and go on with --resume")
        assert "\n" not in message
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "small.txt"])
    for name in names:
        assert (tmp_path / name).read_text() == old
