"""Compiled floor of the growth model: columns on a square lattice, moves sorted by rate, exact event times.

The surface is a field of heights (layers), h(x, y), periodic in y and, up to ``n_steps`` layers downhill, in x. The top
atom of a column may hop to one of four neighbours (directions +x, +y, -x, -y: 0 to 3) or leave (4). A move's code says
what its rate depends on:

- hop within a layer: which of the ten columns around the pair are occupied at the atom's level, ``0 <= code < 1024``;
  see :data:`PATCH`;
- hop between layers: ``1024 + ((n1 * 5 + n2) * 5 + m1) * 5 + m2``, n1 and n2 the nearest and second neighbours of the
  atom at its own level, m1 and m2 those it will have at the level where it lands;
- leaving: ``1649 + n1 * 5 + n2``.

Codes of one rate form a class, as in the n-fold way (Bortz, Kalos and Lebowitz, J. Comput. Phys. 17, 10 (1975)): a
binary tree over classes holds rate x number of members; one random number picks the class, one the member, one the
exact waiting time ``-log(1 - u) / total rate``. Members of a class stand in blocks of 512 from a common pool, so that
moves enter and leave a class in constant time.
"""

from __future__ import annotations

import numpy as np
from numba import njit

N_SAME, N_BETWEEN, N_LEAVE = 1024, 625, 25
N_CODES = N_SAME + N_BETWEEN + N_LEAVE
#: columns (a, b) around a hop from (0, 0) to (1, 0) that stand for the bits of a code; b counts to the left
PATCH = ((-1, -1), (0, -1), (1, -1), (2, -1), (-1, 0), (2, 0), (-1, 1), (0, 1), (1, 1), (2, 1))
N_MOVES = 5  # per column
LEAVE = 4
BLOCK_BITS = 9
BLOCK = 1 << BLOCK_BITS
#: places of the tally array
DEPOSITED, LEFT, HOPPED, CROSSED, SHIFT_X, SHIFT_Y = range(6)
N_TALLIES = 6

_DX = np.array([1, 0, -1, 0])
_DY = np.array([0, 1, 0, -1])
#: a window holds the columns around an event, (u, v) at place u * STRIDE + v
STRIDE = 10
_STEP = STRIDE * _DX + _DY
_TURN = STRIDE * -_DY + _DX
_PATCH = np.array([[a * step + b * turn for a, b in PATCH] for step, turn in zip(_STEP, _TURN, strict=True)])
_EVERYTHING = 5


def _moves_that_see() -> np.ndarray:
    """Whether move d of column (u, v) of the box around an event sees a change: (kind, u, v, d).

    Kinds: 0 for a change of one column, at (2, 2); 1 to 4 for hops in direction 0 to 3; 5 is all true.
    """
    out = np.zeros((6, 6, 6, N_MOVES), dtype=np.bool_)
    out[_EVERYTHING] = True
    for kind, (ex, ey) in enumerate([(0, 0), *zip(_DX, _DY, strict=True)]):
        x, y = 2 - min(ex, 0), 2 - min(ey, 0)
        for cx, cy in ((x, y), (x + ex, y + ey)):
            for a in range(-1, 3):
                for b in range(-1, 2):
                    for d in range(4):
                        out[kind, cx - a * _DX[d] + b * _DY[d], cy - a * _DY[d] - b * _DX[d], d] = True
            out[kind, cx - 1 : cx + 2, cy - 1 : cy + 2, LEAVE] = True
    return out


_SEES = _moves_that_see()


@njit(cache=True)
def copy_window(heights, n_steps, x, y, nx, ny, window):
    """Heights of columns (x, y) to (x + nx - 1, y + ny - 1), at most one period outside the field, into ``window``."""
    L = heights.shape[0]
    for u in range(nx):
        xu = x + u
        lift = 0
        if xu >= L:
            xu -= L
            lift = -n_steps
        elif xu < 0:
            xu += L
            lift = n_steps
        for v in range(ny):
            yv = y + v
            if yv >= L:
                yv -= L
            elif yv < 0:
                yv += L
            window[u * STRIDE + v] = heights[xu, yv] + lift


@njit(cache=True)
def neighbours_at(window, w, level):
    """``n1 * 5 + n2`` of the column at place w: nearest and second neighbours that reach ``level``."""
    near = (
        (window[w - STRIDE] >= level)
        + (window[w + STRIDE] >= level)
        + (window[w - 1] >= level)
        + (window[w + 1] >= level)
    )
    far = (
        (window[w - STRIDE - 1] >= level)
        + (window[w + STRIDE - 1] >= level)
        + (window[w - STRIDE + 1] >= level)
        + (window[w + STRIDE + 1] >= level)
    )
    return 5 * near + far


