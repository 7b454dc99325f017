"""The compiled engine: made by numba where it is used for the first time, kept as a file, and loaded by LLVM alone.

What was kept is checked before it is loaded, and made anew where it is missing, damaged or cannot be read; where it
cannot be written, a warning says so and every process compiles for itself. Numba itself, which takes most of the memory
and of the time of a start, is imported to compile only.
"""

import contextlib
import ctypes
import functools
import hashlib
import json
import logging
import os
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from llvmlite import binding as llvm

from cpnas_cli.storage.cache import cache_folder

_SCHEMA = b"cpnas.machine_code/1\n"
_DIGEST_BYTES = 32
_LOGGER = logging.getLogger(__name__)


def folders() -> list[Path]:
    """Where it is kept: beside the sources if one may write there, else in the cache."""
    return [Path(__file__).parent / "__pycache__", cache_folder()]


@functools.cache
def run_images() -> Callable[[int], object]:
    """`team.run_images` for this processor; it does not hold Python's lock while it runs."""
    code = _kept()
    if code is None:
        code = _compiled()
        _keep(code)
    return _loaded(*code)


def prepare() -> None:
    """Compile and keep what is not kept yet (some 20 seconds)."""
    if _kept() is None:
        _keep(_compiled())


# ---------------------------------------------------------------- the file


@functools.cache
def _name() -> str:
    """A hash over all that the code depends on: sources, compiler, processor, and what changes the compiler's mind."""
    features = llvm.get_host_cpu_features().flatten()
    parts = [_sources(), version("numba"), version("llvmlite"), llvm.get_process_triple(), llvm.get_host_cpu_name()]
    settings = sorted(item for item in os.environ.items() if item[0].startswith("NUMBA_") and item[0] not in _NOT_OURS)
    text = json.dumps([*parts, features, sys.implementation.cache_tag, settings])
    return f"engine-{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}.bin"


# All that `team` imports of this project: what is compiled.
COMPILED = (
    "deploy/engine/atomics.py",
    "deploy/engine/bit_kernels.py",
    "deploy/engine/grouped_kernels.py",
    "deploy/engine/lanes.py",
    "deploy/engine/layout.py",
    "deploy/engine/product_columns.py",
    "deploy/engine/program.py",
    "deploy/engine/real_kernels.py",
    "deploy/engine/stem_kernels.py",
    "deploy/engine/team.py",
    "deploy/engine/team_columns.py",
    "deploy/engine/walk.py",
    "networks/layer.py",
    "networks/stem_arithmetic.py",
)


def _sources(root: Path = Path(__file__).parents[2]) -> int:
    """A number that changes with all that is compiled here."""
    return zlib.crc32(b"".join((root / name).read_bytes() for name in COMPILED))


def _kept() -> tuple[str, bytes] | None:
    """The name of the function and the object file; None if they are not kept, or are damaged."""
    for folder in folders():
        try:
            content = (folder / _name()).read_bytes()
        except OSError:
            continue
        begin = len(_SCHEMA) + _DIGEST_BYTES
        digest, rest = content[len(_SCHEMA) : begin], content[begin:]
        if content.startswith(_SCHEMA) and digest == _digest(rest):
            name, code = rest.split(b"\n", 1)
            return name.decode(), code
    return None


def _keep(code: tuple[str, bytes]) -> None:
    """In the first folder that takes it."""
    rest = code[0].encode() + b"\n" + code[1]
    reasons = list[str]()
    for folder in folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _write(folder / _name(), _SCHEMA + _digest(rest) + rest)
        except OSError as error:
            reasons.append(f"{folder}: {error.strerror or error}")
        else:
            return
    _LOGGER.warning("the compiled engine is not kept, the next process compiles it again: %s", "; ".join(reasons))


def _write(path: Path, content: bytes) -> None:
    """The whole file or none."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()


# ---------------------------------------------------------------- the code


def _compiled() -> tuple[str, bytes]:
    with _without(_NOT_OURS):
        from numba.core import config

        config.__dict__["DISABLE_JIT"] = 0  # where somebody has imported it before
        from cpnas_cli.deploy.engine.team import compiled_object

        return compiled_object()


_NOT_OURS = ("NUMBA_CACHE_DIR", "NUMBA_DISABLE_JIT", "NUMBA_NUM_THREADS")
"""What numba is told for other programs: this one is compiled in any case, is kept in folders of its own, and starts
none of numba's threads."""


@contextlib.contextmanager
def _without(names: Sequence[str]) -> Iterator[None]:
    """The environment without these variables."""
    taken = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(taken)


_ENGINES = list[llvm.ExecutionEngine]()  # the code lives as long as they do


def _loaded(name: str, code: bytes) -> Callable[[int], object]:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    for c_name, own in {"memset": ctypes.memset, "memcpy": ctypes.memmove, "memmove": ctypes.memmove}.items():
        llvm.add_symbol(c_name, ctypes.cast(own, ctypes.c_void_p).value)  # else a call of it jumps to address 0
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _ENGINES.append(engine)
    # numba's own convention: places for the result and for an exception, of which there are none, then the argument
    function = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(
        engine.get_function_address(name)
    )

    def run(arguments: int) -> None:
        result, exception = ctypes.c_void_p(), ctypes.c_void_p()
        function(ctypes.addressof(result), ctypes.addressof(exception), arguments)

    return run
