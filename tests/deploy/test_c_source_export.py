"""`cpnas export --format c`."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from c_programs import needed, run
from children import every_operation, make_child
from typer.testing import CliRunner

from cpnas_cli.cli.app import app
from cpnas_cli.deploy.c_source import C_FILES
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.training.trained_network import write_trained

CHILD = make_child(every_operation(), block="residual", weight_format="int8")
runner = CliRunner()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_trained(CHILD.trained, tmp_path / "run" / RunFolder.MODEL)
    return tmp_path / "run"


def test_the_command_writes_a_folder(folder: Path, tmp_path: Path) -> None:
    """Into the run's, or where it is told to; what is there besides stays; sizes are those of the files and macros."""
    out = tmp_path / "other"
    out.mkdir()
    (out / "main.c").write_text("mine")
    for words, place in (([], folder / "c"), (["--out", str(out)], out)):
        answer = runner.invoke(app, ["export", str(folder), "--format", "c", *words])
        assert answer.exit_code == 0, answer.output
        sizes = dict(line.split()[1:3] for line in (place / "model.h").read_text().splitlines() if "_BYTES " in line)
        flash, ram = int(sizes["MODEL_FLASH_BYTES"]), int(sizes["MODEL_RAM_BYTES"])
        total = sum((place / name).stat().st_size for name in C_FILES)
        expected = f"{place}: {total:,} bytes (c, child); flash {flash:,} and RAM {ram:,} bytes\n"
        assert answer.stdout == expected
    assert (out / "main.c").read_text() == "mine"
    answer = runner.invoke(app, ["export", str(folder), "--format", "c", "--json"])
    assert json.loads(answer.stdout) == {
        "schema": "cpnas.export/1",
        "format": "c",
        "file": str(folder / "c"),
        "bytes": total,
        "header_bytes": None,
        "network": "child",
        "flash_bytes": flash,
        "ram_bytes": ram,
    }


def test_its_makefile_makes_the_example(folder: Path, tmp_path: Path) -> None:
    """Class and scores of every image, from files and from standard input; half an image is told."""
    runner.invoke(app, ["export", str(folder), "--format", "c", "--out", str(tmp_path / "c")])
    subprocess.run([needed("make"), "CC=gcc"], cwd=tmp_path / "c", check=True, capture_output=True, timeout=200)
    images, example = CHILD.draw_images(3), tmp_path / "c" / "example"
    lines = run([example], images).decode().splitlines()
    expected = CHILD.logits(images)
    assert [line.split("\t")[0] for line in lines] == [CHILD.model.classes[k] for k in expected.argmax(axis=1)]
    found = np.array([line.split("\t")[1:] for line in lines], np.float32)
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6 * np.abs(expected).max())
    file = tmp_path / "images.raw"
    file.write_bytes(np.ascontiguousarray(images.transpose(0, 2, 3, 1)).tobytes())
    assert run([example, file], images[:0]).decode().splitlines() == lines
    file.write_bytes(file.read_bytes()[:-1])
    for name in (file, tmp_path / "missing"):
        answer = subprocess.run([example, name], capture_output=True, text=True, timeout=60, check=False)
        assert answer.returncode == 1
        assert str(name) in answer.stderr


def test_a_place_that_cannot_be_written(folder: Path) -> None:
    out = folder / RunFolder.MODEL / "below a file"
    answer = runner.invoke(app, ["export", str(folder), "--format", "c", "--out", str(out)])
    assert answer.exit_code == 1
    assert answer.stderr.startswith("cpnas: error: cannot ")
    assert answer.stderr.endswith("; choose another --out\n")
    assert answer.stderr.count("\n") == 1


def test_an_unknown_format_lists_this_one(tmp_path: Path) -> None:
    answer = runner.invoke(app, ["export", str(tmp_path), "--format", "cpp"])
    assert answer.exit_code == 2
    assert "choose from packed, onnx, c" in answer.stderr
