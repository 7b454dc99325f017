"""The habits of `noxfile.py`: every room can be checked by its name; and the order of the tests."""

import pytest
from conftest import longest_first
from test_architecture import ROOMS

import noxfile


def test_every_room_has_its_fast_loop() -> None:
    rooms = noxfile.rooms()
    assert set(rooms) == {room for room in ROOMS if not room.startswith("_")} | {"benchmarks"}
    assert rooms["training"] == ["cpnas_cli/training", "tests/training"]
    assert rooms["losses"] == ["cpnas_cli/losses.py", "tests/test_losses.py"]
    assert rooms["errors"] == ["cpnas_cli/errors.py", "tests/test_errors.py"]
    assert rooms["benchmarks"] == ["benchmarks", "tests/benchmarks"]


def test_what_takes_long_begins_first_and_a_file_stays_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conftest._has_fixtures_of_module", lambda file: file == "together.py")
    seconds = {"a.py::quick": 0, "together.py::one": 20, "b.py::long": 30, "c.py::quick": 0, "together.py::two": 20}
    assert longest_first(seconds) == [
        "together.py::one", "together.py::two", "b.py::long", "a.py::quick", "c.py::quick",
    ]  # fmt: skip
    assert longest_first(dict.fromkeys(seconds, 0))[:3] == ["together.py::one", "together.py::two", "a.py::quick"]
