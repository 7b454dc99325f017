"""CUDA graphs: the call of an epoch's steps is captured once and replayed, so that the host launches one graph a step.

The rules of capture that this keeps (PyTorch, "CUDA Graphs"): warm-up and capture on one side stream;
tensors that are read again stay where they are; no value is asked for by the host; gradients are None
when the capture begins, so that they lie in the graph's own memory; graphs that share a pool are
replayed in the order of their capture and never at once, so each stream has a pool of its own.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

# Calls before a capture, which are real steps of the epoch: the first makes what is made once (the optimizer's state,
# the libraries' work space, constants on the device), the second runs as all later ones will.
WARM_UP_CALLS = 2


class CapturedSteps(Protocol):
    """Steps of an epoch, one a call, without arguments; see `captured_steps`."""

    @property
    def num_calls(self) -> int: ...

    def __call__(self) -> None: ...


class Recording(Protocol):
    def replay(self) -> None: ...


@dataclass
class Replays:
    """Calls of steps that are still to be done, as replays of its recording."""

    recording: Recording
    steps: CapturedSteps  # whose tensors the recording reads and writes
    count: int


class GraphStream:
    """A CUDA stream on which steps are captured and replayed, with the memory pool of its graphs."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()
        self._last: Any = None

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Work inside goes to this stream, behind what the caller's stream was given so far."""
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            yield

    def join(self) -> None:
        """What the caller's stream is given from now on waits for this stream. The host does not."""
        torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)

    def record(self, steps: CapturedSteps) -> Replays:
        """Do the first calls, and capture one that stands for the rest. Call it while `active`.

        `torch.cuda.graph` would wait for the device and give its memory back at every capture; here it is
        captured at every draw, and the memory is what the next draw needs.
        """
        num_warm_up = min(WARM_UP_CALLS, steps.num_calls)
        for _ in range(num_warm_up):
            steps()
        graph = torch.cuda.CUDAGraph()
        if steps.num_calls > num_warm_up:
            _make_capturable(steps)
            graph.capture_begin(pool=self._pool)
            try:
                steps()
            except BaseException:
                with contextlib.suppress(RuntimeError):  # what ended the capture is the error that counts
                    graph.capture_end()
                raise
            graph.capture_end()
            self._last = graph  # the pool lives as long as a graph that uses it
        return Replays(graph, steps, steps.num_calls - num_warm_up)


def _make_capturable(steps: CapturedSteps) -> None:
    """Adam asks for this flag; only now, because it warns of steps that are not captured."""
    optimizer: Any = getattr(steps, "optimizer", None)
    if optimizer is not None:
        for group in optimizer.param_groups:
            if "capturable" in group:
                group["capturable"] = True


class Stream(Protocol):
    """What `replay_in_turn` needs of a `GraphStream`; a test without CUDA has its own."""

    def active(self) -> contextlib.AbstractContextManager[None]: ...

    def join(self) -> None: ...

    def record(self, steps: CapturedSteps) -> Replays: ...


def replay_in_turn(replays: Sequence[tuple[Stream, Replays]]) -> None:
    """Replay all of them, each on its stream, one call of each in turn, so that the streams run side by side."""
    for index in range(max(one.count for _, one in replays)):
        for stream, one in replays:
            if index < one.count:
                with stream.active():
                    one.recording.replay()
