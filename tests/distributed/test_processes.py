"""Trainings on several processes: the arithmetic of one, one voice, and an end that says what happened."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from command_line import DOCUMENT, error_of, invoke
from conftest import TINY_OPTIONS, CpnasRun
from endings import end_with, refuse_to_end
from forks import Fork, fork
from killing import kill, start, wait_for_lines, without_seconds
from safetensors.torch import load_file, save_file
from torch import Tensor

from cpnas_cli.data.dataset import Dataset, ImageSet
from cpnas_cli.distributed import launch
from cpnas_cli.distributed.collectives import add_over_processes, by_all, by_first, synchronized_batch_norm
from cpnas_cli.distributed.device import open_device
from cpnas_cli.distributed.launch import EXIT_LOST, ProcessesEnd, how_ended, run_processes
from cpnas_cli.distributed.processes import World, check_shares, this_world
from cpnas_cli.errors import DataError, UsageError
from cpnas_cli.networks.modules.batch_norm import BatchNorm
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.search_space import draw_uniform
from cpnas_cli.settings import load_config
from cpnas_cli.training.evaluation import evaluate_trained
from cpnas_cli.training.training import Training
from cpnas_cli.training.validation import validate_trained

NUM_PROCESSES = 2
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes under /proc")
WORLD_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever runs the tests."""
    for name in [*os.environ]:
        if name.startswith("SLURM_") or name in WORLD_VARIABLES:
            monkeypatch.delenv(name)


# What one process computes and two compute together; every process of the two runs `compute_together`.


def make_norm_example() -> dict[str, Tensor]:
    """A batch far from 0, where E[x^2] - E[x]^2 would lose most digits in float32."""
    generator = torch.Generator().manual_seed(0)
    shape = (8, 5, 3, 2)
    return {
        "x": 100 + 2 * torch.randn(shape, generator=generator, dtype=torch.float64),
        "gradient": torch.randn(shape, generator=generator, dtype=torch.float64),
        "weight": torch.randn(5, generator=generator, dtype=torch.float64),
        "bias": torch.randn(5, generator=generator, dtype=torch.float64),
    }


def norm_tensors(example: dict[str, Tensor], result: Tensor, running: Sequence[Tensor]) -> dict[str, Tensor]:
    gradients = torch.autograd.grad(
        result, [example["x"], example["weight"], example["bias"]], grad_outputs=example["gradient"].to(result.dtype)
    )
    tensors = [result.detach(), *gradients, *running]
    return dict(zip(("y", "x", "weight", "bias", "mean", "var"), tensors, strict=True))


def normalize_share(dtype: torch.dtype) -> dict[str, Tensor]:
    """Of this process's half of the example; the gradients of weight and bias are added over both."""
    example = {name: value.to(dtype) for name, value in make_norm_example().items()}
    for name in ("x", "gradient"):
        example[name] = example[name].chunk(NUM_PROCESSES)[this_world().rank].clone()
    for name in ("x", "weight", "bias"):
        example[name].requires_grad_()
    running = torch.zeros(5, dtype=dtype), torch.ones(5, dtype=dtype)
    result = synchronized_batch_norm(example["x"], *running, example["weight"], example["bias"], momentum=0.1, eps=1e-5)
    tensors = norm_tensors(example, result, running)
    add_over_processes([tensors["weight"], tensors["bias"]])
    return tensors


STEP_SETTINGS = (
    "network.num_channels=8",
    "train.batch_size=24",
    "train.gradient_accumulation_steps=2",
    "train.lambda_compactness=0.01",
    "train.kernel_weight=1",
    "train.clip_norm=1000",
)


def noise_images() -> Dataset:
    """Images of noise, so that no channel is constant."""
    generator = torch.Generator().manual_seed(0)

    def draw(count: int) -> ImageSet:
        images = torch.randint(256, (count, 3, 8, 8), dtype=torch.uint8, generator=generator)
        return ImageSet(images, torch.arange(count) % 3)

    return Dataset(draw(24), draw(23), tuple("012"), (0.5, 0.5, 0.5), (0.3, 0.3, 0.3))


def make_training(num_processes: int) -> Training:
    fabric = open_device("cpu", num_processes=num_processes)
    return Training(
        RunFolder(Path("unused")),
        load_config(overrides=STEP_SETTINGS),
        draw_uniform(seed=1),
        noise_images(),
        fabric=fabric,
        networks=("child",),
        provenance={},
        deadline=Deadline(),
    )


