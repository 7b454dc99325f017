"""C source compiled and run: what it computes for images, value by value."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from children import Child
from engine_nodes import Computed, reference_nodes

from cpnas_cli.deploy.c_source import write_c_source
from cpnas_cli.deploy.packed_file import PackedModel
from cpnas_cli.search_space import NUM_NODES

WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
SANITIZED = ("-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")  # a third of the time of -O1 -g

# Reads images from standard input; writes every value that is observed, then the scores.
_OBSERVER = r"""
#include "model.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void model_observe(const char *name, const float *values, const uint32_t *signs, int channels, int size);

static void put(const void *data, size_t size) {
    if (fwrite(data, 1, size, stdout) != size) {
        exit(3);
    }
}

void model_observe(const char *name, const float *values, const uint32_t *signs, int channels, int size) {
    size_t pixels = (size_t)size * (size_t)size;
    printf("%s %d %d %d %d\n", name, channels, size, values != NULL, signs != NULL);
    if (values != NULL) {
        put(values, pixels * (size_t)channels * 4);
    }
    if (signs != NULL) {
        put(signs, pixels * (size_t)((channels + 31) / 32) * 4);
    }
}

int main(void) {
    uint8_t *image = malloc(MODEL_IMAGE_BYTES);
    float *scores = malloc(MODEL_NUM_CLASSES * sizeof(float));
    while (fread(image, 1, MODEL_IMAGE_BYTES, stdin) == MODEL_IMAGE_BYTES) {
        int best = model_classify(image, scores);
        printf("scores %d %d 0 0\n", MODEL_NUM_CLASSES, best);
        put(scores, MODEL_NUM_CLASSES * sizeof(float));
    }
    free(image);
    free(scores);
    return 0;
}
"""


class Observed(NamedTuple):
    """A value of one image: float32 (C, H, W), and which signs are +1; None for what is not kept."""

    value: np.ndarray | None
    signs: np.ndarray | None


class Answer(NamedTuple):
    """What the program computes for one image."""

    values: dict[str, Observed]
    best: int
    scores: np.ndarray


def needed(tool: str) -> str:
    """The tool, or the test is skipped by its name."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    return tool


def build(
    model: PackedModel, folder: Path, *, compiler: str = "gcc", flags: Sequence[str] = ("-O1",), observed: bool = True
) -> Path:
    """The program of a model, in this folder."""
    write_c_source(model, folder)
    main = folder / "example.c"
    if observed:
        main = folder / "observer.c"
        main.write_text(_OBSERVER)
    words = [needed(compiler), *WARNINGS, "-ffp-contract=off", *flags, *(["-DMODEL_OBSERVE"] if observed else [])]
    subprocess.run([*words, "-o", "program", "model.c", str(main)], cwd=folder, check=True, timeout=200)
    return folder / "program"


def run(words: Sequence[str | Path], images_BCHW: np.ndarray) -> bytes:
    """What a program prints about images; it must not complain."""
    raw = np.ascontiguousarray(images_BCHW.transpose(0, 2, 3, 1)).tobytes()
    answer = subprocess.run(list(map(str, words)), input=raw, capture_output=True, timeout=200, check=False)
    assert answer.returncode == 0, answer.stderr.decode()
    assert not answer.stderr
    return answer.stdout


def observe(words: Sequence[str | Path], images_BCHW: np.ndarray) -> list[Answer]:
    """Everything that an observed program computes, by image."""
    output, place = run(words, images_BCHW), 0
    answers, values = list[Answer](), dict[str, Observed]()

    def take(kind: str, count: int) -> np.ndarray:
        nonlocal place
        place += 4 * count
        return np.frombuffer(output[place - 4 * count : place], kind)

    while place < len(output):
        end = output.index(b"\n", place)
        name, *numbers = output[place:end].decode().split(" ")
        channels, size, has_values, has_signs = map(int, numbers)
        place = end + 1
        if name == "scores":
            answers.append(Answer(values, size, take("<f4", channels)))
            values = {}
            continue
        value = signs = None
        if has_values:
            value = take("<f4", channels * size**2).reshape(size, size, channels).transpose(2, 0, 1)
        if has_signs:
            planes = -(-channels // 32)
            words_PHW = take("<u4", planes * size**2).reshape(planes, size, size)
            bits = words_PHW[:, None] >> np.arange(32, dtype=np.uint32)[:, None, None] & 1
            flat = bits.reshape(planes * 32, size, size).astype(bool)
            assert not flat[channels:].any()  # no bits behind the last channel
            signs = flat[:channels]
        values[name] = Observed(value, signs)
    return answers


def references(child: Child, images: np.ndarray) -> dict[str, Computed]:
    """What PyTorch computes for the first image, under the names of the program."""
    names = ["stem"]
    for index in range(len(child.network.cells)):
        names += [f"cell{index}_{'input' if node < 2 else 'node'}{node}" for node in range(NUM_NODES)]
    return dict(zip(names, reference_nodes(child, images), strict=True))


def check(child: Child, words: Sequence[str | Path], *, seed: int = 1, count: int = 2) -> list[Answer]:
    """Every value that is computed, as PyTorch computes it, to the bit; scores to rounding."""
    images = child.draw_images(count, seed=seed)
    answers = observe(words, images)
    assert len(answers) == count
    for index, answer in enumerate(answers):
        image = images[index : index + 1]
        expected = references(child, image)
        missing = expected.keys() - answer.values.keys()
        for name in missing:  # it is dead, or an input that nothing reads
            assert "_input" in name or not expected[name].value.any(), name
        for name, found in answer.values.items():
            if found.value is not None:
                np.testing.assert_array_equal(found.value, expected[name].value, err_msg=name)
            if found.signs is not None:
                np.testing.assert_array_equal(found.signs, expected[name].signs, err_msg=name)
        scores = child.logits(image)[0]
        assert np.isfinite(scores).all()
        np.testing.assert_allclose(answer.scores, scores, rtol=0, atol=3e-6 * np.abs(scores).max())
        assert answer.best == answer.scores.argmax()
    return answers
