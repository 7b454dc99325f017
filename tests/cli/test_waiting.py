"""How the threads of a run wait for each other."""

import os
import subprocess
import sys

import pytest

from cpnas_cli.cli.app import wait_passively


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_what_the_user_has_chosen_stays(name: str) -> None:
    environment = {name: "ACTIVE"}
    wait_passively(environment)
    assert environment == {name: "ACTIVE"}


def test_openmp_reads_the_choice_of_the_program() -> None:
    """libgomp itself says what it has read, when torch loads it: after the program has chosen."""
    words = (
        "import os; from cpnas_cli.cli.app import wait_passively; "
        "wait_passively(os.environ); os.environ['OMP_DISPLAY_ENV'] = 'VERBOSE'; import torch"
    )
    silent = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    spoken = subprocess.run([sys.executable, "-c", words], env=silent, capture_output=True, text=True, check=True)
    counts = [line.split("'")[1] for line in spoken.stderr.splitlines() if "GOMP_SPINCOUNT" in line]
    assert counts, spoken.stderr
    assert set(counts) == {"0"}
