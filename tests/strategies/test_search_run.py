"""A whole search: its history, recomputed from the file alone, and what it leaves behind."""

import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_OPTIONS
from older_versions import without_checksum

OPERATIONS = [
    "none",
    "skip_connect",
    "max_pool_3x3",
    "avg_pool_3x3",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
]
EDGES = [(i, j) for j in range(2, 6) for i in range(j)]


def recompute(history: list[dict], *, beta_p: float, num_passes: int, sign: int) -> dict[str, list[str]]:
    """An independent reading of Algorithm 9: asserts every figure of the history, returns the final cells.

    Args:
      sign: of the gap: 1 as printed, -1 where it is penalized. At beta_P = 0 there must be no Parent.
    """
    alive = {kind: [list(OPERATIONS) for _ in EDGES] for kind in ("normal", "reduce")}
    records = iter(history)
    num_draws = 0
    for num_candidates in range(8, 1, -1):
        z_of = {kind: [defaultdict(list) for _ in EDGES] for kind in alive}
        for pass_index in range(num_passes):
            drawn = {kind: [Counter() for _ in EDGES] for kind in alive}
            for draw in range(num_candidates):
                record = next(records)
                num_draws += 1
                assert record["event"] == "draw"
                assert (record["num_candidates"], record["pass"], record["draw"]) == (num_candidates, pass_index, draw)
                child, parent = record["accuracy_child"], record["accuracy_parent"]
                assert 0 <= child <= 1
                assert parent is None if beta_p == 0 else 0 <= parent <= 1
                z = child if beta_p == 0 else sign * beta_p * (parent - child) + child
                assert record["z"] == pytest.approx(z, abs=1e-12)
                for kind in alive:
                    for edge, op in enumerate(record[kind]):
                        drawn[kind][edge][op] += 1
                        z_of[kind][edge][op].append(z)
            for kind in alive:
                for edge in range(14):
                    assert drawn[kind][edge] == Counter(alive[kind][edge])
        record = next(records)
        assert record["event"] == "abandon"
        assert record["num_candidates"] == num_candidates
        for kind in alive:
            for edge, entry in enumerate(record[kind]):
                assert (entry["from"], entry["to"]) == EDGES[edge]
                ops = alive[kind][edge]
                exponentials = np.exp([np.mean(z_of[kind][edge][op]) for op in ops])
                e = dict(zip(ops, exponentials / exponentials.sum(), strict=True))
                assert entry["evaluation"] == pytest.approx(e, abs=1e-12)
                smallest = min(e.values())
                assert e[entry["abandoned"]] <= smallest + 1e-12
                equal = [op for op in ops if entry["evaluation"][op] == entry["evaluation"][entry["abandoned"]]]
                assert entry["abandoned"] == equal[0]  # of exactly equal ones the first
                ops.remove(entry["abandoned"])
    assert next(records, None) is None
    assert num_draws == 35 * num_passes
    return {kind: [ops[0] for ops in edges] for kind, edges in alive.items()}


def read_history(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("strategy", "beta_p", "num_passes", "indicator"),
    [
        pytest.param("cpnas", 2.0, 2, "penalized", marks=pytest.mark.slow),
        ("cpnas", 0.7, 1, "printed"),
        ("bnas", 0.0, 1, None),
    ],
)
def test_every_figure_of_a_search_follows_from_its_history(
    cpnas_here, tmp_path, strategy, beta_p, num_passes, indicator
):
    options = ["--strategy", strategy, "--set", f"search.num_passes={num_passes}", "--out", "run", "--json"]
    options += ["--beta-p", str(beta_p), "--indicator", indicator] if strategy == "cpnas" else []
    answer = cpnas_here("search", *TINY_OPTIONS, *options)
    assert answer.returncode == 0, answer.stderr
    history, sign = read_history(tmp_path / "run"), -1 if indicator == "penalized" else 1
    cells = recompute(history, beta_p=beta_p, num_passes=num_passes, sign=sign)
    genotype = without_checksum(tmp_path / "run" / "genotype.json")
    for kind, ops in cells.items():
        assert [entry["op"] for entry in genotype[kind]] == ops
        assert [(entry["from"], entry["to"]) for entry in genotype[kind]] == EDGES
    assert json.loads(answer.stdout) == genotype  # and nothing else on standard output
    assert genotype["schema"] == "cpnas.genotype/1"
    assert (genotype["provenance"]["beta_p"], genotype["provenance"]["indicator"]) == (beta_p, indicator)
    if strategy == "cpnas":
        draws = [record for record in history if record["event"] == "draw"]
        child, parent = ([draw[f"accuracy_{name}"] for draw in draws] for name in ("child", "parent"))
        assert genotype["provenance"]["parent_slope"] == pytest.approx(np.polyfit(child, parent, 1)[0], abs=1e-9)


