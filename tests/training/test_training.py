"""Training: what it learns, what it reports, and a seeded run with known figures."""

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn
from typer.testing import CliRunner

from cpnas_cli.cli.app import app
from cpnas_cli.data.dataset import load_dataset
from cpnas_cli.distributed.device import open_device
from cpnas_cli.errors import MaxTimeReached, UsageError
from cpnas_cli.losses import ClassMeans
from cpnas_cli.networks.network import Output, build_network
from cpnas_cli.networks.shapes import NetworkName
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.environment import describe_environment
from cpnas_cli.runs.folder import RunFolder, open_run
from cpnas_cli.runs.journal import Notify, ignore
from cpnas_cli.runs.opening import open_run_for
from cpnas_cli.search_space import Genotype, draw_uniform
from cpnas_cli.settings import Config, load_config
from cpnas_cli.storage.genotype_file import genotype_document
from cpnas_cli.storage.tensors import load_tensors
from cpnas_cli.strategies.checks import check_search
from cpnas_cli.training import training as training_module
from cpnas_cli.training.compilation import compile_network
from cpnas_cli.training.epoch import TrainStep, cosine
from cpnas_cli.training.evaluation import evaluate_run
from cpnas_cli.training.training import CHECKPOINT_SCHEMA, Training
from cpnas_cli.training.training_loss import TrainingLoss

SMALL = (
    "data.num_train=200",
    "data.num_test=100",
    "network.num_channels=8",
    "train.num_epochs=8",
    "train.batch_size=20",
)
# The published block and loss; the preset has others.
PUBLISHED = (
    "network.block=separable",
    "network.stem_multiplier=3",
    "network.estimator=clipped",
    "network.clip_bound=1",
    "network.real_format=float32",
    "network.weight_format=float32",
    "train.kernel_weight=0.001",
    "train.lambda_compactness=0.00001",
)


def train(
    path: Path,
    config: Config,
    genotype: Genotype,
    networks: tuple[NetworkName, ...] = ("child",),
    *,
    max_seconds: float | None = None,
    resume: bool = False,
    notify: Notify = ignore,
) -> tuple[dict, list[dict]]:
    fabric = open_device("cpu", dtype=config.train.dtype)
    with open_run(path, config, resume=resume, environment=describe_environment(fabric)) as run:
        training = Training(
            run,
            config,
            genotype,
            load_dataset(config.data),
            fabric=fabric,
            networks=networks,
            provenance={},
            deadline=Deadline(max_seconds),
            notify=notify,
        )
        return training.train(), run.history()


def test_both_networks_learn(tmp_path):
    config = load_config(overrides=SMALL)
    result, history = train(tmp_path / "run", config, draw_uniform(seed=0), ("child", "parent"))
    for name in ("child", "parent"):
        epochs = [record for record in history if record["network"] == name]
        assert epochs[-1]["loss_cross_entropy"] < 0.5 * epochs[0]["loss_cross_entropy"]
    assert result["accuracy_test"] > 0.4  # chance is 0.1
    assert result["accuracy_parent_test"] > result["accuracy_test"] - 0.05
    parent = [record for record in history if record["network"] == "parent"]
    assert all(record["loss_kernel"] == 0 == record["loss_compactness"] for record in parent)


def test_a_seeded_run_has_its_known_figures(tmp_path):
    """A change of these is a change of every result: data, order, initialization, arithmetic or loss."""
    config = load_config(overrides=[*SMALL, *PUBLISHED, "train.num_epochs=2"])
    _, history = train(tmp_path / "run", config, draw_uniform(seed=0))
    # 5 %: processors round differently, and a sign turns a rounding into another weight or activation
    assert [record["loss_cross_entropy"] for record in history] == pytest.approx([2.1804, 1.8623], rel=5e-2)
    assert history[0]["loss_kernel"] == pytest.approx(0.016804, rel=1e-2)


def test_without_weights_the_terms_are_off(tmp_path):
    settings = [*SMALL, "train.num_epochs=1", "train.kernel_weight=0", "train.lambda_compactness=0"]
    _, history = train(tmp_path / "run", load_config(overrides=settings), draw_uniform(seed=0))
    assert history[0]["loss_kernel"] == history[0]["loss_compactness"] == 0
    assert history[0]["loss"] == history[0]["loss_cross_entropy"]


