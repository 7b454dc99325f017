"""Latency as a resource: from a table of the packed engine's own times on this machine, one image, one thread.

    seconds(genotype) = fixed + factor * sum over its live edges of t(operation, channels, size, stride)

where t is the time of the operation alone, in a loop inside the compiled code and without what an empty node takes;
`fixed` (stem, preprocessings, nodes, classifier, the call) and `factor` (the caches hold less of a whole network than
of one operation) are those that fit the measured times of some random networks, the smallest and the largest one best.
The most that one of these took beyond its prediction is the margin that a budget keeps.

The table is made when it is first asked for and kept in the cache, by processor and settings.
"""

import hashlib
import importlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from cpnas_cli import __version__
from cpnas_cli.deploy.untrained import surroundings_of, untrained_model
from cpnas_cli.efficiency.timing import seconds_of
from cpnas_cli.errors import RunError, UsageError
from cpnas_cli.networks.layers import CellLayers, EdgeLayers, cells_of
from cpnas_cli.runs.environment import processor
from cpnas_cli.search_space import EDGES, NONE, OPERATIONS, Genotype, draw_uniform
from cpnas_cli.storage.cache import cache_folder
from cpnas_cli.storage.documents import read_json, write_json
from cpnas_cli.strategies.budgets.demand import Demand, demand_of, everywhere
from cpnas_cli.strategies.budgets.resource import Resource

if TYPE_CHECKING:
    from cpnas_cli.data.dataset import Dataset
    from cpnas_cli.settings import Config

LATENCY_SCHEMA = "cpnas.latency/2"  # to be counted up whenever the engine, or how it is measured, is another one
NUM_NETWORKS = 12
"""Random networks that are measured as a whole."""
TABLE_SECONDS, NETWORK_SECONDS = 8.0, 2.0
"""How long the table and a single network are measured: so long that a busy machine is quiet now and then."""
MOST_TABLES, GOOD_ERROR = 4, 0.08
_LEAST_TURNS = 20
_LOOP_SECONDS = 4e-4  # a call that is timed: long enough for the clock, short enough not to be interrupted
_MOST_LOOPS = 64
_LOGGER = logging.getLogger(__name__)

T = TypeVar("T")

Key = tuple[str, int, int, int]
"""Of an operation in the table: name, channels, rows and columns that it reads, stride."""


def undisturbed_seconds(calls: Mapping[T, Callable[[], object]], *, duration: float) -> dict[T, float]:
    """Of every call the shortest of its times: what it takes when nothing else comes in between.

    Args:
      duration: seconds for which the calls are made, in turn, at least 20 turns.
    """
    for call in calls.values():
        call()
    times = dict.fromkeys(calls, math.inf)
    until, num_turns = time.monotonic() + duration, 0
    while num_turns < _LEAST_TURNS or time.monotonic() < until:
        for name, call in calls.items():
            call()  # the others have emptied the caches
            times[name] = min(times[name], seconds_of(call), seconds_of(call))
        num_turns += 1
    return times


@dataclass(frozen=True)
class Latency(Resource):
    """Seconds for one image, packed, on one thread of this machine."""

    def demand(self, config: "Config", dataset: "Dataset") -> Demand:
        key = _key(config, dataset)
        kept = _kept(key)
        if kept is None:
            return _made(key, self, config, dataset)
        with self.engine_runs():  # it runs what is found, at the end
            importlib.import_module("cpnas_cli.deploy.engine")
        return kept

    def found(self, genotype: "Genotype", config: "Config", dataset: "Dataset") -> float:
        with self.engine_runs():
            call = _network_call(genotype, config, dataset)
        return undisturbed_seconds({"network": call}, duration=NETWORK_SECONDS)["network"]

    @contextmanager
    def engine_runs(self) -> Iterator[None]:
        """What is done in it needs the packed engine.

        Raises:
          UsageError: it cannot run here, or not with these settings.
        """
        try:
            yield
        except (ImportError, RunError) as error:
            raise UsageError(f"{self.option}: the packed engine cannot run these settings here: {error}") from None

    def preparation(self, config: "Config", dataset: "Dataset") -> str | None:
        if _kept(_key(config, dataset)) is not None:
            return None
        return (
            f"measuring the packed engine's operations on this machine ({processor()}), once for these network "
            "settings: some 10 s, up to a minute on a busy machine or where the engine is not compiled yet"
        )


