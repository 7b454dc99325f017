"""One image on several threads of the packed engine, by rows: the bits of PyTorch, whoever computes what, and when."""

import dataclasses
import gc
import os
import signal
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from children import Child, every_operation, make_child
from engine_nodes import check_every_node

from cpnas_cli.deploy.engine import Engine, Runner, product_columns, run, sharing
from cpnas_cli.deploy.engine import program as p
from cpnas_cli.deploy.engine import team_columns as c
from cpnas_cli.deploy.engine.compiler import compile_program
from cpnas_cli.search_space import draw_uniform

CHILDREN: dict[str, Callable[[], Child]] = {
    "every operation": lambda: make_child(every_operation(), image_size=12, num_classes=4, num_channels=10),
    "drawn, deep": lambda: make_child(draw_uniform(seed=4), image_size=8, num_cells=5, num_channels=4),
    "two stems": lambda: make_child(draw_uniform(seed=8), image_size=16, stem_stride=4),
    "residual": lambda: make_child(every_operation(), block="residual", image_size=12, num_channels=8, group_width=4),
    "residual, drawn": lambda: make_child(draw_uniform(seed=2), block="residual", image_size=8, weight_format="int8"),
}


@pytest.fixture(params=CHILDREN, scope="module")
def child(request: pytest.FixtureRequest) -> Child:
    return CHILDREN[request.param]()


@pytest.fixture
def by_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the smallest network, on more threads than there are cores."""
    monkeypatch.setattr(sharing, "_WORK_OF_A_THREAD", 1)
    monkeypatch.setattr(run, "num_available_threads", lambda: 5)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No helper ever comes."""
    monkeypatch.setattr("cpnas_cli.deploy.engine.helpers.Helpers.wake", lambda *_: None)


def backwards(runner: Runner) -> None:
    """The shares of each group from the last rows to the first ones."""
    shares, first = runner._shares, 0
    while first < len(shares):
        end = first + shares[first, c.SHARE_COUNT]
        shares[first:end] = shares[first:end][::-1].copy()
        first = end


# ---------------------------------------------------------------- the same bits


@pytest.mark.usefixtures("by_rows")
@pytest.mark.parametrize("num_threads", [2, 3, 5])
def test_the_bits_do_not_depend_on_the_number_of_threads(child: Child, num_threads: int) -> None:
    """Which of them take part, and how much each of them does, is different every time."""
    images = child.draw_images(3)
    expected = Engine(child.model, num_threads=1).logits(images)
    engine = Engine(child.model, num_threads=num_threads)
    assert engine.runner.num_row_threads == num_threads
    for _ in range(20):
        for image, scores in zip(images, expected, strict=True):
            np.testing.assert_array_equal(engine.logits(image[None]), scores[None])
    np.testing.assert_array_equal(engine.logits(images), expected)


