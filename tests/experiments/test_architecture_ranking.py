"""`cpnas rank`: scores against a table of architectures whose truth is planted here."""

import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import error_of, invoke

from cpnas_cli.experiments.ranking.ranks import first_choice, rank, tau_of, taus_of_resamples
from cpnas_cli.experiments.ranking.scores import (
    credit_by_regression,
    credit_of_draws,
    evaluated_draws,
    search_scores,
    sum_of,
)
from cpnas_cli.search_space import ALL_CANDIDATES, Genotype, draw_pass, draw_uniform

NUM_GENOTYPES = 40


def worth(genotype: Genotype) -> float:
    """The planted truth: every convolution of the normal cell adds, every `none` anywhere takes away."""
    adds = sum(op.startswith(("sep", "dil")) for op in genotype.normal)
    return 0.7 + 0.01 * adds - 0.004 * (genotype.normal + genotype.reduce).count("none")


def table_document() -> dict[str, Any]:
    """40 architectures, 2 seeds. The Parent is saturated: the gap grows as the Child gets worse."""
    noise = np.random.default_rng(0).normal(0, 0.002, (NUM_GENOTYPES, 2))
    rows = []
    for draw in range(NUM_GENOTYPES):
        genotype = draw_uniform(seed=0, draw=draw)
        child = [worth(genotype) + noise[draw, seed] for seed in range(2)]
        rows.append(
            {
                "draw": draw,
                "normal": list(genotype.normal),
                "reduce": list(genotype.reduce),
                "size_bits": 1000 + draw,
                "ops": 7.0,
                "macs": 100 - draw,
                "num_parameters": round(1e4 * worth(genotype)),
                "runs": [
                    {
                        "seed": seed,
                        "accuracy_child": child[seed],
                        "accuracy_parent": 0.9,
                        "loss_child": [2 - child[seed], 1 - child[seed]],
                    }
                    for seed in range(2)
                ],
            }
        )
    return {"schema": "cpnas.architecture-table/1", "genotypes": rows}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.json"
    path.write_text(json.dumps(table_document()))
    return path


def said_by(*words: str | Path) -> str:
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def by_name(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in rows}


def test_the_printed_sign_ranks_a_saturated_parent_backwards(table: Path) -> None:
    document = json.loads(said_by("rank", table, "--json"))
    assert document["num_genotypes"] == NUM_GENOTYPES
    trainings = by_name(document["trainings"])
    child = trainings["A_C alone (beta_P = 0)"]["tau"]
    assert child > 0.8
    # with A_P constant z is +-3 A_C or -A_C, and a constant: the same order, or the reverse of it
    assert trainings["penalized, beta_P = 2"]["tau"] == pytest.approx(child)
    assert trainings["printed, beta_P = 2"]["tau"] == pytest.approx(-child)
    assert trainings["printed, beta_P = 0.5"]["tau"] == pytest.approx(child)
    assert trainings["additive effects of four fifths on the last fifth"]["tau"] > 0.3
    assert by_name(document["trivial"])["OPs"]["tau"] == 0  # all alike
    assert by_name(document["trivial"])["number of parameters"]["tau"] > 0.8  # planted
    assert (
        trainings["printed, beta_P = 2"]["share_beaten"]
        < 0.1
        < 0.9
        < trainings["penalized, beta_P = 2"]["share_beaten"]
    )


def test_the_best_of_more_is_better(table: Path) -> None:
    rows = json.loads(said_by("rank", table, "--json"))["best_of"]
    assert rows[0]["share_beaten"] == pytest.approx(0.5, abs=0.03)  # one random draw
    assert all(before["regret"] > after["regret"] for before, after in itertools.pairwise(rows))


def test_it_is_a_table_for_people_too(table: Path) -> None:
    text = said_by("rank", table)
    assert "40 architectures, each trained with seeds 0, 1" in text
    assert "printed, beta_P = 2" in text


def test_tau_counts_pairs() -> None:
    first, second = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 4.0])
    assert tau_of(first, second) == pytest.approx((5 - 1) / 6)
    assert tau_of(first, np.ones(4)) == 0
    low, high = rank([(first, second)]).interval
    assert -1 <= low <= (5 - 1) / 6 <= high <= 1


def test_resamples_have_the_tau_of_their_genotypes() -> None:
    """SciPy's, of every resample written out, with ties in both and one that holds a single genotype."""
    generator = np.random.default_rng(3)
    first, second = generator.integers(0, 4, (2, 9)).astype(float)
    counts = np.vstack([generator.multinomial(9, np.full(9, 1 / 9), size=20), 9 * np.eye(9)[:1]]).astype(float)
    expected = [tau_of(*(np.repeat(values, count.astype(int)) for values in (first, second))) for count in counts]
    assert taus_of_resamples(first, second, counts) == pytest.approx(np.array(expected))
    assert expected[-1] == 0


def test_regret_and_share_of_the_first_choice() -> None:
    accuracies = np.array([0.1, 0.2, 0.3, 0.5])
    assert first_choice(np.array([0, 0, 9, 0]), accuracies) == pytest.approx((0.2, 2 / 3))
    assert first_choice(np.array([0, 9, 9, 0]), accuracies) == pytest.approx((0.25, 0.5))  # the mean of both


