"""The habits of `noxfile.py`: every room can be checked by its name."""

from test_architecture import ROOMS

import noxfile


def test_every_room_has_its_fast_loop() -> None:
    rooms = noxfile.rooms()
    assert set(rooms) == {room for room in ROOMS if not room.startswith("_")} | {"benchmarks"}
    assert rooms["training"] == ["cpnas_cli/training", "tests/training"]
    assert rooms["losses"] == ["cpnas_cli/losses.py", "tests/test_losses.py"]
    assert rooms["errors"] == ["cpnas_cli/errors.py", "tests/test_errors.py"]
    assert rooms["benchmarks"] == ["benchmarks", "tests/benchmarks"]