LATENCY = Latency("max_latency", "time for one image", is_measured=True)


# ---------------------------------------------------------------- the table in the cache


def _key(config: "Config", dataset: "Dataset") -> str:
    """Of all that a table depends on."""
    images = [config.data.image_size, dataset.num_image_channels, dataset.num_classes]
    parts = [LATENCY_SCHEMA, __version__, processor(), config.network.model_dump(mode="json"), images, list(OPERATIONS)]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def _path(key: str) -> Path:
    return cache_folder() / f"latency-{key}.json"


@lru_cache(maxsize=8)
def _kept_in(path: Path) -> Demand | None:
    document = read_json(path)
    return Demand.of_document(document["demand"]) if document["schema"] == LATENCY_SCHEMA else None


def _kept(key: str) -> Demand | None:
    """The table that was measured before; None if there is none, or it is damaged."""
    if key in _MADE:
        return _MADE[key]
    try:
        return _kept_in(_path(key))
    except (OSError, ValueError, LookupError, TypeError):
        return None


_MADE = dict[str, Demand]()
"""The tables of this process: it decides by one, whatever becomes of the cache."""


def _made(key: str, resource: Latency, config: "Config", dataset: "Dataset") -> Demand:
    """Measured now.

    Raises:
      UsageError: the engine cannot run these settings here.
    """
    with resource.engine_runs():
        demand, networks = _measure(config, dataset)
    _MADE[key] = demand
    document = {
        "schema": LATENCY_SCHEMA,
        "processor": processor(),
        "network": config.network.model_dump(mode="json"),
        "image_size": config.data.image_size,
        "num_image_channels": dataset.num_image_channels,
        "num_classes": dataset.num_classes,
        "demand": demand.document(),
        "networks": networks,
    }
    try:
        _path(key).parent.mkdir(parents=True, exist_ok=True)
        write_json(_path(key), document)
    except (OSError, RunError) as error:
        _LOGGER.warning("the times of the operations are not kept, the next run measures them again: %s", error)
    return demand


# ---------------------------------------------------------------- measuring


def _measure(config: "Config", dataset: "Dataset") -> tuple[Demand, list[dict[str, float]]]:
    """The demand, and predicted and measured seconds of the networks that it was fitted to.

    Where the machine is so busy that the two differ, it is measured again, and the shortest times count.
    """
    genotypes = _networks()
    operations = dict(_operation_calls(config, dataset))
    calls: dict[Key | Genotype, Callable[[], object]] = {key: call for key, (call, _) in operations.items()}
    calls |= {genotype: _network_call(genotype, config, dataset) for genotype in genotypes}
    times = undisturbed_seconds(calls, duration=TABLE_SECONDS)
    for number in range(MOST_TABLES):
        alone = {key: times[key] / count for key, (_, count) in operations.items()}
        demand, networks = _fitted(alone, {genotype: times[genotype] for genotype in genotypes}, config, dataset)
        errors = [abs(network["measured"] / network["predicted"] - 1) for network in networks]
        if max(errors) <= GOOD_ERROR or number == MOST_TABLES - 1:
            return demand, networks
        again = undisturbed_seconds(calls, duration=TABLE_SECONDS)
        times = {name: min(seconds, again[name]) for name, seconds in times.items()}
    raise AssertionError("the last table is taken as it is")


