"""The benchmarks: what their rows say, not how long anything takes."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import (
    child_step,
    convolution,
    draws,
    engine_profile,
    epochs,
    growth,
    memory,
    predict,
    predict_memory,
    product,
    sign,
    startup,
)
from benchmarks.workload import Shape, Workload
from cpnas_cli.binarization import filters
from cpnas_cli.deploy.packed_file import save_packed
from cpnas_cli.efficiency.process_memory import Resident
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.settings import load_config

SHAPE = Shape(num_cells=3, num_channels=4, image_size=4, batch_size=4)
WORKLOAD = Workload(SHAPE, num_images=8, num_classes=2)
SHAPE_COLUMN = "cells, channels, pixels, batch"

# What is promised of every benchmark of the registry.
COLUMNS = {
    "startup": ["until", "seconds"],
    "epochs": ["epoch", "network", SHAPE_COLUMN, "images", "seconds", "images per second", "to the Parent"],
    "child_step": [SHAPE_COLUMN, "genotype", "Parent ms", "Child ms", "Child / Parent", "with (4.17)"],
    "preset_step": ["preset", "network", "by PyTorch alone", "ms", "as it is / this"],
    "search_step": [SHAPE_COLUMN, "CP-NAS step ms", "PC-DARTS step ms", "median ratio", "ratio of means"],
    "sign": [SHAPE_COLUMN, "sign", "ms", "to the first"],
    "profile": ["operation", "child %", "parent %", "child ms"],
    "growth": [
        SHAPE_COLUMN, "doubled", "from", "to", "base s", "doubled s", "doubled / base", "linear growth gives",
    ],
    "draws": [
        "draws", "draw s", "saving s", "one architecture s", "to new networks", "resident MiB", "peak MiB so far",
        "peak by",
    ],
    "memory": [SHAPE_COLUMN, "step", "peak MiB", "to the Parent", "peak by"],
    "convolution": [
        "batch, channels, pixels", "filter", "in groups of", "conv2d ms", "convolve ms", "conv2d / convolve",
    ],
    "predict": [
        "network", "images", "decoding alone s", "network alone s", "predict s", "predict / decoding",
        "images per second",
    ],
    "product": ["on one thread", "channels, pixels", "multiply-accumulates per ns", "% of the ceiling"],
    "engine_profile": ["network", "what", "how many", "us", "%"],
}  # fmt: skip


def seconds_of_size(seconds: Callable[[Workload], float]) -> Callable[..., dict[str, Callable[[], float]]]:
    """Instead of trainings: seconds that depend on the workload in a known way; a third of them the Parent's."""

    def training_epochs(workload: Workload, *_: object, **__: object) -> dict[str, Callable[[], float]]:
        total = seconds(workload)
        return {"child": lambda: total * 2 / 3, "parent": lambda: total / 3}

    return training_epochs


