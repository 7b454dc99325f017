"""The estimate of what 1 bit saves: closed forms, torch's own counter, published counts, and the commands."""

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet18 as imagenet_resnet18
from typer.testing import CliRunner, Result

from cpnas_cli.cli.app import app
from cpnas_cli.cli.render.efficiency import amount, layer_table, size
from cpnas_cli.efficiency.baselines import DESCRIPTIONS, HAND_CRAFTED, resnet18, wide_resnet
from cpnas_cli.efficiency.estimate import NetworkEstimate, Storage, compare, estimate, xnor_speedup
from cpnas_cli.networks.dataflow import (
    Dataflow,
    Elementwise,
    Held,
    Read,
    Step,
    dataflow_of,
    elementwise_of,
    held_values,
    peak_memory,
    stored_bits_per_element,
)
from cpnas_cli.networks.layers import Surroundings, layers_of
from cpnas_cli.networks.network import Network, build_network
from cpnas_cli.networks.shapes import Precision
from cpnas_cli.networks.size import network_size
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.search_space import EDGES, OPERATIONS, Genotype, draw_uniform
from cpnas_cli.settings import NetworkConfig, load_config
from cpnas_cli.storage.documents import write_json
from cpnas_cli.storage.genotype_file import genotype_document

PRECISIONS: tuple[Precision, ...] = ("binary", "full")
CIFAR = Surroundings(32, 3, 10)
SMALL = Surroundings(8, 1, 3)
RUNNER = CliRunner()

# Node 2 is the sum of a separable convolution and a pooling; of a reduction cell one edge is left.
BY_HAND = Genotype(("sep_conv_3x3", "max_pool_3x3", *["none"] * 12), ("skip_connect", *["none"] * 13))
TINY = NetworkConfig(num_cells=3, num_channels=2, stem_multiplier=1)


def _every_operation() -> Genotype:
    """Each of the 7 operations twice in a cell; in the reduction cell at stride 2 and at stride 1."""
    twice = OPERATIONS[1:] * 2
    inputs_first = sorted(range(14), key=lambda edge: EDGES[edge][0] > 1)
    reduce = dict(zip(inputs_first, twice, strict=True))
    return Genotype(twice, tuple(reduce[edge] for edge in range(14)))


GENOTYPES = {"every operation": _every_operation(), "by hand": BY_HAND} | {
    f"seed {seed}": draw_uniform(seed=seed) for seed in range(3)
}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "strided stem": {"stem_stride": 2, "num_channels": 6, "stem_multiplier": 3},
    "real parts": {"real_parts": ("preprocessing", "factorized_reduction"), "num_cells": 5},
    "no shortcut": {"shortcut": False},
    "residual": {"block": "residual", "group_width": 2, "stem_stride": 2, "activation": "rprelu"},
}


def network_of(settings: NetworkConfig, genotype: Genotype, shape: Surroundings, precision: Precision) -> Network:
    return build_network(
        settings,
        precision=precision,
        num_image_channels=shape.num_image_channels,
        num_classes=shape.num_classes,
        seed=0,
        genotype=genotype,
    )


