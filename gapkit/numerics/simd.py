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


def _repeat(builder, scalar):
    """A vector with ``scalar`` in every lane."""
    first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, _LANE(0))
    return builder.shuffle_vector(first, ir.Constant(_VECTOR, ir.Undefined), _lanes([0] * WIDTH))


def _lanes(numbers):
    """Lane numbers as a constant of the compiler."""
    return ir.Constant(ir.VectorType(_LANE, len(numbers)), list(numbers))


def _fused(builder, a, b, c):
    """a b + c in one rounding."""
    function_type = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    function = cgutils.get_or_insert_function(builder.module, function_type, f"llvm.fma.v{WIDTH}f64")
    return builder.call(function, [a, b, c])


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
        return _repeat(builder, args[0])

    return double8(types.float64), codegen


@intrinsic
def broadcast(typing_context, array, offset):
    """A vector with ``array[offset]`` in every lane: one instruction, and no test for a negative offset."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return _repeat(builder, builder.load(builder.gep(data, [args[1]])))

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
        return _fused(builder, *args)

    return double8(double8, double8, double8), codegen


@intrinsic
def horizontal_sum(typing_context, vector):
    """Sum of the eight lanes, in pairs."""

    def codegen(context, builder, signature, args):
        v = args[0]
        lanes = WIDTH
        while lanes > 1:
            lanes //= 2
            undefined = ir.Constant(v.type, ir.Undefined)
            low, high = _lanes(range(lanes)), _lanes(range(lanes, 2 * lanes))
            v = builder.fadd(builder.shuffle_vector(v, undefined, low), builder.shuffle_vector(v, undefined, high))
        return builder.extract_element(v, _LANE(0))

    return types.float64(double8), codegen


@intrinsic
def transpose(typing_context, source, source_at, source_step, out, out_at, out_step):
    """``out[out_at + out_step k + i] = source[source_at + source_step i + k]`` for i, k below eight."""

    def codegen(context, builder, signature, args):
        source, source_at, source_step, out, out_at, out_step = args
        rows = []
        for _ in range(WIDTH):
            vector = builder.load(_address(context, builder, signature.args[0], source, source_at))
            vector.align = 8
            rows.append(vector)
            source_at = builder.add(source_at, source_step)
        for half in (1, 2, 4):  # in rows i and i + half exchange the lanes with and without that bit
            low = _lanes([k if not k & half else k - half + WIDTH for k in range(WIDTH)])
            high = _lanes([k + half if not k & half else k + WIDTH for k in range(WIDTH)])
            for i in range(WIDTH):
                if not i & half:
                    a, b = rows[i], rows[i + half]
                    rows[i], rows[i + half] = builder.shuffle_vector(a, b, low), builder.shuffle_vector(a, b, high)
        for row in rows:
            builder.store(row, _address(context, builder, signature.args[3], out, out_at)).align = 8
            out_at = builder.add(out_at, out_step)
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, out, types.intp, types.intp), codegen


@intrinsic(prefer_literal=True)
def tile(typing_context, n_rows, n_vectors, a, a_at, a_row, a_step, b, b_at, b_step, depth, c, c_at, c_row, adds):
    """Part of a matrix product.

    ``c[c_at + c_row i + j] (+)= sum_k a[a_at + a_row i + a_step k] b[b_at + b_step k + j]`` for i below ``n_rows`` and
    j below eight times ``n_vectors``, both literal numbers, and k below ``depth``; added to what is there where
    ``adds``. All sums stay in registers.
    """
    rows, vectors = n_rows.literal_value, n_vectors.literal_value

    def codegen(context, builder, signature, args):
        _, _, a, a_at, a_row, a_step, b, b_at, b_step, depth, c, c_at, c_row, adds = args
        index = ir.IntType(64)

        def at(array, place, offset):
            return _address(context, builder, signature.args[place], array, offset)

        def load_vector(array, place, offset):
            vector = builder.load(at(array, place, offset))
            vector.align = 8
            return vector

        places = [
            [builder.add(c_at, builder.add(builder.mul(c_row, index(i)), index(WIDTH * j))) for j in range(vectors)]
            for i in range(rows)
        ]
        sums = [
            [cgutils.alloca_once_value(builder, ir.Constant(_VECTOR, [0.0] * WIDTH)) for _ in range(vectors)]
            for _ in range(rows)
        ]
        with builder.if_then(adds):
            for i in range(rows):
                for j in range(vectors):
                    builder.store(load_vector(c, 10, places[i][j]), sums[i][j])
        numbers = context.make_array(signature.args[2])(context, builder, a).data
        starts = [builder.add(a_at, builder.mul(a_row, index(i))) for i in range(rows)]
        with cgutils.for_range(builder, depth) as loop:
            along_b = builder.add(b_at, builder.mul(loop.index, b_step))
            along_a = builder.mul(loop.index, a_step)
            columns = [load_vector(b, 6, builder.add(along_b, index(WIDTH * j))) for j in range(vectors)]
            for i in range(rows):
                number = builder.load(builder.gep(numbers, [builder.add(starts[i], along_a)]))
                factor = _repeat(builder, number)
                for j in range(vectors):
                    builder.store(_fused(builder, factor, columns[j], builder.load(sums[i][j])), sums[i][j])
        for i in range(rows):
            for j in range(vectors):
                builder.store(builder.load(sums[i][j]), at(c, 10, places[i][j])).align = 8
        return context.get_dummy_value()

    i, flag = types.intp, types.boolean
    return types.void(n_rows, n_vectors, a, i, i, i, b, i, i, i, c, i, i, flag), codegen
