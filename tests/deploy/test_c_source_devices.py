"""The C source on other processors, emulated: AArch64, RISC-V, and a Cortex-M4 board without a system."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
import torch
from c_programs import build, check, needed
from children import Child, every_operation, make_child

from cpnas_cli.deploy.c_source import write_c_source

pytestmark = pytest.mark.slow

BOARD = Path(__file__).parents[2] / "docs" / "board"
WHOLE = {"weight_format": "int8", "real_format": "float16"}
CHILDREN = {
    "residual": {"block": "residual", "num_channels": 16, "group_width": 16, **WHOLE},
    "separable": {"num_channels": 10, "image_size": 12},
}


@pytest.mark.parametrize("flags", [("-O2",), ("-O3", "-DMODEL_NO_VECTORS")])
@pytest.mark.parametrize("processor", ["aarch64", "riscv64"])
@pytest.mark.parametrize("name", CHILDREN)
def test_other_processors(name: str, processor: str, flags: tuple[str, ...], tmp_path: Path) -> None:
    emulator = needed(f"qemu-{processor}")
    child = make_child(every_operation(), **CHILDREN[name])
    program = build(child.model, tmp_path, compiler=f"{processor}-linux-gnu-gcc", flags=(*flags, "-static"))
    check(child, [emulator, program])


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """Some hundred real images, uint8 (B, 1, 8, 8)."""
    bunch: Any = sklearn.datasets.load_digits()
    images = bunch.images[-364:]
    return np.rint(images * (255 / 16)).astype(np.uint8)[:, None]


def _board_program(child: Child, folder: Path) -> Path:
    needed("arm-none-eabi-gcc")
    for file in BOARD.iterdir():
        shutil.copy(file, folder)
    write_c_source(child.model, folder / "c")
    words = ["make", "MODEL=c", "CFLAGS=-O2 -Werror -Wdouble-promotion"]
    subprocess.run(words, cwd=folder, check=True, capture_output=True, timeout=200)
    return folder / "example.elf"


def test_a_board_without_a_system_classifies_as_pytorch_does(digits: np.ndarray, tmp_path: Path) -> None:
    """All images, with the example and the files of the documentation; what it prints is what a PC prints."""
    needed("qemu-system-arm")
    child = make_child(every_operation(), num_image_channels=1, num_classes=10, **CHILDREN["residual"])
    before = child.logits(digits)
    with torch.no_grad():  # so that not one class wins always
        child.network.classifier.bias.sub_(torch.from_numpy(before.mean(axis=0)))
    _board_program(child, tmp_path)
    (tmp_path / "images.raw").write_bytes(digits.tobytes())
    words = ["make", "--silent", "MODEL=c", "run"]
    answer = subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=280)
    lines = [line.split("\t") for line in answer.stdout.splitlines()]
    expected = child.logits(digits)
    assert len(lines) == len(digits)
    assert [line[0] for line in lines] == [child.model.classes[index] for index in expected.argmax(axis=1)]
    assert len({line[0] for line in lines}) > 1
    found = np.array([line[1:] for line in lines], np.float32)
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6 * np.abs(before).max())  # what is rounded


def test_ram_is_what_the_header_says(tmp_path: Path) -> None:
    """By the linker's own count; and no double is computed, as the README says."""
    child = make_child(every_operation(), num_image_channels=1, **CHILDREN["residual"])
    _board_program(child, tmp_path)
    source = write_c_source(child.model, tmp_path / "c")
    cpu = ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "-std=c99", "-O2"]
    subprocess.run(["arm-none-eabi-gcc", *cpu, "-c", "c/model.c"], cwd=tmp_path, check=True, timeout=100)
    sizes = subprocess.run(["arm-none-eabi-size", "-A", "model.o"], cwd=tmp_path, capture_output=True, text=True)
    sections = dict(re.findall(r"^(\.\S+)\s+(\d+)", sizes.stdout, re.MULTILINE))
    assert abs(int(sections[".bss"]) - source.ram_bytes) < 16  # what alignment takes
    assert int(sections.get(".data", 0)) == 0
    assert f"MODEL_RAM_BYTES {source.ram_bytes}" in source.files["model.h"]
    symbols = subprocess.run(["arm-none-eabi-nm", "-u", "model.o"], cwd=tmp_path, capture_output=True, text=True)
    undefined = set(symbols.stdout.split()) - {"U"}
    assert undefined <= {"memcpy", "memmove", "memset"}  # no double's arithmetic, no libm, no heap
