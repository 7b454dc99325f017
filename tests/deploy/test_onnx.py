"""ONNX: ONNX Runtime gives what PyTorch gives, the graph is folded, the file says what it is; and `cpnas export`."""

import importlib.util
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor
from typer.testing import CliRunner

from cpnas_cli.binarization.convolution import BinaryConv2d
from cpnas_cli.cli.app import app
from cpnas_cli.data.batches import Pipeline
from cpnas_cli.deploy.folding import folded
from cpnas_cli.deploy.onnx import EXACTNESS, check_onnx, int8_bytes, onnx_bytes, write_onnx
from cpnas_cli.errors import CpnasError
from cpnas_cli.networks.modules.batch_norm import BatchNorm
from cpnas_cli.networks.network import Network, build_network
from cpnas_cli.networks.shapes import NetworkName, Precision
from cpnas_cli.networks.size import network_size
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.search_space import EDGES, NONE, OPERATIONS, Genotype, live_nodes
from cpnas_cli.settings import Config, DataConfig, NetworkConfig
from cpnas_cli.storage.genotype_file import genotype_document
from cpnas_cli.training.trained_network import Normalization, TrainedNetwork, write_trained

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
PRECISIONS: tuple[Precision, ...] = ("binary", "full")
CLASSES = ["airplane", "cat", "ship", "lorry"]
runner = CliRunner()


def draw_genotype(seed: int) -> Genotype:
    """Every operation once per cell, in the reduction cell at stride 2; which edge has which is random."""
    generator = np.random.default_rng(seed)
    from_inputs = [edge for edge, (source, _) in enumerate(EDGES) if source < 2]

    def cell(edges: list[int]) -> tuple[str, ...]:
        chosen = dict(zip(generator.permutation(edges).tolist(), OPERATIONS[1:], strict=False))
        return tuple(chosen.get(edge, NONE) for edge in range(len(EDGES)))

    while True:
        genotype = Genotype(cell(list(range(len(EDGES)))), cell(from_inputs))
        if len(live_nodes(genotype.normal)) == 6:
            return genotype


def with_dead_node(genotype: Genotype) -> Genotype:
    ops = [NONE if node == 3 else op for op, (_, node) in zip(genotype.normal, EDGES, strict=True)]
    return Genotype(tuple(ops), genotype.reduce)


def build(genotype: Genotype, precision: Precision, **settings: Any) -> Network:
    """A network whose batch norms have random statistics and weights, some of them negative."""
    network = build_network(
        NetworkConfig.model_validate({"num_cells": 3, "num_channels": 4, "stem_multiplier": 2, **settings}),
        precision=precision,
        num_image_channels=3,
        num_classes=len(CLASSES),
        seed=1,
        genotype=genotype,
    )
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, BatchNorm):
                size = module.weight.shape
                module.running_mean.copy_(torch.randn(size, generator=generator) / 2)
                module.running_var.copy_(torch.rand(size, generator=generator) * 4 + 0.5)
                module.weight.copy_(torch.randn(size, generator=generator))
                module.bias.copy_(torch.randn(size, generator=generator) / 2)
    return network.eval()


def trained_of(network: Network, genotype: Genotype, *, image_size: int) -> TrainedNetwork:
    config = Config(data=DataConfig(image_size=image_size), network=network.settings)
    return TrainedNetwork(network, config, genotype, {"seed": 1}, tuple(CLASSES), Normalization(MEAN, STD), 3)