@pytest.fixture
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes long for another reason than its shape is replaced."""
    monkeypatch.setattr(startup, "measure", lambda: {"python": 1.0, "cpnas": 3.0})
    monkeypatch.setattr(growth, "training_epochs", seconds_of_size(lambda workload: workload.num_images))
    monkeypatch.setattr(memory, "in_fresh_process", lambda *_, **__: 8.0)
    memories = [draws.Draw(1.0, 0.1, Resident(2, 3))] * 5
    monkeypatch.setattr(draws, "in_fresh_process", lambda *_: (memories, [(1.0, 1.0)] * 5))
    monkeypatch.setattr(product, "measure", lambda *_: {"popcount ceiling": 8.0, "1-bit product": 6.0})
    monkeypatch.setattr(child_step, "GENOTYPES", {"one": epochs.GENOTYPE})
    monkeypatch.setattr(convolution, "FILTERS", convolution.FILTERS[:1])


TINY_ARGUMENTS = {
    "startup": {"repetitions": 1},
    "epochs": {"workload": WORKLOAD, "repetitions": 1, "warmup": 0},
    "child_step": {"shapes": (SHAPE,), "repetitions": 1, "warmup": 0},
    "preset_step": {"presets": ("digits",), "num_draws": 1, "repetitions": 1},
    "search_step": {"shapes": (SHAPE,), "repetitions": 1, "warmup": 0},
    "sign": {"shapes": (SHAPE,), "repetitions": 1},
    "profile": {"workload": WORKLOAD, "repetitions": 1},
    "growth": {"workload": WORKLOAD, "repetitions": 1, "warmup": 0},
    "draws": {"workload": WORKLOAD},
    "memory": {"shapes": (SHAPE,), "repetitions": 1},
    "convolution": {"images": ((1, 2, 4),), "repetitions": 1},
    "predict": {"networks": ("folder",), "num_images": 3, "repetitions": 1},
    "product": {"repetitions": 1},
    "engine_profile": {"names": ("digits",), "repetitions": 1},
}


@pytest.mark.usefixtures("_tiny")
@pytest.mark.parametrize("name", COLUMNS)
def test_rows_have_the_promised_columns(name: str):
    rows = command.BENCHMARKS[name].tabulate(**TINY_ARGUMENTS[name])
    assert rows
    assert all(list(row) == COLUMNS[name] for row in rows)
    assert {row.get(SHAPE_COLUMN, "3, 4, 4, 4") for row in rows} == {"3, 4, 4, 4"}  # not one of the module's own
    json.dumps(rows, allow_nan=False)


def test_every_benchmark_of_the_registry_is_promised():
    assert list(command.BENCHMARKS) == list(COLUMNS)


# ---------------------------------------------------------------- the engine's profile


def test_the_profile_of_the_engine_has_every_part_of_the_network_once():
    """As many grouped convolutions and poolings as the genotype has in three cells, two preprocessings for each."""
    rows = engine_profile.tabulate(names=("fashion-mnist-small",), repetitions=1)
    counts = {row["what"]: row["how many"] for row in rows}
    cells = [engine_profile.SEARCHED.normal, engine_profile.SEARCHED.reduce, engine_profile.SEARCHED.reduce]
    num_cells = load_config("fashion-mnist-small").network.num_cells
    assert num_cells == len(cells)
    ops = [op for cell in cells for op in cell]
    assert counts["grouped convolution"] == sum("conv" in op for op in ops)
    assert counts["pool"] == sum("pool" in op for op in ops)
    assert counts["signs"] == 6 * num_cells
    assert counts["in all"] == sum(count for what, count in counts.items() if what not in engine_profile.SUMS)
    assert sum(row["%"] for row in rows if row["what"] not in engine_profile.SUMS) == pytest.approx(100)


# ---------------------------------------------------------------- epochs


def test_the_signs_of_filters_are_computed_as_the_row_says(monkeypatch: pytest.MonkeyPatch):
    """Every module that computes one has the sign of the row, and none its own."""

    def its_own(*_: Any, **__: Any) -> Any:
        raise AssertionError("the sign that was there before")

    monkeypatch.setattr(filters, "sign", its_own)
    assert len(sign.measure(SHAPE, 1)) == 3


def test_each_call_trains_one_more_epoch_of_the_same_training(tmp_path: Path):
    calls = epochs.training_epochs(WORKLOAD, epochs.GENOTYPE, folder=tmp_path)
    seconds = [calls["child"]() for _ in range(2)]
    history = RunFolder(tmp_path / "child").history()
    assert [(record["network"], record["epoch"]) for record in history] == [("child", 0), ("child", 1)]
    assert [record["seconds"] for record in history] == seconds
    assert not (tmp_path / "parent").exists()


def test_images_per_second_are_those_of_the_median(monkeypatch: pytest.MonkeyPatch):
    """Draws of 2 s and epochs of 3 s for a Child, half of it for a Parent."""

    def constant(seconds: float) -> Callable[..., dict[str, Callable[[], float]]]:
        return lambda *_, **__: {"child": lambda: seconds, "parent": lambda: seconds / 2}

    monkeypatch.setattr(epochs, "search_draws", constant(2.0))
    monkeypatch.setattr(epochs, "training_epochs", constant(3.0))
    rows = epochs.tabulate(WORKLOAD, repetitions=2)
    assert [row["images per second"] for row in rows] == pytest.approx([8 / 2, 8 / 1, 8 / 3, 8 / 1.5])
    assert [row["to the Parent"] for row in rows] == [2.0, 1.0, 2.0, 1.0]


# ---------------------------------------------------------------- predict


def test_all_files_are_decoded_and_classified(tmp_path: Path):
    """JPEG files that differ, over more than one folder; both read all of them, and the command one that is none."""
    predict.write_images(tmp_path / "images", 1001)
    files = sorted((tmp_path / "images").rglob("*.jpg"))
    assert len({file.read_bytes() for file in files}) == 1001
    assert {file.read_bytes()[:2] for file in files} == {b"\xff\xd8"}
    assert {len(list(below.iterdir())) for below in (tmp_path / "images").iterdir()} == {1000, 1}
    model = predict.model_of("folder")
    assert predict.decode_alone(tmp_path / "images", model, num_threads=2) == 1001
    save_packed(model, tmp_path / "packed")
    predict.predict(files[0], tmp_path / "packed", num_threads=1)
    files[0].write_bytes(b"no image")
    assert predict.predict(files[0], tmp_path / "packed", num_threads=1) == 1


def test_the_ratio_to_decoding_is_that_of_the_seconds(monkeypatch: pytest.MonkeyPatch):
    clock = {"decoding": 2.0, "network": 1.0, "predict": 3.0}
    monkeypatch.setattr(predict, "interleaved_seconds", lambda *_, **__: {name: [s] for name, s in clock.items()})
    (row,) = predict.tabulate(("folder",), num_images=6, repetitions=1)
    assert (row["predict / decoding"], row["images per second"]) == (1.5, 2.0)


def test_memory_is_that_of_as_many_images(monkeypatch: pytest.MonkeyPatch):
    seen = []

    def peak_memory_of(target: str, model: str, folder: str) -> int:
        assert (Path(model).is_file(), target) == (True, "benchmarks.predict_memory:classify")
        seen.append((len(list(Path(folder).iterdir())), len(list(Path(folder).rglob("*.jpg")))))
        return len(seen) * 2**20

    monkeypatch.setattr("cpnas_cli.efficiency.process_memory.peak_memory_of", peak_memory_of)
    monkeypatch.setattr(predict_memory, "NUM_FILES", 7)
    rows = predict_memory.tabulate(counts=(10, 1500))
    assert seen == [(1, 10), (1, 10), (1, 1500), (2, 1500)]
    assert [row["in folders of 1,000, MiB"] for row in rows] == [2, 4]


# ---------------------------------------------------------------- growth


def test_one_size_is_doubled_at_a_time():
    base = Workload(Shape(5, 16, 8, 64), num_images=128, num_classes=10)
    found = {}
    for name, workload in growth.doubled(base).items():
        config, dataset = workload.config(), workload.dataset()
        found[name] = (
            config.network.num_cells,
            config.network.num_channels,
            len(dataset.train),
            dataset.num_classes,
            config.train.batch_size,
            config.data.image_size,
        )
        assert sorted(set(dataset.train.labels.tolist())) == list(range(dataset.num_classes))
    assert found == {
        "cells": (10, 16, 128, 10, 64, 8),
        "channels": (5, 32, 128, 10, 64, 8),
        "images": (5, 16, 256, 10, 64, 8),
        "classes": (5, 16, 128, 20, 64, 8),
    }


def test_growth_is_that_of_a_known_cost(monkeypatch: pytest.MonkeyPatch):
    def cost(workload: Workload) -> float:
        shape = workload.shape
        return 0.001 * shape.num_cells * shape.num_channels**2 * workload.num_images

    monkeypatch.setattr(growth, "training_epochs", seconds_of_size(cost))
    rows = growth.tabulate(WORKLOAD, repetitions=2)
    assert [(row["doubled"], row["from"], row["to"]) for row in rows] == [
        ("cells", 3, 6), ("channels", 4, 8), ("images", 8, 16), ("classes", 2, 4),
    ]  # fmt: skip
    assert [row["doubled / base"] for row in rows] == pytest.approx([2, 4, 2, 1])
    assert [row["base s"] for row in rows] == pytest.approx([0.001 * 3 * 4**2 * 8] * 4)
    assert [row["linear growth gives"] for row in rows] == ["2", "2 to 4", "2", "1"]


# ---------------------------------------------------------------- memory


@pytest.mark.slow
def test_the_peak_of_a_step_grows_with_its_batch():
    small, large = (
        memory.in_fresh_process(
            memory.peak_of_steps,
            Shape(3, 4, 32, batch_size),
            "parent",
            child_parent_loss=False,
            num_steps=1,
            num_threads=1,
        )
        for batch_size in (16, 128)
    )
    assert 0 < 1.5 * small < large


def test_peaks_are_set_against_the_parent(monkeypatch: pytest.MonkeyPatch):
    def peak(_: object, __: Shape, network: str, *, child_parent_loss: bool, **___: object) -> float:
        return {"parent": 10.0, "child": 15.0}[network] + 5 * child_parent_loss

    monkeypatch.setattr(memory, "in_fresh_process", peak)
    rows = memory.tabulate((SHAPE,), repetitions=1)
    assert [(row["step"], row["peak MiB"], row["to the Parent"]) for row in rows] == [
        ("Parent", 10.0, 1.0), ("Child", 15.0, 1.5), ("Child with (4.17)", 20.0, 2.0),
    ]  # fmt: skip


# ---------------------------------------------------------------- draws


def test_a_search_is_watched_draw_by_draw():
    """The first round has a draw for each of the 8 operations; together they last no longer than the search."""
    started = time.perf_counter()
    found = draws.search(WORKLOAD, num_draws=5)
    seconds = time.perf_counter() - started
    assert len(found) == 8
    assert all(draw.seconds > 0 and draw.saving_seconds > 0 for draw in found)
    assert sum(draw.seconds + draw.saving_seconds for draw in found) < seconds
    assert all(draw.memory.now <= draw.memory.peak for draw in found)


def test_draws_are_summed_up_by_parts():
    found = [
        draws.Draw(float(n), n / 10, Resident((100 + n) * memory.MIB, (200 + n) * memory.MIB)) for n in range(1, 16)
    ]
    pairs = [(2.0 * n, 1.0 * n) for n in range(1, 16)]
    rows = draws.summarize(found, pairs)
    assert [row["draws"] for row in rows] == ["1 to 3", "4 to 6", "7 to 9", "10 to 12", "13 to 15"]
    assert [row["draw s"] for row in rows] == [2, 5, 8, 11, 14]
    assert [row["saving s"] for row in rows] == pytest.approx([0.2, 0.5, 0.8, 1.1, 1.4])
    assert [row["one architecture s"] for row in rows] == [4, 10, 16, 22, 28]
    assert [row["to new networks"] for row in rows] == [2.0] * 5
    assert [row["resident MiB"] for row in rows] == [103, 106, 109, 112, 115]
    assert rows[-1]["peak MiB so far"] == 215


def test_each_draw_stands_beside_one_in_new_networks(monkeypatch: pytest.MonkeyPatch):
    """Networks that get slower with every draw: the same ones do, new ones begin again for each row."""

    def slower(*_: object) -> dict[str, Callable[[], float]]:
        calls: list[float] = []

        def child() -> float:
            calls.append(1.0)
            return sum(calls)

        return {"child": child, "parent": lambda: 0.0}

    monkeypatch.setattr(draws, "search_draws", slower)
    pairs = draws.beside_new_networks(WORKLOAD, num_draws=10)
    assert [same for same, _ in pairs] == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]  # the first call is not timed
    assert [new for _, new in pairs] == [2, 3] * 5


# ---------------------------------------------------------------- start of a command


def test_a_command_is_ended_after_its_last_line(tmp_path: Path):
    """It would go on for minutes."""
    code = "import os, time; open('pid', 'w').write(str(os.getpid())); print('a\\nb', flush=True); time.sleep(200)"
    command_line = (sys.executable, "-c", f"import os; os.chdir({str(tmp_path)!r}); {code}")
    first, second = startup.seconds_to_lines(command_line, lines=("a", "b"))
    assert 0 < first <= second
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_command_that_fails_says_why():
    command_line = (sys.executable, "-c", "print('a'); raise SystemExit('no disk')")
    with pytest.raises(RuntimeError, match=r"no line 'b' from .*: no disk"):
        startup.seconds_to_lines(command_line, lines=("a", "b"))


@pytest.mark.slow
def test_a_search_is_seen_to_begin_and_to_end_its_first_draw():
    found = startup.measure()
    assert 0 < found["cpnas search, its first draw begins"] < found["cpnas search, its first draw ends"]


# ---------------------------------------------------------------- the command


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Two benchmarks that only note how they are called."""
    calls: list[dict[str, Any]] = []

    def tabulate(**arguments: Any) -> list[dict[str, Any]]:
        calls.append({**arguments, "num_threads": torch.get_num_threads()})
        torch.set_num_threads(1)
        return [{"what": "a step", "ratio": 1.25}]

    two = {
        "first": command.Benchmark("the first", tabulate, {"repetitions": 9}, {"repetitions": 2}),
        "second": command.Benchmark("the second", tabulate, {"size": 64}, {"size": 8}),
    }
    monkeypatch.setattr(command, "BENCHMARKS", two)
    return calls