@njit(cache=True)
def code_of_hop(window, w, d, before):
    """Code of the hop in direction d of the column at place w, whose atom has the neighbours ``before``; two columns
    around it must lie in the window."""
    hi = window[w]
    hj = window[w + _STEP[d]]
    if hj + 1 == hi:
        code = 0
        for k in range(10):
            code |= (window[w + _PATCH[d, k]] >= hi) << k
        return code
    window[w] = hi - 1
    after = neighbours_at(window, w + _STEP[d], hj + 1)
    window[w] = hi
    return N_SAME + before * 25 + after


@njit(cache=True)
def renew_tree(members, rates):
    """Renew the tree (2 P,) above the classes whose counts have changed; leaves stand from P on, the total at 1.

    All leaves are equally deep: the walk goes up level by level and meets each node once.
    """
    tree, counts, changed, seen, state = members[0], members[1], members[8], members[9], members[10]
    half = tree.shape[0] // 2
    n = state[0]
    for k in range(n):
        c = changed[k]
        tree[half + c] = rates[c] * counts[c]
        seen[half + c] = 0
        changed[k] = half + c
    while n > 0 and changed[0] > 1:
        state[1] += 1
        m = 0
        for k in range(n):
            node = changed[k] >> 1
            if seen[node] != state[1]:
                seen[node] = state[1]
                tree[node] = tree[2 * node] + tree[2 * node + 1]
                changed[m] = node
                m += 1
        n = m
    state[0] = 0


@njit(cache=True)
def mark(c, leaf, changed, seen, state):
    """Note that the count of class c, whose leaf of the tree is ``leaf``, has changed."""
    if seen[leaf] == 0:
        seen[leaf] = 1
        changed[state[0]] = c
        state[0] += 1


@njit(cache=True)
def place_move(move, c, half, counts, blocks, pool, free, n_free, class_of_move, place, changed, seen, state):
    """Take a move out of its class and put it into class c (-1: none); the tree is renewed later.

    The arrays come one by one: taken out of a tuple in here, each would be counted as a new reference at every call.
    """
    old = class_of_move[move]
    if old == c:
        return
    if old >= 0:
        k = place[move]
        last = counts[old] - 1
        other = pool[blocks[old, last >> BLOCK_BITS], last & (BLOCK - 1)]
        pool[blocks[old, k >> BLOCK_BITS], k & (BLOCK - 1)] = other
        place[other] = k
        counts[old] = last
        if last & (BLOCK - 1) == 0:
            free[n_free[0]] = blocks[old, last >> BLOCK_BITS]
            n_free[0] += 1
        mark(old, half + old, changed, seen, state)
    class_of_move[move] = c
    if c >= 0:
        k = counts[c]
        if k & (BLOCK - 1) == 0:
            n_free[0] -= 1
            blocks[c, k >> BLOCK_BITS] = free[n_free[0]]
        pool[blocks[c, k >> BLOCK_BITS], k & (BLOCK - 1)] = move
        place[move] = k
        counts[c] = k + 1
        mark(c, half + c, changed, seen, state)


@njit(cache=True)
def classify(heights, base, n_steps, x, y, nx, ny, kind, window, class_of_code, members, rates):
    """Bring every move of columns (x, y) to (x + nx - 1, y + ny - 1), at most half a period outside the field, into its
    class, as far as they see an event of this kind; ``window`` (STRIDE^2,) has room for two columns more on every
    side."""
    L = heights.shape[0]
    tree, counts, blocks, pool, free, n_free, class_of_move, place, changed, seen, state = members
    half = tree.shape[0] // 2
    copy_window(heights, n_steps, x - 2, y - 2, nx + 4, ny + 4, window)
    for u in range(2, nx + 2):
        for v in range(2, ny + 2):
            xu = (x + u - 2) % L
            yv = (y + v - 2) % L
            first = (xu * L + yv) * N_MOVES
            w = u * STRIDE + v
            if heights[xu, yv] <= base[xu, yv]:
                for d in range(N_MOVES):
                    if class_of_move[first + d] >= 0:
                        place_move(
                            first + d,
                            -1,
                            half,
                            counts,
                            blocks,
                            pool,
                            free,
                            n_free,
                            class_of_move,
                            place,
                            changed,
                            seen,
                            state,
                        )
                continue
            sees = _SEES[kind, u - 2, v - 2]
            before = neighbours_at(window, w, window[w])
            for d in range(4):
                if sees[d]:
                    c = class_of_code[code_of_hop(window, w, d, before)]
                    if class_of_move[first + d] != c:
                        place_move(
                            first + d,
                            c,
                            half,
                            counts,
                            blocks,
                            pool,
                            free,
                            n_free,
                            class_of_move,
                            place,
                            changed,
                            seen,
                            state,
                        )
            if sees[LEAVE]:
                c = class_of_code[N_SAME + N_BETWEEN + before]
                if class_of_move[first + LEAVE] != c:
                    place_move(
                        first + LEAVE,
                        c,
                        half,
                        counts,
                        blocks,
                        pool,
                        free,
                        n_free,
                        class_of_move,
                        place,
                        changed,
                        seen,
                        state,
                    )
    renew_tree(members, rates)


