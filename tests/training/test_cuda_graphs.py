"""Searches whose steps are captured and replayed: the same training, and nothing but the call from the host.

Where there is no CUDA, a tape stands in for a graph: it notes the tensor operations of one call and repeats
them on the same memory, without running any Python of ours.
"""

import contextlib
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY_SETTINGS
from tapes import Tape, tapes
from torch import Tensor

from cpnas_cli.binarization.convolution import BinaryConv2d
from cpnas_cli.data.dataset import load_dataset
from cpnas_cli.distributed.device import open_device
from cpnas_cli.errors import NonFiniteLossError
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.search_space import Genotype, draw_uniform
from cpnas_cli.settings import load_config
from cpnas_cli.strategies.base import Search
from cpnas_cli.strategies.cpnas.graphed_networks import GraphedNetworks
from cpnas_cli.strategies.cpnas.shared_networks import SharedNetworks
from cpnas_cli.training import cuda_graphs as graphs
from cpnas_cli.training.epoch import Score

on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


def make_search(folder: Path, *settings: str, device: str = "cpu") -> Search:
    config = load_config(overrides=[*TINY_SETTINGS, "data.num_train=210", *settings])
    return Search(RunFolder(folder), config, load_dataset(config.data), open_device(device, dtype=config.search.dtype))


@pytest.fixture
def exact_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another in every step, and each one that float32 holds: the replayed step reads it from a tensor."""
    monkeypatch.setattr(SharedNetworks, "learning_rate", lambda _, draw, step: 2.0 ** -(3 + draw + step))


def accuracies_of(networks: SharedNetworks, *, num_draws: int) -> list[dict[Any, Score]]:
    return [networks.scores(draw_uniform(seed=draw), draw=draw, starting=lambda _: None) for draw in range(num_draws)]


def numbers_of(scores: Mapping[Any, Score]) -> dict[str, float]:
    """What can be compared nearly: accuracy and probability of each network."""
    return {f"{name} {field}": value for name, score in scores.items() for field, value in score._asdict().items()}


def weights_of(networks: SharedNetworks) -> dict[str, Tensor]:
    return {name: values.cpu() for name, values in networks.tensors().items()}


@pytest.mark.usefixtures("exact_rates")
@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [("sgd", ("data.image_size=12", "data.crop_padding=1", "data.flip=true")), ("adam", ())],
)
def test_replayed_steps_train_the_same_weights(tmp_path: Path, optimizer: str, settings: tuple[str, ...]) -> None:
    search = make_search(tmp_path, f"search.optimizer={optimizer}", *settings)
    eager = SharedNetworks(search)
    streams = tapes()
    replayed = GraphedNetworks(search, streams=streams)
    assert accuracies_of(eager, num_draws=2) == accuracies_of(replayed, num_draws=2)
    for name, weights in weights_of(eager).items():
        assert torch.equal(weights, weights_of(replayed)[name])
    # 105 images are 5 steps of 20, of which the first two are warm-up; the validation is one batch
    assert all(stream.num_replays == [3, 0, 3, 0] for stream in streams.values())


@pytest.mark.usefixtures("exact_rates")
def test_a_validation_of_several_batches_counts_every_image_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = make_search(tmp_path)
    expected = accuracies_of(SharedNetworks(search), num_draws=1)
    monkeypatch.setattr("cpnas_cli.strategies.cpnas.graphed_networks.VALIDATION_BATCH_SIZE", 19)
    streams = tapes()
    (found,), (scores,) = accuracies_of(GraphedNetworks(search, streams=streams), num_draws=1), expected
    for name, score in scores.items():
        assert found[name].accuracy == score.accuracy
        assert found[name].probability == pytest.approx(score.probability, abs=1e-6)  # other batches, other sums
    assert all(stream.num_replays == [3, 4] for stream in streams.values())  # 105 = 5 * 19 + 10


@pytest.mark.usefixtures("exact_rates")
@pytest.mark.parametrize("beta_p", [0, 2])
def test_replayed_draws_that_are_validated_after_their_pass_are_the_same(tmp_path: Path, beta_p: int) -> None:
    """Also those of a Child alone, at beta_P = 0."""
    search = make_search(tmp_path, f"search.beta_p={beta_p}")
    streams, genotypes = tapes(), [draw_uniform(seed=draw) for draw in range(2)]
    found = []
    for networks in (SharedNetworks(search), GraphedNetworks(search, streams=streams)):
        for draw, genotype in enumerate(genotypes):
            networks.train_draw(genotype, draw=draw, starting=lambda _: None)
        found.append([networks.validate_draw(genotype, draw=1) for genotype in genotypes])
        found.append({name: weights.tolist() for name, weights in weights_of(networks).items()})
    assert found[:2] == found[2:]
    assert list(found[1]) == (["child", "parent"] if beta_p else ["child"])
    assert [stream.num_replays for stream in streams.values()] == [[3, 3, 0, 0], [3, 3, 0, 0] if beta_p else []]


def test_a_loss_that_is_no_number_is_reported_with_its_step(tmp_path: Path) -> None:
    search = make_search(tmp_path, "search.learning_rate=1e30", "search.learning_rate_min=1e30")
    networks = GraphedNetworks(search, streams=tapes())
    with pytest.raises(NonFiniteLossError, match=r"in step \d of 5, draw 1 of 35, child; the checkpoint"):
        accuracies_of(networks, num_draws=1)


def test_a_step_that_asks_the_device_for_a_value_is_noticed() -> None:
    """So that the tests above would fail where a capture would."""
    with Tape(), pytest.raises(AssertionError, match="needs the host"):
        float(torch.ones(1).sum())
    with Tape(), pytest.raises(AssertionError, match="needs the host"):
        torch.tensor([1.0])


class FakeGraph:
    """Notes what a `GraphStream` does with a `torch.cuda.CUDAGraph`."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log

    def capture_begin(self, *, pool: Any) -> None:
        self.log.append(("begin", pool))

    def capture_end(self) -> None:
        self.log.append("end")

    def replay(self) -> None:
        self.log.append("replay")