def step_tensors(training: Training) -> dict[str, Tensor]:
    """One step of a Child in float64: in float32 a sign would flip here and there, and the rest with it."""
    stage = training._new_network_training("child")
    stage.network.double()
    generator = torch.Generator().manual_seed(0)
    for module in stage.network.modules():
        if isinstance(module, BatchNorm):  # a sum of signs can be the mean exactly, and rounding decides its sign
            torch.nn.init.normal_(module.bias, std=0.1, generator=generator)
    assert stage.class_means is not None
    stage.class_means.double()
    train = training.config.train
    batch = next(
        training.pipeline.training_batches(
            training.dataset.train,
            batch_size=train.batch_size,
            seed=0,
            purpose="batch",
            epoch=0,
            positions=training._positions(),
        )
    )
    row = training._train_step(stage)(batch[0].double(), batch[1])
    row /= training.fabric.world_size
    add_over_processes([row])
    row[-1] *= training.fabric.world_size
    gradients = {name: p.grad for name, p in stage.network.named_parameters() if p.grad is not None}
    return {"row": row, "class_means": stage.class_means.means, **gradients, **dict(stage.network.named_buffers())}


def compute_together(folder: Path) -> int:
    """On one of the processes: everything that the test below compares, into RANK.safetensors and RANK.json."""
    torch.set_num_threads(1)
    training = make_training(NUM_PROCESSES)
    rank = this_world().rank
    tensors = {}
    for name, dtype in (("single", torch.float32), ("double", torch.float64)):
        tensors |= {f"{name}.{key}": value for key, value in normalize_share(dtype).items()}
    tensors |= {f"step.{key}": value for key, value in step_tensors(training).items()}
    network = training._new_network_training("child").network
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / f"{rank}.safetensors")
    heard: list[object] = [by_first(training.fabric, lambda: f"from {rank}")]
    for together, action in ((by_first, fail_on_first), (by_all, fail_on_second)):
        try:
            together(training.fabric, action)
        except DataError as error:
            heard.append(str(error))
    heard.append(by_all(training.fabric, lambda: rank))
    heard.append(evaluate_trained(network, training.pipeline, training.dataset.test, rank=rank))
    seen = validate_trained(network, training.pipeline, training.dataset.test, epoch=0, rank=rank)
    heard += [seen.accuracy, round(seen.loss, 5)]
    (folder / f"{rank}.json").write_text(json.dumps(heard))
    return 0


def fail_on_first() -> None:
    assert this_world().is_first, "only the first process runs it"
    raise DataError("the first one cannot")


def fail_on_second() -> None:
    if not this_world().is_first:
        raise DataError("the second one cannot")


def test_two_processes_compute_what_one_does(tmp_path):
    assert run_processes(compute_together, tmp_path, num_processes=NUM_PROCESSES) == ProcessesEnd(0)
    found = [load_file(tmp_path / f"{rank}.safetensors") for rank in range(NUM_PROCESSES)]
    check_norm(found, name="double", rel=1e-11)
    # float32's own rounding of values near 100, 4e-6, divided by the deviation 2 and multiplied by weights up to 2
    check_norm(found, name="single", rel=2e-5)
    alone = make_training(1)
    for name, expected in step_tensors(alone).items():
        rel = 1e-10 if expected.dtype == torch.float64 else 1e-6  # what the steps report is float32
        for tensors in found:
            torch.testing.assert_close(tensors[f"step.{name}"], expected, rtol=rel, atol=rel, msg=name)
        assert torch.equal(found[0][f"step.{name}"], found[1][f"step.{name}"]), name
    network = alone._new_network_training("child").network
    accuracy = evaluate_trained(network, alone.pipeline, alone.dataset.test)
    for rank in range(NUM_PROCESSES):
        heard = json.loads((tmp_path / f"{rank}.json").read_text())
        *heard, loss = heard
        assert heard == ["from 0", "the first one cannot", "the second one cannot", rank, accuracy, accuracy]
        alone_loss = validate_trained(network, alone.pipeline, alone.dataset.test, epoch=0).loss
        assert loss == pytest.approx(alone_loss, abs=1e-4)


