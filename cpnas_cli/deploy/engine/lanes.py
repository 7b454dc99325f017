"""Vectors of 16 lanes as values inside numba functions.

LLVM turns one operation on such a vector into what the processor has: an AVX-512 instruction, two of
AVX2, four of NEON, or scalar code. So the kernels say what is done in parallel, and nothing depends on
a loop being vectorized by luck. Products and sums are rounded one by one,
but for `multiply_add_f` and `multiply_add_d`, which may be one instruction.

Types: U holds 16 uint32 (bits, or whole numbers), F 16 float32, D 16 float64. Memory is named by the
address of an array's first element (`array.ctypes.data`), not by the array: numba would count references
at every call, which takes longer than a row of an image. Offsets count elements; nothing is checked.
"""

# numba types and compiles these functions by itself; to a type checker they are plain Python without types.
# pyright: basic, reportArgumentType=false, reportReturnType=false, reportAttributeAccessIssue=false
# pyright: reportRedeclaration=false
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model

from cpnas_cli.deploy.engine.layout import LANES

_I32 = ir.IntType(32)


class _Lanes(types.Type):
    """The numba type of a vector."""

    def __init__(self, name: str, element: ir.Type) -> None:
        super().__init__(name)
        self.vector = ir.VectorType(element, LANES)


_U = _Lanes("cpnas_uint32x16", _I32)
_F = _Lanes("cpnas_float32x16", ir.FloatType())
_D = _Lanes("cpnas_float64x16", ir.DoubleType())


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: _Lanes) -> None:
        super().__init__(dmm, fe_type, fe_type.vector)


def _pointer(builder: Any, args: Any, element: ir.Type, target: ir.Type) -> Any:
    """Of what begins `args[1]` elements behind the address `args[0]`."""
    start = builder.inttoptr(args[0], element.as_pointer())
    return builder.bitcast(builder.gep(start, [args[1]]), target.as_pointer())


def _load(lanes: _Lanes) -> Any:
    def load(typingctx, address, offset):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            loaded = builder.load(_pointer(builder, args, lanes.vector.element, lanes.vector))
            loaded.align = 4  # of an element; vectors may begin anywhere
            return loaded

        return lanes(types.intp, types.intp), codegen

    return intrinsic(load)


def _store(lanes: _Lanes) -> Any:
    def store(typingctx, address, offset, value):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            stored = builder.store(args[2], _pointer(builder, args, lanes.vector.element, lanes.vector))
            stored.align = 4
            return context.get_dummy_value()

        return types.void(types.intp, types.intp, lanes), codegen

    return intrinsic(store)


def _splat_at(lanes: _Lanes) -> Any:
    """One element in all lanes."""

    def splat_at(typingctx, address, offset):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            element = builder.load(_pointer(builder, args, lanes.vector.element, lanes.vector.element))
            return _spread(builder, element, lanes)

        return lanes(types.intp, types.intp), codegen

    return intrinsic(splat_at)


def _get(scalar: types.Type, element: ir.Type) -> Any:
    def get(typingctx, address, offset):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.load(_pointer(builder, args, element, element))

        return scalar(types.intp, types.intp), codegen

    return intrinsic(get)


def _put(scalar: types.Type, element: ir.Type) -> Any:
    def put(typingctx, address, offset, value):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            builder.store(args[2], _pointer(builder, args, element, element))
            return context.get_dummy_value()

        return types.void(types.intp, types.intp, scalar), codegen

    return intrinsic(put)


def _spread(builder: Any, element: Any, lanes: _Lanes) -> Any:
    undefined = ir.Constant(lanes.vector, ir.Undefined)
    first = builder.insert_element(undefined, element, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))


def _splat(lanes: _Lanes, scalar: types.Type) -> Any:
    def splat(typingctx, value):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _spread(builder, args[0], lanes)

        return lanes(scalar), codegen

    return intrinsic(splat)


