"""What genotypes take of a resource, against the file that is written and the estimate that counts layer by layer."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from children import make_child

from cpnas_cli.data.dataset import Dataset, load_dataset
from cpnas_cli.deploy import latency, untrained
from cpnas_cli.deploy.latency import LATENCY
from cpnas_cli.deploy.packed_file import save_packed
from cpnas_cli.deploy.resources import OPERATIONS_FOR_AN_IMAGE, SIZE
from cpnas_cli.deploy.untrained import untrained_model
from cpnas_cli.efficiency.estimate import estimate
from cpnas_cli.errors import UsageError
from cpnas_cli.networks.dataflow import dataflow_of
from cpnas_cli.search_space import EDGES, NONE, Genotype, draw_uniform
from cpnas_cli.settings import Config, load_config
from cpnas_cli.strategies.budgets.demand import Demand

ONE_SKIP = tuple("skip_connect" if edge == (1, 2) else NONE for edge in EDGES)
DEAD = tuple(NONE if node == 3 else "dil_conv_5x5" for _, node in EDGES)  # node 3 is, and what leaves it
GENOTYPES = [
    Genotype(normal=ONE_SKIP, reduce=ONE_SKIP),
    Genotype(normal=DEAD, reduce=DEAD),
    *(draw_uniform(seed=3, draw=draw) for draw in range(12)),
]
BLOCKS = {
    "residual": (),
    "separable": ("network.block=separable", "network.real_format=float32", "network.weight_format=float32"),
    "deeper": ("network.num_cells=5", "network.num_channels=10", "network.group_width=10", "network.shortcut=true"),
}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset(load_config().data)


@pytest.fixture(params=BLOCKS, scope="module")
def config(request: pytest.FixtureRequest) -> Config:
    return load_config(overrides=BLOCKS[request.param])


def test_the_file_of_every_genotype_is_within_its_size(config: Config, digits: Dataset, tmp_path: Path) -> None:
    demand, file = SIZE.demand(config, digits), tmp_path / "model"
    for genotype in GENOTYPES:
        save_packed(untrained_model(genotype, config, digits), file)
        num_bytes = file.stat().st_size
        assert num_bytes <= demand.of(genotype) <= num_bytes + 32
        assert SIZE.found(genotype, config, digits) == num_bytes


def test_an_untrained_model_is_as_large_as_a_trained_one(tmp_path: Path) -> None:
    child = make_child(GENOTYPES[3], num_image_channels=3, block="residual", group_width=8)
    save_packed(child.model, tmp_path / "trained")
    images: Any = Dataset(None, None, child.model.classes, child.model.mean, child.model.std)  # pyright: ignore
    config = child.trained.config
    object.__setattr__(images, "train", type("Train", (), {"shape": (1, 3, 8, 8)})())
    save_packed(untrained_model(GENOTYPES[3], config, images), tmp_path / "untrained")
    assert (tmp_path / "untrained").stat().st_size == (tmp_path / "trained").stat().st_size


def test_operations_are_those_of_the_estimate(config: Config, digits: Dataset) -> None:
    demand = OPERATIONS_FOR_AN_IMAGE.demand(config, digits)
    surroundings = untrained.surroundings_of(config, digits)
    for genotype in GENOTYPES:
        ops = estimate(dataflow_of(config.network, genotype, surroundings, precision="binary")).ops
        assert demand.of(genotype) == pytest.approx(ops, rel=1e-12)


def test_a_demand_is_read_back_the_same(config: Config, digits: Dataset) -> None:
    demand = SIZE.demand(config, digits)
    again = Demand.of_document(demand.document())
    assert [again.of(genotype) for genotype in GENOTYPES] == [demand.of(genotype) for genotype in GENOTYPES]


# ---------------------------------------------------------------- latency


SECONDS = {NONE: 1e-6, "skip_connect": 1.5e-6, "max_pool_3x3": 3e-6, "avg_pool_3x3": 4e-6, "sep_conv_3x3": 5e-6}
FIXED, FACTOR = 2e-4, 1.25


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[int]]:
    """A machine on which operations take `SECONDS` (others 9 us) for each channel alone; it counts its measurements."""
    made: list[int] = []

    def seconds(name: str, channels: int) -> float:
        return SECONDS.get(name, 9e-6) * channels

    def of_network(genotype: Genotype) -> float:
        # digits: cells 0, 1 and 2 are of 16, 32 and 64 channels, the last two reduce
        channels = {"normal": (16,), "reduce": (32, 64)}
        total = 0.0
        for kind, cell in genotype.cells().items():
            live = {0, 1}
            for (source, node), op in zip(EDGES, cell, strict=True):
                if op != NONE and source in live:
                    live.add(node)
                    total += sum(seconds(op, each) - seconds(NONE, each) for each in channels[kind])
        return FIXED + FACTOR * total

    def measured(calls: dict[Any, Any], *, duration: float) -> dict[Any, float]:
        del duration
        made.append(len(calls))
        return {key: of_network(key) if isinstance(key, Genotype) else seconds(key[0], key[1]) for key in calls}

    monkeypatch.setattr(latency, "undisturbed_seconds", measured)
    monkeypatch.setattr(latency, "_loop", lambda _: (lambda: None, 1))
    monkeypatch.setattr(latency, "_network_call", lambda *_: lambda: None)
    monkeypatch.setattr(latency, "_MADE", {})
    monkeypatch.setenv("CPNAS_CACHE_DIR", str(tmp_path / "cache"))
    latency._kept_in.cache_clear()
    yield made
    latency._kept_in.cache_clear()


def test_a_time_is_the_sum_over_live_edges(clock: list[int], digits: Dataset) -> None:
    """Of operations that take nothing more in company: `fixed` and `factor` of the machine are found."""
    demand = LATENCY.demand(load_config(), digits)
    assert demand.fixed == pytest.approx(FIXED)
    assert demand.margin == pytest.approx(0, abs=1e-9)
    # (1,2) skips: once at 16 channels, and at 32 and 64
    expected = FIXED + FACTOR * 0.5e-6 * (16 + 32 + 64)
    assert demand.of(GENOTYPES[0]) == pytest.approx(expected)
    # nodes 2, 4 and 5, with 2, 3 and 4 edges that carry a signal
    assert demand.of(GENOTYPES[1]) == pytest.approx(FIXED + FACTOR * 8e-6 * (16 + 32 + 64) * 9)
    assert len(clock) == 1


def test_the_table_is_measured_once_for_a_machine_and_settings(
    clock: list[int], digits: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config, other = load_config(), load_config(overrides=["network.num_channels=32"])
    assert LATENCY.preparation(config, digits) is not None
    first = LATENCY.demand(config, digits)
    assert LATENCY.preparation(config, digits) is None
    monkeypatch.setattr(latency, "_MADE", {})  # another process
    again = LATENCY.demand(config, digits)
    assert (again.fixed, again.edges.tolist()) == (first.fixed, first.edges.tolist())
    assert len(clock) == 1
    LATENCY.demand(load_config(overrides=["search.num_channels=4", "seed=1", "train.num_epochs=1"]), digits)
    assert len(clock) == 1  # it is the same network
    assert LATENCY.preparation(other, digits) is not None
    monkeypatch.setattr(latency, "processor", lambda: "another processor")
    LATENCY.demand(config, digits)
    assert len(clock) == 2
    assert len(list((tmp_path / "cache").glob("latency-*.json"))) == 2


@pytest.mark.parametrize("text", ["", "{}", '{"schema": "cpnas.latency/2"}', "[]"])
def test_a_damaged_table_is_measured_again(
    clock: list[int], digits: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    LATENCY.demand(load_config(), digits)
    (file,) = (tmp_path / "cache").glob("latency-*.json")
    file.write_text(text)
    monkeypatch.setattr(latency, "_MADE", {})
    LATENCY.demand(load_config(), digits)
    assert len(clock) == 2
    assert '"demand"' in file.read_text()


@pytest.mark.usefixtures("clock")
def test_where_the_engine_cannot_run_one_line_says_so(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ImportError("No module named 'numba'")

    monkeypatch.setattr(latency, "_operation_calls", fail)
    with pytest.raises(UsageError, match=r"--max-latency: the packed engine cannot run these settings here: .*numba"):
        LATENCY.demand(load_config(), digits)


def test_a_kept_table_does_not_stand_in_for_the_engine(
    clock: list[int], digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused before the search, which would run what it found at its end, and not after it."""
    LATENCY.demand(load_config(), digits)

    def fail(*_: object) -> None:
        raise ImportError("No module named 'numba'")

    monkeypatch.setitem(sys.modules, "cpnas_cli.deploy.engine", None)  # as if what it needs were missing
    monkeypatch.setattr(latency, "_network_call", fail)
    for refused in (
        lambda: LATENCY.demand(load_config(), digits),
        lambda: LATENCY.found(GENOTYPES[0], load_config(), digits),
    ):
        with pytest.raises(UsageError, match=r"--max-latency: the packed engine cannot run these settings here: .*"):
            refused()
    assert len(clock) == 1


def test_a_real_table_says_of_every_operation_what_it_takes(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On this machine, measured as briefly as can be; how long anything takes is not asserted."""
    monkeypatch.setattr(latency, "TABLE_SECONDS", 0.0)
    monkeypatch.setattr(latency, "NETWORK_SECONDS", 0.0)
    monkeypatch.setattr(latency, "MOST_TABLES", 1)
    monkeypatch.setattr(latency, "_MADE", {})
    monkeypatch.setenv("CPNAS_CACHE_DIR", str(tmp_path))
    config = load_config(overrides=["network.num_channels=4", "network.stem_multiplier=1"])
    demand = LATENCY.demand(config, digits)
    assert np.isfinite(demand.edges).all()
    assert (demand.edges[:, :, 0] == 0).all()  # none
    assert LATENCY.found(GENOTYPES[0], config, digits) > 0