def check_norm(found: list[dict[str, Tensor]], *, name: str, rel: float) -> None:
    """Against batch norm of the whole batch in float64."""
    example = make_norm_example()
    for key in ("x", "weight", "bias"):
        example[key].requires_grad_()
    running = torch.zeros(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64)
    result = F.batch_norm(example["x"], *running, example["weight"], example["bias"], True, 0.1, 1e-5)
    for key, expected in norm_tensors(example, result, running).items():
        parts = [tensors[f"{name}.{key}"].double() for tensors in found]
        if key in ("y", "x"):
            torch.testing.assert_close(torch.cat(parts), expected, rtol=rel, atol=rel)
        else:
            for part in parts:
                torch.testing.assert_close(part, expected, rtol=rel, atol=rel)


# The process that starts the others and waits for them; their work is light, so that it is all about their ends.


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ((0, 0), ProcessesEnd(0)),
        ((75, 75), ProcessesEnd(75)),
        ((2, 2), ProcessesEnd(2)),
        ((1, EXIT_LOST), ProcessesEnd(1)),  # the first one has said it
        ((-9, EXIT_LOST), ProcessesEnd(1, "process 1 of 2 died (SIGKILL)")),
        ((EXIT_LOST, -9), ProcessesEnd(1, "process 2 of 2 died (SIGKILL)")),
        ((EXIT_LOST, 1), ProcessesEnd(1, "process 2 of 2 ended (exit code 1)")),
        ((0, 7), ProcessesEnd(1, "process 2 of 2 ended (exit code 7)")),
        ((EXIT_LOST, EXIT_LOST), ProcessesEnd(1, "the processes lost each other")),
    ],
)
def test_how_the_processes_ended_is_said_once(codes, expected):
    assert run_processes(end_with, codes, num_processes=2) == expected


@pytest.mark.parametrize(
    ("code", "expected"), [(2, ProcessesEnd(2)), (9, ProcessesEnd(1, "process 1 of 2 ended (exit code 9)"))]
)
def test_a_process_that_hangs_after_another_failed_is_killed(tmp_path, monkeypatch, code, expected):
    monkeypatch.setattr(launch, "GRACE_SECONDS", 0.3)
    assert run_processes(refuse_to_end, tmp_path / "ready", code, num_processes=2) == expected


WAITING = """
import sys
from pathlib import Path
from endings import tell_and_sleep
from cpnas_cli.distributed.launch import run_processes
if __name__ == "__main__":
    ending = run_processes(tell_and_sleep, Path(sys.argv[1]), num_processes=2)
    print(ending.exit_code, ending.message)
"""


@needs_proc
@pytest.mark.parametrize(
    ("sent", "said"),
    [(signal.SIGINT, "130 interrupted"), (signal.SIGTERM, "143 ended by SIGTERM"), (signal.SIGKILL, "")],
)
def test_nobody_is_left_over(tmp_path, sent, said):
    script = tmp_path / "waiting.py"
    script.write_text(WAITING)
    waiting = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    files = [tmp_path / f"{rank}.pid" for rank in range(2)]
    wait_until(lambda: all(file.exists() and file.read_text() for file in files), what="both have started")
    pids = [int(file.read_text().split()[0]) for file in files]
    assert [file.read_text().split()[1] for file in files] == ["1", "1"]  # as the user has it
    assert all(os.getsid(pid) == pid for pid in pids)  # so that a terminal's Ctrl-C does not reach them
    waiting.send_signal(sent)
    stdout, stderr = waiting.communicate(timeout=30)
    assert stdout.strip() == said
    assert stderr == ""
    wait_until(lambda: not any(map(is_alive, pids)), what="both have ended")
    assert len(list(tmp_path.glob("*.interrupted"))) == (2 if sent == signal.SIGINT else 0)


def wait_until(condition, *, what: str) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError(f"never: {what}")


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_how_ended():
    assert [how_ended(code) for code in (-9, -250, 3)] == ["SIGKILL", "exit code -250", "exit code 3"]


# Who this process is.

