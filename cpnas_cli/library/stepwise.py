"""Work that tells what happens by calls, as a generator of what it tells."""

import queue
import threading
from collections.abc import Callable, Generator
from typing import Any, TypeVar

Event = TypeVar("Event")
Result = TypeVar("Result")


class _Left(BaseException):  # not an error that the work could catch
    """Nobody asks for the next event any more."""


def stepwise(work: Callable[[Callable[[Event], None]], Result]) -> Generator[Event, None, Result]:
    """Run `work(notify)` in a thread that stands still at every `notify(event)` until the next event is asked for.

    Returns what the work returns, and raises what it raises. Closed before the end, the work ends at the event at
    which it stands, with an exception that passes through it.
    """
    told: queue.Queue[tuple[str, Any]] = queue.Queue()
    may_go_on = threading.Semaphore(0)
    is_left = threading.Event()

    def notify(event: Event) -> None:
        told.put(("event", event))
        may_go_on.acquire()
        if is_left.is_set():
            raise _Left

    def run() -> None:
        try:
            _as_many_threads(num_threads)
            told.put(("result", work(notify)))
        except BaseException as error:  # the caller's, whatever it is
            told.put(("error", error))

    num_threads = _num_threads()
    thread = threading.Thread(target=run, name="cpnas", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = told.get()
            if kind == "result":
                return value
            if kind == "error":
                raise value
            yield value
            may_go_on.release()
    finally:
        is_left.set()
        may_go_on.release()
        thread.join()


def _num_threads() -> int:
    import torch

    return torch.get_num_threads()


def _as_many_threads(number: int) -> None:
    """OpenMP counts them for each thread that asks; another number could give other bits."""
    import torch

    torch.set_num_threads(number)
