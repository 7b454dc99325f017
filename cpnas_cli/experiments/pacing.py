"""What is done after every task and takes the longer the more members there are: it must not take over."""

import time
from collections.abc import Callable

SHARE = 0.05
"""Of the time, at most."""


class Paced:
    """Calls what it is given, or leaves it out where too little time has passed since it was called last.

    So an experiment of many members takes as long as its tasks: writing a document of all of them after each would
    grow with the square of their number. Who needs the last state calls the function itself in the end.
    """

    def __init__(self, call: Callable[[], object]) -> None:
        self._call, self._not_before = call, float("-inf")

    def __call__(self) -> None:
        begun = time.monotonic()
        if begun < self._not_before:
            return
        self._call()
        ended = time.monotonic()
        self._not_before = ended + (ended - begun) * (1 / SHARE - 1)