TORCHRUN = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
SRUN = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, World()),
        (TORCHRUN, World(3, 4, 2, "torchrun")),
        ({**TORCHRUN, "CPNAS_STARTED_BY_US": "1"}, World(3, 4, 2, "cpnas")),
        ({**TORCHRUN, **SRUN, "RANK": "0"}, World(0, 4, 2, "torchrun")),
        ({"WORLD_SIZE": "2", "RANK": "1"}, World()),  # a cluster's pod, not torchrun
        (SRUN, World(3, 4, 2, "srun")),
        ({**SRUN, "SLURM_NTASKS": "1"}, World()),
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "1"}, World()),  # an interactive shell
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, World()),  # a batch script
    ],
)
def test_the_environment_says_who_this_is(monkeypatch, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert this_world() == expected


@pytest.fixture
def genotype_file(tmp_path: Path) -> Path:
    path = tmp_path / "genotype.json"
    path.write_text(json.dumps(DOCUMENT))
    return path


@pytest.mark.parametrize("devices", ["0", "x", "-1", "1.5", ""])
def test_devices_is_a_number(genotype_file, devices):
    message = error_of(invoke("train", genotype_file, f"--devices={devices}"), code=2)
    assert "--devices expects a whole number from 1 up" in message
    assert repr(devices) in message


def test_a_batch_that_does_not_divide_is_refused(genotype_file, tmp_path):
    words = ["train", genotype_file, "--out", tmp_path / "run", "--set", "train.batch_size=20"]
    message = error_of(invoke(*words, "--devices", "3"), code=2)
    assert "train.batch_size=20 does not divide into 3 processes with 2 images each or more" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((64, 1, 1, 1797), None),
        ((64, 4, 2, 64), None),
        ((4, 1, 2, None), None),
        ((20, 2, 3, None), "train.batch_size=20 does not divide into 3 processes times 2 gradient accumulation steps"),
        ((4, 1, 4, None), "with 2 images each or more; choose a multiple of 4 from 8 up"),
        (
            (64, 2, 1, 41),
            "the training set of 41 images, which is one batch, does not divide into 2 gradient accumulation",
        ),
        ((64, 1, 1, 1), "at least 2 images"),
    ],
)
def test_shares(numbers, message):
    batch_size, num_parts, num_processes, num_images = numbers
    values = {"batch_size": batch_size, "num_parts": num_parts, "num_processes": num_processes}
    if message is None:
        check_shares(**values, num_images=num_images)
    else:
        with pytest.raises(UsageError, match=message):
            check_shares(**values, num_images=num_images)


def test_a_training_set_that_does_not_divide_is_refused_before_anything_is_written(genotype_file, tmp_path):
    words = ["train", genotype_file, "--device", "cpu", "--out", tmp_path / "run", "--set", "data.num_train=41"]
    parts = ["--set", "train.gradient_accumulation_steps=2", "--set", "train.batch_size=64"]
    message = error_of(invoke(*words, *parts), code=2)
    assert "the training set of 41 images" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("launcher", ["torchrun", "srun"])
def test_a_search_that_was_started_several_times_is_refused(monkeypatch, tmp_path, launcher):
    variables = {"torchrun": {**TORCHRUN, "RANK": "0"}, "srun": {**SRUN, "SLURM_PROCID": "0"}}[launcher]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    message = error_of(invoke("search", "--out", tmp_path / "run", *TINY_OPTIONS), code=2)
    assert f"only `cpnas train` runs on several processes, and this is one of 4 of {launcher}" in message
    assert not (tmp_path / "run").exists()