class FakeStream:
    def __init__(self, device: Any = None) -> None:
        self.device = device

    def wait_stream(self, other: Any) -> None:
        pass


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    log: list[Any] = []
    monkeypatch.setattr(torch.cuda, "CUDAGraph", functools.partial(FakeGraph, log))
    monkeypatch.setattr(torch.cuda, "Stream", FakeStream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _=None: FakeStream())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", iter("AB").__next__)
    return log


@dataclass
class Counted:
    log: list[Any]
    num_calls: int
    fails_at: int | None = None
    calls: int = 0

    def __call__(self) -> None:
        self.calls += 1
        self.log.append(f"call {self.calls}")
        if self.calls == self.fails_at:
            raise ValueError("in the capture")


def test_warm_up_calls_are_real_and_the_capture_stands_for_the_rest(fake_cuda: list[Any]) -> None:
    stream = graphs.GraphStream(torch.device("cpu"))
    steps = Counted(fake_cuda, num_calls=5)
    with stream.active():
        recorded = stream.record(steps)
    graphs.replay_in_turn([(stream, recorded)])
    assert fake_cuda == ["call 1", "call 2", ("begin", "A"), "call 3", "end", "replay", "replay", "replay"]


def test_few_calls_are_not_captured(fake_cuda: list[Any]) -> None:
    stream = graphs.GraphStream(torch.device("cpu"))
    graphs.replay_in_turn([(stream, stream.record(Counted(fake_cuda, num_calls=2)))])
    assert fake_cuda == ["call 1", "call 2"]


