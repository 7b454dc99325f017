"""The ingredients of a recipe one by one: rates, decays, stages, moving average, auxiliary head, drop-path, teacher."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from children import every_operation, everywhere, make_child
from torch import Tensor, nn

from cpnas_cli.binarization.convolution import BinaryConv2d
from cpnas_cli.data.batches import Pipeline
from cpnas_cli.data.dataset import load_dataset
from cpnas_cli.distributed.device import open_device
from cpnas_cli.errors import CheckpointError
from cpnas_cli.networks.modules.batch_norm import BatchNorm
from cpnas_cli.networks.modules.identity import Identity
from cpnas_cli.networks.network import Network, build_network
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.search_space import draw_uniform
from cpnas_cli.settings import Config, DataConfig, TrainConfig, load_config
from cpnas_cli.training.auxiliary_head import build_auxiliary_head, pooling_window
from cpnas_cli.training.drop_path import draw_kept, drop_probability
from cpnas_cli.training.moving_average import MovingAverage
from cpnas_cli.training.stages import Stage, learning_rate, stages_of
from cpnas_cli.training.teacher import Teacher
from cpnas_cli.training.trained_network import Normalization
from cpnas_cli.training.training import Training

FEW = ("data.num_train=40", "data.num_test=20", "network.num_channels=4", "network.stem_multiplier=1")
FEW += ("train.batch_size=20", "train.num_epochs=6")


def make_training(*settings: str) -> Training:
    config = load_config(overrides=[*FEW, *settings])
    return Training(
        RunFolder(Path("unused")),
        config,
        draw_uniform(seed=0),
        load_dataset(config.data),
        fabric=open_device("cpu"),
        networks=("child", "parent"),
        provenance={},
        deadline=Deadline(),
    )


def one_batch(config: Config) -> tuple[Tensor, Tensor]:
    dataset = load_dataset(config.data)
    under_test = Pipeline(config.data, dataset.mean, dataset.std)
    return next(under_test.training_batches(dataset.train, batch_size=20, seed=0, purpose="p", epoch=0))


# ---------------------------------------------------------------- stages, rates, decays


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_every_stage_has_a_warm_up_and_a_schedule_of_its_own(schedule: Any) -> None:
    train = TrainConfig(
        num_epochs=10,
        first_stage_epochs=4,
        warmup_epochs=1,
        learning_rate=0.1,
        learning_rate_min=0.02,
        schedule=schedule,
    )
    stages = stages_of(train, is_child=True)
    assert stages == (Stage(1, 0, 4), Stage(2, 4, 6))
    for stage in stages:
        for epoch in range(stage.num_epochs):
            for step in range(5):
                done = epoch + step / 5
                if done < 1:
                    expected = 0.1 * (done + 0.2)
                else:
                    part = (done - 1) / (stage.num_epochs - 1)
                    bend = part if schedule == "linear" else (1 - math.cos(math.pi * part)) / 2
                    expected = 0.1 - 0.08 * bend
                found = learning_rate(train, stage, epoch=stage.start + epoch, step=step, num_steps=5)
                assert found == pytest.approx(expected)


def test_a_parent_has_one_stage() -> None:
    train = TrainConfig(num_epochs=10, first_stage_epochs=4)
    assert stages_of(train, is_child=False) == (Stage(None, 0, 10),)
    assert stages_of(TrainConfig(num_epochs=10), is_child=True) == (Stage(None, 0, 10),)


DECAYS = ("train.first_stage_epochs=2", "train.first_stage_weight_decay=0.03", "train.weight_decay=0.02")


def decays_of(optimizer: torch.optim.Optimizer) -> dict[int, float]:
    return {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}


@pytest.mark.parametrize(("latent", "expected"), [("null", 0.02), ("0", 0.0), ("0.5", 0.5)])
def test_latent_filters_have_a_decay_of_their_own(latent: str, expected: float) -> None:
    training = make_training(*DECAYS, f"train.latent_weight_decay={latent}", "train.auxiliary_weight=0.4")
    child = training._new_network_training("child")
    parameters = {id(parameter) for parameter in child.parameters}
    assert child.auxiliary_head is not None
    assert {id(p) for p in child.auxiliary_head.parameters()} < parameters
    assert decays_of(child.optimizer) == dict.fromkeys(parameters, 0.03)
    child.enter(child.stages[1])
    latents = {id(m.weight) for m in child.network.modules() if isinstance(m, BinaryConv2d)}
    assert decays_of(child.optimizer) == {each: expected if each in latents else 0.02 for each in parameters}
    parent = training._new_network_training("parent")
    assert set(decays_of(parent.optimizer).values()) == {0.02}


def test_the_first_stage_has_real_weights_and_an_evaluation_never() -> None:
    convolution = BinaryConv2d(4, 6, 3, padding=1, groups=2)
    x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0)).sign()
    weight = convolution.weight.detach()
    alpha = weight.abs().mean(dim=(1, 2, 3), keepdim=True)
    binary = F.conv2d(x, alpha * torch.where(weight >= 0, 1.0, -1.0), padding=1, groups=2)
    real = F.conv2d(x, weight, padding=1, groups=2)
    torch.testing.assert_close(convolution(x), binary)
    convolution.binarizes_weights = False
    torch.testing.assert_close(convolution(x), real)
    torch.testing.assert_close(convolution.eval()(x), binary)


def test_a_stage_starts_with_a_new_optimizer_and_average_and_goes_on_with_the_weights() -> None:
    training = make_training("train.first_stage_epochs=2", "train.ema_decay=0.9", "train.kernel_weight=0.001")
    child = training._new_network_training("child")
    binaries = [m for m in child.network.modules() if isinstance(m, BinaryConv2d)]
    assert not any(m.binarizes_weights for m in binaries)
    step = training._train_step(child)
    before = step(*one_batch(training.config))
    assert before[2] == 0  # no kernel term without kernels
    assert child.optimizer.state
    assert child.next_stage() is None
    weights = [parameter.clone() for parameter in child.parameters]
    child.epoch = 2
    assert child.next_stage() == Stage(2, 2, 4)
    child.enter(Stage(2, 2, 4))
    assert child.next_stage() is None
    assert all(m.binarizes_weights for m in binaries)
    assert not child.optimizer.state
    assert child.moving_average is not None
    assert child.moving_average.num_updates == 0
    assert all(torch.equal(a, b) for a, b in zip(weights, child.parameters, strict=True))
    assert training._train_step(child)(*one_batch(training.config))[2] > 0


# ---------------------------------------------------------------- moving average


def test_the_moving_average_by_the_formula() -> None:
    module = BatchNorm(3)
    average = MovingAverage(module, decay=0.4)
    expected = {name: value.double().numpy().copy() for name, value in module.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    for step in range(8):
        with torch.no_grad():
            for value in module.state_dict().values():
                value.copy_(torch.randn(value.shape, generator=generator))
        average.update()
        decay = min(0.4, (1 + step) / (10 + step))  # 0.4 from step 5 on
        for name, value in module.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value.double().numpy()
    average.apply()
    assert expected.keys() == {"weight", "bias", "running_mean", "running_var"}
    for name, value in module.state_dict().items():
        np.testing.assert_allclose(value.numpy(), expected[name], rtol=1e-5, atol=1e-6)


def test_a_checkpoint_without_an_average_is_refused() -> None:
    average = MovingAverage(nn.Linear(2, 2), decay=0.9)
    with pytest.raises(CheckpointError, match=r"x has no moving average of this network; start a new run"):
        average.restore({}, path=Path("x"))


# ---------------------------------------------------------------- auxiliary head


@pytest.mark.parametrize("size", [*range(2, 17), 28, 56])
def test_the_pooling_gives_two_windows_that_cover_the_map(size: int) -> None:
    window, stride = pooling_window(size)
    assert window + stride == size  # the second ends where the map ends
    assert stride <= window  # and nothing lies between them
    assert F.avg_pool2d(torch.zeros(1, 1, size, size), window, stride).shape[2:] == (2, 2)


def test_of_eight_pixels_the_pooling_is_that_of_darts() -> None:
    assert pooling_window(8) == (5, 3)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8])
def test_the_auxiliary_head_works_from_one_pixel_on(size: int) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    head = build_auxiliary_head(6, 3, size=size, seed=0, purpose="a")
    again, other = (build_auxiliary_head(6, 3, size=size, seed=0, purpose=purpose) for purpose in ("a", "b"))
    assert torch.equal(torch.get_rng_state(), state)
    x = torch.randn(4, 6, size, size)
    logits = head(x)
    assert logits.shape == (4, 3)
    assert torch.equal(logits, again(x))
    assert not torch.equal(logits, other(x))
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


@pytest.mark.parametrize("num_cells", [3, 5])
def test_the_auxiliary_head_reads_the_second_reduction_cell_in_training_only(num_cells: int) -> None:
    training = make_training(f"network.num_cells={num_cells}", "train.auxiliary_weight=0.4")
    child = training._new_network_training("child")
    seen: list[Tensor] = []

    def see(_: nn.Module, __: Any, node: Any) -> None:
        seen.append(node.value)

    child.network.cells[2 * num_cells // 3].register_forward_hook(see)
    x, labels = one_batch(training.config)
    output = child.network(x)
    assert output.auxiliary_features is seen[0]
    assert child.auxiliary_head is not None
    row = training._train_step(child)(x, labels)
    expected = F.cross_entropy(child_head_before(training, num_cells)(seen[0]), labels)
    assert row[5].item() == pytest.approx(0.4 * expected.item(), rel=1e-4)
    assert row[0].item() == pytest.approx(row[1:6].sum().item(), rel=1e-5)
    assert child.network.eval()(x).auxiliary_features is None


def child_head_before(training: Training, num_cells: int) -> nn.Module:
    """As it was before the step: a new one."""
    head = training._new_network_training("child").auxiliary_head
    assert head is not None
    return head


# ---------------------------------------------------------------- drop-path


def test_the_probability_rises_linearly() -> None:
    assert [drop_probability(0.2, epoch=epoch, num_epochs=4) for epoch in range(4)] == pytest.approx(
        [0, 0.05, 0.1, 0.15]
    )


def test_what_is_kept_is_drawn_by_its_probability() -> None:
    def draw(*index: int) -> Tensor:
        return draw_kept(500, 40, probability=0.3, seed=0, purpose="p", index=index)

    kept = draw(1, 2)
    assert torch.equal(kept, draw(1, 2))
    assert not torch.equal(kept, draw(1, 3))
    assert kept.unique().tolist() == pytest.approx([0, 1 / 0.7])
    for mean in (kept.mean(), *kept.mean(dim=0)):
        assert abs(mean.item() - 1) < 0.15  # 5 deviations of the mean of 500 are 0.146
    assert torch.equal(draw_kept(5, 4, probability=0.0, seed=0, purpose="p", index=(0,)), torch.ones(5, 4))


def network_of(genotype: Any, **settings: Any) -> Network:
    return make_child(genotype, **settings).network.train()


@torch.no_grad()
def test_a_dropped_edge_is_a_zero_for_its_image_alone() -> None:
    """An image whose edges are all dropped sees identities only; the other images see no difference."""
    network = network_of(every_operation())
    for module in network.modules():
        if hasattr(module, "statistics"):
            module.eval()  # so that images do not meet in a batch norm
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    num_edges = network.num_droppable_edges()
    plain = network(x, None)
    assert torch.equal(network(x, None, torch.ones(3, num_edges)).logits, plain.logits)
    kept = torch.ones(3, num_edges)
    kept[1] = 0
    dropped = network(x, None, kept).logits
    assert torch.equal(dropped[[0, 2]], plain.logits[[0, 2]])
    for operation in operations_of(network):
        if not isinstance(operation, Identity):
            operation.register_forward_hook(lambda *values: 0 * values[2])
    torch.testing.assert_close(dropped[1], network(x, None).logits[1])


def operations_of(network: Network) -> Iterator[nn.Module]:
    for cell in network.cells:
        for operations in cell.edges:  # type: ignore[union-attr]
            yield from operations.values()  # type: ignore[operator]


def test_identities_are_not_dropped() -> None:
    skips = network_of(everywhere("skip_connect"))
    # 3 cells, of which 2 reduce: there 8 of 14 edges leave an input, at stride 2, and are no identity
    assert skips.num_droppable_edges() == 16
    assert network_of(everywhere("max_pool_3x3")).num_droppable_edges() == 42


# ---------------------------------------------------------------- teacher


@pytest.mark.parametrize("other", [False, True])
def test_a_teacher_sees_the_images_as_it_knows_them(other: bool) -> None:
    trained = make_child(every_operation()).trained
    mean, std = trained.normalization
    student = Normalization((0.1, 0.2, 0.3), (0.5, 0.4, 0.3)) if other else Normalization(mean, std)
    images = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    teacher = Teacher.of(trained, student, device=torch.device("cpu"))
    seen: list[Tensor] = []
    trained.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    scores = teacher.logits(Pipeline(DataConfig(), *student).normalize(images))
    own = Pipeline(DataConfig(), mean, std).normalize(images)
    torch.testing.assert_close(seen[0], own, rtol=1e-5, atol=1e-5)
    assert not scores.requires_grad
    if not other:
        assert torch.equal(scores, trained.network(own).logits)


def test_the_teacher_is_part_of_no_optimizer_and_stays_as_it_is() -> None:
    training = make_training("train.teacher_weight=0.7", "train.teacher_temperature=2")
    child = training._new_network_training("child")
    config = training.config
    parent = build_network(
        config.network, precision="full", num_image_channels=1, num_classes=10, seed=5, genotype=draw_uniform(seed=0)
    ).eval()
    child.teacher = Teacher(parent)
    before = {name: tensor.clone() for name, tensor in parent.state_dict().items()}
    x, labels = one_batch(config)
    untouched = training._new_network_training("child").network(x).logits.detach().double().numpy()
    row = training._train_step(child)(x, labels)
    teacher = parent(x).logits.detach().double().numpy()

    def softmax(values: np.ndarray, temperature: float) -> np.ndarray:
        powers = np.exp(values / temperature)
        return powers / powers.sum(axis=1, keepdims=True)

    p, q = softmax(teacher, 2), softmax(untouched, 2)
    expected = 0.7 * 4 * (p * np.log(p / q)).sum(axis=1).mean()
    assert row[4].item() == pytest.approx(expected, rel=1e-4)
    own = -np.log(softmax(untouched, 1)[np.arange(20), labels.numpy()]).mean()
    assert row[1].item() == pytest.approx(0.3 * own, rel=1e-4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in parent.state_dict().items())
    assert not {id(p) for p in parent.parameters()} & {id(p) for p in child.parameters}
