"""Permissions that hold for root too: a block in which this thread may no more than the bits of a file say."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator

import pytest

_OVERRIDES = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


@contextlib.contextmanager
def that_hold() -> Iterator[None]:
    """Threads that are started in the block obey too; whoever is not root does anyway.

    Skips the test where root cannot be made to obey.
    """
    if os.getuid() != 0:
        yield
        return
    if sys.platform != "linux":
        pytest.skip("run as root, who may do all, on a system without capabilities")
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = _Header(_VERSION_3, 0), (_Sets * 2)()
    if libc.capget(ctypes.byref(header), sets):
        pytest.skip("run as root, whose capabilities cannot be asked for here")
    before = sets[0].effective
    sets[0].effective = before & ~_OVERRIDES
    assert libc.capset(ctypes.byref(header), sets) == 0
    try:
        yield
    finally:
        sets[0].effective = before
        assert libc.capset(ctypes.byref(header), sets) == 0