def test_the_recomputation_notices_a_changed_figure(tiny_search):
    history = read_history(tiny_search)
    recompute(history, beta_p=0.25, num_passes=1, sign=-1)
    for change in ({"z": 0.123456}, {"accuracy_child": 0.987654}, {"normal": ["none"] * 14}):
        with pytest.raises(AssertionError):
            recompute(
                [{**history[3], **change} if i == 3 else r for i, r in enumerate(history)],
                beta_p=0.25,
                num_passes=1,
                sign=-1,
            )


def test_a_run_leaves_what_is_needed_to_run_it_again(cpnas_here, tmp_path, tiny_search):
    environment = json.loads((tiny_search / "environment.json").read_text())
    assert environment["schema"] == "cpnas.environment/1"
    assert {"torch", "numpy"} <= environment["libraries"].keys()
    assert not list(tiny_search.rglob("*.tmp"))
    again = cpnas_here("search", "--preset", tiny_search / "config.yaml", "--out", "again")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "again/genotype.json").read_bytes() == (tiny_search / "genotype.json").read_bytes()


def test_random_draws_differ_by_seed_and_train_nothing(cpnas_here, tmp_path):
    for seed in (0, 1):
        assert cpnas_here("search", "--strategy", "random", "--seed", seed, "--out", f"run{seed}").returncode == 0
    first, second = (json.loads((tmp_path / f"run{s}/genotype.json").read_text()) for s in (0, 1))
    assert first["normal"] != second["normal"]
    (record,) = read_history(tmp_path / "run0")
    assert record["event"] == "draw"
    assert record["accuracy_child"] is None
    assert record["normal"] == [entry["op"] for entry in first["normal"]]


@pytest.mark.slow
def test_the_next_command_that_search_prints_runs(cpnas_here, tmp_path):
    # every real value in 32 bits, and every term of the loss
    settings = ("network.real_format=float32", "network.weight_format=float32", "train.kernel_weight=0.001")
    words = [word for setting in (*settings, "train.lambda_compactness=0.00001") for word in ("--set", setting)]
    answer = cpnas_here("search", *TINY_OPTIONS, *words)
    assert answer.returncode == 0, answer.stderr
    line = answer.stdout.strip().splitlines()[-1]
    words = line.partition("cpnas train ")[2].split()
    assert words, line
    trained = cpnas_here("train", *words, "--with-parent", "--json")
    assert trained.returncode == 0, trained.stderr
    result = json.loads(trained.stdout)
    assert result["schema"] == "cpnas.result/1"
    assert result["num_epochs"] == 3  # the settings of the search
    assert 0 <= result["accuracy_test"] <= 1
    assert 0 <= result["accuracy_parent_test"] <= 1
    stored = result["num_binary_weights"] + 32 * result["num_real_values"] + 8 * result["num_thresholds"]
    assert result["size_bits"] == stored
    run = next(path for path in (tmp_path / "runs").iterdir() if path.name.endswith("-train"))
    evaluated = cpnas_here("evaluate", run, "--json")
    assert evaluated.returncode == 0, evaluated.stderr
    document = json.loads(evaluated.stdout)
    assert document["accuracy_test"] == result["accuracy_test"]
    assert document["accuracy_parent_test"] == result["accuracy_parent_test"]
    epochs = [r for r in read_history(run) if r["event"] == "epoch"]
    assert [(r["network"], r["epoch"]) for r in epochs] == [(n, e) for n in ("child", "parent") for e in range(3)]
    for record in epochs:
        terms = record["loss_cross_entropy"] + record["loss_kernel"] + record["loss_compactness"]
        assert record["loss"] == pytest.approx(terms, rel=1e-5)
    assert epochs[0]["loss_kernel"] > 0
    assert epochs[0]["loss_compactness"] > 0
