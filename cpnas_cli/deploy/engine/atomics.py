"""What threads agree through: whole numbers in memory that several of them read and write at once.

Addresses and offsets as in `lanes`. An addition and a load see all that was written before the store or the addition
that they read; so whoever finds work finished may read what it left.
"""

# numba types and compiles these functions by itself; to a type checker they are plain Python without types.
# pyright: basic, reportCallIssue=false
import platform
from typing import Any

from llvmlite import ir
from numba import njit
from numba.core import types
from numba.extending import intrinsic

_I64 = ir.IntType(64)
_BYTES = 8  # of a whole number
_SPINS = 200  # how often a thread looks before it lets others run: some 5 us
# What tells the processor that a loop waits, and its arguments; others are not told.
_PAUSES = {
    **dict.fromkeys(("x86_64", "AMD64"), ("llvm.x86.sse2.pause", ())),
    **dict.fromkeys(("aarch64", "arm64", "ARM64"), ("llvm.aarch64.hint", (1,))),
}


def _place(builder: Any, address: Any, offset: Any) -> Any:
    return builder.gep(builder.inttoptr(address, _I64.as_pointer()), [offset])


@intrinsic
def get_shared(typingctx, address, offset):
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(_place(builder, *args), "acquire", _BYTES)

    return types.int64(types.intp, types.intp), codegen


@intrinsic
def put_shared(typingctx, address, offset, value):
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store_atomic(args[2], _place(builder, args[0], args[1]), "release", _BYTES)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.int64), codegen


@intrinsic
def add_shared(typingctx, address, offset, value):
    """The number before."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", _place(builder, args[0], args[1]), args[2], "acq_rel")

    return types.int64(types.intp, types.intp, types.int64), codegen


@intrinsic
def exchange_shared(typingctx, address, offset, expected, value):
    """Puts `value` where `expected` is; whether it was."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _place(builder, args[0], args[1])
        return builder.extract_value(builder.cmpxchg(place, args[2], args[3], "acq_rel", "acquire"), 1)

    return types.boolean(types.intp, types.intp, types.int64, types.int64), codegen


@intrinsic
def relax(typingctx):
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if platform.machine() in _PAUSES:
            name, values = _PAUSES[platform.machine()]
            arguments = [ir.Constant(ir.IntType(32), value) for value in values]
            kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
            function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
            builder.call(function, arguments)
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def call(typingctx, address):
    """A C function without arguments at this address."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [])
        return context.get_dummy_value()

    return types.void(types.intp), codegen


@njit
def wait_until(address, offset, least, let_others_run):
    """Until the number is at least `least`.

    Args:
      let_others_run: address of a C function that does; 0: there is none.
    """
    spins = 0
    while get_shared(address, offset) < least:
        relax()
        spins += 1
        if spins > _SPINS and let_others_run != 0:
            call(let_others_run)
