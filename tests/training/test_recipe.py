"""Whole trainings with everything that a recipe can switch on: resumed, killed, taught, refused."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import DOCUMENT, error_of, invoke
from conftest import CpnasRun
from killing import start, wait_for_lines, without_seconds
from safetensors.torch import load_file

from cpnas_cli.data.dataset import Dataset, ImageSet
from cpnas_cli.distributed.device import open_device
from cpnas_cli.errors import CheckpointError, UsageError
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.settings import load_config
from cpnas_cli.training.checks import check_training
from cpnas_cli.training.evaluation import evaluate_run
from cpnas_cli.training.trained_network import read_trained, write_trained

TINY = {
    "data.num_train": 40,
    "data.num_test": 20,
    "network.num_channels": 4,
    "network.stem_multiplier": 1,
    "train.batch_size": 20,
    "train.num_epochs": 4,
}
RECIPE = {
    "data.crop_padding": 1,
    "data.rotation": 10,
    "data.colour": 0.3,
    "train.gradient_accumulation_steps": 2,
    "train.first_stage_epochs": 2,
    "train.first_stage_weight_decay": 1e-5,
    "train.weight_decay": 1e-4,
    "train.latent_weight_decay": 0,
    "train.schedule": "linear",
    "train.warmup_epochs": 1,
    "train.label_smoothing": 0.1,
    "train.teacher_weight": 0.7,
    "train.teacher_temperature": 2,
    "train.auxiliary_weight": 0.4,
    "train.drop_path": 0.2,
    "train.mixup": 0.2,
    "train.cutmix": 1,
    "train.ema_decay": 0.9,
    "train.kernel_weight": 0.001,
    "train.lambda_compactness": 1e-5,
}


def words_of(**changes: Any) -> list[str]:
    values = {**TINY, **{key.replace("__", "."): value for key, value in changes.items()}}
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


def words_of_recipe(**changes: Any) -> list[str]:
    return words_of(**{**{key.replace(".", "__"): value for key, value in RECIPE.items()}, **changes})


@pytest.fixture
def genotype_file(tmp_path: Path) -> Path:
    path = tmp_path / "genotype.json"
    path.write_text(json.dumps(DOCUMENT))
    return path


def train(genotype_file: Path, out: Path, *words: str | Path) -> dict[str, Any]:
    answer = invoke("train", genotype_file, "--out", out, "--device", "cpu", "--json", *words)
    assert answer.exit_code == 0, answer.stderr
    return json.loads(answer.stdout)


def same_run(one: Path, other: Path) -> None:
    """Every bit that a training leaves, but times."""
    for name in ("model.safetensors", "parent.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    assert without_seconds(one / "history.jsonl") == without_seconds(other / "history.jsonl")
    results = [json.loads((run / "result.json").read_text()) for run in (one, other)]
    for key in ("accuracy_test", "accuracy_parent_test", "size_bits"):
        assert results[0][key] == results[1][key]


# ---------------------------------------------------------------- resume


SHORT = {"train__num_epochs": 2, "train__first_stage_epochs": 1, "train__warmup_epochs": 0}


@pytest.mark.parametrize(
    ("changes", "num_epochs"),
    [pytest.param(SHORT, 2, id="short"), pytest.param({}, 4, marks=pytest.mark.slow, id="long")],
)
def test_everything_at_once_resumes_at_every_epoch_to_the_same_bits(
    tmp_path: Path, genotype_file: Path, changes: dict[str, Any], num_epochs: int
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    settings = words_of_recipe(**changes)
    result = train(genotype_file, whole, *settings)
    history = without_seconds(whole / "history.jsonl")
    assert [(record["network"], record.get("stage")) for record in history] == [
        *[("parent", None)] * num_epochs,
        *[("child", 1)] * (num_epochs // 2),
        *[("child", 2)] * (num_epochs // 2),
    ]
    assert result["network"] == "child"
    assert result["accuracy_parent_test"] is not None
    code, num_stops = 75, 0
    while code == 75:
        more = ["--resume"] if num_stops else settings
        code = invoke(
            "train", genotype_file, "--out", stopped, "--device", "cpu", "--max-time", "0.001s", *more
        ).exit_code
        num_stops += code == 75
    assert code == 0
    assert num_stops == 2 * num_epochs - 1  # after every epoch of both but the last
    same_run(whole, stopped)
    terms = ("cross_entropy", "kernel", "compactness", "teacher", "auxiliary")
    for record in history:
        assert record["loss"] == pytest.approx(sum(record[f"loss_{term}"] for term in terms), rel=1e-5)
        assert (record["loss_teacher"] > 0) == (record["network"] == "child")
        assert (record["loss_kernel"] > 0) == (record.get("stage") == 2)
        assert record["loss_auxiliary"] > 0


@pytest.mark.slow(seconds=15)
def test_everything_at_once_outlives_kills(cpnas: CpnasRun, tmp_path: Path, genotype_file: Path) -> None:
    """In the Parent that teaches, at the end of it, in the first stage, at the border of the stages, in the second."""
    words = ["train", genotype_file, "--device", "cpu"]
    settings = words_of_recipe(data__num_train=100)
    assert cpnas(*words, "--out", "whole", *settings).returncode == 0
    run = tmp_path / "run"
    for lines in (1, 4, 5, 6, 7):
        more = ["--resume"] if run.exists() else settings
        process = start(tmp_path, *words, "--out", "run", *more)
        wait_for_lines(process, run / "history.jsonl", lines)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        assert len(without_seconds(run / "history.jsonl")) < 8
    assert cpnas(*words, "--out", "run", "--resume").returncode == 0
    same_run(tmp_path / "whole", run)


@pytest.mark.long
@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="finds processes under /proc")
def test_everything_at_once_on_two_processes(cpnas: CpnasRun, tmp_path: Path, genotype_file: Path) -> None:
    """Stopped at every epoch the run of two is the uninterrupted run of two; what it learns is what one learns."""
    words = ["train", genotype_file, "--device", "cpu"]
    settings = words_of_recipe(**SHORT)
    two = ["--devices", "2"]
    assert cpnas(*words, "--out", "whole", *two, *settings).returncode == 0
    code, num_stops = 75, 0
    while code == 75:
        more = ["--resume"] if num_stops else settings
        code = cpnas(*words, "--out", "run", *two, "--max-time", "0.001s", *more).returncode
        num_stops += code == 75
    assert (code, num_stops) == (0, 3)
    same_run(tmp_path / "whole", tmp_path / "run")
    assert cpnas(*words, "--out", "alone", *settings).returncode == 0
    first = [without_seconds(tmp_path / name / "history.jsonl")[0] for name in ("whole", "alone")]
    for key in ("loss", "loss_cross_entropy", "loss_auxiliary"):  # before rounding has flipped many a sign
        assert first[0][key] == pytest.approx(first[1][key], rel=1e-3)


# ---------------------------------------------------------------- what is evaluated and saved


def test_the_moving_average_is_what_is_evaluated_and_saved(tmp_path: Path, genotype_file: Path) -> None:
    result = train(genotype_file, tmp_path / "run", *words_of(train__ema_decay=0.99))
    saved = load_file(tmp_path / "run/model.safetensors")
    checkpoint = load_file(tmp_path / "run/checkpoint/state.safetensors")
    assert saved.keys() == {name.removeprefix("network.") for name in checkpoint if name.startswith("network.")}
    for name, tensor in saved.items():
        assert torch.equal(tensor, checkpoint[f"moving_average.{name}"])
    assert any(not torch.equal(tensor, checkpoint[f"network.{name}"]) for name, tensor in saved.items())
    evaluated = evaluate_run(tmp_path / "run", data_dir=None, device=torch.device("cpu"))
    assert evaluated["accuracy_test"] == result["accuracy_test"]


def test_an_auxiliary_head_is_in_the_checkpoint_and_nowhere_else(tmp_path: Path, genotype_file: Path) -> None:
    plain = train(genotype_file, tmp_path / "plain", *words_of(train__num_epochs=1))
    result = train(genotype_file, tmp_path / "run", *words_of(train__num_epochs=1, train__auxiliary_weight=0.4))
    for key in ("num_parameters", "num_binary_weights", "num_real_values", "size_bits"):
        assert result[key] == plain[key]
    saved, plain_saved = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "plain"))
    assert saved.keys() == plain_saved.keys()
    assert any(not torch.equal(saved[name], plain_saved[name]) for name in saved)
    checkpoint = load_file(tmp_path / "run/checkpoint/state.safetensors")
    assert "auxiliary_head.classifier.weight" in checkpoint


# ---------------------------------------------------------------- the teacher


def test_the_parent_of_the_run_is_trained_first_and_teaches(tmp_path: Path, genotype_file: Path) -> None:
    """It is the Parent that --with-parent trains, and another network that is like it teaches the same."""
    settings = words_of(train__num_epochs=2)
    taught = [*settings, "--set", "train.teacher_weight=0.6"]
    answer = invoke("train", genotype_file, "--out", tmp_path / "own", "--device", "cpu", *taught)
    assert answer.exit_code == 0, answer.stderr
    assert "note: the parent is trained first: it teaches the child\n" in answer.stderr
    assert json.loads((tmp_path / "own/training.json").read_text())["networks"] == ["child", "parent"]
    train(genotype_file, tmp_path / "both", "--with-parent", *settings)
    own, both = (load_file(tmp_path / name / "parent.safetensors") for name in ("own", "both"))
    assert all(torch.equal(own[name], both[name]) for name in own)
    child = load_file(tmp_path / "own/model.safetensors")
    assert any(
        not torch.equal(child[name], other) for name, other in load_file(tmp_path / "both/model.safetensors").items()
    )
    for name, teacher in (("folder", tmp_path / "both"), ("file", tmp_path / "both/parent.safetensors")):
        train(genotype_file, tmp_path / name, *taught, "--teacher", teacher)
        assert json.loads((tmp_path / name / "training.json").read_text())["networks"] == ["child"]
        by_other = load_file(tmp_path / name / "model.safetensors")
        assert all(torch.equal(child[key], by_other[key]) for key in child)


def test_a_resumed_child_needs_its_teacher(tmp_path: Path, genotype_file: Path) -> None:
    words = ["train", genotype_file, "--out", tmp_path / "run", "--device", "cpu"]
    settings = words_of(train__num_epochs=2, train__teacher_weight=0.6)
    codes = [invoke(*words, "--max-time", "0.001s", *settings).exit_code]
    codes += [invoke(*words, "--max-time", "0.001s", "--resume").exit_code for _ in range(2)]
    assert codes == [75, 75, 75]
    (tmp_path / "run/parent.safetensors").unlink()
    message = error_of(invoke(*words, "--resume"), code=1)
    assert message.startswith(f"{tmp_path}/run/parent.safetensors, which teaches the child, is gone; restore it, or")
    assert CheckpointError.exit_code == 1


@pytest.fixture
def teacher(tmp_path: Path, genotype_file: Path) -> Path:
    train(genotype_file, tmp_path / "teacher", *words_of(train__num_epochs=1))
    return tmp_path / "teacher"


def refusal(tmp_path: Path, genotype_file: Path, *words: str | Path) -> str:
    """One line, and nothing was written."""
    message = error_of(invoke("train", genotype_file, "--out", tmp_path / "run", "--device", "cpu", *words), code=2)
    assert not (tmp_path / "run").exists()
    return message


def test_a_teacher_of_other_images_is_refused(tmp_path: Path, genotype_file: Path, teacher: Path) -> None:
    taught = ["--teacher", teacher, *words_of(train__teacher_weight=0.5)]
    assert refusal(tmp_path, genotype_file, *taught, "--set", "data.image_size=16") == (
        f"the teacher {teacher} has images of data.image_size 8, this training has 16; name another one with --teacher"
    )
    assert refusal(tmp_path, genotype_file, *taught, "--set", "data.num_channels=3") == (
        f"the teacher {teacher} has image channels 1, this training has 3; name another one with --teacher"
    )
    trained = read_trained(RunFolder(teacher))
    changed = type(trained)(**{**vars(trained), "classes": ("a", *trained.classes[1:])})
    write_trained(changed, tmp_path / "other.safetensors")
    message = refusal(
        tmp_path, genotype_file, "--teacher", tmp_path / "other.safetensors", *words_of(train__teacher_weight=0.5)
    )
    assert message == (
        f"the teacher {tmp_path}/other.safetensors has classes ['a', '1', '2', '3', '4', '5', '6', '7', '8', '9'], "
        "this training has ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']; name another one with --teacher"
    )


def test_a_teacher_that_is_not_there_is_refused(tmp_path: Path, genotype_file: Path) -> None:
    (tmp_path / "empty").mkdir()
    settings = words_of(train__teacher_weight=0.5)
    for name, what in (("nothing", "does not exist"), ("empty", "holds no trained network")):
        assert refusal(tmp_path, genotype_file, "--teacher", tmp_path / name, *settings) == (
            f"the teacher {tmp_path / name} {what}; expected the folder of a training, or its model.safetensors; "
            "name another one with --teacher"
        )
    (tmp_path / "damaged.safetensors").write_bytes(b"no")
    words = ["--teacher", tmp_path / "damaged.safetensors", *settings]
    message = error_of(invoke("train", genotype_file, "--out", tmp_path / "run", *words), code=1)
    assert message.startswith(f"{tmp_path}/damaged.safetensors is truncated or not ours")
    assert not (tmp_path / "run").exists()


def test_a_teacher_without_weight_or_student_is_refused(tmp_path: Path, genotype_file: Path, teacher: Path) -> None:
    assert refusal(tmp_path, genotype_file, "--teacher", teacher, *words_of()).startswith(
        "train.teacher (--teacher) has no effect at train.teacher_weight=0; add --set train.teacher_weight=0.5, or "
        "another share, or leave the teacher out"
    )
    words = ["--precision", "full", "--teacher", teacher, *words_of(train__teacher_weight=0.5)]
    assert refusal(tmp_path, genotype_file, *words) == (
        "--precision full trains the Parent, which has no teacher; leave out one of it and --teacher"
    )


def test_a_parent_that_is_asked_for_alone_has_no_teacher(tmp_path: Path, genotype_file: Path) -> None:
    plain = words_of(train__num_epochs=1)
    train(genotype_file, tmp_path / "plain", "--precision", "full", *plain)
    train(genotype_file, tmp_path / "run", "--precision", "full", *plain, "--set", "train.teacher_weight=0.5")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "run"))
    assert all(torch.equal(first[name], second[name]) for name in first)


# ---------------------------------------------------------------- settings that do not fit


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            ["train.first_stage_epochs=4"],
            "train.first_stage_epochs=4 must be below train.num_epochs=4, or the weights never become 1-bit; add --set "
            "train.first_stage_epochs=2",
        ),
        (
            ["train.first_stage_epochs=1", "train.warmup_epochs=1"],
            "train.warmup_epochs=1 must be below the 1 epochs of the shorter stage (train.first_stage_epochs=1 of "
            "train.num_epochs=4), or the learning rate never falls; add --set train.warmup_epochs=0",
        ),
    ],
)
def test_stages_that_cannot_be(settings: list[str], expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_config(overrides=["train.num_epochs=4", *settings])
    assert expected in str(caught.value)
    load_config(overrides=["train.num_epochs=4", *settings], stored=True)  # what is there can be read


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_a_batch_of_one_image_cannot_be_mixed(name: str) -> None:
    one = ImageSet(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), torch.zeros(1, dtype=torch.long))
    dataset = Dataset(one, one, ("a", "b"), (0.5,), (0.2,))
    with pytest.raises(UsageError) as caught:
        check_training(load_config(overrides=[f"train.{name}=0.2"]), dataset, open_device("cpu"))
    assert str(caught.value) == (
        f"train.{name}=0.2 mixes every image with another of its batch, and a batch of this training has one image; "
        f"use more training images, or --set train.{name}=0"
    )


def test_mixing_trains_on_shares(tmp_path: Path, genotype_file: Path) -> None:
    train(genotype_file, tmp_path / "run", *words_of(train__mixup=0.5, train__num_epochs=1))
    record = without_seconds(tmp_path / "run/history.jsonl")[0]
    assert np.isfinite(record["loss"])
    assert 0 <= record["accuracy_train"] <= 1
