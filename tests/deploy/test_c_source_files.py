"""The files of the C source: the same every time, nothing of a data set becomes code, and memory is planned without
overlap.
"""

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from c_programs import WARNINGS, needed, run
from children import every_operation, make_child
from hypothesis import given, settings
from hypothesis import strategies as st

from cpnas_cli.deploy.c_source import C_FILES, c_source, write_c_source
from cpnas_cli.deploy.c_source.constants import string
from cpnas_cli.deploy.c_source.layout import depthwise_thresholds
from cpnas_cli.deploy.c_source.memory import Buffer, plan
from cpnas_cli.errors import RunError
from cpnas_cli.networks.layer import Layer

CHILD = make_child(every_operation(), num_classes=12, block="residual", weight_format="int8")

HOSTILE = (
    '"; system("id"); "',
    "*/ int evil; /*",
    "??/",
    "??/\" trigraph ??'",
    "line\nbreak\r\ttab",
    "\\",
    "\\n%s%n %d",
    "\x1b[2J\x07\x7f",
    "Grüße \N{SNOWMAN} \N{CAT FACE}",
    "\u2028#include </etc/passwd>",
    "$size ${size} $$",
    "a" * 5000,
)


def test_the_same_bytes_every_time(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "another place" / "deep"]
    for folder in folders:
        write_c_source(CHILD.model, folder)
    assert sorted(path.name for path in folders[0].iterdir()) == sorted(C_FILES)
    for name in C_FILES:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
        assert str(tmp_path).encode() not in (folders[0] / name).read_bytes()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write .*; choose another --out"):
        write_c_source(CHILD.model, tmp_path / "file")


# ---------------------------------------------------------------- names


def test_hostile_names_are_printed_and_no_more(tmp_path: Path) -> None:
    """The compiled program prints each name as `cpnas predict` does; the other files do not know them."""
    model = replace(CHILD.model, classes=HOSTILE)
    plain, source = c_source(CHILD.model), write_c_source(model, tmp_path)
    for name in set(C_FILES) - {"model.c"}:
        assert source.files[name] == plain.files[name]
    main = '#include "model.h"\n#include <stdio.h>\nint main(void) { int k; for (k = 0; k < MODEL_NUM_CLASSES; ++k)'
    (tmp_path / "main.c").write_text(main + " { fputs(model_classes[k], stdout); fputc(0, stdout); } return 0; }\n")
    words = [needed("gcc"), *WARNINGS, "-trigraphs", "-O1", "-o", "names", "model.c", "main.c"]
    subprocess.run(words, cwd=tmp_path, check=True, timeout=100)
    printed = run([tmp_path / "names"], CHILD.draw_images(0)).decode().split("\0")[:-1]
    unprintable = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
    assert printed == [unprintable.sub(lambda m: m[0].encode("unicode_escape").decode(), name) for name in HOSTILE]


@given(text=st.text(max_size=40))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_a_string_has_nothing_that_could_end_it(text: str) -> None:
    """Plain letters, digits and harmless signs, and octal escapes of three digits; read back, they are the text."""
    literal = string(text)
    assert re.fullmatch(r'"([A-Za-z0-9 _\-.,:;+=()\[\]]|\\[0-3][0-7]{2})*"', literal)
    data = re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), literal[1:-1].encode())
    unprintable = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
    assert data.decode() == unprintable.sub(lambda m: m[0].encode("unicode_escape").decode(), text)


# ---------------------------------------------------------------- memory


@given(
    spans=st.lists(
        st.tuples(st.integers(1, 200), st.integers(0, 12), st.integers(0, 12)).map(
            lambda each: (each[0], min(each[1:]), max(each[1:]))
        ),
        max_size=20,
    )
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_what_is_needed_at_once_does_not_overlap(spans: list[tuple[int, int, int]]) -> None:
    """Cell by cell: at every moment, no element belongs to two."""
    buffers = [Buffer(str(index), "values", *span) for index, span in enumerate(spans)]
    size = plan(buffers)
    for moment in range(13):
        owners = np.zeros(size, int)
        for buffer in buffers:
            if buffer.first <= moment <= buffer.last:
                owners[buffer.offset : buffer.offset + buffer.size] += 1
        assert (owners <= 1).all()
    assert size >= max((sum(b.size for b in buffers if b.first <= t <= b.last) for t in range(13)), default=0)


def test_memory_is_used_again() -> None:
    """Three of equal size, of which never more than two are needed at once."""
    assert plan([Buffer(str(i), "values", 160, i, i + 1) for i in range(3)]) == 320


# ---------------------------------------------------------------- thresholds


@pytest.mark.parametrize(
    ("kernel", "size", "stride", "dilation"), [(3, 8, 1, 1), (3, 8, 2, 1), (5, 4, 1, 2), (5, 2, 2, 1)]
)
def test_thresholds_are_the_least_counts(kernel: int, size: int, stride: int, dilation: int) -> None:
    """By trying all counts: n = 2 a - v >= t."""
    shape = {"kernel_size": kernel, "stride": stride, "dilation": dilation, "groups": 5, "ending": "threshold"}
    layer = Layer("any", "convolution", 5, 5, size, size // stride, binary=True, **shape)  # pyright: ignore
    thresholds = np.array([-(kernel**2), -3, 0, 4, kernel**2 + 1], np.int8)
    digits, which, planes = depthwise_thresholds(layer, thresholds)
    assert planes.shape[1:] == (digits, 1)
    for valid in (kernel**2, (kernel // 2 + 1) ** 2 if size > kernel else kernel**2):
        for channel, threshold in enumerate(thresholds):
            found = sum((~planes[which[valid], digit, 0] >> channel & 1) << digit for digit in range(digits))
            reached = [count for count in range(valid + 1) if 2 * count - valid >= threshold]
            assert found == (reached[0] if reached else valid + 1)
