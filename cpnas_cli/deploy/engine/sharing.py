"""How the work on one image is shared out among threads: by rows.

Every thread has one share of a group of instructions, the same part of every image, which stays in its cache. A share
is a range of rows of one or several instructions, which need no rows of each other but these (see `order`). Between two
groups a thread waits until all others have finished the first one.
"""

import numpy as np

from cpnas_cli.deploy.engine import product_columns
from cpnas_cli.deploy.engine import program as p
from cpnas_cli.deploy.engine.layout import num_blocks
from cpnas_cli.deploy.engine.program import Program

# Operations on vectors for which another thread is worth waking and waiting for: some 100 us.
_WORK_OF_A_THREAD = 400_000


def shares_of(program: Program, num_threads: int) -> np.ndarray:
    """int64 (shares, SHARE_COLUMNS), in the order in which they are to be done."""
    shares = list[list[int]]()
    for first, last in _groups(program):
        row = program.instructions[first]
        if row[p.KIND] == p.STEM and _stem_of(program, row)[p.READS_IMAGE]:
            _add(shares, -1, 0, _stem_of(program, row)[p.STEM_SIZE], num_threads)
        _add(shares, first, last, _num_rows(row), num_threads)
    return np.array(shares, np.int64)


def _groups(program: Program) -> list[tuple[int, int]]:
    begins = [index for index, row in enumerate(program.instructions) if index == 0 or row[p.WAITS]]
    return list(zip(begins, [*begins[1:], len(program.instructions)], strict=True))


def _stem_of(program: Program, row: np.ndarray) -> tuple[int, ...]:
    return program.stem[row[p.FIRST_STEM] :]


def _num_rows(row: np.ndarray) -> int:
    if row[p.KIND] == p.CLASSIFY:
        return 1
    return num_blocks(row[p.GATHER_PIXELS]) if row[p.KIND] == p.GATHER else int(row[p.SIZE])


def _add(shares: list[list[int]], first: int, last: int, num_rows: int, num_threads: int) -> None:
    count = min(num_rows, num_threads)
    for index in range(count):
        shares.append([first, last, index * num_rows // count, (index + 1) * num_rows // count, count])


# ---------------------------------------------------------------- how many


def threads_for_rows(program: Program) -> int:
    """As many as the work on one image keeps busy: counted, so that it is the same on every machine."""
    return max(work_of(program) // _WORK_OF_A_THREAD, 1)


def work_of(program: Program) -> int:
    """Operations on vectors for one image, roughly."""
    work = 0
    for row in program.instructions:
        if row[p.KIND] in (p.STEM, p.NODE):
            steps = program.steps[row[p.FIRST_STEP] : row[p.FIRST_STEP] + row[p.NUM_STEPS]]
            own = sum(_work_of_step(program, step, int(row[p.BLOCKS])) for step in steps) + 3 * int(row[p.BLOCKS])
            if row[p.KIND] == p.STEM:
                kernel, channels = (_stem_of(program, row)[column] for column in (p.STEM_KERNEL, p.STEM_CHANNELS))
                own += 2 * kernel**2 * channels * int(row[p.BLOCKS])
            work += int(row[p.SIZE]) ** 2 * own
    return work


def _work_of_step(program: Program, step: np.ndarray, blocks: int) -> int:
    """For one pixel."""
    kind = step[p.KIND]
    if kind in p.DEPTHWISE_KINDS:  # of 16 pixels and 32 channels at once
        return int(3 * step[p.KERNEL] ** 2 + 20) * int(step[p.NUM_WORDS]) // 16
    if kind == p.PRODUCTS:
        products = program.products[step[p.FIRST_PRODUCT] : step[p.FIRST_PRODUCT] + step[p.NUM_PRODUCTS]]
        return int((3 * products[:, product_columns.NUM_WORDS] + 4).sum()) * int(step[p.OUT_BLOCKS])
    if kind == p.GROUPED:
        first = step[p.BLOCKS_OF]
        words = program.table[first + p.PATCH_WORDS : first + blocks * p.PATCH_BLOCK_COLUMNS : p.PATCH_BLOCK_COLUMNS]
        return int((3 * words + 6).sum())
    if kind == p.REAL_PRODUCT:
        return int(2 * step[p.NUM_INPUTS] * step[p.REAL_OUT_BLOCKS])
    of_a_vector = {p.POOL: 12, p.SHORTCUT: 4 * int(step[p.NUM_GROUPS]), p.ENDING: 5}
    return blocks * of_a_vector.get(kind, 3)
