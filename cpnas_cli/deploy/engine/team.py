"""Several threads at one program: what is compiled, and called with the address of a thread's own numbers.

One thread leads: it writes down the job, works on it, and waits until all of it is done. The others help: whoever comes
takes what nobody has, be it an image or some rows of one, until there is nothing left. So nothing depends on when a
helper comes, or whether it does; and who computes something does not matter to its numbers.

A helper may be late, with a job in mind that is finished. Then it finds nothing to take: an image is taken by counting
up `NEXT`, which names the job, a share by putting the job's number in the place of an earlier one. What else there is
to know of a job is read after something of it was taken, which the leader waits for.
"""

# numba compiles the functions of this module: to a type checker they are plain Python without types.
# pyright: basic, reportCallIssue=false
import re

from numba import njit, types

from cpnas_cli.deploy.engine.atomics import add_shared, exchange_shared, get_shared, put_shared, relax, wait_until
from cpnas_cli.deploy.engine.lanes import get_i
from cpnas_cli.deploy.engine.team_columns import (
    BY_ROWS,
    DONE,
    DOUBLES,
    FIRST,
    HEAD,
    IMAGE_BYTES,
    IMAGES,
    JOB,
    LAST,
    LEADER,
    LET_OTHERS_RUN,
    LOOKUP,
    NEXT,
    NUM_IMAGES,
    NUM_SHARES,
    NUMBER,
    PATIENCE,
    SCORE_BYTES,
    SCORES,
    SHARE_BEGIN,
    SHARE_COLUMNS,
    SHARE_COUNT,
    SHARE_END,
    SHARE_FIRST,
    SHARE_LAST,
    SHARES,
    STEM,
    TAKEN,
    TEAM,
    VALUES,
    WORDS,
)
from cpnas_cli.deploy.engine.walk import read_image, run_program, run_rows

# What the compiled code may call.
C_FUNCTIONS = ("memset", "memcpy", "memmove")
_BITS = 29  # behind the number of a job
_LOW = 2**_BITS - 1


@njit(inline="always")
def _memory_of(own, working):
    """The tables of this thread with the working memory of the thread `working`."""
    return (get_i(own, 0), get_i(own, 1), get_i(own, 2), get_i(own, 3), get_i(own, 4), get_i(own, 5), get_i(own, 6),
            get_i(working, VALUES), get_i(working, WORDS), get_i(working, DOUBLES))  # fmt: skip


@njit(inline="always")
def _run_image(own, job, image):
    """All instructions of the job, in this thread's working memory."""
    pixels = get_i(job, IMAGES) + image * get_i(job, IMAGE_BYTES)
    scores = get_i(job, SCORES) + image * get_i(job, SCORE_BYTES)
    run_program(get_i(job, FIRST), get_i(job, LAST), get_i(own, STEM), get_i(own, HEAD), pixels, get_i(own, LOOKUP),
                scores, _memory_of(own, own))  # fmt: skip


@njit(inline="always")
def _run_images_of_job(own, job, number, num_images):
    """One after the other, as long as there are any; whether there was one."""
    team, found = get_i(own, TEAM), False
    while True:
        following = get_shared(team, NEXT)
        if following >> _BITS != number or following & _LOW >= num_images:
            return found
        if exchange_shared(team, NEXT, following, following + 1):
            _run_image(own, job, following & _LOW)
            add_shared(team, DONE, 1)
            found = True


@njit(inline="always")
def _run_share(own, job, share, image):
    """Rows of some instructions, in the leader's working memory."""
    row, shares, memory = share * SHARE_COLUMNS, get_i(own, SHARES), _memory_of(own, job)
    begin, end = get_i(shares, row + SHARE_BEGIN), get_i(shares, row + SHARE_END)
    if get_i(shares, row + SHARE_FIRST) < 0:
        pixels = get_i(job, IMAGES) + image * get_i(job, IMAGE_BYTES)
        read_image(get_i(own, STEM), begin, end, pixels, get_i(own, LOOKUP), memory[8], memory[9])
    scores = get_i(job, SCORES) + image * get_i(job, SCORE_BYTES)
    for index in range(max(get_i(shares, row + SHARE_FIRST), 0), get_i(shares, row + SHARE_LAST)):
        run_rows(index, begin, end, get_i(own, STEM), get_i(own, HEAD), scores, memory)


