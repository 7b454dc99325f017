"""Arrays that are filled in their file: the same file as `save_tensors` gives, and no room is no crash."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cpnas_cli.errors import CheckpointError
from cpnas_cli.storage.mapped import filling
from cpnas_cli.storage.tensors import load_tensors, save_tensors

SCHEMA = "cpnas.images/2"


def test_it_says_what_save_tensors_says(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (7, 3, 5, 5), dtype=np.uint8)
    with filling(tmp_path / "filled", "images", values.shape, schema=SCHEMA) as images:
        images[:] = values
    save_tensors(tmp_path / "saved", {"images": torch.from_numpy(values)}, schema=SCHEMA, state={})
    filled, saved = (load_tensors(tmp_path / name, schema=SCHEMA) for name in ("filled", "saved"))
    assert torch.equal(filled[0]["images"], torch.from_numpy(values))
    assert torch.equal(filled[0]["images"], saved[0]["images"])
    assert filled[1] == saved[1] == {}
    assert {path.name for path in tmp_path.iterdir()} == {"filled", "saved"}
    content = bytearray((tmp_path / "filled").read_bytes())
    content[-1] ^= 1
    (tmp_path / "filled").write_bytes(content)
    with pytest.raises(CheckpointError, match="does not match its checksum"):
        load_tensors(tmp_path / "filled", schema=SCHEMA)


def test_what_is_loaded_is_mapped(tmp_path: Path) -> None:
    """By the kernel's own list: the values lie in the pages of the file."""
    if not Path("/proc/self/maps").exists():
        pytest.skip("no /proc")
    with filling(tmp_path / "filled", "images", (64, 1024), schema=SCHEMA) as images:
        images[:] = 7
    loaded = load_tensors(tmp_path / "filled", schema=SCHEMA)[0]["images"]
    places = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path) in line]
    ranges = [tuple(int(end, 16) for end in words[0].split("-")) for words in places]
    assert any(low <= loaded.data_ptr() < high for low, high in ranges)


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), filling(tmp_path / "filled", "images", (4, 4), schema=SCHEMA):
        _ = 1 / 0
    assert not list(tmp_path.iterdir())


WITHOUT_ROOM = """
import resource, signal, sys
from pathlib import Path
from cpnas_cli.errors import RunError
from cpnas_cli.storage.mapped import filling
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    with filling(Path(sys.argv[1]), "images", (200_000,), schema="s"):
        print("begun")
except RunError as error:
    print("refused")
"""


def test_without_room_it_is_refused_before_anything_is_filled(tmp_path: Path) -> None:
    words = [sys.executable, "-c", WITHOUT_ROOM, str(tmp_path / "filled")]
    answer = subprocess.run(words, capture_output=True, text=True, check=True)
    assert answer.stdout == "refused\n"
    assert not list(tmp_path.iterdir())
