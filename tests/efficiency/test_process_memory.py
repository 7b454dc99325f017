"""The memory of this process and of fresh ones."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cpnas_cli.efficiency.process_memory import (
    in_fresh_process,
    peak_memory_of,
    peak_source,
    reset_peak,
    resident,
)
from cpnas_cli.errors import CpnasError

MIB = 2**20


def test_a_fresh_process_is_another_one() -> None:
    assert in_fresh_process(os.getpid) != os.getpid()
    with pytest.raises(FileNotFoundError):
        in_fresh_process(os.listdir, "no such folder")


def hold_and_let_go(num_mib: int) -> dict[str, float]:
    """Resident MiB above what was there: while a block of so many is held, after it, and after the peak is reset."""
    before = resident()
    reset_peak()
    block = b"x" * (num_mib * MIB)
    held = resident()
    del block
    after = resident()
    reset_peak()
    found = {"held": held.now, "after": after.now, "peak": after.peak, "peak after reset": resident().peak}
    return {name: (value - before.now) / MIB for name, value in found.items()}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak can be reset on Linux only")
def test_memory_now_falls_and_its_peak_stays() -> None:
    # in a process where nothing else is given back meanwhile
    found = in_fresh_process(hold_and_let_go, 64)
    assert found == pytest.approx({"held": 64, "after": 0, "peak": 64, "peak after reset": 0}, abs=4)


def test_memory_without_proc_is_the_peak(tmp_path: Path) -> None:
    found = resident(tmp_path / "absent")
    assert found.now == found.peak
    assert found.peak > 10 * MIB  # Python alone takes as many
    assert peak_source(tmp_path / "absent") == "ru_maxrss"


def allocate(num_mib: str) -> None:
    """Memory that is given back before the process ends; and it prints, as libraries do."""
    block = b"x" * (int(num_mib) * MIB)
    sys.stdout.write(f"allocated {len(block)} bytes\n")


def test_the_peak_is_that_of_the_other_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(Path(__file__).parent), *sys.path))))
    block = np.ones(400 * MIB, np.uint8)  # of this process, which the other must not count
    alone = peak_memory_of(None)
    assert 1 < alone / MIB < 50 < block.nbytes / MIB
    small, large = (peak_memory_of(f"{Path(__file__).stem}:allocate", size) for size in ("1", "101"))
    assert alone < small
    assert (large - small) / MIB == pytest.approx(100, abs=4)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("os:listdir", "the memory of listdir failed: FileNotFoundError"),
        ("os:no_such_function", "the memory of no_such_function failed: AttributeError"),
        ("no_such_module:function", "the memory of function failed: ModuleNotFoundError"),
        ("posix:abort", "the memory of abort failed: "),
    ],
)
def test_a_process_that_fails_is_one_line(target: str, said: str) -> None:
    arguments = () if target == "posix:abort" else ("no such folder",)
    with pytest.raises(CpnasError, match=said) as caught:
        peak_memory_of(target, *arguments)
    assert len(str(caught.value).splitlines()) == 1


def test_a_process_that_measures_imports_no_library() -> None:
    """Else they would count as memory of whatever is measured."""
    code = "import sys, cpnas_cli.efficiency.process_memory; print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True,
                            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    modules = answer.stdout.split()
    assert "cpnas_cli.errors" in modules
    assert not {"numpy", "torch", "multiprocessing", "concurrent"} & set(modules)
