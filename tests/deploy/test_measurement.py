"""Measuring: single operations against PyTorch, the command, and its figure."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from children import every_operation, make_child
from conftest import CpnasRun
from test_files_documented import undocumented
from torch import nn

from cpnas_cli.deploy import measurement, trained_pair
from cpnas_cli.deploy.footprint import measure_footprint
from cpnas_cli.deploy.packed_file import PackedModel
from cpnas_cli.deploy.packing import pack
from cpnas_cli.deploy.runtimes import onnx_session
from cpnas_cli.deploy.single_operations import MeasuredOperation, float_model
from cpnas_cli.errors import CpnasError, RunError
from cpnas_cli.networks.layers import Surroundings, cells_of, classifier_layer, stem_layers
from cpnas_cli.networks.shapes import Precision
from cpnas_cli.reports.efficiency import draw_speedups, speedups_info
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.search_space import OPERATIONS, Genotype
from cpnas_cli.settings import NetworkConfig
from cpnas_cli.storage.documents import read_document
from cpnas_cli.training.trained_network import TrainedNetwork, save_trained

SETTINGS = NetworkConfig(num_cells=3, num_channels=6, stem_multiplier=3)
SHAPE = Surroundings(8, 3, 5)


def run_model(model: bytes, x: np.ndarray) -> np.ndarray:
    session = onnx_session(model, num_threads=1)
    (source,), (result,) = session.get_inputs(), session.run(None, {session.get_inputs()[0].name: x})
    assert source.shape == list(x.shape)
    return result


def constants(model: bytes) -> list[np.ndarray]:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_from_string(model).graph
    return [numpy_helper.to_array(each) for each in graph.initializer if each.name.startswith("c")]


@pytest.mark.parametrize("kind", ["normal", "reduce"])
@pytest.mark.parametrize("op", [op for op in OPERATIONS if op not in ("none", "skip_connect")])
def test_the_float_operation_is_the_parents(op: str, kind: str) -> None:
    """Written down once more with torch.nn: what ONNX Runtime is timed with computes what the Parent would."""
    genotype = Genotype((op,) * 14, (op,) * 14)
    cells = cells_of(SETTINGS, genotype, SHAPE, precision="binary")
    cell = next(cell for cell in cells if cell.shape.kind == kind)
    edge = cell.edges[0]
    layer = edge.layers[0]
    model = float_model(MeasuredOperation(op, edge.layers, 1), features_size=2)
    x = np.random.default_rng(0).normal(size=(1, layer.in_channels, layer.in_size, layer.in_size)).astype(np.float32)
    values = [torch.from_numpy(array.copy()) for array in constants(model)]
    given = torch.from_numpy(x)
    if "pool" in op:
        pool = (
            nn.MaxPool2d(3, layer.stride, 1)
            if "max" in op
            else nn.AvgPool2d(3, layer.stride, 1, count_include_pad=False)
        )
        expected = pool(given) * values[0] + values[1]
    else:
        depthwise, pointwise, bias = values
        padding = layer.dilation * (layer.kernel_size - 1) // 2
        h = nn.functional.conv2d(given.relu(), depthwise, None, layer.stride, padding, layer.dilation, layer.groups)
        expected = nn.functional.conv2d(h, pointwise, bias)
    np.testing.assert_allclose(run_model(model, x), expected.numpy(), rtol=1e-4, atol=1e-4)


def test_stem_classifier_and_halving_have_their_shapes() -> None:
    genotype = Genotype(("skip_connect",) * 14, ("skip_connect",) * 14)
    precision: Precision = "binary"
    (stem,), classifier = (
        stem_layers(SETTINGS, SHAPE, precision=precision),
        classifier_layer(SETTINGS, SHAPE, precision=precision),
    )
    halving = next(
        edge for cell in cells_of(SETTINGS, genotype, SHAPE, precision="binary") for edge in cell.edges if edge.layers
    )

    def result_shape(name: str, layers: Any, *shape: int) -> tuple[int, ...]:
        model = float_model(MeasuredOperation(name, layers, 1), features_size=2)
        return run_model(model, np.zeros(shape, np.float32)).shape

    assert result_shape("stem", (stem,), 1, 3, 8, 8) == (1, 18, 8, 8)
    assert result_shape("classifier", (classifier,), 1, 96, 2, 2) == (1, 5)
    assert result_shape("skip_connect", halving.layers, 1, 12, 8, 8) == (1, 12, 4, 4)


@pytest.mark.parametrize("halves", [False, True])
def test_the_float_preprocessing_has_the_shortcut(halves: bool) -> None:
    """ReLU, 1x1 and the mean over groups of channels (and 2x2 pixels), once more with torch."""
    genotype = Genotype(("max_pool_3x3",) * 14, ("max_pool_3x3",) * 14)
    settings = NetworkConfig(num_cells=5, num_channels=6, stem_multiplier=3)
    cells = cells_of(settings, genotype, SHAPE, precision="binary")
    layers = next(c.preprocessing[0] for c in cells if (len(c.preprocessing[0]) == 2) == halves and c.shortcuts[0])
    model = float_model(MeasuredOperation("preprocessing", layers, 1, has_shortcut=True), features_size=2)
    first, size = layers[0], layers[0].in_size
    x = np.random.default_rng(0).normal(size=(1, first.in_channels, size, size)).astype(np.float32)
    given, values = torch.from_numpy(x), [torch.from_numpy(array.copy()) for array in constants(model)]
    if halves:
        parts = (given.relu()[:, :, ::2, ::2], given.relu()[:, :, 1::2, 1::2])
        convolved = [nn.functional.conv2d(part, values[2 * k], values[2 * k + 1]) for k, part in enumerate(parts)]
        result, source = torch.cat(convolved, dim=1), nn.functional.avg_pool2d(given, 2)
    else:
        result, source = nn.functional.conv2d(given.relu(), values[0], values[1]), given
    channels = result.shape[1]
    expected = result + torch.stack(source.split(channels, dim=1)).mean(dim=0)
    np.testing.assert_allclose(run_model(model, x), expected.numpy(), rtol=1e-4, atol=1e-4)


def test_the_estimate_of_an_operation_is_xnor_nets() -> None:
    """A depthwise 3x3 and a 1x1 of 6 channels: (9 + 6) / (9 / 64 + 1 + 6 / 64 + 1) per output."""
    genotype = Genotype(("sep_conv_3x3",) * 14, ("max_pool_3x3",) * 14)
    cells = cells_of(SETTINGS, genotype, SHAPE, precision="binary")
    separable, pooling = cells[0].edges[0], cells[1].edges[0]
    speedup = MeasuredOperation("sep_conv_3x3", separable.layers, 1).estimated_speedup
    assert speedup == pytest.approx((9 + 6) / (9 / 64 + 1 + 6 / 64 + 1))
    assert MeasuredOperation("max_pool_3x3", pooling.layers, 1).estimated_speedup is None


def test_the_memory_of_a_fresh_process(tmp_path: Path) -> None:
    block = np.ones(200 << 20, np.uint8)  # of this process, which the other must not count
    alone = measure_footprint("nothing", tmp_path)
    assert 1 << 20 < alone < 100 << 20 < block.nbytes
    with pytest.raises(CpnasError, match="memory of packed failed"):
        measure_footprint("packed", tmp_path / "missing")


def test_the_child_is_packed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For compiling and for measuring; nothing else of what is measured is run here."""
    child = make_child(every_operation(), num_image_channels=1, num_classes=10)
    trained = dataclasses.replace(child.trained, classes=tuple("0123456789"))
    save_trained(RunFolder(tmp_path), trained, asked_for="child")
    packed: list[TrainedNetwork] = []
    run: list[PackedModel] = []

    class Compiled:
        def __init__(self, model: PackedModel, **_: int) -> None:
            run.append(model)

        def warm_up(self, num_images: int) -> None: ...

    def counted(child: TrainedNetwork) -> PackedModel:
        packed.append(child)
        return pack(child)

    def timed(model: PackedModel, **_: Any) -> list[Any]:
        run.append(model)
        raise InterruptedError

    monkeypatch.setattr(trained_pair, "pack", counted)
    monkeypatch.setattr(measurement, "Engine", Compiled)
    monkeypatch.setattr(measurement, "SideBySide", lambda pair, **_: run.append(pair.packed))
    monkeypatch.setattr(measurement, "time_operations", timed)
    pair = trained_pair.read_pair(tmp_path, data_dir=None)
    measurement.warm_up(pair, num_threads=1)
    with pytest.raises(InterruptedError):
        measurement.measure(
            pair, threads=[], batch_sizes=[], repetitions=3, num_agreement_images=1, environment={}, say=lambda _: None
        )
    assert len(packed) == 1
    assert [model is pair.packed for model in run] == [True, True, True]


