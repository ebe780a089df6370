"""One SIMD value type for compiled kernels: eight doubles.

LLVM cannot prove that NumPy arrays do not overlap, so it leaves most of the inner loops of the SOAP floor scalar.
A value of this type is eight doubles in registers; on machines with narrower registers LLVM splits it. Arrays are
one-dimensional, contiguous float64; offsets count doubles. Only what the floor needs is here.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model

WIDTH = 8
_VECTOR = ir.VectorType(ir.DoubleType(), WIDTH)
_LANE = ir.IntType(32)


class Double8Type(types.Type):
    """Numba type of eight packed doubles."""

    def __init__(self) -> None:
        super().__init__(name="double8")


double8 = Double8Type()


@register_model(Double8Type)
class _Double8Model(models.PrimitiveModel):
    def __init__(self, manager, numba_type):
        super().__init__(manager, numba_type, _VECTOR)


def _address(context, builder, array_type, array, offset):
    """Pointer to eight doubles at ``array[offset]``."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), _VECTOR.as_pointer())


@intrinsic
def load(typing_context, array, offset):
    """The eight doubles ``array[offset : offset + 8]``."""

    def codegen(context, builder, signature, args):
        vector = builder.load(_address(context, builder, signature.args[0], args[0], args[1]))
        vector.align = 8
        return vector

    return double8(array, types.intp), codegen


@intrinsic
def store(typing_context, array, offset, vector):
    """Write ``vector`` to ``array[offset : offset + 8]``."""

    def codegen(context, builder, signature, args):
        instruction = builder.store(args[2], _address(context, builder, signature.args[0], args[0], args[1]))
        instruction.align = 8
        return context.get_dummy_value()

    return types.void(array, types.intp, double8), codegen


@intrinsic
def splat(typing_context, scalar):
    """A vector with ``scalar`` in every lane."""

    def codegen(context, builder, signature, args):
        first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), args[0], _LANE(0))
        mask = ir.Constant(ir.VectorType(_LANE, WIDTH), [0] * WIDTH)
        return builder.shuffle_vector(first, ir.Constant(_VECTOR, ir.Undefined), mask)

    return double8(types.float64), codegen


@intrinsic
def broadcast(typing_context, array, offset):
    """A vector with ``array[offset]`` in every lane: one instruction, and no test for a negative offset."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        scalar = builder.load(builder.gep(data, [args[1]]))
        first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, _LANE(0))
        mask = ir.Constant(ir.VectorType(_LANE, WIDTH), [0] * WIDTH)
        return builder.shuffle_vector(first, ir.Constant(_VECTOR, ir.Undefined), mask)

    return double8(array, types.intp), codegen


def _binary(name):
    @intrinsic
    def operation(typing_context, a, b):
        def codegen(context, builder, signature, args):
            return getattr(builder, name)(args[0], args[1])

        return double8(double8, double8), codegen

    return operation


add = _binary("fadd")
subtract = _binary("fsub")
multiply = _binary("fmul")


@intrinsic
def fma(typing_context, a, b, c):
    """``a * b + c`` in one rounding."""

    def codegen(context, builder, signature, args):
        function_type = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        function = cgutils.get_or_insert_function(builder.module, function_type, f"llvm.fma.v{WIDTH}f64")
        return builder.call(function, args)

    return double8(double8, double8, double8), codegen


@intrinsic
def total(typing_context, vector):
    """Sum of the eight lanes, in pairs."""

    def codegen(context, builder, signature, args):
        v = args[0]
        lanes = WIDTH
        while lanes > 1:
            lanes //= 2
            undefined = ir.Constant(v.type, ir.Undefined)
            low = ir.Constant(ir.VectorType(_LANE, lanes), list(range(lanes)))
            high = ir.Constant(ir.VectorType(_LANE, lanes), list(range(lanes, 2 * lanes)))
            v = builder.fadd(builder.shuffle_vector(v, undefined, low), builder.shuffle_vector(v, undefined, high))
        return builder.extract_element(v, _LANE(0))

    return types.float64(double8), codegen
