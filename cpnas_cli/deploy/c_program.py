"""The C source of a packed model as a program of this machine: compiled, loaded, and called without starting a process.

A batch is as many calls, one after the other, on one thread.
"""

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cpnas_cli.deploy.c_source import write_c_source
from cpnas_cli.deploy.packed_file import PackedModel
from cpnas_cli.errors import CpnasError

COMPILERS = ("cc", "gcc", "clang")
NATIVE, PORTABLE = ("-O3", "-march=native"), ("-O2",)
ALWAYS = ("-std=c99", "-ffp-contract=off")  # as in the source's own Makefile

_SECONDS = 600  # for a compiler; a large network takes one
# A program that classifies one image, of zeros, and prints the peak of its memory, as Linux counts it.
_PEAK = r"""
#include "model.h"
#include <stdio.h>

static uint8_t image[MODEL_IMAGE_BYTES];
static float scores[MODEL_NUM_CLASSES];

int main(void)
{
    char line[256];
    long kib = 0;
    FILE *status = fopen("/proc/self/status", "r");
    model_classify(image, scores);
    while (status != NULL && fgets(line, sizeof line, status) != NULL) {
        if (sscanf(line, "VmHWM: %ld kB", &kib) == 1) {
            printf("%ld\n", kib);
            return 0;
        }
    }
    return 1;
}
"""


def find_compiler() -> str | None:
    """The first C compiler of `COMPILERS` that this machine has."""
    return next((name for name in COMPILERS if shutil.which(name)), None)


class CProgram:
    """The scores of images, computed by compiled C source.

    Raises:
      CpnasError: the compiler fails; with the first line of what it says.
    """

    def __init__(self, model: PackedModel, *, compiler: str, flags: Sequence[str]) -> None:
        self._num_classes = len(model.classes)
        with tempfile.TemporaryDirectory(prefix="cpnas-c-") as folder:
            write_c_source(model, Path(folder))
            library = compile_c(Path(folder), ["model.c"], compiler=compiler, flags=(*flags, "-shared", "-fPIC"))
            self._scores = ctypes.CDLL(str(library)).model_scores  # stays loaded without its file
        self._scores.argtypes, self._scores.restype = [ctypes.c_void_p, ctypes.c_void_p], None

    def scores(self, images_BCHW: np.ndarray) -> np.ndarray:
        """uint8 images -> float32 (B, classes)."""
        return self.scores_of_pixels(pixels_of(images_BCHW))

    def scores_of_pixels(self, pixels_BHWC: np.ndarray) -> np.ndarray:
        """See `pixels_of`."""
        scores = np.empty((len(pixels_BHWC), self._num_classes), np.float32)
        image, row = pixels_BHWC.ctypes.data, scores.ctypes.data
        for index in range(len(scores)):
            self._scores(image + index * pixels_BHWC.strides[0], row + index * scores.strides[0])
        return scores


def pixels_of(images_BCHW: np.ndarray) -> np.ndarray:
    """Images as the program reads them: (B, rows, columns, channels)."""
    return np.ascontiguousarray(images_BCHW.transpose(0, 2, 3, 1), np.uint8)


def peak_memory_of_program(model: PackedModel, *, compiler: str, flags: Sequence[str]) -> int | None:
    """Bytes of a process that classifies one image and does nothing else; None where the system does not tell.

    Raises:
      CpnasError: the compiler fails.
    """
    with tempfile.TemporaryDirectory(prefix="cpnas-c-") as folder:
        write_c_source(model, Path(folder))
        (Path(folder) / "peak.c").write_text(_PEAK, encoding="ascii")
        program = compile_c(Path(folder), ["model.c", "peak.c"], compiler=compiler, flags=flags)
        answer = subprocess.run([program], capture_output=True, text=True, check=False, timeout=_SECONDS)
    return None if answer.returncode else 1024 * int(answer.stdout)


def compile_c(folder: Path, files: Sequence[str], *, compiler: str, flags: Sequence[str]) -> Path:
    """What the compiler makes of files in a folder.

    Raises:
      CpnasError: it fails; with the first line of what it says.
    """
    result = folder / "program"
    command = [compiler, *ALWAYS, *flags, "-o", str(result), *files]
    try:
        answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CpnasError(f"{compiler} {' '.join(flags)} failed: {' '.join(str(error).split())[:200]}") from None
    if answer.returncode:
        lines = answer.stderr.strip().splitlines() or ["no message"]
        said = next((line for line in lines if "error" in line), lines[0])
        raise CpnasError(f"{compiler} {' '.join(flags)} failed: {said[:200]}")
    return result