def test_each_stream_keeps_its_own_pool_and_they_take_turns(fake_cuda: list[Any]) -> None:
    streams = [graphs.GraphStream(torch.device("cpu")) for _ in range(2)]
    recorded = [(stream, stream.record(Counted([], num_calls=4))) for stream in streams]
    for stream, one in recorded:
        one.recording = Named(fake_cuda, name=stream)
    streams[0].record(Counted([], num_calls=3))
    pools = [entry[1] for entry in fake_cuda if entry[0] == "begin"]
    assert pools == ["A", "B", "A"]
    fake_cuda.clear()
    graphs.replay_in_turn(recorded)
    assert fake_cuda == [*streams, *streams]


@dataclass
class Named:
    log: list[Any]
    name: Any

    def replay(self) -> None:
        self.log.append(self.name)


def test_an_error_within_a_capture_ends_it_and_is_the_one_that_is_raised(fake_cuda: list[Any]) -> None:
    stream = graphs.GraphStream(torch.device("cpu"))
    with pytest.raises(ValueError, match="in the capture"):
        stream.record(Counted(fake_cuda, num_calls=5, fails_at=3))
    assert fake_cuda[-1] == "end"


CONVOLUTIONS = Genotype(
    normal=("sep_conv_3x3", "dil_conv_5x5") * 7, reduce=("sep_conv_5x5", "dil_conv_3x3", "skip_connect", "avg_pool_3x3",
    "sep_conv_3x3", "dil_conv_5x5", "none") * 2,
)  # fmt: skip


@on_cuda
@pytest.mark.usefixtures("exact_rates")
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_on_cuda_graphs_train_what_eager_steps_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str, dtype: str
) -> None:
    """Kernels that always sum in the same order, and no max pooling, whose gradient has none."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    search = make_search(tmp_path, f"search.optimizer={optimizer}", f"search.dtype={dtype}", device="cuda")
    eager, replayed = SharedNetworks(search), GraphedNetworks(search)
    for draw in range(3):
        first, second = (
            networks.scores(CONVOLUTIONS, draw=draw, starting=lambda _: None) for networks in (eager, replayed)
        )
        # 105 images; the Parent's batches are of other sizes
        assert numbers_of(first) == pytest.approx(numbers_of(second), abs=0.02)
    for name, weights in weights_of(eager).items():
        assert (weights - weights_of(replayed)[name]).norm() < 1e-6 * weights.norm()


@on_cuda
def test_on_cuda_any_genotype_is_trained(tmp_path: Path) -> None:
    search = make_search(tmp_path, device="cuda")
    eager = accuracies_of(SharedNetworks(search), num_draws=4)
    replayed = accuracies_of(GraphedNetworks(search), num_draws=4)
    for one, other in zip(eager, replayed, strict=True):
        assert numbers_of(one) == pytest.approx(numbers_of(other), abs=0.15)


@on_cuda
def test_on_cuda_memory_does_not_grow_with_draws(tmp_path: Path) -> None:
    networks = GraphedNetworks(make_search(tmp_path, device="cuda"))
    allocated, reserved = [], []
    for draw in range(12):
        # one genotype, so that every draw needs the same
        networks.scores(draw_uniform(seed=0), draw=draw, starting=lambda _: None)
        allocated.append(torch.cuda.memory_allocated())
        reserved.append(torch.cuda.memory_reserved())
    assert allocated[-1] == allocated[3]
    assert reserved[-1] == reserved[3]


@on_cuda
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
def test_on_cuda_sums_of_signs_are_exact(kernel_size: int, dilation: int, stride: int) -> None:
    """Whatever type the device multiplies in: the Child's evaluation is defined by these integers."""
    channels = 64
    convolution = BinaryConv2d(
        channels,
        channels,
        kernel_size,
        stride=stride,
        dilation=dilation,
        padding=dilation * (kernel_size - 1) // 2,
        groups=1 if kernel_size == 1 else channels,
    )
    signs = torch.randn(8, channels, 16, 16).sign().to(memory_format=torch.channels_last)
    expected = convolution.accumulate(signs)
    assert torch.equal(convolution.cuda().accumulate(signs.cuda()).cpu(), expected)
