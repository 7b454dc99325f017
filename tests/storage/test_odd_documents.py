"""Documents as other programs, other users and interrupted copies leave them: read, or one line says what is wrong."""

import json
from pathlib import Path

import permissions
import pytest
import torch
from command_line import DOCUMENT, GENOTYPE, error_of, invoke

from cpnas_cli.deploy.packed_file import load_packed
from cpnas_cli.errors import CheckpointError, CpnasError
from cpnas_cli.storage.documents import read_document, write_json
from cpnas_cli.storage.genotype_file import read_genotype
from cpnas_cli.storage.tensors import load_tensors, save_tensors

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def test_a_byte_order_mark_says_nothing(tmp_path: Path) -> None:
    """As Windows' editors write one in front of what was edited."""
    path = tmp_path / "g.json"
    path.write_bytes(BYTE_ORDER_MARK + json.dumps(DOCUMENT).encode())
    assert read_genotype(path)[0] == GENOTYPE
    write_json(path, {"schema": "cpnas.result/1", "seed": 3})
    path.write_bytes(BYTE_ORDER_MARK + path.read_bytes())
    assert read_document(path) == {"schema": "cpnas.result/1", "seed": 3}


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000], ids=["lists", "objects"])
def test_what_is_nested_too_deeply_is_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "g.json"
    path.write_text(text)
    assert "recursion" in error_of(invoke("show", path), code=1)
    with pytest.raises(CpnasError, match=r"cannot read .*recursion"):
        read_document(path)


def test_a_section_without_anything_in_it_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("data:\ntrain:\n  num_epochs: 3\n")
    message = error_of(invoke("search", "--preset", tmp_path / "s.yaml", "--out", tmp_path / "run"), code=2)
    assert message == "data is a section; expected data.name=value, got None"


def test_a_file_that_may_not_be_read_is_neither_missing_nor_damaged(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_tensors(path, {"a": torch.zeros(2)}, schema="cpnas.model/1", state={})
    path.chmod(0)
    for read in (lambda: load_tensors(path, schema="cpnas.model/1"), lambda: load_packed(path)):
        with permissions.that_hold(), pytest.raises(CheckpointError) as caught:
            read()
        assert str(caught.value) == f"cannot read {path}: Permission denied; get the permission to read it"
