"""Killed, interrupted and timed-out runs end like uninterrupted ones, bit for bit."""

import json
import shutil
import signal
from pathlib import Path

import pytest
from conftest import TINY_OPTIONS
from killing import kill, start, wait_for_lines, without_seconds
from safetensors.numpy import load_file

from cpnas_cli.storage.documents import read_document


def assert_same_tensors(first: Path, second: Path) -> None:
    one, two = load_file(first), load_file(second)
    assert one.keys() == two.keys()
    for name in one:
        assert one[name].tobytes() == two[name].tobytes(), name


@pytest.mark.slow
def test_a_killed_search_resumes_to_the_same_bits(cpnas, tmp_path, tiny_search):
    run = tmp_path / "run"
    words = ["search", *TINY_OPTIONS, "--out", "run"]
    for lines in (1, 9, 21):  # in the first round, just after an abandon, later
        process = start(tmp_path, *words, *(["--resume"] if run.exists() else []))
        wait_for_lines(process, run / "history.jsonl", lines)
        assert kill(process, signal.SIGKILL)[0] == -signal.SIGKILL
        assert not (run / "genotype.json").exists()
    answer = cpnas("search", "--out", "run", "--resume")
    assert answer.returncode == 0, answer.stderr
    assert (run / "genotype.json").read_bytes() == (tiny_search / "genotype.json").read_bytes()
    assert without_seconds(run / "history.jsonl") == without_seconds(tiny_search / "history.jsonl")
    assert_same_tensors(run / "checkpoint/state.safetensors", tiny_search / "checkpoint/state.safetensors")


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_bits(cpnas, tmp_path):
    assert cpnas("search", *TINY_OPTIONS, "--strategy", "random", "--out", "search").returncode == 0
    words = ["train", "search/genotype.json", "--with-parent", "--set", "train.num_epochs=4"]
    assert cpnas(*words, "--out", "whole").returncode == 0
    run, whole = tmp_path / "run", tmp_path / "whole"
    for lines in (1, 4, 6):  # in the Child, at its end, in the Parent
        process = start(tmp_path, *words, "--out", "run", *(["--resume"] if run.exists() else []))
        wait_for_lines(process, run / "history.jsonl", lines)
        assert kill(process, signal.SIGKILL)[0] == -signal.SIGKILL
    answer = cpnas("train", "search/genotype.json", "--with-parent", "--out", "run", "--resume", "--json")
    assert answer.returncode == 0, answer.stderr
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert (run / "parent.safetensors").read_bytes() == (whole / "parent.safetensors").read_bytes()
    assert without_seconds(run / "history.jsonl") == without_seconds(whole / "history.jsonl")
    result, expected = json.loads(answer.stdout), json.loads((whole / "result.json").read_text())
    for key in ("accuracy_test", "accuracy_parent_test", "size_bits", "genotype"):
        assert result[key] == expected[key]


@pytest.mark.slow
def test_a_history_line_beyond_the_checkpoint_is_dropped(cpnas_here, tmp_path, tiny_search):
    """Killed between the history and the checkpoint, or in the middle of a line."""
    process = start(tmp_path, "search", *TINY_OPTIONS, "--out", "run")
    run = tmp_path / "run"
    wait_for_lines(process, run / "history.jsonl", 3)
    kill(process, signal.SIGKILL)
    with (run / "history.jsonl").open("a") as file:
        file.write('{"event": "draw", "num_candi')
    assert cpnas_here("search", "--out", "run", "--resume").returncode == 0
    assert without_seconds(run / "history.jsonl") == without_seconds(tiny_search / "history.jsonl")


@pytest.mark.slow
def test_an_interrupted_search_says_how_to_go_on(cpnas, tmp_path, tiny_search):
    process = start(tmp_path, "search", *TINY_OPTIONS, "--out", "run")
    run = tmp_path / "run"
    wait_for_lines(process, run / "history.jsonl", 2)
    code, stderr = kill(process, signal.SIGINT)
    assert code == 130
    assert "cpnas search --out run --resume" in stderr
    assert "Traceback" not in stderr
    assert cpnas("search", "--out", "run", "--resume").returncode == 0
    assert (run / "genotype.json").read_bytes() == (tiny_search / "genotype.json").read_bytes()


@pytest.mark.slow
def test_max_time_stops_with_75_and_gets_on_at_every_call(cpnas_here, tmp_path, tiny_search):
    run = tmp_path / "run"
    first = cpnas_here("search", *TINY_OPTIONS, "--out", "run", "--max-time", "0.01s")
    assert first.returncode == 75, first.stderr
    assert "cpnas search --out run --resume" in first.stderr
    assert (run / "history.jsonl").read_text().count("\n") == 1
    second = cpnas_here("search", "--out", "run", "--resume", "--max-time", "0.01s")
    assert second.returncode == 75
    assert (run / "history.jsonl").read_text().count("\n") == 2
    assert cpnas_here("search", "--out", "run", "--resume", "--max-time", "1h").returncode == 0
    assert (run / "genotype.json").read_bytes() == (tiny_search / "genotype.json").read_bytes()


def test_a_finished_run_is_not_run_again(cpnas_here, tmp_path, tiny_search):
    run = tmp_path / "run"
    shutil.copytree(tiny_search, run)
    answer = cpnas_here("search", "--out", "run", "--resume", "--json")
    assert answer.returncode == 0
    assert json.loads(answer.stdout) == read_document(tiny_search / "genotype.json")
    assert (run / "history.jsonl").read_bytes() == (tiny_search / "history.jsonl").read_bytes()
