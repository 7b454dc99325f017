"""Least squares over architectures, against designs that are solved by hand and against planted effects."""

import statistics

import pytest

from cpnas_cli.randomness import python_generator
from cpnas_cli.search_space import (
    ALL_CANDIDATES,
    CELL_KINDS,
    EDGES,
    OPERATIONS,
    Candidates,
    Genotype,
    draw_pass,
    draw_uniform,
)
from cpnas_cli.strategies.additive_effects import additive_effects

SKIPS = ("skip_connect",) * len(EDGES)


def one_edge(op: str) -> Genotype:
    """Architectures that differ on the first edge of the normal cell alone."""
    return Genotype(normal=(op, *SKIPS[1:]), reduce=SKIPS)


def among(ops: tuple[str, ...]) -> Candidates:
    others = (("skip_connect",),) * (len(EDGES) - 1)
    return Candidates(normal=(ops, *others), reduce=(("skip_connect",), *others))


def test_one_edge_is_the_one_way_analysis_of_variance():
    """Balanced groups: the restricted likelihood has a closed form, and the effects shrink by 1 - MSE / MSB."""
    groups = {"none": [1.0, 1.2, 0.9], "max_pool_3x3": [2.1, 1.8, 2.2], "sep_conv_3x3": [1.6, 1.9, 1.5]}
    pairs = [(one_edge(op), value) for op, values in groups.items() for value in values]
    means = {op: statistics.fmean(values) for op, values in groups.items()}
    mean = statistics.fmean(means.values())
    between = 3 * sum((m - mean) ** 2 for m in means.values()) / 2
    within = sum((v - means[op]) ** 2 for op, values in groups.items() for v in values) / (3 * 2)
    effects = additive_effects([g for g, _ in pairs], [value for _, value in pairs], among(tuple(groups)))
    expected = {op: (1 - within / between) * (m - mean) for op, m in means.items()}
    assert effects["normal"][0] == pytest.approx(expected, rel=5e-3)
    assert all(edge == {"skip_connect": 0.0} for edge in (*effects["normal"][1:], *effects["reduce"]))


def test_the_position_is_no_merit():
    """Two rounds, each with its own mean, and one slope: what remains is shared out as without them."""
    ops = ("none", "max_pool_3x3")
    order = [ops[0], ops[1], ops[1], ops[0]]  # balanced over the positions, so that the slope is seen alone
    merit = {"none": -0.01, "max_pool_3x3": 0.01}
    genotypes = [one_edge(op) for op in order * 2]
    positions = [(turn, step) for turn in range(2) for step in range(4)]
    plain = [merit[g.normal[0]] for g in genotypes]
    moved = [value + 0.3 * turn + 0.05 * step for value, (turn, step) in zip(plain, positions, strict=True)]
    without = additive_effects(genotypes, plain, among(ops))["normal"][0]
    assert without == pytest.approx(merit, rel=1e-3)  # nothing is left for noise, so hardly any shrinkage
    assert additive_effects(genotypes, moved, among(ops), positions)["normal"][0] == pytest.approx(merit, rel=1e-3)


def test_one_pass_of_eight_gives_each_operation_its_draw():
    """No two draws share an operation, so that all lambda are as likely, and every effect is its draw's, halved."""
    genotypes = draw_pass(ALL_CANDIDATES, seed=0, pass_index=0)
    values = [0.30, 0.55, 0.41, 0.62, 0.18, 0.47, 0.50, 0.33]
    mean = statistics.fmean(values)
    effects = additive_effects(genotypes, values, ALL_CANDIDATES)
    for genotype, value in zip(genotypes, values, strict=True):
        for kind, cell in genotype.cells().items():
            for edge, op in enumerate(cell):
                # 28 edges share y - mean in equal parts; lambda = 28 = the squared singular value halves them
                assert effects[kind][edge][op] == pytest.approx((value - mean) / 28 / 2, rel=1e-6)


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_planted_effects_are_found(noise: float):
    planted = {
        kind: [
            {op: python_generator(1, "planted", CELL_KINDS.index(kind), e, o).uniform(-0.05, 0.05)
             for o, op in enumerate(OPERATIONS)}
            for e in range(len(EDGES))
        ]
        for kind in CELL_KINDS
    }  # fmt: skip
    genotypes = [draw_uniform(seed=3, draw=draw) for draw in range(1500)]
    generator = python_generator(2, "noise")
    values = [
        0.5
        + sum(planted[kind][edge][op] for kind, cell in g.cells().items() for edge, op in enumerate(cell))
        + noise * generator.uniform(-1, 1)
        for g in genotypes
    ]
    effects = additive_effects(genotypes, values, ALL_CANDIDATES)
    for kind in CELL_KINDS:
        for edge, ops in enumerate(planted[kind]):
            mean = statistics.fmean(ops.values())
            centred = {op: value - mean for op, value in ops.items()}
            assert effects[kind][edge] == pytest.approx(centred, abs=1e-4 if noise == 0 else 5e-3)