@pytest.mark.parametrize(("credit", "least"), [(credit_of_draws, 0.4), (credit_by_regression, 0.6)])
def test_credit_finds_planted_effects_in_draws_of_several_rounds(credit: Callable[..., Any], least: float) -> None:
    """Draws of two rounds; the second round is better by 0.1 for everybody, which is nobody's merit."""
    drawn = [g for number in range(20) for g in draw_pass(ALL_CANDIDATES, seed=1, pass_index=number)]
    rounds = [-8] * 80 + [-7] * 80
    values = [worth(genotype) + 0.1 * (number == -7) for genotype, number in zip(drawn, rounds, strict=True)]
    effects = credit(drawn, values, rounds)
    others = [draw_uniform(seed=3, draw=draw) for draw in range(60)]
    scores = np.array([sum_of(effects, genotype) for genotype in others])
    assert tau_of(scores, np.array([worth(genotype) for genotype in others])) > least


def test_draws_validated_at_the_end_of_their_pass_are_evaluated_draws() -> None:
    draws = [{"event": "draw", "draw": number, "accuracy_child": None, "accuracy_parent": None} for number in range(2)]
    end = {"event": "pass", "accuracy_child": [0.5, 0.6], "accuracy_parent": None}
    found = evaluated_draws([*draws, end, {"event": "abandon"}])
    assert [(draw["draw"], draw["accuracy_child"], draw["accuracy_parent"]) for draw in found] == [
        (0, 0.5, None),
        (1, 0.6, None),
    ]
    assert evaluated_draws(draws) == []  # the pass has not ended


def draws_of(*, rounds: Mapping[str, int], probability: bool) -> list[dict[str, Any]]:
    """Draws whose accuracies are all alike and whose probabilities and z say the planted truth."""
    records = []
    for number in range(160):
        genotype = draw_uniform(seed=5, draw=number)
        record = {"event": "draw", **rounds, "normal": list(genotype.normal), "reduce": list(genotype.reduce)}
        record |= {"accuracy_child": 0.5, "accuracy_parent": None, "z": worth(genotype)}
        if probability:
            record |= {"accuracy_parent": 0.9, "probability_child": worth(genotype), "probability_parent": 0.9}
        records.append(record)
    return records


def test_a_search_is_ranked_by_what_it_judged_by() -> None:
    others = tuple(draw_uniform(seed=3, draw=draw) for draw in range(60))
    truth = np.array([worth(genotype) for genotype in others])
    by_probability = search_scores(draws_of(rounds={"num_candidates": 8}, probability=True), others)
    one_shot = search_scores(draws_of(rounds={"num_candidates": 8}, probability=False), others)
    for scores, name in (
        (by_probability, "penalized, beta_P = 0.25; of probabilities; credit regression"),
        (one_shot, "z, by which it chose; credit regression"),
    ):
        assert tau_of(scores[name], truth) > 0.5
        assert tau_of(scores["A_C alone (beta_P = 0); credit draw"], truth) == 0


def test_draws_of_trainings_that_grow_are_ranked_within_their_round() -> None:
    """Of `halving`, whose draws have a round and no candidates."""
    draws = [
        {**draw, "round": number // 80, "accuracy_child": draw["z"] + (number // 80), "z": draw["z"] + number // 80}
        for number, draw in enumerate(draws_of(rounds={}, probability=False))
    ]
    others = tuple(draw_uniform(seed=3, draw=draw) for draw in range(60))
    scores = search_scores(draws, others)
    truth = np.array([worth(genotype) for genotype in others])
    assert tau_of(scores["A_C alone (beta_P = 0); credit regression"], truth) > 0.6


def test_a_table_without_the_number_of_parameters(tmp_path: Path) -> None:
    document = table_document()
    for row in document["genotypes"]:
        del row["num_parameters"]
    path = tmp_path / "table.json"
    path.write_text(json.dumps(document))
    assert "number of parameters" not in by_name(json.loads(said_by("rank", path, "--json"))["trivial"])


def damaged(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    document = table_document()
    change(document)
    return document


@pytest.mark.parametrize(
    ("document", "parts"),
    [
        (damaged(lambda d: d.update(schema="cpnas.result/1")), ["expected schema 'cpnas.architecture-table/1'"]),
        (damaged(lambda d: d["genotypes"][3]["normal"].__setitem__(0, "conv_7x7")), ["row 3", "another search space"]),
        (damaged(lambda d: d["genotypes"][3]["normal"].pop()), ["row 3", "13 edges"]),
        (damaged(lambda d: d["genotypes"][0]["runs"][0].pop("accuracy_child")), ["damaged", "accuracy_child"]),
        (damaged(lambda d: [row["runs"].pop() for row in d["genotypes"]]), ["expected 10 or more", "2 or more seeds"]),
        (damaged(lambda d: d.update(genotypes=d["genotypes"][:9])), ["9 genotypes", "expected 10"]),
        (damaged(lambda d: d.update(genotypes=5)), ["damaged"]),
    ],
)
def test_a_table_that_is_none(document: Mapping[str, Any], parts: list[str], tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text(json.dumps(document))
    said = error_of(invoke("rank", path), code=1)
    assert all(part in said for part in ["table.json", *parts]), said


def test_no_table_and_no_search(table: Path, tmp_path: Path) -> None:
    assert "no table at" in error_of(invoke("rank", tmp_path / "nothing.json"), code=1)
    assert "holds no search" in error_of(invoke("rank", table, tmp_path), code=1)


def test_rows_without_every_seed_are_left_out(tmp_path: Path) -> None:
    document = table_document()
    for row in document["genotypes"][-5:]:
        row["runs"].pop()
    path = tmp_path / "table.json"
    path.write_text(json.dumps(document))
    answer = json.loads(said_by("rank", path, "--json"))
    assert (answer["num_genotypes"], answer["num_incomplete"]) == (NUM_GENOTYPES - 5, 5)