def draw_pixels(count: int, size: int) -> Tensor:
    return torch.randint(256, (count, 3, size, size), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


def normalize(pixels_BCHW: Tensor) -> Tensor:
    return Pipeline(DataConfig(), MEAN, STD).normalize(pixels_BCHW)


@torch.no_grad()
def logits_of(network: Network, pixels_BCHW: Tensor) -> np.ndarray:
    return network(normalize(pixels_BCHW)).logits.numpy()


def run(model: bytes, images_BCHW: Tensor) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    logits = session.run(["logits"], {"images": images_BCHW.contiguous().numpy()})[0]
    assert isinstance(logits, np.ndarray)
    return logits


def filters_of(model: onnx.ModelProto) -> list[np.ndarray]:
    """The filters of every convolution of the graph."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return [arrays[node.input[1]] for node in model.graph.node if node.op_type == "Conv"]


def num_magnitudes(filters: np.ndarray) -> int:
    """The most different absolute values that one filter has."""
    return max(len(np.unique(np.abs(one))) for one in filters)


# ---------------------------------------------------------------- the graph against PyTorch


@pytest.mark.parametrize(
    ("genotype", "size", "settings", "num_real"),
    [
        # the stem
        (draw_genotype(0), 8, {}, 1),
        # and, in 3 cells, 2 preprocessings, one of which reduces in 2 halves, and the skips of 2 reduction cells
        (
            with_dead_node(draw_genotype(1)),
            16,
            {
                "shortcut": False,
                "real_parts": ["preprocessing", "factorized_reduction"],
                "stem_stride": 2,
                "estimator": "polynomial",
            },
            1 + 6 + 1 + 2 * 2,
        ),
    ],
    ids=["all 1-bit", "real parts"],
)
def test_a_child_gives_the_same_scores_and_is_folded(
    genotype: Genotype, size: int, settings: dict[str, Any], num_real: int, tmp_path: Path
) -> None:
    network = build(genotype, "binary", **settings)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    write_onnx(trained_of(network, genotype, image_size=size), tmp_path / "model.onnx")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())

    data = (tmp_path / "model.onnx").read_bytes()
    pixels = draw_pixels(60, size)
    expected = logits_of(network, pixels)
    found = run(data, pixels)
    assert found.shape == expected.shape == (60, len(CLASSES))
    assert np.ptp(expected, axis=0).min() > 0.1  # the images matter
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    for count in (1, 5):
        np.testing.assert_allclose(run(data, pixels[:count]), found[:count], rtol=1e-4, atol=1e-4)

    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    check_child_filters(model, network, num_real=num_real)
    check_description(model, genotype, size=size, network="child")


def check_child_filters(model: onnx.ModelProto, network: Network, *, num_real: int) -> None:
    filters = filters_of(model)
    binary = [one for one in filters if num_magnitudes(one) == 1]
    assert len(binary) == sum(isinstance(module, BinaryConv2d) for module in network.modules())
    # products of matrices, in float64, where the sums are not of whole numbers
    assert len(filters) == len(binary)
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    assert len(products) == num_real
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert {types[node.input[0]] for node in products} == {onnx.TensorProto.DOUBLE}
    # nothing is stored twice: latent filters, alpha, or statistics. 16: constants of the graph
    size = network_size(network)
    arrays = map(numpy_helper.to_array, model.graph.initializer)
    num_stored = sum(array.size for array in arrays if array.dtype.kind == "f")
    assert num_stored <= size.num_binary_weights + size.num_real_values + 2 * size.num_thresholds + 16
    # no arithmetic on constants is left
    constants = {tensor.name for tensor in model.graph.initializer}
    assert not [node for node in model.graph.node if node.input and constants.issuperset(node.input)]


def check_description(model: onnx.ModelProto, genotype: Genotype, *, size: int, network: NetworkName) -> None:
    images, logits = model.graph.input[0], model.graph.output[0]
    assert (images.name, logits.name) == ("images", "logits")
    assert (len(model.graph.input), len(model.graph.output)) == (1, 1)
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    shape = [dim.dim_param or dim.dim_value for dim in images.type.tensor_type.shape.dim]
    assert shape == ["batch", 3, size, size]
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata.pop("schema") == "cpnas.onnx/1"
    assert metadata.pop("network") == network
    assert metadata.pop("exactness") == EXACTNESS[network]
    metadata.pop("cpnas")
    assert {key: json.loads(value) for key, value in metadata.items()} == {
        "classes": CLASSES,
        "image_size": size,
        "num_image_channels": 3,
        "mean": list(MEAN),
        "std": list(STD),
        "genotype": genotype_document(genotype, provenance={"seed": 1}),
    }
    assert b".py" not in model.SerializeToString()  # no path of the machine that exported


def test_a_parent_with_float_input_gives_the_same_scores_also_in_int8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    network = build(draw_genotype(2), "full", num_channels=8)
    data = onnx_bytes(network, image_size=16)
    pixels = draw_pixels(64, 16)
    images = normalize(pixels)
    expected = logits_of(network, pixels)
    found = run(data, images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    model = onnx.load_from_string(data)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}

    quantized = int8_bytes(data, images.split(16))
    assert list(tmp_path.iterdir()) == []
    graph = onnx.load_from_string(quantized).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    filters = [array for array in stored.values() if array.ndim == 4]
    assert len(filters) == len(filters_of(model))
    assert {array.dtype for array in filters} == {np.dtype(np.int8)}
    scales = {name: array for name, array in stored.items() if name.endswith("weight_scale")}
    assert max(array.size for array in scales.values()) > 1  # one per channel
    zero_points = [array for name, array in stored.items() if name.startswith("images") and "zero_point" in name]
    assert [array.dtype for array in zero_points] == [np.dtype(np.uint8)]
    in_int8 = run(quantized, images)
    assert (in_int8.argmax(1) == expected.argmax(1)).mean() >= 0.85
    assert 0 < np.abs(in_int8 - expected).mean() < 0.1 * expected.std()
    assert capsys.readouterr() == ("", "")


def test_folding_changes_no_score_without_the_exporter() -> None:
    """The part of the export that is ours, over more genotypes than the exporter has time for."""
    pixels = draw_pixels(8, 8)
    for seed in range(4):
        for precision in PRECISIONS:
            tolerance = 1e-4 if precision == "binary" else 1e-3
            network = build(draw_genotype(seed), precision, num_cells=5, shortcut=seed % 2 == 0)
            expected = logits_of(network, pixels)
            copied = folded(network)
            np.testing.assert_allclose(logits_of(copied, pixels), expected, rtol=tolerance, atol=tolerance)
            assert not any(isinstance(module, BinaryConv2d | BatchNorm) for module in copied.modules())


# ---------------------------------------------------------------- cpnas export


SMALL = Genotype(*[tuple("sep_conv_3x3" if edge in ((0, 2), (1, 5)) else NONE for edge in EDGES)] * 2)


def save_run(folder: Path, *precisions: Precision) -> Path:
    """A run's folder with untrained networks: the first one is its model, the second its Parent."""
    genotype = SMALL
    for precision, name in zip(precisions, (RunFolder.MODEL, RunFolder.PARENT_MODEL), strict=False):
        network = build(genotype, precision)
        write_trained(trained_of(network, genotype, image_size=8), folder / name)
    return folder


def test_a_child_as_onnx_is_said_to_save_nothing(tmp_path: Path) -> None:
    folder = save_run(tmp_path / "run", "binary", "full")
    answers = {
        name: runner.invoke(app, ["export", str(folder), "--format", "onnx", "--network", name])
        for name in ("child", "parent")
    }
    assert [answer.exit_code for answer in answers.values()] == [0, 0]
    assert answers["child"].stderr.startswith("note: ONNX knows no 1-bit weights")
    assert answers["parent"].stderr == ""


def test_the_command_writes_a_parent(tmp_path: Path) -> None:
    folder = save_run(tmp_path / "run", "binary", "full")
    answer = runner.invoke(app, ["export", str(folder), "--format", "onnx", "--network", "parent", "--json"])
    assert answer.exit_code == 0, answer.output
    file = folder / "parent.onnx"
    assert json.loads(answer.stdout) == {
        "schema": "cpnas.export/1",
        "format": "onnx",
        "file": str(file),
        "bytes": file.stat().st_size,
        "header_bytes": None,
        "network": "parent",
    }
    assert answer.stderr == ""
    pixels = draw_pixels(4, 8)
    expected = logits_of(build(SMALL, "full"), pixels)
    np.testing.assert_allclose(run(file.read_bytes(), pixels), expected, rtol=1e-3, atol=1e-3)
    check_description(onnx.load(file), SMALL, size=8, network="parent")


def test_the_command_writes_a_packed_child(tmp_path: Path) -> None:
    folder = save_run(tmp_path / "run", "binary")
    for words, file in (([], folder / "model.packed.safetensors"), (["--out", "new/a.st"], tmp_path / "new" / "a.st")):
        words = [str(tmp_path / word) if "/" in word else word for word in words]
        answer = runner.invoke(app, ["export", str(folder), "--format", "packed", *words])
        assert answer.exit_code == 0, answer.output
        size, header = file.stat().st_size, 8 + int.from_bytes(file.read_bytes()[:8], "little")
        assert answer.stdout == f"{file}: {size:,} bytes, {header:,} of them header (packed, child)\n"
    answer = runner.invoke(app, ["export", str(folder), "--json"])
    assert json.loads(answer.stdout) == {
        "schema": "cpnas.export/1",
        "format": "packed",
        "file": str(folder / "model.packed.safetensors"),
        "bytes": size,
        "header_bytes": header,
        "network": "child",
    }
    assert file.stat().st_size < (folder / RunFolder.MODEL).stat().st_size / 4


@pytest.mark.parametrize(
    ("precisions", "words", "code", "message"),
    [
        ((), [], 1, "holds no trained network; `cpnas train GENOTYPE --out"),
        (("binary",), ["--format", "tflite"], 2, "unknown --format 'tflite'; choose from packed, onnx"),
        (("binary",), ["--network", "teacher"], 2, "unknown --network 'teacher'; choose from child, parent"),
        (("binary",), ["--network", "parent"], 1, "holds no trained parent"),
        (("full",), ["--network", "child"], 1, "holds no trained child"),
        (("full",), [], 2, "a Parent is not 1-bit and has no packed form; type --format onnx"),
        (("binary", "full"), ["--network", "parent"], 2, "a Parent is not 1-bit"),
    ],
)
def test_what_cannot_be_exported_is_said_in_one_line(
    precisions: tuple[Precision, ...], words: list[str], code: int, message: str, tmp_path: Path
) -> None:
    folder = save_run(tmp_path / "run", *precisions)
    answer = runner.invoke(app, ["export", str(folder), *words])
    assert answer.exit_code == code
    assert answer.stdout == ""
    assert message in answer.stderr
    assert answer.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("*packed*"))


