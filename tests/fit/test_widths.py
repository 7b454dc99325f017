"""What is made of the seconds of widths."""

from cpnas_cli.fit.widths import Measured, no_slower


def test_a_narrower_network_is_not_slower_than_a_wider_one() -> None:
    """Seconds as a busy machine gave them: 8 channels, and then 4 while something else ran."""
    wider = Measured(8, 17552, None, {"parent": 0.21, "child": 0.42}, 0.12)
    disturbed = Measured(4, 8568, 0.001, {"parent": 0.84, "child": 0.31}, 0.45)
    found = no_slower(disturbed, wider)
    assert found == Measured(4, 8568, 0.001, {"parent": 0.21, "child": 0.31}, 0.12)
    assert round(found.seconds_of_both, 9) == 0.52
