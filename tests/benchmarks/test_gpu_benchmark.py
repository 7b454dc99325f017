"""The GPU's benchmark, tiny and on a CPU: its code runs through and its tables hold what they promise."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tapes import tapes

from benchmarks import gpu
from cpnas_cli.settings import Config, load_config
from cpnas_cli.strategies.base import Search
from cpnas_cli.strategies.cpnas import search as cpnas
from cpnas_cli.strategies.cpnas.graphed_networks import GraphedNetworks

TINY = (
    "network.num_cells=3",
    "network.num_channels=4",
    "network.stem_multiplier=1",
    "data.image_size=8",
    "data.crop_padding=1",
    "data.cutout=0",
    "search.batch_size=8",
    "search.num_passes=1",
    "train.batch_size=8",
)


class Taped(GraphedNetworks):
    def __init__(self, search: Search) -> None:
        super().__init__(search, streams=tapes())


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    def preset(**settings: object) -> Config:
        changes = [f"{key.replace('__', '.')}={value}" for key, value in settings.items()]
        return load_config("cifar10", overrides=[*TINY, *changes])

    monkeypatch.setattr(gpu, "preset", preset)
    monkeypatch.setitem(gpu.ENGINES, "graphs", Taped)
    monkeypatch.setattr(cpnas, "GraphedNetworks", Taped)


@pytest.mark.slow
def test_draws_are_timed_by_engine_and_type() -> None:
    rows = gpu.tabulate_draws(max_seconds=1000, num_images=64, repetitions=1, device="cpu")
    kinds = [(row["type"], row["engine"]) for row in rows]
    assert kinds == [(dtype, engine) for dtype in ("bfloat16", "float32") for engine in ("eager", "graphs")]
    assert all(row["eager / this"] == 1 for row in rows if row["engine"] == "eager")
    for row in rows:
        assert row["105 draws, minutes"] == pytest.approx(105 * row["seconds of a draw"] / 60)


def test_without_time_one_type_of_draws_is_left_out() -> None:
    rows = gpu.tabulate_draws(max_seconds=0, num_images=64, repetitions=1, device="cpu")
    assert [row["type"] for row in rows] == ["bfloat16", "bfloat16"]


def test_steps_and_layouts_are_timed() -> None:
    (row,) = gpu.tabulate_steps(num_images=32, repetitions=1, device="cpu")
    assert row["Child / Parent"] == pytest.approx(row["Child ms"] / row["Parent ms"])
    layouts = gpu.tabulate_layouts(batch_size=1, repetitions=1, device="cpu")
    assert len(layouts) == 3 * 4 * 2


def test_an_epoch_of_a_training_is_timed_for_both_networks_and_types() -> None:
    rows = gpu.tabulate_trainings(num_images=32, device="cpu")
    assert [(row["type"], row["network"]) for row in rows] == [
        (dtype, name) for dtype in ("float32", "bfloat16") for name in ("child", "parent")
    ]
    assert all(row["images per second"] > 0 for row in rows)


def test_a_search_that_ran_out_of_time_says_how_long_all_draws_would_take() -> None:
    (row,) = gpu.tabulate_search(max_seconds=0, num_images=32, device="cpu")
    assert row["draws"] == "1 of 35"
    assert row["minutes for all draws"] == pytest.approx(35 * row["minutes"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="here there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line() -> None:
    root = Path(gpu.__file__).parent.parent
    answer: Any = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"], cwd=root, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 1
    assert answer.stderr == "benchmarks.gpu: no CUDA device that torch can use; nothing to measure\n"
