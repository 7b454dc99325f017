"""Hostile files: every reader answers any bytes with a value or with an error of ours. Seeded and bounded."""

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import DOCUMENT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cpnas_cli.data.decoding import decode_image
from cpnas_cli.data.idx import read_idx
from cpnas_cli.deploy.packed_file import load_packed
from cpnas_cli.errors import CpnasError
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.settings import load_config
from cpnas_cli.settings.presets import preset_text
from cpnas_cli.storage.documents import read_document
from cpnas_cli.storage.genotype_file import read_genotype
from cpnas_cli.storage.result_file import read_result
from cpnas_cli.storage.tensors import load_tensors

BOUNDED = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def answered(read: Callable[[], Any]) -> Any:
    """What it returns, or the message of an error of ours; anything else is a defect."""
    try:
        return read()
    except CpnasError as error:
        message = str(error)
        assert message
        return message


def replaced(document: Any, value: Any, generator: random.Random) -> Any:
    """The document with one value somewhere in it replaced."""
    if isinstance(document, dict) and document and generator.random() < 0.9:
        key = generator.choice(sorted(document))
        return {**document, key: replaced(document[key], value, generator)}
    if isinstance(document, list) and document and generator.random() < 0.9:
        place = generator.randrange(len(document))
        return [*document[:place], replaced(document[place], value, generator), *document[place + 1 :]]
    return value


@BOUNDED
@given(value=VALUES, seed=st.integers(0, 2**32))
def test_genotypes(tmp_path: Path, value: Any, seed: int) -> None:
    path = tmp_path / "g.json"
    path.write_text(json.dumps(replaced(DOCUMENT, value, random.Random(seed))))
    answered(lambda: read_genotype(path))


@BOUNDED
@given(value=VALUES)
def test_documents(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(value))
    for found in (answered(lambda: read_document(path)), answered(lambda: read_result(path))):
        assert isinstance(found, str | dict)


@BOUNDED
@given(text=st.text(max_size=40), place=st.floats(0, 1), length=st.integers(0, 40))
def test_settings(tmp_path: Path, text: str, place: float, length: int) -> None:
    path, preset = tmp_path / "s.yaml", preset_text("digits")
    start = int(place * len(preset))
    path.write_text(preset[:start] + text + preset[start + length :], encoding="utf-8", errors="replace")
    answered(lambda: load_config(path))


@BOUNDED
@given(lines=st.lists(st.binary(max_size=40) | VALUES.map(lambda value: json.dumps(value).encode()), max_size=4))
def test_histories(tmp_path: Path, lines: list[bytes]) -> None:
    (tmp_path / "history.jsonl").write_bytes(b"\n".join(lines))
    found = answered(RunFolder(tmp_path).history)
    assert isinstance(found, str) or all(isinstance(record, dict) for record in found)


@BOUNDED
@given(header=VALUES | st.dictionaries(st.sampled_from(["__metadata__", "bits", "values"]), VALUES), data=st.binary())
def test_tensor_files(tmp_path: Path, header: Any, data: bytes) -> None:
    path, text = tmp_path / "model.safetensors", json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    answered(lambda: load_tensors(path, schema="cpnas.model/1"))
    answered(lambda: load_packed(path))
    path.write_bytes(data)
    answered(lambda: load_tensors(path, schema="cpnas.model/1"))
    answered(lambda: load_packed(path))


@BOUNDED
@given(shape=st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=3), kind=st.integers(0, 255), data=st.binary())
def test_idx_files(tmp_path: Path, shape: list[int], kind: int, data: bytes) -> None:
    path = tmp_path / "images-idx3-ubyte"
    path.write_bytes(bytes([0, 0, kind if kind % 2 else 8, 3]) + struct.pack(">3I", *shape) + data)
    answered(lambda: read_idx(path, num_dimensions=3))


@pytest.mark.filterwarnings("ignore")  # of Pillow
@pytest.mark.parametrize("form", ["png", "jpeg", "gif", "bmp", "tiff", "webp"])
def test_images(tmp_path: Path, form: str) -> None:
    path, generator = tmp_path / f"image.{form}", random.Random(form)
    pixels = bytes(generator.randrange(256) for _ in range(3 * 12 * 12))
    Image.frombytes("RGB", (12, 12), pixels).save(path, format=form)
    content = path.read_bytes()
    for _ in range(40):
        changed = bytearray(content)
        for _ in range(generator.randrange(1, 4)):
            changed[generator.randrange(len(content))] = generator.randrange(256)
        path.write_bytes(changed[: generator.randrange(1, len(content)) if generator.random() < 0.3 else None])
        answered(lambda: decode_image(path, image_size=8, num_channels=3))
