"""What a run says of the time it was given."""

import pytest

from cpnas_cli.errors import MaxTimeReached
from cpnas_cli.runs.deadline import Deadline


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.1, "0.1 s"), (0.001, "0.001 s"), (1.5, "1.5 s"), (9, "9 s"), (90, "90 s")]
)
def test_it_says_what_was_typed(seconds: float, shown: str) -> None:
    with pytest.raises(MaxTimeReached, match=rf"^stopped after \S+ s: --max-time is {shown}$"):
        Deadline(seconds).check(100)
