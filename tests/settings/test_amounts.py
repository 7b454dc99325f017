"""Budgets as they are typed: what they are by hand, and what is refused in one line."""

import pytest

from cpnas_cli.errors import UsageError
from cpnas_cli.settings import config_yaml, load_config
from cpnas_cli.settings.amounts import BUDGETS


@pytest.mark.parametrize(
    ("setting", "typed", "kept", "value"),
    [
        ("max_size", "64KiB", "64KiB", 65536),
        ("max_size", "1.5 kB", "1.5kB", 1500),
        ("max_size", "300B", "300B", 300),
        ("max_size", "2MiB", "2MiB", 2097152),
        ("max_ops", "5M", "5M", 5e6),
        ("max_ops", "250k", "250k", 250_000),
        ("max_ops", "1234567", "1234567", 1234567),
        ("max_ops", "1e6", "1000000", 1e6),
        ("max_latency", "2ms", "2ms", 0.002),
        ("max_latency", "150us", "150us", 150e-6),
        ("max_latency", "0.5s", "0.5s", 0.5),
    ],
)
def test_an_amount_is_kept_as_typed_and_is_so_much(setting: str, typed: str, kept: str, value: float) -> None:
    config = load_config(overrides=[f"search.{setting}={typed}"])
    assert config.search.budgets() == {setting: kept}
    assert BUDGETS[setting].value(kept) == pytest.approx(value, rel=1e-12)


def test_settings_with_budgets_are_read_back_the_same(tmp_path) -> None:
    config = load_config(overrides=["search.max_ops=5000000", "search.max_size=64KiB", "search.max_latency=2ms"])
    file = tmp_path / "config.yaml"
    file.write_text(config_yaml(config))
    assert load_config(file) == config


def test_no_budget_is_asked_for_by_default() -> None:
    assert load_config().search.budgets() == {}


@pytest.mark.parametrize(
    ("setting", "typed"),
    [
        *(("max_size", typed) for typed in ("64", "0KiB", "-1KiB", "nan", ".inf", "64XB", "KiB", "1e400KiB", "true")),
        *(("max_ops", typed) for typed in ("0", "-5M", "nan", ".inf", "5Q", "many", "[1]")),
        *(("max_latency", typed) for typed in ("2", "0ms", "-2ms", "2min", "nanms", "''")),
    ],
)
def test_no_amount_is_refused_with_what_is_expected(setting: str, typed: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_config(overrides=[f"search.{setting}={typed}"])
    message = str(caught.value)
    assert message.startswith(f"search.{setting}: expected ")
    assert "above 0 such as" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("setting", "value", "shown"),
    [
        ("max_size", 23_990, "23.43 KiB"),
        ("max_size", 900, "900 B"),
        ("max_ops", 51_840, "51.84 k"),
        ("max_ops", 12, "12"),
        ("max_latency", 47.3e-6, "47.3 us"),
        ("max_latency", 0.0018, "1.8 ms"),
    ],
)
def test_an_amount_is_shown_in_the_largest_unit_that_fits(setting: str, value: float, shown: str) -> None:
    assert BUDGETS[setting].show(value) == shown