@njit(cache=True)
def classify_all(heights, base, n_steps, class_of_code, members, rates):
    """Bring every move into its class."""
    L = heights.shape[0]
    window = np.empty(STRIDE * STRIDE, dtype=np.int32)
    for x in range(L):
        for y in range(L):
            classify(heights, base, n_steps, x, y, 1, 1, _EVERYTHING, window, class_of_code, members, rates)


@njit(cache=True)
def pick_class(tree, target):
    """Class whose share of the running total holds ``target``."""
    half = tree.shape[0] // 2
    node = 1
    while node < half:
        node *= 2
        if target >= tree[node]:
            target -= tree[node]
            node += 1
    return node - half


@njit(cache=True)
def carry_out(heights, n_steps, move, tallies):
    """Change the heights by one move; the step (ex, ey) of the atom, (0, 0) where it leaves."""
    L = heights.shape[0]
    d = move % N_MOVES
    x = move // N_MOVES // L
    y = move // N_MOVES % L
    if d == LEAVE:
        heights[x, y] -= 1
        tallies[LEFT] += 1
        return 0, 0
    ex = _DX[d]
    ey = _DY[d]
    x2 = (x + ex) % L
    y2 = (y + ey) % L
    lift = -n_steps if x + ex == L else (n_steps if x + ex < 0 else 0)
    same = heights[x2, y2] + lift + 1 == heights[x, y]
    tallies[HOPPED if same else CROSSED] += 1
    tallies[SHIFT_X] += ex
    tallies[SHIFT_Y] += ey
    heights[x, y] -= 1
    heights[x2, y2] += 1
    return ex, ey


@njit(cache=True)
def advance(heights, base, n_steps, class_of_code, rates, members, rng, clock, tallies, until, max_events, waiting):
    """Run events until the clock stands at ``until``, or ``max_events`` are done.

    Parameters
    ----------
    heights, base : (L, L) int32
        Columns, and the heights down to which they can be taken away.
    n_steps : int
        Layers that the surface falls over one period in x.
    class_of_code : (N_CODES,) int32
        -1 for moves that never happen.
    rates : (n_classes,)
        1/s; the last class is deposition, its one member rate is that of the whole field.
    members : tuple of arrays
        Made by ``gapkit.apps.growth.simulation``.
    rng : numpy.random.Generator
    clock : (1,)
        Time (s).
    tallies : (N_TALLIES,) int64
    until : float
        Time (s). No event happens after it: waiting times have no memory, so the one that is cut is drawn anew later.
    max_events : int
    waiting : (k,)
        The first k waiting times times the total rate are written here (each is exponential with mean 1).

    Returns
    -------
    done : int
        Number of events.
    """
    L = heights.shape[0]
    tree, counts, blocks, pool = members[0], members[1], members[2], members[3]
    deposition = rates.shape[0] - 1
    window = np.empty(STRIDE * STRIDE, dtype=np.int32)
    done = 0
    while done < max_events:
        total = tree[1]
        if total <= 0.0:
            clock[0] = until
            break
        wait = -np.log(1.0 - rng.random())
        if clock[0] + wait / total > until:
            clock[0] = until
            break
        c = pick_class(tree, rng.random() * total)
        if c > deposition or counts[c] == 0:  # a target that rounding has put past the last class
            continue
        clock[0] += wait / total
        if done < waiting.shape[0]:
            waiting[done] = wait
        k = int(rng.random() * (L * L if c == deposition else counts[c]))
        ex = ey = kind = 0
        if c == deposition:
            heights[k // L, k % L] += 1
            tallies[DEPOSITED] += 1
        else:
            move = pool[blocks[c, k >> BLOCK_BITS], k & (BLOCK - 1)]
            ex, ey = carry_out(heights, n_steps, move, tallies)
            k = move // N_MOVES
            kind = 0 if move % N_MOVES == LEAVE else move % N_MOVES + 1
        x = k // L - 2 + min(ex, 0)
        y = k % L - 2 + min(ey, 0)
        classify(heights, base, n_steps, x, y, 5 + abs(ex), 5 + abs(ey), kind, window, class_of_code, members, rates)
        done += 1
    return done