@pytest.mark.parametrize("format_", ["packed", "onnx"])
def test_a_place_that_cannot_be_written(format_: str, tmp_path: Path) -> None:
    folder = save_run(tmp_path / "run", "binary")
    out = folder / RunFolder.MODEL / "below a file"
    answer = runner.invoke(app, ["export", str(folder), "--format", format_, "--out", str(out)])
    assert answer.exit_code == 1
    assert answer.stderr == f"cpnas: error: cannot write {out}: File exists; choose another --out\n"


def test_the_trained_network_is_never_replaced(tmp_path: Path) -> None:
    folder = save_run(tmp_path / "run", "binary")
    before = (folder / RunFolder.MODEL).read_bytes()
    answer = runner.invoke(app, ["export", str(folder), "--out", str(folder / ".." / "run" / RunFolder.MODEL)])
    assert answer.exit_code == 2
    assert "would replace the trained network itself" in answer.stderr
    assert (folder / RunFolder.MODEL).read_bytes() == before


def test_a_damaged_network_is_an_error_of_ours(tmp_path: Path) -> None:
    folder = save_run(tmp_path / "run", "binary")
    (folder / RunFolder.MODEL).write_bytes(b"no tensors")
    answer = runner.invoke(app, ["export", str(folder)])
    assert answer.exit_code == 1
    assert "is truncated or not ours" in answer.stderr


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_without_the_extra_one_line_says_what_to_type(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else found(name))
    folder = save_run(tmp_path / "run", "binary")
    answer = runner.invoke(app, ["export", str(folder), "--format", "onnx"])
    assert answer.exit_code == 1
    assert f"needs {missing} of the onnx extra" in answer.stderr
    assert "type: pip install 'cpnas[onnx]'" in answer.stderr
    for call in (
        check_onnx,
        lambda: onnx_bytes(build(SMALL, "full"), image_size=8, normalization=Normalization(MEAN, STD)),
        lambda: int8_bytes(b"", []),
    ):
        with pytest.raises(CpnasError, match=r"pip install 'cpnas\[onnx\]'"):
            call()
    assert runner.invoke(app, ["export", str(folder)]).exit_code == 0  # packed needs none of it