def _fitted(
    alone: Mapping[Key, float], whole: Mapping[Genotype, float], config: "Config", dataset: "Dataset"
) -> tuple[Demand, list[dict[str, float]]]:
    """`fixed` and `factor` with the least sum of squared relative errors.

    Args:
      alone: seconds of the operations, with their nodes. whole: of networks.
    """
    sums_of = demand_of(config.network, surroundings_of(config, dataset), edge=lambda *edge: _seconds(alone, *edge))
    sums, measured = np.array([sums_of.of(genotype) for genotype in whole]), np.array(list(whole.values()))
    weighted = np.stack([1 / measured, sums / measured], axis=1)
    (fixed, factor), *_ = np.linalg.lstsq(weighted, np.ones(len(measured)), rcond=None)
    predicted = fixed + factor * sums
    margin = max(float((measured / predicted - 1).max()), 0.0)
    demand = replace(sums_of, fixed=float(fixed), edges=factor * sums_of.edges, margin=margin)
    pairs = zip(predicted.tolist(), measured.tolist(), strict=True)
    return demand, [{"predicted": expected, "measured": found} for expected, found in pairs]


def _networks() -> list[Genotype]:
    """From the smallest to the largest: one skip connection in each cell, random ones, convolutions on all edges."""
    smallest = tuple("skip_connect" if edge == (1, 2) else NONE for edge in EDGES)
    drawn = [draw_uniform(seed=0, draw=draw) for draw in range(NUM_NETWORKS)]
    return [Genotype(normal=smallest, reduce=smallest), *drawn, everywhere(OPERATIONS[-1])]


def _operation_key(cell: CellLayers, edge: EdgeLayers) -> Key:
    stride = cell.shape.stride(edge.source)
    return edge.op, cell.shape.num_channels, cell.out_size * stride, stride


def _node_key(cell: CellLayers) -> Key:
    return NONE, cell.shape.num_channels, cell.out_size, 1


def _seconds(seconds: Mapping[Key, float], cell: CellLayers, edge: EdgeLayers) -> float:
    """Of one operation, without its node."""
    return max(seconds[_operation_key(cell, edge)] - seconds[_node_key(cell)], 0.0)


def _operation_calls(config: "Config", dataset: "Dataset") -> Iterator[tuple[Key, tuple[Callable[[], object], int]]]:
    """Of every operation and every empty node: what runs it some times, and how often that is."""
    from cpnas_cli.deploy.engine.compiler import compile_edge, compile_empty_node

    known = set[Key]()
    for op in OPERATIONS:
        if op == NONE:
            continue
        model = untrained_model(everywhere(op), config, dataset)
        for cell in cells_of(model.settings, model.genotype, model.surroundings, precision="binary"):
            if _node_key(cell) not in known:
                known.add(_node_key(cell))
                yield _node_key(cell), _loop(compile_empty_node(model, cell))
            for edge in cell.edges:
                if _operation_key(cell, edge) not in known:
                    known.add(_operation_key(cell, edge))
                    yield _operation_key(cell, edge), _loop(compile_edge(model, cell, edge))


def _loop(program: Any) -> tuple[Callable[[], object], int]:
    from cpnas_cli.deploy.engine import Runner

    runner = Runner(program, num_threads=1)
    once = np.zeros((1, 1), np.uint8)
    runner.run(once)
    count = min(max(math.ceil(_LOOP_SECONDS / seconds_of(lambda: runner.run(once))), 1), _MOST_LOOPS)
    images = np.zeros((count, 1), np.uint8)
    return lambda: runner.run(images), count


def _network_call(genotype: Genotype, config: "Config", dataset: "Dataset") -> Callable[[], object]:
    """Classifies one image of noise."""
    from cpnas_cli.deploy.engine import Engine

    engine = Engine(untrained_model(genotype, config, dataset), num_threads=1)
    shape = (1, dataset.num_image_channels, config.data.image_size, config.data.image_size)
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return lambda: engine.logits(image)
