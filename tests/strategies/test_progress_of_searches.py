"""Gradients that change as a search goes on: how far it is at every draw or epoch, and what a resumed one does."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from test_every_strategy import make_search, tensors_of, without_seconds

from cpnas_cli.errors import MaxTimeReached, UsageError
from cpnas_cli.networks.network import Network
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.strategies import strategy_named
from cpnas_cli.strategies.pcdarts.mixed_network import MixedNetwork

CHANGING = ("network.estimator=error_decay", "network.latents=standardized", "network.recu=true")
NUM_DRAWS = 8 + 7 + 6 + 5 + 4 + 3 + 2


def first_units(folder: Path, name: str, count: int, *overrides: str) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """History and checkpoint of a search that is stopped in the middle, after so many draws or epochs."""
    seen = 0

    def stop(record: Mapping[str, Any]) -> None:
        nonlocal seen
        seen += record["event"] == strategy_named(name).unit
        if seen == count:
            raise MaxTimeReached("enough")

    search = make_search(folder, strategy_named(name), *overrides, notify=stop)
    with contextlib.suppress(MaxTimeReached):
        strategy_named(name).search(search)
    return without_seconds(search.run.history()), tensors_of(search.run)


@pytest.mark.parametrize("name", ["cpnas", "pcdarts"])
def test_a_resumed_search_goes_on_the_same(name: str, tmp_path: Path) -> None:
    expected = first_units(tmp_path / "at once", name, 3, *CHANGING)
    run = RunFolder(tmp_path / "resumed")
    for _ in range(3):
        search = make_search(run.path, strategy_named(name), *CHANGING, deadline=Deadline(0.0))
        with contextlib.suppress(MaxTimeReached):
            strategy_named(name).search(search)
    assert (without_seconds(run.history()), tensors_of(run)) == expected
    assert first_units(tmp_path / "plain", name, 3) != expected


@pytest.mark.parametrize(
    ("name", "kind", "fractions"),
    [
        ("cpnas", Network, [0, 0, 1 / NUM_DRAWS, 1 / NUM_DRAWS, 2 / NUM_DRAWS, 2 / NUM_DRAWS]),  # Child and Parent
        ("pcdarts", MixedNetwork, [0, 1 / 3, 2 / 3]),
    ],
)
def test_the_progress_is_the_fraction_of_draws_or_epochs_done(
    name: str, kind: type, fractions: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []
    original = kind.set_progress
    monkeypatch.setattr(
        kind, "set_progress", lambda self, fraction: (told.append(fraction), original(self, fraction))[0]
    )
    first_units(tmp_path / "run", name, 3)
    assert told == pytest.approx(fractions)


@pytest.mark.parametrize("name", ["cpnas", "bnas"])
@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (CHANGING[:1], "network.estimator=error_decay"),
        (CHANGING[1:], "network.recu=true"),
    ],
)
def test_captured_steps_have_no_changing_gradient(
    name: str, settings: tuple[str, ...], named: str, tmp_path: Path
) -> None:
    search = make_search(tmp_path, strategy_named(name), "search.engine=graphs", *settings)
    with pytest.raises(UsageError) as caught:
        strategy_named(name).check(search.config, search.dataset, None)
    assert str(caught.value) == (
        f"search.engine=graphs repeats what it captured, and {named} changes at every draw; "
        "add --set search.engine=eager"
    )