def test_pure_noise_is_shrunk():
    """Values that owe nothing to the operations: the effects explain next to nothing of their spread."""
    generator = python_generator(5, "noise")
    genotypes = [draw_uniform(seed=4, draw=draw) for draw in range(600)]
    values = [generator.uniform(-1, 1) for _ in genotypes]
    effects = additive_effects(genotypes, values, ALL_CANDIDATES)
    predicted = [
        sum(effects[kind][edge][op] for kind, cell in g.cells().items() for edge, op in enumerate(cell))
        for g in genotypes
    ]
    # ordinary least squares would explain 197 of 599 degrees of freedom, a third
    assert statistics.pvariance(predicted) < 0.1 * statistics.pvariance(values)


def test_equal_values_no_values_and_abandoned_operations():
    genotypes = draw_pass(ALL_CANDIDATES, seed=0, pass_index=0)
    nothing = {kind: [dict.fromkeys(OPERATIONS, 0.0)] * len(EDGES) for kind in CELL_KINDS}
    assert additive_effects(genotypes, [0.4] * 8, ALL_CANDIDATES, [(0, step) for step in range(8)]) == nothing
    assert additive_effects(genotypes, [0.0] * 8, ALL_CANDIDATES) == nothing
    assert additive_effects([], [], ALL_CANDIDATES) == nothing
    assert additive_effects(genotypes[:1], [0.4], ALL_CANDIDATES, [(0, 0)]) == nothing
    # an operation that is gone still explains its draw, but is not returned
    effects = additive_effects([one_edge("none"), one_edge("skip_connect")], [0.0, 1.0], among(("skip_connect",)))
    assert effects["normal"][0] == {"skip_connect": 0.0}


def test_what_an_operation_is_worth_anywhere_is_learnt_from_few_architectures():
    """40 architectures, one worth per operation whatever its edge, and noise of half their spread: 224 effects are too
    many to learn, the order of 8 is not."""
    worth = dict(zip(OPERATIONS, (-0.7, -0.4, 0.1, -0.6, 0.3, 0.7, 0.2, 0.4), strict=True))
    generator = python_generator(6, "noise")
    genotypes = [draw_uniform(seed=5, draw=draw) for draw in range(40)]
    values = [sum(worth[op] for op in g.normal + g.reduce) + 4 * generator.uniform(-1, 1) for g in genotypes]

    def error(*, common: bool) -> float:
        effects = additive_effects(genotypes, values, ALL_CANDIDATES, common=common)
        mean = statistics.fmean(worth.values())
        edges = [edge for kind in CELL_KINDS for edge in effects[kind]]
        return statistics.fmean((edge[op] - worth[op] + mean) ** 2 for edge in edges for op in OPERATIONS)

    assert error(common=True) < 0.2 * statistics.pvariance(worth.values())
    assert error(common=False) > 0.5 * statistics.pvariance(worth.values())


def test_effects_that_have_nothing_in_common_are_found_as_before():
    """With enough architectures the likelihood finds that operations have no worth of their own."""
    generator = python_generator(7, "planted")
    planted = {kind: [{op: generator.uniform(-1, 1) for op in OPERATIONS} for _ in EDGES] for kind in CELL_KINDS}
    genotypes = [draw_uniform(seed=6, draw=draw) for draw in range(1000)]
    values = [sum(planted[k][e][op] for k, cell in g.cells().items() for e, op in enumerate(cell)) for g in genotypes]
    with_it = additive_effects(genotypes, values, ALL_CANDIDATES, common=True)
    without = additive_effects(genotypes, values, ALL_CANDIDATES)
    for kind in CELL_KINDS:
        for one, other in zip(with_it[kind], without[kind], strict=True):
            assert one == pytest.approx(other, abs=0.02)