def _elementwise(result: _Lanes, arguments: tuple[_Lanes, ...], build: Callable[..., Any]) -> Any:
    """An operation on vectors; `build` gets LLVM's builder and the vectors."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return build(builder, *args)

    # an intrinsic's number of arguments is read from its signature
    match len(arguments):
        case 1:

            def operation(typingctx, x):
                return result(*arguments), codegen
        case 2:

            def operation(typingctx, x, y):
                return result(*arguments), codegen
        case _:

            def operation(typingctx, x, y, z):
                return result(*arguments), codegen

    return intrinsic(operation)


def _majority(builder: Any, x: Any, y: Any, z: Any) -> Any:
    return builder.or_(builder.and_(x, y), builder.and_(z, builder.or_(x, y)))


def _even_lanes(builder: Any, x: Any, y: Any) -> Any:
    return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(_I32, LANES), list(range(0, 2 * LANES, 2))))


def _rotate_left(builder: Any, x: Any, amount: Any) -> Any:
    return _llvm("fshl", _U)(builder, x, x, amount)


def _llvm(name: str, lanes: _Lanes) -> Callable[..., Any]:
    """The LLVM intrinsic on these vectors; llvmlite names those of scalars only."""

    def call(builder: Any, *args: Any) -> Any:
        function = ir.FunctionType(lanes.vector, [lanes.vector] * len(args))
        element = {_U: "i32", _F: "f32", _D: "f64"}[lanes]
        full_name = f"llvm.{name}.v{LANES}{element}"
        return builder.call(cgutils.get_or_insert_function(builder.module, function, full_name), args)

    return call


def _multiply_pairs(builder: Any, x: Any, y: Any, total: Any) -> Any:
    """LLVM knows the sum of products of pairs, so written, as one instruction (x86: VPMADDWD, VPDPWSSD)."""
    halves, wide = ir.VectorType(ir.IntType(16), 2 * LANES), ir.VectorType(_I32, 2 * LANES)
    x, y = (builder.sext(builder.bitcast(each, halves), wide) for each in (x, y))
    products = builder.mul(x, y)
    even, odd = (
        builder.shuffle_vector(
            products, ir.Constant(wide, ir.Undefined), ir.Constant(_U.vector, list(range(first, 2 * LANES, 2)))
        )
        for first in range(2)
    )
    return builder.add(total, builder.add(even, odd))


def _smaller(builder: Any, x: Any, y: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", y, x), y, x)


def _larger(builder: Any, x: Any, y: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", y, x), y, x)


# single elements
get_i, get_u, get_b = _get(types.int64, ir.IntType(64)), _get(types.uint32, _I32), _get(types.uint8, ir.IntType(8))
get_f, get_d = _get(types.float32, ir.FloatType()), _get(types.float64, ir.DoubleType())
put_h, put_u, put_f, put_d = (
    _put(types.int16, ir.IntType(16)),
    _put(types.uint32, _I32),
    _put(types.float32, ir.FloatType()),
    _put(types.float64, ir.DoubleType()),
)

load_u, load_f, load_d = _load(_U), _load(_F), _load(_D)
store_u, store_f = _store(_U), _store(_F)
splat_u, splat_f, splat_d = _splat(_U, types.uint32), _splat(_F, types.float32), _splat(_D, types.float64)
store_d = _store(_D)
splat_u_at, splat_f_at, splat_d_at = _splat_at(_U), _splat_at(_F), _splat_at(_D)

xor = _elementwise(_U, (_U, _U), lambda builder, x, y: builder.xor(x, y))
union = _elementwise(_U, (_U, _U), lambda builder, x, y: builder.or_(x, y))
conjunction = _elementwise(_U, (_U, _U), lambda builder, x, y: builder.and_(x, y))
parity = _elementwise(_U, (_U, _U, _U), lambda builder, x, y, z: builder.xor(builder.xor(x, y), z))
majority = _elementwise(_U, (_U, _U, _U), _majority)
popcount = _elementwise(_U, (_U,), _llvm("ctpop", _U))
add_u = _elementwise(_U, (_U, _U), lambda builder, x, y: builder.add(x, y))
shift_left = _elementwise(_U, (_U, _U), lambda builder, x, y: builder.shl(x, y))
shift_right = _elementwise(_U, (_U, _U), lambda builder, x, y: builder.lshr(x, y))
rotate_left = _elementwise(_U, (_U, _U), _rotate_left)
subtract_u = _elementwise(_U, (_U, _U), lambda builder, x, y: builder.sub(x, y))
# lanes 0, 2, 4, ... of x and y one after the other
even_lanes = _elementwise(_U, (_U, _U), _even_lanes)
# the lanes as two int16 each: total + the products of both added up
multiply_pairs = _elementwise(_U, (_U, _U, _U), _multiply_pairs)
# whole numbers, cut to what int32 holds
to_u = _elementwise(_U, (_F,), lambda builder, x: builder.fptosi(x, _U.vector))
# the lanes as signed whole numbers
to_f = _elementwise(_F, (_U,), lambda builder, x: builder.sitofp(x, _F.vector))

add_f = _elementwise(_F, (_F, _F), lambda builder, x, y: builder.fadd(x, y))
multiply_f = _elementwise(_F, (_F, _F), lambda builder, x, y: builder.fmul(x, y))
divide_f = _elementwise(_F, (_F, _F), lambda builder, x, y: builder.fdiv(x, y))
larger_f = _elementwise(_F, (_F, _F), _larger)
smaller_f = _elementwise(_F, (_F, _F), _smaller)
# x where it is at least 0, else y
positive_or = _elementwise(
    _F,
    (_F, _F),
    lambda builder, x, y: builder.select(builder.fcmp_ordered(">=", x, ir.Constant(_F.vector, [0.0] * LANES)), x, y),
)

# may round once or twice: for whole numbers that are exact either way
multiply_add_f = _elementwise(_F, (_F, _F, _F), _llvm("fmuladd", _F))
multiply_add_d = _elementwise(_D, (_D, _D, _D), _llvm("fmuladd", _D))
widen = _elementwise(_D, (_F,), lambda builder, x: builder.fpext(x, _D.vector))
narrow = _elementwise(_F, (_D,), lambda builder, x: builder.fptrunc(x, _F.vector))


@intrinsic
def splat_pair_at(typingctx, address, offset):
    """Two int16, of which the first is the one at `offset`, as a uint32 in all lanes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pair = builder.load(_pointer(builder, args, ir.IntType(16), _I32))
        pair.align = 2
        return _spread(builder, pair, _U)

    return _U(types.intp, types.intp), codegen


@intrinsic
def store_h(typingctx, address, offset, value):
    """The lanes as 16 int16; the offset counts these."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        halves = ir.VectorType(ir.IntType(16), LANES)
        stored = builder.store(builder.trunc(args[2], halves), _pointer(builder, args, ir.IntType(16), halves))
        stored.align = 2
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, _U), codegen


@intrinsic
def sum_d(typingctx, x):
    """The sum of all lanes, float64, halves added to halves."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        parts = [builder.extract_element(args[0], ir.Constant(_I32, lane)) for lane in range(LANES)]
        while len(parts) > 1:
            half = len(parts) // 2
            parts = [builder.fadd(x, y) for x, y in zip(parts[:half], parts[half:], strict=True)]
        return parts[0]

    return types.float64(_D), codegen


@intrinsic
def signs(typingctx, x):
    """Bit i of the result (uint32) tells whether lane i is >= 0, so also at -0.0; a NaN is not."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at_least = builder.fcmp_ordered(">=", args[0], ir.Constant(_F.vector, [0.0] * LANES))
        return builder.zext(builder.bitcast(at_least, ir.IntType(LANES)), _I32)

    return types.uint32(_F), codegen
