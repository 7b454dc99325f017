"""Every strategy on either block: a few units, interrupted after each, end like uninterrupted ones."""

from pathlib import Path

import pytest
from conftest import RESIDUAL_SETTINGS
from test_every_strategy import every_strategy, failure_of, make_search, tensors_of, without_seconds

from cpnas_cli.errors import MaxTimeReached, UsageError
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.search_space import Genotype
from cpnas_cli.strategies import strategies
from cpnas_cli.strategies.base import Strategy

NUM_UNITS = 3
SEPARABLE = ("network.block=separable",)


class Units(Deadline):
    """Stops after so many units, however long they take."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def check(self, last_unit_seconds: float) -> None:
        del last_unit_seconds
        self.count -= 1
        if self.count == 0:
            raise MaxTimeReached


def searched(folder: Path, strategy: Strategy, num_units: int, block: tuple[str, ...]) -> Genotype | None:
    """None where there are more units."""
    try:
        return strategy.search(make_search(folder, strategy, *block, deadline=Units(num_units)))
    except MaxTimeReached:
        return None


@pytest.mark.parametrize(
    "strategy",
    [pytest.param(s, id=s.name, marks=pytest.mark.slow if s.name in ("bnas", "pcdarts") else ()) for s in strategies()],
)
@pytest.mark.parametrize(
    "block",
    [pytest.param(RESIDUAL_SETTINGS, id="residual"), pytest.param(SEPARABLE, id="separable", marks=pytest.mark.slow)],
)
def test_stopped_after_each_of_some_units_it_computes_the_same(
    strategy: Strategy, block: tuple[str, ...], tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    genotype = searched(whole, strategy, NUM_UNITS, block)
    found = [searched(parts, strategy, 1, block) for _ in range(NUM_UNITS)]
    assert found[-1] == genotype
    assert (genotype is None) == (strategy.num_units(make_search(parts, strategy).config) > NUM_UNITS)
    history = without_seconds(RunFolder(whole).history())
    assert history == without_seconds(RunFolder(parts).history())
    assert tensors_of(RunFolder(whole)) == tensors_of(RunFolder(parts))


@every_strategy
def test_a_group_width_that_does_not_divide_what_is_mixed_is_refused_before(strategy: Strategy, tmp_path: Path) -> None:
    """12 channels in groups of 4 are three; of the half that PC-DARTS mixes, 6, they are one and a half."""
    overrides = ("network.block=residual", "network.num_channels=12", "network.group_width=4")
    search = make_search(tmp_path, strategy, *overrides, deadline=Units(1))
    refusal = failure_of(lambda: strategy.check(search.config, search.dataset, search.fabric))
    assert (refusal is not None) == (strategy.name == "pcdarts")
    if refusal is None:
        return
    assert isinstance(refusal, UsageError)
    assert str(refusal) == (
        "pcdarts mixes 1/2 of the channels: network.group_width=4 does not divide 6 channels; choose a "
        "network.group_width that does, or other channels"
    )
    with pytest.raises(UsageError, match="group_width=4"):
        strategy.search(search)
    assert not list(tmp_path.iterdir())


@every_strategy
def test_channels_of_the_search_that_no_group_divides_are_refused_before(strategy: Strategy, tmp_path: Path) -> None:
    """By those that train a network of that width; the others draw genotypes only, or train the final network."""
    overrides = ("network.block=residual", "network.num_channels=16", "network.group_width=8", "search.num_channels=12")
    search = make_search(tmp_path, strategy, *overrides)
    refusal = failure_of(lambda: strategy.check(search.config, search.dataset, search.fabric))
    assert (refusal is None) == (strategy.name in ("random", "halving"))
    assert refusal is None or "has search.num_channels=12: network.group_width=8 does not" in str(refusal)


def test_groups_as_wide_as_what_is_mixed_are_one(tmp_path: Path) -> None:
    """A cell with fewer channels than a group has one group: nothing to refuse."""
    (pcdarts,) = (strategy for strategy in strategies() if strategy.name == "pcdarts")
    for channels, width in ((4, 8), (16, 8), (8, 2), (12, 6)):
        overrides = ("network.block=residual", f"network.num_channels={channels}", f"network.group_width={width}")
        search = make_search(tmp_path, pcdarts, *overrides)
        pcdarts.check(search.config, search.dataset, search.fabric)