def macs_by_module(network: nn.Module, shape: Surroundings, *, batch: int = 2) -> dict[str, int]:
    """{module: multiply-accumulates for one image} by torch's counter, which counts each twice; "Global": all."""
    images = torch.zeros(batch, shape.num_image_channels, shape.image_size, shape.image_size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(images.to(next(network.parameters()).device))
    return {name: sum(counts.values()) // (2 * batch) for name, counts in counter.get_flop_counts().items()}


def by_name(network: NetworkEstimate) -> dict[str, Any]:
    return {layer.name: layer for layer in network.layers}


# ---------------------------------------------------------------- one layer


@pytest.mark.parametrize(
    ("inputs_per_filter", "num_taps", "text"), [(256, 9, "62.27"), (1, 9, "7.89"), (16, 1, "12.80"), (1, 1, "0.98")]
)
def test_the_speedup_of_one_layer(inputs_per_filter: int, num_taps: int, text: str) -> None:
    """The published figure, and the ratio of the two costs at some number of output positions."""
    speedup = xnor_speedup(inputs_per_filter, num_taps)
    assert f"{speedup:.2f}" == text
    positions = 49
    full = inputs_per_filter * num_taps * positions
    assert speedup == pytest.approx(full / (full / 64 + positions))


# ---------------------------------------------------------------- multiply-accumulates


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("genotype", ["every operation", "seed 1"])
def test_every_layer_has_the_macs_that_torch_counts(genotype: str, variant: str, precision: Precision) -> None:
    settings = NetworkConfig.model_validate({"num_channels": 4, "stem_multiplier": 1, **VARIANTS[variant]})
    shape = Surroundings(16, 3, 5)
    network = network_of(settings, GENOTYPES[genotype], shape, precision).train()
    counted = macs_by_module(network, shape)
    estimated = estimate(dataflow_of(settings, GENOTYPES[genotype], shape, precision=precision))
    assert estimated.macs == counted["Global"]
    assert {layer.name: layer.macs for layer in estimated.layers if layer.macs} == {
        layer.name: counted[f"Network.{layer.name}"] for layer in estimated.layers if layer.macs
    }
    assert estimated.macs == estimated.bops + estimated.flops


def test_an_evaluation_has_the_same_macs() -> None:
    """In evaluation mode the Child sums signs and real products in a way of its own."""
    settings, genotype = NetworkConfig(num_channels=4), GENOTYPES["every operation"]
    network = network_of(settings, genotype, SMALL, "binary").eval()
    assert (
        estimate(dataflow_of(settings, genotype, SMALL, precision="binary")).macs
        == (macs_by_module(network, SMALL)["Global"])
    )


@pytest.mark.parametrize("genotype", GENOTYPES)
def test_the_parent_has_the_macs_of_its_child_and_all_are_real(genotype: str) -> None:
    child, parent = (
        estimate(dataflow_of(TINY, GENOTYPES[genotype], SMALL, precision=precision)) for precision in PRECISIONS
    )
    assert parent.macs == child.macs == parent.flops == parent.ops
    assert parent.bops == 0
    assert child.bops > 0


def test_what_is_left_real_is_in_the_flops() -> None:
    settings = TINY.model_copy(update={"real_parts": ("preprocessing",)})
    plain, kept = (estimate(dataflow_of(network, BY_HAND, SMALL, precision="binary")) for network in (TINY, settings))
    # the 1x1 convolutions of the preprocessing, see the counts by hand below
    assert kept.flops - plain.flops == plain.bops - kept.bops == 256 + 256 + 512 + 2048 + 2048
    assert kept.storage.real_weights == 32 * (4 + 4 + 8 + 32 + 128)


# ---------------------------------------------------------------- a whole network by hand


def test_the_operations_of_a_network_by_hand() -> None:
    """2 channels, a stem of 2, grey 8x8 pixels, 3 classes; cells of 2, 4 and 8 channels."""
    child = estimate(dataflow_of(TINY, BY_HAND, SMALL, precision="binary"))
    stem, classifier = 9 * 2 * 64, 32 * 3
    first = 2 * (2 * 2 * 64) + 9 * 2 * 64 + 2 * 2 * 64
    second = 2 * 4 * 64 + 8 * 4 * 64 + 4 * 4 * 16
    third = 8 * 8 * 16 + 16 * 8 * 16 + 8 * 8 * 4
    assert (child.flops, child.bops) == (stem + classifier, first + second + third) == (1248, 8064)
    assert child.ops == 1248 + 8064 / 64 == 1374
    outputs = 4 * 128 + 2 * 256 + 64 + 2 * 128 + 32  # of the 1-bit layers
    assert child.xnor_cost == 1374 + outputs == 2750
    assert child.elementwise == Elementwise(
        affine=5 * 128 + 2 * 256 + 64 + 2 * 128 + 32 + 3,
        threshold=128,
        pool=9 * 128,
        sum=128,
        # the first cell's inputs; 8 channels -> 4; 8 -> 8 with 2x2 means of 64 pixels before; 16 -> 8
        shortcut=128 + 128 + 8 * 64 + (8 * 16 + 8 * 64) + 16 * 16,
        # stem, what the separable convolution reads, node 2 of the first cell, what the reduction reads, its
        # result, what the last reduction reads
        activation=128 + 128 + 128 + 256 + 64 + 128,
        mean=32 * 4,
    )
    assert child.ops_with_elementwise == 1374 + 5539


def test_the_parent_by_hand_differs_in_its_threshold_alone() -> None:
    child, parent = (
        estimate(dataflow_of(TINY, BY_HAND, SMALL, precision=precision)).elementwise for precision in PRECISIONS
    )
    assert child.total - parent.total == child.threshold == 128
    assert parent.activation == child.activation  # a ReLU for every sign


def test_the_stored_bits_of_a_network_by_hand() -> None:
    child, parent = (
        estimate(dataflow_of(TINY, BY_HAND, SMALL, precision=precision)).storage for precision in PRECISIONS
    )
    weights = (4 + 4 + 18 + 4) + (8 + 32 + 16) + (64 + 128 + 64)
    norms = 4 * 2 + 3 * 4 + 3 * 8
    stem, classifier = 32 * (18 + 4), 32 * (96 + 3)
    assert child == Storage(weights, 0, 8 * 2, 64 * norms, stem, classifier)
    assert parent == Storage(0, 32 * weights, 0, 64 * norms, stem, classifier)
    assert child.total == 342 + 16 + 2816 + 704 + 3168


def test_the_ratios_by_hand() -> None:
    flows = [dataflow_of(TINY, BY_HAND, SMALL, precision=precision) for precision in PRECISIONS]
    child, parent = map(estimate, flows)
    savings = compare(child, parent)
    assert savings.macs == 1
    assert savings.speedup == 9312 / 1374
    assert savings.speedup_xnor == 9312 / 2750
    assert savings.speedup_with_elementwise == (9312 + 5411) / (1374 + 5539)
    assert savings.memory == (32 * 342 + 2816 + 704 + 3168) / 7046
    same = compare(parent, parent)
    assert compare(child, estimate(resnet18(CIFAR))).macs == (555_417_600 + 5 * 1024) / 9312
    assert {same.memory, same.activation_memory, same.speedup, same.speedup_xnor} == {1.0}


@pytest.mark.parametrize("genotype", GENOTYPES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_stored_values_are_those_of_the_network(variant: str, genotype: str) -> None:
    """Binary weights, real values and thresholds, each counted by the modules themselves."""
    settings = NetworkConfig.model_validate({"num_channels": 4, **VARIANTS[variant]})
    for precision in PRECISIONS:
        size = network_size(network_of(settings, GENOTYPES[genotype], SMALL, precision))
        storage = estimate(dataflow_of(settings, GENOTYPES[genotype], SMALL, precision=precision)).storage
        real_bits = storage.total - storage.binary_weights - storage.thresholds
        assert storage.binary_weights == size.num_binary_weights
        assert (real_bits, storage.thresholds) == (32 * size.num_real_values, 8 * size.num_thresholds)
        assert storage.total == size.size_bits


# ---------------------------------------------------------------- the flow of values


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("genotype", GENOTYPES)
def test_a_value_is_given_before_it_is_read(genotype: str, precision: Precision) -> None:
    settings = NetworkConfig(num_cells=5, num_channels=4)
    flow = dataflow_of(settings, GENOTYPES[genotype], SMALL, precision=precision)
    assert flow.layers == layers_of(settings, GENOTYPES[genotype], SMALL, precision=precision)
    last_written = {step.writes: index for index, step in enumerate(flow.steps)}
    for index, step in enumerate(flow.steps):
        for read in step.reads:
            assert read.value == "image" or last_written[read.value] < index, (step.name, read)
    given = Counter()
    for step in flow.steps:
        given[step.writes] += step.num_outputs - step.num_added
    assert given == {value: count for value, count in flow.num_elements.items() if value != "image"}


class _ElementCounter(TorchDispatchMode):
    """Elements that element-wise operations give: {operation: elements}; of a mean those that it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        first = result[0] if isinstance(result, tuple) else result
        name = func.overloadpacket.__name__
        if name == "avg_pool2d":
            name += f" {args[1][0]}x{args[1][0]}"
        if isinstance(first, Tensor):
            self.counts[name] += args[0].numel() if name == "mean" else first.numel()
        return result


@pytest.mark.parametrize("genotype", GENOTYPES)
def test_the_elementwise_work_of_a_parent_is_what_torch_does(genotype: str) -> None:
    settings = NetworkConfig(num_cells=5, num_channels=4, stem_multiplier=2)
    network = network_of(settings, GENOTYPES[genotype], SMALL, "full").eval()
    with torch.no_grad(), _ElementCounter() as counter:
        network(torch.zeros(1, 1, 8, 8))
    counts = counter.counts
    estimated = estimate(dataflow_of(settings, GENOTYPES[genotype], SMALL, precision="full")).elementwise
    assert estimated.affine == counts["native_batch_norm"] + SMALL.num_classes
    assert estimated.pool == 9 * (counts["max_pool2d_with_indices"] + counts["avg_pool2d 3x3"])
    assert estimated.mean == counts["mean"]
    assert estimated.shortcut == counts["mul"] + 4 * counts["avg_pool2d 2x2"]
    assert estimated.sum == counts["add"] - counts["mul"]  # a shortcut adds what it multiplied


# ---------------------------------------------------------------- memory of the values


def test_the_memory_of_a_sum_by_hand() -> None:
    """image -> a; two edges read its sign and are summed into s; the sign of s is all that is read."""
    flow = Dataflow(
        (
            Step("first", (Read("image"),), "a", 10),
            Step("left", (Read("a", "sign"),), "s", 20, shares=True),
            Step("right", (Read("a", "sign"),), "s", 20, num_added=20, shares=True),
            Step("last", (Read("s", "sign"),), "scores", 1),
        ),
        {"image": 10, "a": 10, "s": 20, "scores": 1},
    )
    assert held_values(flow) == [
        Held("image", 320, 0, 0),
        Held("a", 10, 0, 2),
        Held("s", 640, 1, 2),
        Held("s", 20, 2, 3),
        Held("scores", 32, 3, 3),
    ]
    assert peak_memory(flow) == (10 + 640 + 20, "right")
    assert stored_bits_per_element(flow) == {"image": 32, "a": 1, "s": 33, "scores": 32}
    assert [count.activation for count in elementwise_of(flow)] == [10, 0, 20, 0]


def test_halves_side_by_side_are_held_from_the_first() -> None:
    flow = Dataflow(
        (
            Step("even", (Read("image"),), "a", 5),
            Step("odd", (Read("image"),), "a", 5),
            Step("last", (Read("a", "sign"),), "scores", 1),
        ),
        {"image": 10, "a": 10, "scores": 1},
    )
    assert held_values(flow) == [Held("image", 320, 0, 1), Held("a", 10, 0, 2), Held("scores", 32, 2, 2)]


def test_the_peak_of_a_network_by_hand() -> None:
    """Only input 0 goes on, as skips; the worst moment is the unread second input of the second cell."""
    genotype = Genotype(("skip_connect", *["none"] * 13), ("skip_connect", *["none"] * 13))
    settings = TINY.model_copy(update={"shortcut": False})
    child, parent = (
        estimate(dataflow_of(settings, genotype, SMALL, precision=precision)).peak for precision in PRECISIONS
    )
    assert child.step == parent.step == "cells.1.preprocessing.1.convolution.pointwise"
    # node 2 of the first cell (128 elements), the first input (256), the second (256)
    assert child.bits == 128 + 256 + 32 * 256
    assert parent.bits == 32 * (128 + 256 + 256)


def test_the_bits_that_a_layer_reads_and_gives() -> None:
    layers = by_name(estimate(dataflow_of(TINY, BY_HAND, SMALL, precision="binary")))
    stem, depthwise = layers["stem"], layers["cells.0.edges.0.sep_conv_3x3.depthwise"]
    assert (stem.activation_bits_in, stem.activation_bits_out) == (32 * 64, 33 * 128)  # its shortcut, its signs
    assert (depthwise.activation_bits_in, depthwise.activation_bits_out) == (128, 128)
    pool = layers["cells.0.edges.1.max_pool_3x3"]
    assert (pool.activation_bits_in, pool.precision, pool.size_bits) == (32 * 128, "none", 64 * 2)


# ---------------------------------------------------------------- baselines


def num_parameters(flow: Dataflow) -> int:
    return sum(layer.num_real_values for layer in flow.layers)


def test_resnet18_is_torchvisions_with_a_small_stem() -> None:
    with torch.device("meta"):
        network = imagenet_resnet18(num_classes=10).eval()
        network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        network.maxpool = nn.Identity()  # type: ignore[assignment]
    flow = resnet18(CIFAR)
    assert num_parameters(flow) == sum(p.numel() for p in network.parameters()) == 11_173_962
    macs = estimate(flow).macs
    assert macs == macs_by_module(network, CIFAR)["Global"]
    assert f"{macs / 1e9:.2f}" == "0.56"


@pytest.mark.parametrize(
    ("depth", "width", "millions"), [(22, 8, "17.2"), (40, 4, "8.9"), (28, 10, "36.5"), (16, 8, "11.0")]
)
def test_wide_resnets_have_their_published_sizes(depth: int, width: int, millions: str) -> None:
    assert f"{num_parameters(wide_resnet(CIFAR, depth=depth, width=width)) / 1e6:.1f}" == millions


def test_wrn_28_10_has_its_published_operations() -> None:
    flow = wide_resnet(CIFAR, depth=28, width=10)
    assert num_parameters(flow) == 36_479_194
    assert f"{estimate(flow).macs / 1e9:.1f}" == "5.2"


class _WideBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(in_channels), nn.BatchNorm2d(out_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.project = (
            nn.Conv2d(in_channels, out_channels, 1, stride, bias=False) if in_channels != out_channels else None
        )

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.norm1(x))
        result = self.conv2(F.relu(self.norm2(self.conv1(active))))
        return result + (self.project(active) if self.project else x)


@pytest.mark.parametrize("image_size", [32, 10])
def test_wrn22_is_a_wide_resnet_of_torch(image_size: int) -> None:
    shape = Surroundings(image_size, 3, 10)
    with torch.device("meta"):
        blocks = [
            _WideBlock(channels if block else before, channels, 2 if stage and not block else 1)
            for stage, (before, channels) in enumerate([(16, 64), (64, 128), (128, 256)])
            for block in range(3)
        ]
        tail = [nn.BatchNorm2d(256), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10)]
        network = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), *blocks, *tail).eval()
        counted = macs_by_module(network, shape)["Global"]
        with torch.no_grad(), _ElementCounter() as counter:
            network(torch.zeros(1, 3, image_size, image_size))
    flow = HAND_CRAFTED["wrn22"](shape)
    estimated = estimate(flow)
    assert num_parameters(flow) == sum(p.numel() for p in network.parameters())
    assert estimated.macs == counted
    assert estimated.elementwise == Elementwise(
        affine=counter.counts["native_batch_norm"] + 10,
        sum=counter.counts["add"],
        activation=counter.counts["relu"],
        mean=counter.counts["mean"],
    )


def test_the_peak_of_resnet18_is_three_feature_maps() -> None:
    """The input of a block, which its shortcut still needs, and what its second convolution reads and gives."""
    assert estimate(resnet18(CIFAR)).peak == (3 * 64 * 32 * 32 * 32, "stages.0.0.2")


def test_every_baseline_has_a_description() -> None:
    assert set(DESCRIPTIONS) == {"parent", *HAND_CRAFTED}
    with pytest.raises(ValueError, match="6 n \\+ 4, got 23"):
        wide_resnet(CIFAR, depth=23, width=1)


# ---------------------------------------------------------------- the commands


@pytest.fixture(autouse=True)
def _in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def genotype_file(tmp_path: Path) -> Path:
    write_json(tmp_path / "found.json", genotype_document(BY_HAND, provenance={}))
    return tmp_path / "found.json"


def make_run(folder: Path, *settings: str, image_channels: int, num_classes: int, training: bool) -> Path:
    """What a run leaves behind, as far as the estimate reads it."""
    run, config = RunFolder(folder), load_config(overrides=settings)
    write_json(run.file(RunFolder.GENOTYPE), genotype_document(BY_HAND, provenance={}))
    run.file(RunFolder.CONFIG).write_text(json.dumps(config.model_dump(mode="json")))
    shape = [image_channels, config.data.image_size, config.data.image_size]
    classes = [f"class {label}" for label in range(num_classes)]
    write_json(run.file(RunFolder.DATASET), {"image_shape": shape, "classes": classes})
    if training:
        write_json(run.file(RunFolder.TRAINING), {"networks": ["child"]})
    return folder


def invoke(*words: str | Path) -> Result:
    result = RUNNER.invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def report(*words: str | Path) -> dict[str, Any]:
    result = invoke("estimate-efficiency", *words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def error_line(*words: str | Path, code: int) -> str:
    result = invoke("estimate-efficiency", *words)
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("cpnas: error: ")
    return result.stderr


PUBLISHED = ("network.block=separable", "network.real_format=float32", "network.weight_format=float32")
SMALL_SETTINGS = ("network.num_channels=2", "network.stem_multiplier=1", *PUBLISHED)
SMALL_OPTIONS = ("--num-classes", "3", *(word for setting in SMALL_SETTINGS for word in ("--set", setting)))


def test_the_record_holds_the_counts_by_hand(genotype_file: Path) -> None:
    document = report(genotype_file, *SMALL_OPTIONS)
    assert document["schema"] == "cpnas.efficiency/1"
    assert [document[key] for key in ("image_size", "num_image_channels", "num_classes")] == [8, 1, 3]
    assert document["totals"]["ops"] == 1374
    assert document["totals"]["size_bits"] == sum(document["totals"]["size_bits_parts"].values()) == 7046
    assert document["totals"]["elementwise"] == sum(document["totals"]["elementwise_parts"].values()) == 5539
    assert document["savings"]["speedup"] == 9312 / 1374
    assert document["baseline"]["name"] == "parent"
    assert sum(layer["macs"] for layer in document["layers"]) == 9312
    assert set(document["conventions"]) <= document["totals"].keys()


def test_both_names_of_the_command_do_the_same(genotype_file: Path) -> None:
    results = [invoke(*words, genotype_file, "--json") for words in (["estimate-efficiency"], ["efficiency", "report"])]
    assert results[0].stdout == results[1].stdout != ""
    assert [result.exit_code for result in results] == [0, 0]


def test_the_table_shows_layers_totals_and_what_they_do_not_say(genotype_file: Path) -> None:
    brief = invoke("estimate-efficiency", genotype_file, *SMALL_OPTIONS, "--baseline", "wrn22").stdout
    result = invoke("estimate-efficiency", genotype_file, *SMALL_OPTIONS, "--baseline", "wrn22", "--layers")
    assert result.exit_code == 0
    totals, says = brief.rsplit("\n\n", 1)
    assert result.stdout.startswith(totals)  # first what counts; each layer behind it
    assert says.split()[1:4] == ["layers:", "--layers", "shows"]
    rows = [line.split() for line in result.stdout.splitlines()]
    [depthwise] = [row for row in rows if row[:2] == ["0.0", "sep_conv_3x3.depthwise"]]
    assert " ".join(depthwise[2:]) == "1 2x8² > 2x8² 1.15 k 18 128 7.89 4 B 16 B 16 B"
    [ops] = [row for row in rows if row[:2] == ["OPs", "="]]
    assert ops[7:9] == ["1.37", "k"]
    for part in ("WRN-22-4 in full precision, divided by", "counts, not times", "not accuracies"):
        assert part in result.stdout
    assert result.stderr == "settings: preset digits\n"


def test_a_narrow_terminal_has_room_for_the_figures(genotype_file: Path) -> None:
    """The longest names and the largest figures of a preset, in 80 columns; nothing is cut."""
    write_json(genotype_file, genotype_document(GENOTYPES["every operation"], provenance={}))
    document = report(genotype_file, "--preset", "cifar10-large")
    output = io.StringIO()
    Console(width=80, file=output).print(layer_table(document, wide=False))
    text = output.getvalue()
    assert "19.13 dil_conv_5x5.depthwise" in text
    assert "…" not in text


def test_the_layers_as_csv(genotype_file: Path, tmp_path: Path) -> None:
    document = report(genotype_file, "--csv", tmp_path / "new/layers.csv")
    with (tmp_path / "new/layers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [layer["name"] for layer in document["layers"]]
    assert sum(int(row["bops"]) for row in rows) == document["totals"]["bops"]
    assert {row["xnor_speedup"] for row in rows if row["precision"] != "1-bit"} == {""}


def test_a_run_brings_its_own_settings_and_shapes(tmp_path: Path) -> None:
    settings = ("data.name=folder", "data.dir=gone", "data.image_size=16", "network.num_channels=6", *PUBLISHED)
    for training in (True, False):
        run = make_run(tmp_path / str(training), *settings, image_channels=3, num_classes=7, training=training)
        for path in (run, run / "genotype.json"):
            document = report(path)
            assert [document[key] for key in ("image_size", "num_image_channels", "num_classes")] == [16, 3, 7]
            assert document["network"]["num_channels"] == 6


def test_the_settings_of_a_search_can_be_changed_those_of_a_training_cannot(tmp_path: Path) -> None:
    search, training = (
        make_run(
            tmp_path / name,
            "network.num_channels=6",
            *PUBLISHED,
            image_channels=1,
            num_classes=10,
            training=name == "t",
        )
        for name in ("s", "t")
    )
    changed = report(search, "--set", "data.name=cifar100", "--set", "data.image_size=32")
    assert [changed[key] for key in ("image_size", "num_image_channels", "num_classes")] == [32, 3, 100]
    assert changed["network"]["num_channels"] == 6
    assert report(search, "--preset", "cifar10")["num_image_channels"] == 3
    message = error_line(training, "--set", "network.num_channels=8", code=2)
    assert "is a training, whose network is fixed" in message
    assert str(training / "genotype.json") in message
    assert report(training / "genotype.json", "--set", "network.num_channels=8")["network"]["num_channels"] == 8


@pytest.mark.parametrize("name", ["digits", "mnist", "fashion-mnist", "cifar10", "cifar100"])
def test_the_shapes_of_the_known_data_sets(genotype_file: Path, name: str) -> None:
    document = report(genotype_file, "--set", f"data.name={name}", "--set", "data.image_size=28")
    expected = {"cifar10": (3, 10), "cifar100": (3, 100)}.get(name, (1, 10))
    assert (document["num_image_channels"], document["num_classes"]) == expected
    grey = report(genotype_file, "--set", f"data.name={name}", "--set", "data.num_channels=1")
    assert grey["num_image_channels"] == 1


def test_a_folder_of_images_needs_its_shapes(genotype_file: Path) -> None:
    message = error_line(genotype_file, "--preset", "folder", code=2)
    assert "add --image-channels 1 or 3 and --num-classes N" in message
    message = error_line(genotype_file, "--preset", "folder", "--image-channels", "3", code=2)
    assert message.endswith("add --num-classes N\n")
    document = report(genotype_file, "--preset", "folder", "--image-channels", "1", "--num-classes", "2")
    assert (document["num_image_channels"], document["num_classes"]) == (1, 2)


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        (["missing.json"], 1, ["no genotype at missing.json", "cpnas search"]),
        (["broken.json"], 1, ["broken.json", "not complete JSON"]),
        (["found.json", "--baseline", "vgg"], 2, ["'vgg'", "parent, resnet18, wrn22"]),
        (["found.json", "--num-classes", "1"], 2, ["--num-classes", "at least 2", "'1'"]),
        (["found.json", "--num-classes", "²"], 2, ["--num-classes", "'²'"]),
        (["found.json", "--num-classes", "1" * 10], 2, ["--num-classes", "at most 9 digits"]),
        (["found.json", "--num-classes", "1" * 5000], 2, ["--num-classes", "at most 9 digits"]),
        (["found.json", "--image-channels", "1" * 5000], 2, ["--image-channels expects 1 or 3"]),
        (["found.json", "--image-channels", "2"], 2, ["--image-channels expects 1 or 3", "'2'"]),
        (["found.json", "--set", "network.num_channels=3"], 2, ["network.num_channels", "multiple of 2"]),
        (["found.json", "--preset", "digit"], 2, ["unknown preset 'digit'"]),
        (
            ["found.json", "--csv", "broken.json/layers.csv"],
            1,
            ["cannot write broken.json/layers.csv", "choose another --csv"],
        ),
        (["found.json", "--csv", "."], 1, ["cannot write .:", "choose another --csv"]),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_what_is_typed_wrong(genotype_file: Path, words: list[str], code: int, parts: list[str]) -> None:
    Path("broken.json").write_text('{"schema": "cpnas')
    message = error_line(*words, code=code)
    for part in parts:
        assert part in message
    assert "--resume" not in message


def test_a_damaged_record_of_the_images(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", image_channels=1, num_classes=10, training=False)
    (run / "dataset.json").write_text('{"image_shape": [1, 8, 8]}')
    assert "dataset.json does not say image_shape and classes" in error_line(run, code=1)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (12.25, "12.2"),
        (999.4, "999"),
        (1000, "1 k"),
        (99_960, "100 k"),
        (555_422_720, "555 M"),
        (5.2e9, "5.2 G"),
    ],
)
def test_amounts(number: float, text: str) -> None:
    assert amount(number) == text


def test_sizes() -> None:
    assert [size(bits) for bits in (0, 8 * 4, 8 * 1024, 8 * 1536 * 1024)] == ["0 B", "4 B", "1.0 KiB", "1.5 MiB"]