def test_the_published_weight_of_the_kernel_term_brings_latents_to_plus_minus_alpha(tmp_path):
    def last_kernel_loss(weight: float) -> float:
        settings = [*SMALL, f"train.kernel_weight={weight}"]
        _, history = train(tmp_path / str(weight), load_config(overrides=settings), draw_uniform(seed=0))
        return history[-1]["loss_kernel"] / weight

    assert last_kernel_loss(1.0) < 0.5 * last_kernel_loss(0.001)


def test_the_model_file_describes_itself(tmp_path):
    config = load_config(overrides=[*SMALL, "train.num_epochs=1"])
    result, _ = train(tmp_path / "run", config, draw_uniform(seed=0))
    with safe_open(tmp_path / "run/model.safetensors", framework="np") as file:
        header = json.loads(file.metadata()["cpnas"])
    assert header["schema"] == "cpnas.model/1"
    state = header["state"]
    assert state["classes"] == [str(digit) for digit in range(10)]
    assert state["precision"] == "binary"
    assert state["genotype"]["schema"] == "cpnas.genotype/1"
    assert len(state["mean"]) == len(state["std"]) == state["num_image_channels"] == 1
    evaluated = evaluate_run(tmp_path / "run", data_dir=None, device=open_device("cpu").device)
    assert evaluated["accuracy_test"] == result["accuracy_test"] == evaluated["recorded_accuracy_test"]


@pytest.mark.parametrize(
    ("optimizer", "estimator"), [("sgd", "clipped"), ("sgd", "error_decay"), ("adam", "polynomial")]
)
def test_every_optimizer_and_estimator_trains(tmp_path, optimizer, estimator):
    settings = [*SMALL, "train.num_epochs=2", f"train.optimizer={optimizer}", f"network.estimator={estimator}"]
    settings += ["train.learning_rate=0.05"] if optimizer == "sgd" else []
    _, history = train(tmp_path / "run", load_config(overrides=settings), draw_uniform(seed=0))
    assert history[1]["loss_cross_entropy"] < history[0]["loss_cross_entropy"]


@pytest.mark.slow
def test_a_folder_of_images_from_search_to_evaluation(cpnas_here, tmp_path, image_folder):
    options = ["--set", "data.image_size=16", "--set", "network.num_channels=4", "--set", "network.num_cells=3"]
    options += ["--set", "search.batch_size=6", "--set", "train.num_epochs=8", "--set", "train.batch_size=6"]
    searched = cpnas_here("search", "--preset", "folder", "--data-dir", image_folder, *options, "--out", "s")
    assert searched.returncode == 0, searched.stderr
    trained = cpnas_here("train", "s/genotype.json", "--out", "t", "--json")
    assert trained.returncode == 0, trained.stderr
    result = json.loads(trained.stdout)
    assert result["classes"] == ["dark", "light"]
    assert result["num_test_images"] == 8
    evaluated = cpnas_here("evaluate", "t", "--json")
    assert json.loads(evaluated.stdout)["accuracy_test"] == result["accuracy_test"]
    (image_folder / "test" / "dark").rename(image_folder / "test" / "bleak")
    (image_folder / "train" / "dark").rename(image_folder / "train" / "bleak")
    renamed = cpnas_here("evaluate", "t")
    assert renamed.returncode == 1
    assert "bleak" in renamed.stderr