def test_the_document_holds_the_rows_and_the_environment(
    registry: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "benchmarks.json"
    command.main(["--quick", "--threads", "2", "--json", str(file)])
    document = json.loads(file.read_text(encoding="utf-8"))
    assert document["schema"] == "cpnas.benchmarks/1"
    assert document["quick"] is True
    assert {name: part["rows"] for name, part in document["benchmarks"].items()} == {
        "first": [{"what": "a step", "ratio": 1.25}],
        "second": [{"what": "a step", "ratio": 1.25}],
    }
    environment = document["environment"]
    assert environment["torch"] == torch.__version__
    assert environment["num_threads"] == 2
    assert environment["python"].startswith("3.")
    assert environment["processor"]
    assert "commit" in environment
    assert registry == [{"repetitions": 2, "num_threads": 2}, {"size": 8, "num_threads": 2}]
    out = capsys.readouterr().out
    assert "first: the first" in out
    assert "1.25" in out


def test_repetitions_are_those_asked_for(registry: list[dict[str, Any]]):
    command.main(["--repetitions", "4", "--threads", "1", "--only", "second,first"])
    assert registry == [{"repetitions": 4, "num_threads": 1}, {"size": 64, "num_threads": 1}]


def test_only_those_asked_for_run(registry: list[dict[str, Any]]):
    command.main(["--only", "second", "--threads", "1"])
    assert registry == [{"size": 64, "num_threads": 1}]


def test_the_list_runs_nothing(registry: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]):
    command.main(["--list"])
    out = capsys.readouterr().out
    assert registry == []
    assert [line.split()[0] for line in out.splitlines()[:2]] == ["first", "second"]
    assert "benchmarks.workers" in out
    assert "benchmarks.architecture_table" in out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--only", "first,thrid"], "unknown benchmark 'thrid'; choose from first, second\n"),
        (["--json", "/no/such/folder/x.json"], "--json: there is no folder /no/such/folder\n"),
    ],
)
def test_wrong_usage_is_one_line(
    registry: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], words: list[str], line: str
):
    with pytest.raises(SystemExit) as stopped:
        command.main(words)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == line
    assert registry == []


def test_numbers_below_one_are_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        command.main(["--repetitions", "0"])
    assert stopped.value.code == 2
    assert "expected 1 or more, got 0" in capsys.readouterr().err


def test_a_table_rounds_but_keeps_large_numbers(capsys: pytest.CaptureFixture[str]):
    command.print_table("sizes", [{"small": 0.12345, "large": 1849.6, "whole": 12345}])
    out = capsys.readouterr().out
    assert all(text in out for text in ("0.123", "1850", "12345"))
