"""Files that carry a checksum: no changed byte becomes another answer, and older files are read with a note."""

import hashlib
import json
import logging
import random
import re
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import cpnas_cli
from cpnas_cli.errors import CheckpointError
from cpnas_cli.storage.tensors import load_tensors, save_tensors

SCHEMA = "cpnas.model/1"
STATE: dict[str, Any] = {
    "names": ["a", "\u00e9", "\ud800"],
    "nested": {"x": 0.1, "y": float("nan")},
    "none": None,
    "n": 1,
}
TENSORS = {
    "weight": torch.linspace(-1, 1, 24).reshape(2, 3, 4),
    "channels_last": torch.arange(16.0).reshape(1, 2, 2, 4).contiguous(memory_format=torch.channels_last),
    "brain": torch.tensor([1.5, -2.25], dtype=torch.bfloat16),
    "count": torch.tensor(7),
    "flags": torch.tensor([True, False]),
    "nothing": torch.zeros(0, 3),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_tensors(path, TENSORS, schema=SCHEMA, state=STATE)
    return path


def parts(path: Path) -> tuple[dict[str, Any], bytes]:
    """The header and the bytes of the arrays, read by hand."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def test_what_is_written_is_read(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    tensors, state = load_tensors(file, schema=SCHEMA)
    assert json.dumps(state) == json.dumps(STATE)
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert not caplog.records


def test_the_checksum_is_blake2b_of_all_that_the_file_says(file: Path) -> None:
    """As docs/files.md describes it, from the bytes of the file."""
    header, data = parts(file)
    document = json.loads(header.pop("__metadata__")["cpnas"])
    said = document.pop("blake2b")
    types = {"F32": "float32", "BF16": "bfloat16", "I64": "int64", "BOOL": "bool"}
    found = hashlib.blake2b(digest_size=16)
    found.update(json.dumps(document).encode("utf-8", "surrogatepass"))
    for name in sorted(header):
        first, last = header[name]["data_offsets"]
        found.update(json.dumps([name, types[header[name]["dtype"]], header[name]["shape"]]).encode())
        found.update(data[first:last])
    assert said == found.hexdigest()


def test_no_changed_byte_is_read_as_another_answer(file: Path) -> None:
    """Every byte of the file, in one random bit."""
    data, generator, num_read = file.read_bytes(), random.Random(0), 0
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << generator.randrange(8)
        file.write_bytes(changed)
        try:
            tensors, state = load_tensors(file, schema=SCHEMA)
        except CheckpointError:
            continue
        num_read += 1
        assert json.dumps(state) == json.dumps(STATE)
        assert {name: tensor.tolist() for name, tensor in tensors.items()} == {
            name: tensor.tolist() for name, tensor in TENSORS.items()
        }
    assert num_read < len(data) / 20


def test_a_changed_value_says_that_it_is_damage(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"is damaged: its content does not match its checksum; start again"):
        load_tensors(file, schema=SCHEMA)


def test_a_changed_state_is_damage_too(file: Path) -> None:
    with safe_open(file, framework="pt") as opened:
        document = json.loads(opened.metadata()["cpnas"])
    document["state"]["n"] = 2
    save_file({name: tensor.contiguous() for name, tensor in TENSORS.items()}, file, {"cpnas": json.dumps(document)})
    with pytest.raises(CheckpointError, match="checksum"):
        load_tensors(file, schema=SCHEMA)


def test_an_older_file_is_read_with_a_note(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    document = json.dumps({"schema": SCHEMA, "state": STATE})
    save_file({name: tensor.contiguous() for name, tensor in TENSORS.items()}, file, {"cpnas": document})
    with caplog.at_level(logging.WARNING):
        load_tensors(file, schema=SCHEMA)
    (note,) = caplog.messages
    assert note.startswith(str(file))
    assert "older version" in note


def test_every_tensor_file_is_written_and_read_where_its_checksum_is() -> None:
    """Checkpoints, models and packed models; the cache of images says what `save_tensors` says (test_mapped.py)."""
    package = Path(cpnas_cli.__file__).parent
    found = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"^\s*(from|import) safetensors\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert found == {"deploy/packed_file.py", "storage/tensors.py"}
