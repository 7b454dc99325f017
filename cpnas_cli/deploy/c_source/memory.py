"""The static memory of a network: buffers that are needed from one instruction to another, laid over one another."""

from dataclasses import dataclass

_ALIGNMENT = 16  # elements: vectors begin at one


@dataclass(eq=False)
class Buffer:
    """Room for elements of one type.

    Attributes:
      array: the static array that holds it: "values" (float), "words" (uint32_t) or "bytes" (uint8_t).
      first, last: the instructions that write it first and read it last.
      offset: in the array, once it is planned.
    """

    name: str
    array: str
    size: int
    first: int
    last: int
    offset: int = 0

    def read_at(self, instruction: int) -> None:
        """It is needed until then."""
        self.last = max(self.last, instruction)


def plan(buffers: list[Buffer]) -> int:
    """Give every buffer of one array a place, so that those that are needed at once are apart; the array's size.

    The largest come first, each to the lowest place that is free for as long as it is needed.
    """
    placed = list[Buffer]()
    for buffer in sorted(buffers, key=lambda buffer: -buffer.size):  # stable: the same plan every time
        buffer.offset = 0
        beside = [other for other in placed if other.first <= buffer.last and buffer.first <= other.last]
        for other in sorted(beside, key=lambda other: other.offset):
            if buffer.offset + buffer.size <= other.offset:
                break
            buffer.offset = max(buffer.offset, _aligned(other.offset + other.size))
        placed.append(buffer)
    return max((buffer.offset + buffer.size for buffer in placed), default=0)


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT
