"""JSON documents carry a checksum of all they say: BLAKE2b of the rest as JSON with sorted keys."""

import hashlib
import json
import logging
from pathlib import Path

import pytest
from command_line import DOCUMENT

from cpnas_cli.errors import GenotypeError, RunError
from cpnas_cli.storage.documents import read_document, write_json
from cpnas_cli.storage.genotype_file import MOST_BYTES, read_genotype
from cpnas_cli.storage.result_file import read_result

SAID = {"schema": "x/1", "b": [1, 0.1, None, True], "a": {"\u00e9": "\x1b", 2: 1e-9}}
PLAIN = json.loads(json.dumps(SAID))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "document.json"
    write_json(path, SAID)
    return path


def by_hand(document: dict) -> str:
    return hashlib.blake2b(json.dumps(document, sort_keys=True).encode(), digest_size=16).hexdigest()


def test_the_checksum_is_that_of_the_documentation_and_readers_do_not_see_it(file: Path) -> None:
    document = json.loads(file.read_text())
    assert document.pop("blake2b") == by_hand(PLAIN)
    assert document == PLAIN
    assert read_document(file) == PLAIN


def test_a_changed_value_is_damage_and_another_layout_is_not(file: Path) -> None:
    document = json.loads(file.read_text())
    file.write_text(json.dumps(dict(reversed(document.items()))))
    assert read_document(file) == PLAIN
    file.write_text(json.dumps(document | {"b": [1, 0.1, None, False]}))
    with pytest.raises(RunError, match=r"document.json is damaged: its content does not match its checksum; restore"):
        read_document(file)


def test_a_damaged_name_of_the_checksum_is_damage_too(file: Path) -> None:
    file.write_text(file.read_text().replace('"blake2b"', '"blake2c"'))
    with pytest.raises(RunError, match="does not match its checksum"):
        read_document(file)


def test_a_document_of_an_older_version_is_read_as_it_is(file: Path) -> None:
    file.write_text(json.dumps(PLAIN))
    assert read_document(file) == PLAIN


def test_what_was_read_is_written_with_its_own_checksum(file: Path) -> None:
    write_json(file, json.loads(file.read_text()) | {"b": 2})
    assert read_document(file) == PLAIN | {"b": 2}


def test_a_genotype_that_was_edited_is_read_with_a_note(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "g.json"
    write_json(path, DOCUMENT)
    with caplog.at_level(logging.WARNING):
        assert read_genotype(path)[1] == DOCUMENT
        assert not caplog.records
        path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
        assert read_genotype(path)[1] == {**DOCUMENT, "provenance": {"seed": 1}}
    (note,) = caplog.messages
    assert note.startswith(f"{path} was edited or is damaged")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999"])
def test_a_genotype_with_a_number_that_is_no_json_is_refused_at_once(tmp_path: Path, value: str) -> None:
    path = tmp_path / "g.json"
    path.write_text(json.dumps(DOCUMENT).replace('"seed": 0', f'"seed": {value}'))
    with pytest.raises(GenotypeError, match=r"g.json: it holds NaN or Infinity; write null"):
        read_genotype(path)


def test_a_genotype_file_that_is_no_genotype_by_its_size_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "g.json"
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(GenotypeError, match=r"has 4,194,305 bytes; a genotype takes some 3,000"):
        read_genotype(path)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({}, "it lacks "),
        ({"schema": "cpnas.result/1", "network": "child", "accuracy_test": 1.5}, "accuracy_test: "),
        ({"schema": "cpnas.result/1", "network": "cat"}, "network: "),
        ({"schema": "cpnas.result/1", "network": "child", "accuracy_test": "0.5"}, "accuracy_test: "),
    ],
)
def test_a_result_that_lacks_something_is_damaged(tmp_path: Path, change: dict, part: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(change))
    with pytest.raises(RunError, match=r"result.json is damaged \(.*; remove it and type the command again") as caught:
        read_result(path)
    assert part in str(caught.value)
