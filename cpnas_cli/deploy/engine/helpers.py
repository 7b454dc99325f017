"""The threads that help one that leads, as `team` has it: they sleep until they are woken, and may come too late."""

import contextlib
import ctypes
import os
import threading
import weakref
from collections.abc import Sequence
from queue import SimpleQueue

from cpnas_cli.deploy.engine import machine_code


class Helpers:
    """Threads of this process; they end with this object.

    Args:
      addresses: of what each gets to know.
      kept: what the addresses point to.
    """

    def __init__(self, addresses: Sequence[int], kept: object) -> None:
        self._addresses, self._kept, self._process = addresses, kept, os.getpid()
        self._calls = list["SimpleQueue[bool]"]()
        weakref.finalize(self, _end, self._calls)

    @property
    def are_lost(self) -> bool:
        """Whether they are of another process, of which this one was forked."""
        return os.getpid() != self._process

    def wake(self, count: int) -> None:
        """So many of them, started where they are not; as many as the machine gives."""
        while len(self._calls) < count:
            calls: SimpleQueue[bool] = SimpleQueue()
            arguments = (calls, self._addresses[len(self._calls)], self._kept)
            thread = threading.Thread(target=_help, args=arguments, name="cpnas engine", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                break
            self._calls.append(calls)
        for calls in self._calls[:count]:
            if calls.empty():
                calls.put(True)


def _help(calls: "SimpleQueue[bool]", address: int, kept: object) -> None:
    del kept  # it lives as long as the caller's frame, which holds it
    run_images = machine_code.run_images()
    while calls.get():
        run_images(address)


def _end(all_calls: "list[SimpleQueue[bool]]") -> None:
    for calls in all_calls:
        calls.put(False)


def let_others_run() -> int:
    """Address of a C function without arguments that does; 0 where there is none."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        function = ctypes.WinDLL("kernel32").SwitchToThread if os.name == "nt" else ctypes.CDLL(None).sched_yield  # type: ignore[attr-defined]
        return ctypes.cast(function, ctypes.c_void_p).value or 0
    return 0
