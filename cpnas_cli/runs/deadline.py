"""Durations as people write them, and the time a run may take (`--max-time`)."""

import re
import time
from dataclasses import dataclass, field

from cpnas_cli.errors import MaxTimeReached, UsageError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str, *, option: str = "--max-time") -> float:
    """ "90", "90s", "30m", "1.5h" or "1h30m" in seconds.

    Args:
      option: that it was typed for.

    Raises:
      UsageError: anything else.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip().lower())
    if not parts or "".join(number + unit for number, unit in parts) != text.strip().lower():
        raise UsageError(f"{option} expects a duration such as 90s, 30m or 1h30m, got {text!r}")
    return sum(float(number) * _UNITS[unit or "s"] for number, unit in parts)


def duration(seconds: float) -> str:
    """At most two units: 7.3 s, 2 min 05 s, 1 h 20 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


@dataclass
class Deadline:
    """Stops a run between two units of work (draws, epochs) when the next would not fit."""

    max_seconds: float | None = None
    started: float = field(default_factory=time.monotonic)

    def seconds_left(self) -> float:
        """Until the end; infinite without one."""
        if self.max_seconds is None:
            return float("inf")
        return max(self.max_seconds - (time.monotonic() - self.started), 0.0)

    def check(self, last_unit_seconds: float) -> None:
        """Call after each saved unit; at least one unit is always done, so a requeued run gets on.

        Raises:
          MaxTimeReached: the time is used up, or a further unit of the last one's length would exceed it.
        """
        if self.max_seconds is None:
            return
        elapsed = time.monotonic() - self.started
        if elapsed + last_unit_seconds > self.max_seconds:
            raise MaxTimeReached(f"stopped after {_shown(elapsed)}: --max-time is {_shown(self.max_seconds)}")


def _shown(seconds: float) -> str:
    """Whole seconds, but of less than ten as many digits as it takes to say how long that is."""
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