@pytest.fixture(scope="module")
def measured(tiny_search: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from conftest import TINY_OPTIONS, run_cpnas

    folder = tmp_path_factory.mktemp("measured")
    answer = run_cpnas(folder, "train", tiny_search, "--set", "train.num_epochs=1", "--out", "run")
    assert answer.returncode == 0, (answer.stderr, TINY_OPTIONS)
    answer = run_cpnas(
        folder, "efficiency", "measure", "run", "--threads", "1", "--batch", "1,2", "--repetitions", "3",
        "--agreement-images", "20", "--out", "measured", "--json", timeout=280,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    (folder / "answer.json").write_text(answer.stdout)
    return folder


@pytest.mark.slow(seconds=30)
def test_measure_reports_every_runtime(measured: Path) -> None:
    document = json.loads((measured / "answer.json").read_text())
    assert document == read_document(measured / "measured/measurement.json")
    assert document["schema"] == "cpnas.measurement/1"
    assert len(document["latency"]) + 2 * len(document["not_measured"]) == 2 * 11
    for row in document["latency"]:
        assert 0 < row["seconds_p10"] <= row["seconds_median"] <= row["seconds_p90"]
        assert row["images_per_second"] == pytest.approx(row["batch_size"] / row["seconds_median"])
    for fastest in document["fastest_peers"]:
        seconds = [
            row["seconds_median"]
            for row in document["latency"]
            if row["batch_size"] == fastest["batch_size"] and "Parent" in row["runtime"]
        ]
        assert fastest["seconds_median"] == min(seconds)
    for row in document["peer_agreement"]:  # int8 of a Parent that learned nothing may choose anything
        assert row["same_class"] == row["num_images"] == 20 or "int8" in row["runtime"] or "bfloat16" in row["runtime"]
    assert undocumented("cpnas.measurement/1", document)[0] == []
    agreement = document["agreement"]
    assert agreement["same_class"] == agreement["num_images"] == 20
    assert agreement["largest_relative_difference"] < 1e-5
    assert document["parent_weights"] == "untrained"
    assert document["file_bytes"]["packed Child"] < document["file_bytes"]["Parent's float32 parameters"]
    memory = document["peak_memory_bytes"]
    assert memory["Python and nothing else"] < memory["packed engine, Child"] < memory["PyTorch eager, Child"]
    assert sum(row["count"] for row in document["operations"]) > 10


@pytest.mark.slow
def test_the_figure_is_drawn_from_the_document(measured: Path) -> None:
    document = read_document(measured / "measured/measurement.json")
    info = speedups_info(document)
    assert [row.measured for row in info.rows] == [row["speedup_measured"] for row in document["operations"]]
    (axes,) = draw_speedups(info).axes
    assert len(axes.get_yticks()) == len(info.rows)
    for kind in ("svg", "png"):
        assert (measured / f"measured/speedups.{kind}").stat().st_size > 5000
    with pytest.raises(RunError, match="incomplete"):
        speedups_info({**document, "comparison": []})


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--threads", "999"], 2, "--threads expects at most"),
        (["--threads", "0"], 2, "--threads expects numbers from 1 on"),
        (["--batch", "1,x"], 2, "--batch expects numbers from 1 on"),
        (["--batch", "all"], 2, "--batch expects numbers from 1 on"),
        ([], 1, "nowhere holds no trained network"),
    ],
)
def test_bad_input_is_one_line(words: list[str], code: int, said: str, cpnas_here: CpnasRun) -> None:
    answer = cpnas_here("efficiency", "measure", "nowhere", *words)
    assert (answer.returncode, answer.stdout) == (code, "")
    assert said in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1
