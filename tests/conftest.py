"""Settings and data that many tests share: everything tiny, everything on the CPU with one thread."""

import contextlib
import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forks import fork
from PIL import Image
from ray_nodes import Cluster
from xdist.scheduler import LoadScopeScheduling

# For tests of benchmarks/; at the end, so that the installed package is the one that is tested.
sys.path.append(str(Path(__file__).parent.parent))

# Algorithm 9 as it is published: no epochs before the first draw, each draw judged at once, by accuracy.
PUBLISHED_RULES = (
    "search.warmup_epochs=0",
    "search.scored_passes=0",
    "search.performance=accuracy",
    "search.evaluation=after_draw",
    "search.credit=draw",
    "search.num_left=1",
)
# A whole search (35 draws of a Child and a Parent) in a few seconds.
TINY_SETTINGS = (
    "data.num_train=40",
    "data.num_test=20",
    "network.num_channels=4",
    "search.num_channels=null",
    "network.stem_multiplier=1",
    "search.batch_size=20",
    "search.num_calibration_batches=1",
    "train.num_epochs=3",
    "train.batch_size=20",
    *PUBLISHED_RULES,
)
TINY_OPTIONS = [word for setting in TINY_SETTINGS for word in ("--set", setting)]
RESIDUAL_SETTINGS = (
    "network.block=residual",
    "network.group_width=2",
    "network.activation=rprelu",
    "network.stem_convolutions=2",
    "network.real_format=float16",
    "network.weight_format=int8",
)
"""The residual block with all that it may have."""


class ByFile(LoadScopeScheduling):
    """Tests of a file with fixtures of its module run on one worker, which makes these once; others where is room."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def group_of(nodeid: str) -> str:
    """Its file where that has fixtures of its module, else the test itself."""
    file = nodeid.partition("::")[0]
    return file if _has_fixtures_of_module(file) else nodeid


@functools.cache
def _has_fixtures_of_module(file: str) -> bool:
    return 'scope="module"' in (Path(__file__).parent.parent / file).read_text(encoding="utf-8")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    config.option.loadscopereorder = False  # but as below
    return ByFile(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In the order in which they begin, so that no worker is left alone with a long one at the end."""
    by_name = {item.nodeid: item for item in items}
    seconds = {
        name: sum(mark.kwargs.get("seconds", 0) for mark in item.iter_markers("slow")) for name, item in by_name.items()
    }
    items[:] = [by_name[name] for name in longest_first(seconds)]


def longest_first(seconds: Mapping[str, float]) -> list[str]:
    """The tests by their groups: those first that take the most seconds, of equal ones those of more tests.

    Args:
      seconds: of each test what its mark says, `@pytest.mark.slow(seconds=30)`, else 0.
    """
    groups: dict[str, list[str]] = {}
    for name in seconds:
        groups.setdefault(group_of(name), []).append(name)
    ordered = sorted(groups.values(), key=lambda group: (-sum(map(seconds.__getitem__, group)), -len(group)))
    return [name for group in ordered for name in group]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Bits depend on the number of threads, also those of fixtures that are made before any of a test."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads the user's cache or writes outside its own folder."""
    monkeypatch.setenv("CPNAS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


CpnasRun = Callable[..., subprocess.CompletedProcess[str]]


def run_cpnas(folder: Path, *words: str | Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """`python -m cpnas_cli WORDS` in its own process, with one thread, in the folder."""
    process = fork(folder, words, environment={**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"})
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except BaseException:
        process.kill()
        raise
    return subprocess.CompletedProcess(words, process.wait(), stdout, stderr)


@pytest.fixture
def cpnas(tmp_path: Path) -> CpnasRun:
    """Run `python -m cpnas_cli ...` in its own process, in the test's folder."""

    return functools.partial(run_cpnas, tmp_path)


def run_here(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """The same command in this process, which need not load everything again; for what neither dies nor kills."""
    from command_line import invoke

    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "200")
        answer = invoke(*words)
    return subprocess.CompletedProcess(words, answer.exit_code, answer.stdout, answer.stderr)


@pytest.fixture
def cpnas_here(tmp_path: Path) -> CpnasRun:
    """Run a command in this process, in the test's folder."""
    return functools.partial(run_here, tmp_path)


@pytest.fixture(scope="session")
def tiny_search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished tiny search with seed 0; read it, never write to it."""
    folder = tmp_path_factory.mktemp("tiny")
    answer = run_here(folder, "search", *TINY_OPTIONS, "--out", "search")
    assert answer.returncode == 0, answer.stderr
    return folder / "search"


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Two classes that differ in brightness, 12 training and 4 test images each, in colour, 20x16 pixels."""
    root = tmp_path / "images"
    generator = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 4)):
        for name, level in (("dark", 60), ("light", 190)):
            folder = root / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = np.clip(generator.normal(level, 20, (16, 20, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{index:02d}.png")
    return root


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A Ray cluster on this machine, without a node yet."""
    pytest.importorskip("ray")
    cluster = Cluster()
    yield cluster
    cluster.stop()