def test_devices_must_agree_with_torchrun(monkeypatch, genotype_file):
    for name, value in {**TORCHRUN, "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    message = error_of(invoke("train", genotype_file, "--devices", "3"), code=2)
    assert "--devices 3, and torchrun started 4 processes" in message


def test_srun_must_say_how_many_are_on_each_machine(monkeypatch, genotype_file):
    for name, value in {**SRUN, "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE")
    assert "srun --ntasks-per-node=N" in error_of(invoke("train", genotype_file, "--device", "cpu"), code=2)


# Whole trainings. Two processes and one: the weights are float32, and sums in another order round differently.

WORDS = ["train", "genotype.json", *TINY_OPTIONS, "--device", "cpu"]


def workers_of(pid: int) -> list[int]:
    """The processes that a training has started, in their order."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and is_alive(int(entry.name)):
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                is_worker = b"spawn_main" in (entry / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if parent == pid and is_worker:
                found.append(int(entry.name))
    return sorted(found)


@needs_proc
@pytest.mark.slow
def test_a_training_whose_process_dies_says_so_once_and_goes_on(cpnas: CpnasRun, tmp_path, genotype_file):
    """Here with one process, and ends where that ends; with two, see below."""
    words = [*WORDS, "--precision", "full"]
    process = start(tmp_path, *words, "--devices", "2", "--out", "two")
    wait_for_lines(process, tmp_path / "two/history.jsonl", 1)
    workers = workers_of(process.pid)
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stdout == ""
    last = stderr.splitlines()[-1]
    line = "cpnas train genotype.json --precision full --devices 2 --out two --device cpu --resume"
    assert last == (
        "cpnas: error: process 2 of 2 died (SIGKILL); all finished draws or epochs are saved; go on with: " + line
    )
    assert stderr.count("error") == 1
    assert "Traceback" not in stderr
    assert not any(map(is_alive, workers))
    assert json.loads((tmp_path / "two/environment.json").read_text())["num_processes"] == 2
    before = (tmp_path / "two/history.jsonl").read_text().splitlines()[0]
    resumed = invoke("train", genotype_file, *words[2:], "--out", tmp_path / "two", "--resume")
    assert resumed.exit_code == 0, resumed.stderr
    assert "note: num_processes differs from the start of the run, so the bits will too (2)" in resumed.stderr
    assert (tmp_path / "two/history.jsonl").read_text().splitlines()[0] == before
    assert invoke("train", genotype_file, *words[2:], "--out", tmp_path / "one").exit_code == 0
    assert_near(tmp_path / "two", tmp_path / "one")


def assert_near(two: Path, one: Path) -> None:
    """The histories and the weights of a Parent after 3 epochs of 2 steps, of which two processes did one or all.

    Measured: losses 2e-7 apart and weights 1e-5. Sums in another order round differently, and Adam divides by
    gradients that may be as small as their rounding.
    """
    for found, expected in zip(*(without_seconds(run / "history.jsonl") for run in (two, one)), strict=True):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert found[key] == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value), key
    found, expected = (load_file(run / "model.safetensors") for run in (two, one))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-4, msg=name)
    results = [json.loads((run / "result.json").read_text()) for run in (two, one)]
    assert results[0]["accuracy_test"] == results[1]["accuracy_test"]


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_costs_no_bit(cpnas: CpnasRun, tmp_path, genotype_file, killed):
    """Child and Parent, killed in both; after that the run is what an uninterrupted one with two processes is."""
    words = [*WORDS, "--with-parent", "--devices", "2", "--set", "train.gradient_accumulation_steps=2"]
    whole = cpnas(*words, "--out", "whole", "--json")
    assert whole.returncode == 0, whole.stderr
    run = tmp_path / "run"
    for lines in (1, 5):
        process = start(tmp_path, *words, "--out", "run", *(["--resume"] if run.exists() else []))
        wait_for_lines(process, run / "history.jsonl", lines)
        os.kill(workers_of(process.pid)[killed], signal.SIGKILL)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 1
        assert stderr.splitlines()[-1].startswith(f"cpnas: error: process {killed + 1} of 2 died (SIGKILL); all ")
        assert stderr.count("error") == 1
    resumed = cpnas("train", "genotype.json", "--with-parent", "--devices", "2", "--out", "run", "--resume", "--json")
    assert resumed.returncode == 0, resumed.stderr
    for name in ("model.safetensors", "parent.safetensors"):
        assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert without_seconds(run / "history.jsonl") == without_seconds(tmp_path / "whole/history.jsonl")
    assert json.loads(resumed.stdout)["accuracy_test"] == json.loads(whole.stdout)["accuracy_test"]


@pytest.mark.long
def test_a_child_of_two_processes_learns_as_that_of_one(cpnas: CpnasRun, tmp_path, genotype_file):
    """Rounding decides some signs, so the two go apart; what they learn is the same."""
    settings = ["--set", "network.num_channels=8", "--set", "data.num_train=400", "--set", "data.num_test=200"]
    words = [*WORDS, *settings, "--set", "train.num_epochs=10"]
    results = {}
    for name, more in (("one", []), ("two", ["--devices", "2"])):
        answer = cpnas(*words, *more, "--out", name, "--json", timeout=250)
        assert answer.returncode == 0, answer.stderr
        results[name] = json.loads(answer.stdout)
    one, two = (without_seconds(tmp_path / name / "history.jsonl") for name in ("one", "two"))
    assert two[0]["loss_kernel"] == pytest.approx(one[0]["loss_kernel"], rel=1e-2)
    assert two[-1]["loss_cross_entropy"] == pytest.approx(one[-1]["loss_cross_entropy"], rel=0.1)
    assert abs(results["two"]["accuracy_test"] - results["one"]["accuracy_test"]) <= 0.05


@pytest.mark.slow
def test_max_time_ends_all_with_75(cpnas: CpnasRun, tmp_path, genotype_file):
    words = [*WORDS, "--devices", "2", "--out", "run"]
    first = cpnas(*words, "--max-time", "0.01s")
    assert first.returncode == 75
    assert first.stderr.count("go on with") == 1
    assert "cpnas train genotype.json --devices 2 --out run --device cpu --resume" in first.stderr
    assert len(without_seconds(tmp_path / "run/history.jsonl")) == 1
    assert cpnas(*words, "--resume", "--max-time", "1h").returncode == 0
    assert len(without_seconds(tmp_path / "run/history.jsonl")) == 3


@needs_proc
@pytest.mark.slow
def test_ctrl_c_is_said_once(tmp_path, genotype_file):
    process = start(tmp_path, *WORDS, "--devices", "2", "--out", "run")
    wait_for_lines(process, tmp_path / "run/history.jsonl", 1)
    workers = workers_of(process.pid)
    code, stderr = kill(process, signal.SIGINT)
    assert code == 130
    line = "cpnas train genotype.json --devices 2 --out run --device cpu --resume"
    assert stderr.splitlines()[-1] == (
        "cpnas: interrupted; all finished draws or epochs are saved; go on with: " + line
    )
    assert stderr.count("cpnas: ") == 1
    assert "Traceback" not in stderr
    assert not any(map(is_alive, workers))


@pytest.mark.slow
def test_an_error_of_all_is_said_by_the_first(cpnas: CpnasRun, tmp_path, genotype_file):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/mine.txt").write_text("")
    answer = cpnas(*WORDS, "--devices", "2", "--out", "run")
    assert answer.returncode == 1
    assert answer.stderr.splitlines()[1:] == ["cpnas: error: run is not empty and holds no run; choose another --out"]


@pytest.mark.slow
def test_torchrun_starts_them_too(cpnas: CpnasRun, tmp_path, genotype_file):
    ours = cpnas(*WORDS, "--devices", "2", "--out", "ours")
    assert ours.returncode == 0, ours.stderr
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    theirs = subprocess.run(
        [*torchrun, "-m", "cpnas_cli", *WORDS, "--out", "theirs", "--json"],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert theirs.returncode == 0, theirs.stderr
    assert json.loads(theirs.stdout)["num_epochs"] == 3  # printed once
    assert (tmp_path / "theirs/model.safetensors").read_bytes() == (tmp_path / "ours/model.safetensors").read_bytes()


def start_by_srun(folder: Path, rank: int, port: int, *words: str) -> Fork:
    """One of two tasks of a step, as srun would start it."""
    variables = {
        "SLURM_JOB_ID": "4711",
        "SLURM_STEP_ID": "0",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NNODES": "1",
        "SLURM_NODEID": "0",
        "SLURM_NODELIST": "localhost",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
        "MASTER_PORT": str(port),
    }
    return fork(folder, words, environment={**os.environ, "COLUMNS": "200", **variables})


@pytest.mark.slow
def test_srun_starts_them_too_and_a_survivor_says_how_to_go_on(cpnas: CpnasRun, tmp_path, genotype_file):
    words = [*WORDS, "--with-parent", "--out", "run"]
    for resume in ([], ["--resume"]):
        port = launch._free_port()
        tasks = [start_by_srun(tmp_path, rank, port, *words, *resume) for rank in range(2)]
        if not resume:
            wait_for_lines(tasks[0], tmp_path / "run/history.jsonl", 2)
            tasks[0].kill()
        outputs = [task.communicate(timeout=120) for task in tasks]
        if not resume:
            assert tasks[1].returncode == 1
            assert outputs[1][0] == ""
            (line,) = outputs[1][1].splitlines()
            assert line.startswith("cpnas: error: another process of this training is gone (")
            assert line.endswith(
                "go on with: srun ... cpnas train genotype.json --with-parent --out run --device cpu --resume"
            )
        else:
            assert [task.returncode for task in tasks] == [0, 0], outputs
            assert outputs[1] == ("", "")
    whole = cpnas(*WORDS, "--with-parent", "--devices", "2", "--out", "whole")
    assert whole.returncode == 0, whole.stderr
    for name in ("model.safetensors", "parent.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