def test_learning_rates():
    assert cosine(0.1, 0.0, 0.0) == pytest.approx(0.1)
    assert cosine(0.1, 0.02, 0.5) == pytest.approx(0.06)
    assert cosine(0.1, 0.02, 1.0) == pytest.approx(0.02)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_training_on_colour_images_resumes_to_the_same_bits(tmp_path, optimizer):
    """With several input channels a filter's memory layout differs from its logical order."""
    config = load_config(
        overrides=[
            *SMALL,
            "data.num_train=60",
            "train.num_epochs=3",
            "data.num_channels=3",
            f"train.optimizer={optimizer}",
        ]
    )
    train(tmp_path / "whole", config, draw_uniform(seed=0), ("child", "parent"))
    stops = 0
    while True:
        try:
            train(tmp_path / "run", config, draw_uniform(seed=0), ("child", "parent"), max_seconds=0, resume=stops > 0)
            break
        except MaxTimeReached:
            stops += 1
    assert stops == 5  # after every epoch of both but the last
    for name in ("model.safetensors", "parent.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


# Gradient accumulation: a batch in parts, for a network whose output does not depend on the batch.


class Plain(nn.Module):
    """A linear classifier of 8x8 images; the images are its features."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.linear = nn.Linear(64, 10)

    def forward(self, x_BCHW: Tensor) -> Output:
        return Output(self.linear(x_BCHW.flatten(1)), x_BCHW)

    def latent_filters(self) -> list[Tensor]:
        return [self.linear.weight[:, :, None, None]]


def accumulated(num_parts: int, settings: tuple[str, ...] = ()) -> tuple[list[Tensor], Tensor]:
    """Gradients and report of one step of a batch of 24 images in so many parts."""
    config = load_config(overrides=[f"train.gradient_accumulation_steps={num_parts}", "train.batch_size=24", *settings])
    fabric = open_device("cpu")
    training = Training(
        RunFolder(Path("unused")),
        config,
        draw_uniform(seed=0),
        load_dataset(config.data),
        fabric=fabric,
        networks=("child",),
        provenance={},
        deadline=Deadline(),
    )
    stage = training._new_network_training("child")
    network = Plain()
    stage.network = network  # type: ignore[assignment]
    # so slow a mean stays where it is while the parts go through
    stage.class_means = ClassMeans(10, (1, 8, 8), rate=1e-9)
    generator = torch.Generator().manual_seed(0)
    train_step = TrainStep(
        network,
        list(network.parameters()),
        torch.optim.SGD(network.parameters(), lr=0.1),
        TrainingLoss(stage, fabric),
        fabric=fabric,
        clip_norm=1e9,
        num_parts=num_parts,
    )
    row = train_step(torch.randn(24, 1, 8, 8, generator=generator), torch.arange(24) % 10)
    return [parameter.grad for parameter in network.parameters() if parameter.grad is not None], row


@pytest.mark.parametrize("num_parts", [2, 3, 12])
def test_a_batch_in_parts_is_the_whole_batch(num_parts):
    settings = ("train.lambda_compactness=0.01", "train.kernel_weight=0.5")
    (whole, row), (parts, row_of_parts) = accumulated(1, settings), accumulated(num_parts, settings)
    for found, expected in zip(parts, whole, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(row_of_parts, row, rtol=1e-5, atol=1e-5)
    assert row[3] > 1  # the compactness, a sum over the images of the whole batch


def test_a_training_in_parts_learns(tmp_path):
    config = load_config(overrides=[*SMALL, "train.num_epochs=2", "train.gradient_accumulation_steps=2"])
    _, history = train(tmp_path / "run", config, draw_uniform(seed=0))
    assert history[1]["loss_cross_entropy"] < 0.9 * history[0]["loss_cross_entropy"]


# bfloat16


def test_bfloat16_is_for_activations_only(tmp_path):
    settings = [*SMALL, "data.num_train=60", "train.num_epochs=1"]
    histories = {}
    for dtype in ("float32", "bfloat16"):
        config = load_config(overrides=[*settings, f"train.dtype={dtype}"])
        _, histories[dtype] = train(tmp_path / dtype, config, draw_uniform(seed=0), ("child", "parent"))
    for short, full in zip(histories["bfloat16"], histories["float32"], strict=True):
        assert short["loss_cross_entropy"] != full["loss_cross_entropy"]
        assert short["loss_cross_entropy"] == pytest.approx(full["loss_cross_entropy"], rel=0.1)
    tensors, _ = load_tensors(tmp_path / "bfloat16/checkpoint/state.safetensors", schema=CHECKPOINT_SCHEMA)
    assert any("running_var" in name for name in tensors)
    assert any("exp_avg_sq" in name for name in tensors)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


# torch.compile

FEW_STEPS = ("data.num_train=40", "data.num_test=20", "network.num_channels=4", "network.stem_multiplier=1")
FEW_STEPS += ("train.batch_size=20", "train.num_epochs=1")


def test_a_compiler_that_fails_is_told_of_and_done_without(tmp_path, monkeypatch):
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no C++ compiler\nand much more")

    monkeypatch.setattr(torch, "compile", fail)
    notes: list[str] = []
    results = [
        train(
            tmp_path / str(compiled),
            load_config(overrides=[*FEW_STEPS, f"train.compile={compiled}"]),
            draw_uniform(seed=0),
            notify=lambda record: notes.append(record["text"]) if record["event"] == "note" else None,
        )
        for compiled in ("true", "false")
    ]
    assert notes[1:] == ["the child is trained without torch.compile: RuntimeError: no C++ compiler"]
    assert notes[0].startswith("compiling the child")
    assert [result["compiled"] for result, _ in results] == [False, False]
    weights = [
        load_tensors(tmp_path / name / "model.safetensors", schema="cpnas.model/1")[0] for name in ("true", "false")
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


def test_the_command_line_notes_that_a_compiler_failed(tmp_path, monkeypatch):
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", fail)
    document = genotype_document(draw_uniform(seed=0), provenance={})
    (tmp_path / "genotype.json").write_text(json.dumps(document))
    settings = [word for setting in (*FEW_STEPS, "train.compile=true") for word in ("--set", setting)]
    words = ["train", str(tmp_path / "genotype.json"), *settings, "--device", "cpu", "--out", str(tmp_path / "run")]
    answer = CliRunner().invoke(app, [*words, "--json"])
    assert answer.exit_code == 0, answer.stderr
    assert "note: the child is trained without torch.compile: RuntimeError: no C++ compiler\n" in answer.stderr
    assert json.loads(answer.stdout)["compiled"] is False


def test_what_fails_in_the_backward_pass_leaves_the_network_as_it_was(monkeypatch):
    class Failing(torch.autograd.Function):
        @staticmethod
        def forward(_: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(_: Any, grad: Tensor) -> Tensor:
            raise NotImplementedError

    network = build_network(
        load_config(overrides=FEW_STEPS).network,
        precision="binary",
        num_image_channels=1,
        num_classes=10,
        seed=0,
        genotype=draw_uniform(seed=0),
    )
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    x_BCHW = torch.randn(6, 1, 8, 8)

    def compile_badly(network: nn.Module, **_: Any) -> Any:
        def forward(x_BCHW: Tensor) -> Output:
            output = network(x_BCHW)
            return Output(F.linear(Failing.apply(output.logits), torch.eye(10)), output.features)  # type: ignore[arg-type]

        return forward

    monkeypatch.setattr(torch, "compile", compile_badly)
    forward, reason = compile_network(network, x_BCHW, fabric=open_device("cpu"))
    assert forward is network
    assert reason == "NotImplementedError"
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(
    "chosen",
    [
        (),
        (
            "network.estimator=polynomial",
            "network.clip_bound=1.5",
            "network.latents=standardized",
            "network.scale=learned",
        ),
    ],
    ids=["defaults", "others"],
)
def test_what_dynamo_captures_trains_to_the_same_bits(tmp_path, monkeypatch, chosen):
    """The capture alone, without a compiler behind it."""
    monkeypatch.setattr(training_module, "compile_network", functools.partial(compile_network, backend="eager"))
    weights = []
    for compiled in ("true", "false"):
        config = load_config(overrides=[*FEW_STEPS, *chosen, f"train.compile={compiled}"])
        result, _ = train(tmp_path / compiled, config, draw_uniform(seed=0))
        assert result["compiled"] is (compiled == "true")
        weights.append(load_tensors(tmp_path / compiled / "model.safetensors", schema="cpnas.model/1")[0])
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="compiles C++")
def test_a_compiled_parent_learns_the_same(tmp_path):
    histories = []
    for compiled in ("true", "false"):
        config = load_config(overrides=[*FEW_STEPS, f"train.compile={compiled}"])
        result, history = train(tmp_path / compiled, config, draw_uniform(seed=0), ("parent",))
        assert result["compiled"] is (compiled == "true")
        histories.append(history)
    for found, expected in zip(*histories, strict=True):
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)


def test_a_search_by_cuda_graphs_needs_cuda(tmp_path):
    for strategy in ("cpnas", "bnas", "random"):
        config = load_config(overrides=["search.engine=graphs", f"search.strategy={strategy}"])
        values: dict[str, Any] = {"folder": tmp_path / strategy, "fabric": open_device("cpu"), "resume": False}
        opening = open_run_for(config, **values, deadline=Deadline(), check=check_search)
        if strategy == "random":  # trains nothing
            with opening:
                continue
        expected = r"search\.engine=graphs needs an NVIDIA GPU, and this run is on cpu"
        with pytest.raises(UsageError, match=expected), opening:
            pass
        assert not (tmp_path / strategy).exists()