@njit(inline="always")
def _run_shares_of_job(own, job, number, image):
    """From one group of instructions to the next: the share that is this thread's, then what is left of the others.

    A thread has the same part of all images, which stays in its cache. It waits for those before only once it has taken
    a share, so that who waits is waited for by nobody.
    """
    team, shares, found, first = get_i(own, TEAM), get_i(own, SHARES), False, 0
    while first < get_i(own, NUM_SHARES):
        count = get_i(shares, first * SHARE_COLUMNS + SHARE_COUNT)
        for index in range(count):
            share = first + (get_i(own, NUMBER) + index) % count
            last_job = get_shared(team, TAKEN + share)
            if last_job < number and exchange_shared(team, TAKEN + share, last_job, number):
                wait_until(team, DONE, first, get_i(own, LET_OTHERS_RUN))
                _run_share(own, job, share, image)
                add_shared(team, DONE, 1)
                found = True
        first += count
    return found


@njit(inline="always")
def _lead(own, by_rows, what):
    """A job: the image `what` by rows, or so many images as they are."""
    team = get_i(own, TEAM)
    number = (get_shared(team, JOB) >> _BITS) + 1
    put_shared(team, DONE, 0)
    put_shared(team, NEXT, number << _BITS)
    put_shared(team, JOB, number << _BITS | what << 1 | by_rows)  # from here on it is to be had
    if by_rows == 1:
        _run_shares_of_job(own, own, number, what)
    else:
        _run_images_of_job(own, own, number, what)
    wait_until(team, DONE, get_i(own, NUM_SHARES) if by_rows == 1 else what, get_i(own, LET_OTHERS_RUN))


@njit(inline="always")
def _help(own):
    """Until there has been nothing to do for a while."""
    team, job, idle = get_i(own, TEAM), get_i(own, LEADER), 0
    while idle < get_i(own, PATIENCE):
        present = get_shared(team, JOB)
        number, what = present >> _BITS, (present & _LOW) >> 1
        if present & 1 == 1:
            found = _run_shares_of_job(own, job, number, what)
        else:
            found = _run_images_of_job(own, job, number, what)
        if found:
            idle = 0
        else:
            relax()
            idle += 1


@njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)
def run_images(own):
    """`own`: address of whole numbers, the columns of `team_columns`. Who has no team runs all images alone."""
    if get_i(own, NUMBER) != 0:
        _help(own)
    elif get_i(own, TEAM) != 0 and get_i(own, BY_ROWS) == 1:
        for image in range(get_i(own, NUM_IMAGES)):
            _lead(own, 1, image)
    elif get_i(own, TEAM) != 0:
        _lead(own, 0, get_i(own, NUM_IMAGES))
    else:
        for image in range(get_i(own, NUM_IMAGES)):
            _run_image(own, own, image)


def compiled_object() -> tuple[str, bytes]:
    """`run_images` as an object file for this processor, and the name of the function in it.

    Raises:
      RuntimeError: it calls what no process has that loads it.
    """
    run_images.compile((types.int64,))
    (result,) = run_images.overloads.values()
    called = re.findall(r"^declare .*@([\w.]+)\(", result.library.get_llvm_str(), re.MULTILINE)
    unknown = [name for name in called if not name.startswith("llvm.") and name not in C_FUNCTIONS]
    if unknown:
        raise RuntimeError(f"the engine's code calls {', '.join(unknown)}")
    _, _, (code, _) = result.library.serialize_using_object_code()
    return result.fndesc.llvm_func_name, code