@pytest.mark.usefixtures("by_rows", "alone")
@pytest.mark.parametrize("order", ["forwards", "backwards"])
def test_every_node_in_any_order_of_the_rows(child: Child, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows of the first share before those of the second one, and the other way round: what reads rows of others
    too early finds those of an earlier image. The oracle is PyTorch.
    """

    def in_order(runner: Runner, images: np.ndarray, first: int, last: int) -> None:
        """Instead of one instruction the whole network up to it, by rows, after another image."""
        del first
        program = dataclasses.replace(runner.program, instructions=runner.program.instructions[:last].copy())
        part = Runner(program, lookup=runner._lookup, num_threads=5)
        if order == "backwards":
            backwards(part)
        part.run(255 - images)
        part.run(images)
        runner._working = part._working

    class InOrder(Engine):
        def __init__(self, *_: object, **__: object) -> None:
            super().__init__(child.model, num_threads=1)
            self.runner.run = in_order.__get__(self.runner)  # type: ignore[method-assign]

    monkeypatch.setattr("engine_nodes.Engine", InOrder)
    check_every_node(child)


def test_shares_cover_all_rows_once(child: Child) -> None:
    program = compile_program(child.model)
    for num_threads in (2, 3, 7, 64):
        rows = [np.zeros(sharing._num_rows(row), int) for row in program.instructions]
        image = np.zeros(child.model.image_size, int)
        for first, last, begin, end, _ in sharing.shares_of(program, num_threads):
            if first < 0:
                image[begin:end] += 1
            for index in range(max(first, 0), last):
                rows[index][begin:end] += 1
        assert all((each == 1).all() for each in (*rows, image))


# ---------------------------------------------------------------- helpers that do not come, or end


@pytest.mark.usefixtures("by_rows", "alone")
def test_one_thread_does_everything_where_no_other_comes(child: Child) -> None:
    images = child.draw_images(12)
    expected = Engine(child.model, num_threads=1).logits(images)
    engine = Engine(child.model, num_threads=4)
    np.testing.assert_array_equal(engine.logits(images), expected)
    np.testing.assert_array_equal(engine.logits(images[:1]), expected[:1])


@pytest.fixture
def engine(by_rows: None) -> tuple[Engine, np.ndarray, np.ndarray]:
    """With threads that have worked already; images and their scores."""
    child = CHILDREN["drawn, deep"]()
    images = child.draw_images(9)
    expected = Engine(child.model, num_threads=1).logits(images)
    engine = Engine(child.model, num_threads=3)
    np.testing.assert_array_equal(engine.logits(images), expected)
    return engine, images, expected


def test_where_no_thread_can_be_started_the_others_do_the_work(
    engine: tuple[Engine, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    fresh = Engine(engine[0].model, num_threads=3)
    np.testing.assert_array_equal(fresh.logits(engine[1]), engine[2])
    np.testing.assert_array_equal(fresh.logits(engine[1][:1]), engine[2][:1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_process_forked_off_starts_threads_of_its_own(engine: tuple[Engine, np.ndarray, np.ndarray]) -> None:
    process = os.fork()
    if process == 0:
        signal.alarm(60)
        same = all(np.array_equal(engine[0].logits(engine[1][:count]), engine[2][:count]) for count in (1, 9, 1))
        num_threads = sum(thread.name == "cpnas engine" for thread in threading.enumerate())
        os._exit(0 if same and num_threads == 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    np.testing.assert_array_equal(engine[0].logits(engine[1]), engine[2])


def test_threads_end_with_their_engine(engine: tuple[Engine, np.ndarray, np.ndarray]) -> None:
    gc.collect()  # those of engines that are gone
    own = Engine(engine[0].model, num_threads=3)
    before = set(threading.enumerate())
    own.logits(engine[1])
    started = set(threading.enumerate()) - before
    assert len(started) == 2
    del own
    gc.collect()
    end = time.monotonic() + 30
    while any(thread.is_alive() for thread in started) and time.monotonic() < end:
        time.sleep(0.01)
    assert not any(thread.is_alive() for thread in started)


@pytest.mark.parametrize("count", [1, 9])  # by rows, and image by image
def test_a_helper_that_is_late_takes_nothing(count: int, engine: tuple[Engine, np.ndarray, np.ndarray]) -> None:
    """It comes when the job is done, and what stands there of the next one is not to be had yet."""
    runner = engine[0].runner
    engine[0].logits(engine[1][:count])
    job, columns = runner._team.copy(), runner._arguments[0].copy()
    runner._arguments[0, c.IMAGES : c.SHARES] = 0  # addresses that nobody may read
    runner._arguments[0, c.NUM_IMAGES] = 1000
    runner._arguments[1, c.PATIENCE] = 5
    run.machine_code.run_images()(runner._addresses[1])
    np.testing.assert_array_equal(runner._team, job)
    runner._arguments[0] = columns
    np.testing.assert_array_equal(engine[0].logits(engine[1]), engine[2])


def test_every_thread_has_room_of_its_own_for_a_row_of_signs(child: Child) -> None:
    """Behind what they share; what a 1x1 convolution reads there is what the convolution before it wrote."""
    program = compile_program(child.model)
    depthwise = np.isin(program.steps[:, p.KIND], p.DEPTHWISE_KINDS)
    shared = program.num_words - program.num_slot_words
    taken = np.zeros(shared + 3 * program.num_slot_words, int)
    for number in range(3):
        steps, products = program.tables_of_thread(number)
        own = np.zeros_like(taken)
        for step in steps[depthwise]:
            own[step[p.SLOT] : step[p.SLOT] + step[p.NUM_WORDS] * step[p.WIDTH]] = 1
        assert not own[:shared].any()
        read = products[products[:, product_columns.ROW] == 0, product_columns.WORDS]
        assert set(read) == set(steps[depthwise, p.SLOT])
        taken += own
    assert taken.max(initial=0) <= 1


# ---------------------------------------------------------------- how many


def test_a_small_network_runs_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """As counted: nothing is timed."""
    monkeypatch.setattr(run, "num_available_threads", lambda: 8)
    small, large = (
        make_child(every_operation(), image_size=size, num_channels=channels) for size, channels in ((8, 4), (32, 36))
    )
    assert Engine(small.model).runner.num_row_threads == 1
    assert 2 <= Engine(large.model).runner.num_row_threads <= 8
    assert Engine(large.model, num_threads=2).runner.num_row_threads == 2
    assert p.NUM_COLUMNS > p.WAITS
