"""Ray among temporary files whose folder has a long name."""

import sys
from types import SimpleNamespace

import pytest

from cpnas_cli.errors import CpnasError
from cpnas_cli.experiments.ray_executor import RayExecutor

# of Ray 2.56, with TMPDIR of 127 letters
SAID = "validate_socket_filename failed: AF_UNIX path length cannot exceed 107 bytes: /tmp/" + "tmp" * 40


def test_a_long_name_is_not_answered_with_advice_about_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise OSError(SAID)

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    with pytest.raises(CpnasError) as caught:
        RayExecutor("local", num_cpus=1, num_gpus=0)
    message = str(caught.value)
    assert "set RAY_TMPDIR to a folder with a short name" in message
    assert "107 bytes" in message
    assert "ray start" not in message
