"""Runs packed models on the CPU, without torch.

The whole network is one compiled function that walks the program (`team`, `walk`); it is compiled at the first use and
kept (`machine_code`).
"""

import os
from pathlib import Path

import numpy as np

from cpnas_cli.deploy.engine import machine_code
from cpnas_cli.deploy.engine import program as p
from cpnas_cli.deploy.engine import team_columns as c
from cpnas_cli.deploy.engine.compiler import compile_program
from cpnas_cli.deploy.engine.helpers import Helpers, let_others_run
from cpnas_cli.deploy.engine.program import Program
from cpnas_cli.deploy.engine.sharing import shares_of, threads_for_rows
from cpnas_cli.deploy.packed_file import PackedModel, load_packed
from cpnas_cli.errors import DataError, RunError, UsageError
from cpnas_cli.networks.layers import stem_layers
from cpnas_cli.networks.stem_arithmetic import IMAGE_STEPS, largest_step_of

_ALIGNMENT = 64  # bytes of a cache line, and of a vector: one that lies across two lines takes twice as long
_PATIENCE = 2000  # how often a thread that helps looks for work before it sleeps: some 50 us


def num_available_threads() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _zeros(count: int, size: int, dtype: type) -> np.ndarray:
    """(count, size) zeros; every row begins at a cache line."""
    row = -(-size * np.dtype(dtype).itemsize // _ALIGNMENT) * _ALIGNMENT
    memory = np.zeros(count * row + _ALIGNMENT, np.uint8)
    begin = -memory.ctypes.data % _ALIGNMENT
    return memory[begin : begin + count * row].view(dtype).reshape(count, -1)[:, :size]


def _aligned(array: np.ndarray) -> np.ndarray:
    """A copy that begins at a cache line."""
    copy = _zeros(1, array.size, array.dtype.type)[0].reshape(array.shape)
    copy[...] = array
    return copy


def _working_memory(program: Program, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For `count` images at once. Memory is granted before it is used, so it is compared with what the machine has."""
    needed = count * program.num_working_bytes
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else needed
    try:
        if needed > available:
            raise MemoryError
        return (
            _zeros(count, program.num_values, np.float32),
            _zeros(count, program.num_words + (count - 1) * program.num_slot_words, np.uint32),
            _zeros(count, program.num_doubles, np.float64),
        )
    except MemoryError:
        raise RunError(
            f"the network needs {program.num_working_bytes / 2**30:.1f} GiB of working memory on each of {count} "
            "threads, which this machine does not have; use fewer threads"
        ) from None


class Runner:
    """A program with its working memory.

    Args:
      lookup: normalized pixels by channel and byte, float64 (C, 256); a program without a stem needs none.
      num_threads: at most this many; several images are shared out among them, and the rows of one where it is large
        enough for that. None: all.

    Raises:
      UsageError: `num_threads` is not positive. RunError: there is not enough memory.
    """

    def __init__(self, program: Program, *, lookup: np.ndarray | None = None, num_threads: int | None = None) -> None:
        available = num_available_threads()
        if num_threads is not None and num_threads < 1:
            raise UsageError(f"expected at least 1 thread, got {num_threads}")
        self.program = program
        self.num_threads = min(num_threads or available, available)
        self.num_row_threads = min(self.num_threads, threads_for_rows(program))
        # what the addresses point to: kept here for as long as they are used
        tables = [program.tables_of_thread(number) for number in range(self.num_threads)]
        constants = [_aligned(array) for array in (program.constants, program.reals, program.doubles)]
        ends = np.array(program.stem, np.int64), np.array(program.head, np.int64)
        self._lookup = np.zeros(1) if lookup is None else lookup
        self._shares = shares_of(program, self.num_row_threads)
        self._working = _working_memory(program, self.num_threads)
        self._team = _zeros(1, c.TAKEN + len(self._shares), np.int64)
        self._arguments = _zeros(self.num_threads, c.NUM_COLUMNS, np.int64)
        self._kept = (
            program,
            tables,
            self._lookup,
            constants,
            ends,
            self._shares,
            self._working,
            self._team,
            self._arguments,
        )
        self._addresses = [row.ctypes.data for row in self._arguments]
        for number, (row, (steps, products)) in enumerate(zip(self._arguments, tables, strict=True)):
            arrays = (program.instructions, steps, products, program.table, *constants, *ends, self._lookup)
            working = [memory[number] for memory in self._working]
            row[: c.NUMBER] = [array.ctypes.data for array in (*arrays, *working)]
            row[c.NUMBER : c.IMAGES] = number, self._team.ctypes.data, self._addresses[0], let_others_run(), _PATIENCE
            row[c.SHARES :] = self._shares.ctypes.data, len(self._shares)
        self._helpers = Helpers(self._addresses[1:], self._kept)

    def run(self, images_BCHW: np.ndarray, first: int = 0, last: int | None = None) -> np.ndarray:
        """Class scores, float32 (B, classes), of uint8 images (B, C, S, S) that fit the program.

        Args:
          first, last: only the instructions from the one to before the other, on what the others left in memory.
        """
        count = len(images_BCHW)
        logits = np.zeros((count, self.program.head[p.HEAD_CLASSES] if self.program.head else 1), np.float32)
        if count == 0:
            return logits
        images = np.ascontiguousarray(images_BCHW)
        last = len(self.program.instructions) if last is None else last
        is_whole = first == 0 and last == len(self.program.instructions)
        by_rows = is_whole and self.num_row_threads > 1 and count < 2 * self.num_threads
        num_threads = min(self.num_threads, count) if not by_rows else self.num_row_threads
        run_images = machine_code.run_images()
        if self._helpers.are_lost:
            self._team[:] = 0
            self._helpers = Helpers(self._addresses[1:], self._kept)
        self._arguments[0, c.TEAM] = self._team.ctypes.data if num_threads > 1 else 0
        places = images.ctypes.data, images.strides[0], logits.ctypes.data, logits.strides[0]
        self._arguments[0, c.IMAGES : c.SHARES] = (*places, count, first, last, by_rows)
        self._helpers.wake(num_threads - 1)
        run_images(self._addresses[0])
        return logits


class Engine:
    """A packed model, ready to run.

    It works in memory of its own: only one Python thread may call it at a time.

    Args:
      num_threads: see `Runner`.

    Raises:
      UsageError, RunError: see `Runner`.
    """

    def __init__(self, model: PackedModel, *, num_threads: int | None = None) -> None:
        self.model = model
        self.runner = Runner(compile_program(model), lookup=_lookup_table(model), num_threads=num_threads)

    @staticmethod
    def load(path: Path, *, num_threads: int | None = None) -> "Engine":
        """Raises CheckpointError where `load_packed` does."""
        return Engine(load_packed(path), num_threads=num_threads)

    def warm_up(self, num_images: int = 1) -> None:
        """Compile the engine, if it is not compiled yet (some 20 seconds), and run so many images of zeros."""
        count = min(num_images, self.runner.num_threads)
        size = self.model.image_size
        self.runner.run(np.zeros((count, self.model.num_image_channels, size, size), np.uint8))

    def logits(self, images_BCHW: np.ndarray) -> np.ndarray:
        """Class scores, float32 (B, classes), of uint8 images (B, C, S, S).

        Raises:
          DataError: the images have another shape or type.
        """
        expected = (self.model.num_image_channels, self.model.image_size, self.model.image_size)
        if images_BCHW.dtype != np.uint8 or images_BCHW.ndim != 4 or images_BCHW.shape[1:] != expected:
            raise DataError(
                f"expected uint8 images of shape (B, {', '.join(map(str, expected))}), "
                f"got {images_BCHW.dtype} of shape {images_BCHW.shape}"
            )
        return self.runner.run(images_BCHW)

    def probabilities(self, images_BCHW: np.ndarray) -> np.ndarray:
        """The softmax of `logits`: float32 (B, classes)."""
        logits = self.logits(images_BCHW)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)


def _lookup_table(model: PackedModel) -> np.ndarray:
    """What the stem reads, by channel and byte, with the roundings of `batches.Pipeline`: float64 (C, 256)."""
    pixels = np.arange(256, dtype=np.float32) / np.float32(255)
    mean = np.array(model.mean, np.float32)[:, None]
    scale = np.float32(1) / np.array(model.std, np.float32)[:, None]
    normalized = (pixels - mean) * scale
    if model.settings.weight_format == "int8":
        first = stem_layers(model.settings, model.surroundings, precision="binary")[0]
        largest = largest_step_of(first, is_image=True)
        normalized = np.clip(np.rint(normalized * np.float32(IMAGE_STEPS)), -largest, largest)
    return normalized.astype(np.float64)
