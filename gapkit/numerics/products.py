r"""Matrix products with a tile of the result in registers.

:math:`C_{ij} \mathrel{(+)}= \sum_k A_{ik} B_{kj}` for flat arrays with strides. A tile of eight rows and 24 columns
fills 24 registers of eight doubles; a step in k multiplies three loaded vectors by eight single numbers of A. Nothing
has to be packed first, so that products inside a thread, with as few columns as a small frame has atoms, cost little
more than their arithmetic. Linear-algebra libraries reach such rates for large matrices only, and on processors that
they know.
"""

import llvmlite.binding
from numba import njit

from gapkit.numerics.simd import tile, transpose

#: whether the processor has 32 registers of eight doubles; with fewer, tiles of four rows and eight columns
LARGE_TILES = bool(llvmlite.binding.get_host_cpu_features().get("avx512f", False))


@njit(cache=True, nogil=True)
def product(rows, columns, depth, a, a_at, a_row, a_step, b, b_at, b_step, c, c_at, c_row, adds):
    """``c[c_at + c_row i + j] (+)= sum_k a[a_at + a_row i + a_step k] b[b_at + b_step k + j]``.

    For i below ``rows``, j below ``columns`` (a multiple of eight) and k below ``depth``; added to what is there where
    ``adds``.
    """
    j = 0
    while j < columns:
        left = (columns - j) // 8
        if LARGE_TILES and left >= 3:
            _three_vectors(rows, depth, a, a_at, a_row, a_step, b, b_at + j, b_step, c, c_at + j, c_row, adds)
            j += 24
        elif LARGE_TILES and left == 2:
            _two_vectors(rows, depth, a, a_at, a_row, a_step, b, b_at + j, b_step, c, c_at + j, c_row, adds)
            j += 16
        else:
            one_vector(rows, depth, a, a_at, a_row, a_step, b, b_at + j, b_step, c, c_at + j, c_row, adds)
            j += 8


@njit(cache=True, nogil=True)
def _three_vectors(rows, depth, a, a_at, a_row, a_step, b, b_at, b_step, c, c_at, c_row, adds):
    """:func:`product` for 24 columns."""
    i = 0
    while i + 8 <= rows:
        tile(8, 3, a, a_at + i * a_row, a_row, a_step, b, b_at, b_step, depth, c, c_at + i * c_row, c_row, adds)
        i += 8
    if rows - i >= 4:
        tile(4, 3, a, a_at + i * a_row, a_row, a_step, b, b_at, b_step, depth, c, c_at + i * c_row, c_row, adds)
        i += 4
    while i < rows:
        tile(1, 3, a, a_at + i * a_row, a_row, a_step, b, b_at, b_step, depth, c, c_at + i * c_row, c_row, adds)
        i += 1


@njit(cache=True, nogil=True)
def _two_vectors(rows, depth, a, a_at, a_row, a_step, b, b_at, b_step, c, c_at, c_row, adds):
    """:func:`product` for 16 columns."""
    i = 0
    while i + 8 <= rows:
        tile(8, 2, a, a_at + i * a_row, a_row, a_step, b, b_at, b_step, depth, c, c_at + i * c_row, c_row, adds)
        i += 8
    if rows - i >= 4:
        tile(4, 2, a, a_at + i * a_row, a_row, a_step, b, b_at, b_step, depth, c, c_at + i * c_row, c_row, adds)
        i += 4
    while i < rows:
        tile(1, 2, a, a_at + i * a_row, a_row, a_step, b, b_at, b_step, depth, c, c_at + i * c_row, c_row, adds)
        i += 1


@njit(cache=True, nogil=True)
def one_vector(rows, depth, a, a_at, a_row, a_step, b, b_at, b_step, c, c_at, c_row, adds):
    """:func:`product` for eight columns."""
    i = 0
    while LARGE_TILES and i + 8 <= rows:
        tile(8, 1, a, a_at + i * a_row, a_row, a_step, b, b_at, b_step, depth, c, c_at + i * c_row, c_row, adds)
        i += 8
    while i + 4 <= rows:
        tile(4, 1, a, a_at + i * a_row, a_row, a_step, b, b_at, b_step, depth, c, c_at + i * c_row, c_row, adds)
        i += 4
    if rows - i >= 2:
        tile(2, 1, a, a_at + i * a_row, a_row, a_step, b, b_at, b_step, depth, c, c_at + i * c_row, c_row, adds)
        i += 2
    if i < rows:
        tile(1, 1, a, a_at + i * a_row, a_row, a_step, b, b_at, b_step, depth, c, c_at + i * c_row, c_row, adds)


@njit(cache=True, nogil=True)
def transpose_blocks(rows, columns, source, source_at, source_row, out, out_at, out_row):
    """``out[out_at + out_row k + i] = source[source_at + source_row i + k]`` for i below ``rows``, k below ``columns``.

    Both numbers are rounded up to multiples of eight, and what stands there is transposed too.
    """
    for i in range(0, rows, 8):
        for k in range(0, columns, 8):
            transpose(source, source_at + source_row * i + k, source_row, out, out_at + out_row * k + i, out_row)
