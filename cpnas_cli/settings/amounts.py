"""Amounts of a resource as people type them: 64KiB, 5M, 2ms."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_NUMBER_AND_UNIT = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([^\s0-9.+-]*)")


@dataclass(frozen=True)
class Amounts:
    """What may be typed for one kind of amount.

    Attributes:
      what: the kind, as an error names it. example: of what is meant.
      units: {unit: how much it is}; where "" is one of them, a number alone will do.
      shown: the units in which an amount is shown, from the smallest up.
    """

    what: str
    example: str
    units: Mapping[str, float]
    shown: tuple[str, ...]

    def text(self, typed: Any) -> str:
        """The amount as it is kept: number and unit as they were typed, without spaces.

        Raises:
          ValueError: no number above 0, or no unit of these.
        """
        is_number = isinstance(typed, int | float) and not isinstance(typed, bool)
        text = "".join((f"{typed:.0f}" if is_number and typed % 1 == 0 else str(typed)).split())
        try:
            is_allowed = 0 < self.value(text) < math.inf
        except ValueError:
            is_allowed = False
        if not is_allowed:
            units = ", ".join(unit for unit in self.units if unit)
            alone = ", or a number alone" if "" in self.units else ""
            raise ValueError(
                f"expected {self.what} above 0 such as {self.example} (units {units}{alone}), got {typed!r}"
            )
        return text

    def value(self, text: str) -> float:
        """The amount in its base unit: bytes, operations, seconds.

        Raises:
          ValueError: it is no number with a unit of these.
        """
        match = _NUMBER_AND_UNIT.fullmatch(text)
        if match is None or match[2] not in self.units:
            raise ValueError(text)
        return float(match[1]) * self.units[match[2]]

    def show(self, value: float) -> str:
        """ "23.4 KiB": in the largest unit of those shown that leaves a number of 1 or more."""
        fitting = [unit for unit in self.shown if value >= self.units[unit]]
        unit = fitting[-1] if fitting else self.shown[0]
        return f"{value / self.units[unit]:.4g} {unit}".rstrip()


SIZES = Amounts(
    "a size",
    "64KiB",
    {
        "B": 1,
        "kB": 1e3,
        "KiB": 2**10,
        "MB": 1e6,
        "MiB": 2**20,
        "GB": 1e9,
        "GiB": 2**30,
    },
    ("B", "KiB", "MiB"),
)
OPERATION_COUNTS = Amounts("a number of operations", "5M", {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}, ("", "k", "M", "G"))
DURATIONS = Amounts(
    "a time",
    "2ms",
    {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1},
    ("us", "ms", "s"),
)

BUDGETS: Mapping[str, Amounts] = {"max_size": SIZES, "max_ops": OPERATION_COUNTS, "max_latency": DURATIONS}
"""What the settings of a budget may be, in the order in which budgets are told of."""
