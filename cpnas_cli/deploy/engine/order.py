"""Which instructions may go on with a row before those in front of them have finished all of theirs."""

from collections.abc import Sequence

from cpnas_cli.deploy.engine.program import Values, Words


class Order:
    """Follows a program from the beginning.

    Most instructions read, for a row, the same row of what others left: whoever computes this row of all of them needs
    nobody else. An instruction waits for all that is before it where it reads around its row what one since the last
    wait wrote, or overwrites what one of these reads around its row.
    """

    def __init__(self) -> None:
        self._num_rows = 0
        self._written, self._read_around = set[object](), set[object]()
        self._own = set[object]()  # what the instruction reads that is being put together

    def reads_around(self, source: Values | Words) -> None:
        """The next instruction reads other rows of it, too."""
        self._own.add(_key(source))

    def waits(self, num_rows: int, writes: Sequence[Values | Words]) -> bool:
        """Of an instruction with so many rows; 0: it waits in any case, and so does the next one."""
        written, read = {_key(each) for each in writes}, self._own
        if num_rows:  # else it stands before a node of which some steps are known already
            self._own = set()
        waits = num_rows == 0 or num_rows != self._num_rows
        waits = waits or not self._written.isdisjoint(read) or not self._read_around.isdisjoint(written)
        if waits:
            self._num_rows = num_rows
            self._written, self._read_around = set(), set()
        self._written |= written
        self._read_around |= read
        return waits


def _key(place: Values | Words) -> object:
    return type(place), place.offset
