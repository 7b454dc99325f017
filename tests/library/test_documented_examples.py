"""Every example of docs/library.md, carried out in its order in one folder."""

import contextlib
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "library.md"


@pytest.mark.slow
def test_the_examples_run_as_they_stand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examples = re.findall(r"(?ms)^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"))
    assert len(examples) == 5
    names: dict[str, object] = {}
    with contextlib.chdir(tmp_path):
        for example in examples:
            exec(compile(example, str(PAGE), "exec"), names)
    said = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\d+\.\d % of 364 test images", said[0])
    assert [line.split()[0] for line in said[1:9]] == ["8"] * 8  # the first round has 8 candidates and as many draws
    assert [line.split()[0] for line in said[9:19]] == [str(digit) for digit in range(10)]
    assert said[19].startswith("white.png ((")
    assert [line.partition(" ((")[0] for line in said[20:22]] == ["0", "1"]
    assert said[22:] == ["(8, 8, 1)"]
