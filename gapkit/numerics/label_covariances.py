r"""Prior covariances between the labels of two frames under a dot-product kernel.

With :math:`k(x, x') = (x \cdot x')^\zeta`, t = x.x' and :math:`J = dx/d\theta`, sums over the environments e of one
frame and f of the other give

.. math::
    \langle E, E' \rangle = \sum_{ef} t^\zeta, \qquad
    \langle \partial_\theta E, E' \rangle = \sum_{ef} \zeta t^{\zeta - 1} J_e \cdot x_f, \qquad
    \langle \partial_\theta E, \partial_{\theta'} E' \rangle = \sum_{ef} \zeta (\zeta - 1) t^{\zeta - 2}
        (J_e \cdot x_f)(x_e \cdot J_f) + \zeta t^{\zeta - 1} J_e \cdot J_f .
"""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def add_covariances(x, J, start, target, x2, J2, start2, target2, power, out):
    """Add the covariances of two frames' energies and derivatives to ``out`` (1 + targets, 1 + targets2).

    Parameters
    ----------
    x, J : (e, f), (c, f)
        Features of the first frame's environments, and their derivatives.
    start, target
        As in ``gapkit.descriptors.EnvironmentBatch``; the same of the second frame follow.
    power : int
        zeta, at least 1.
    out
        Row and column 0: the energy; 1 + target: its derivative by that target.
    """
    t = np.dot(x, x2.T)
    jx = np.dot(J, x2.T)
    xj = np.dot(x, J2.T)
    jj = np.dot(J, J2.T)
    for e in range(len(x)):
        for f in range(len(x2)):
            slope = power * t[e, f] ** (power - 1)
            curvature = power * (power - 1) * t[e, f] ** (power - 2) if power > 1 else 0.0
            out[0, 0] += t[e, f] ** power
            for d in range(start2[f], start2[f + 1]):
                out[0, 1 + target2[d]] += slope * xj[e, d]
            for c in range(start[e], start[e + 1]):
                row = out[1 + target[c]]
                row[0] += slope * jx[c, f]
                bend = curvature * jx[c, f]
                for d in range(start2[f], start2[f + 1]):
                    row[1 + target2[d]] += bend * xj[e, d] + slope * jj[c, d]


@njit(cache=True, nogil=True)
def block_row(n, X, J, first, start, target, place, power, raw):
    """Add the covariances of frame ``n`` with frames 0 to n to ``raw`` (1 + targets of n, place[n + 1]).

    Parameters
    ----------
    X, J : (E, f), (C, f)
        Features of all frames' environments, one frame after the other, and their derivatives.
    first : (frames + 1,)
        Environments of frame k are ``first[k]`` to ``first[k + 1]``.
    start : (E + 1,)
        Derivatives of environment e are the rows ``start[e]`` to ``start[e + 1]`` of ``J``.
    place : (frames + 1,)
        Columns of frame k are ``place[k]`` to ``place[k + 1]``: its energy and its targets.
    """
    a, b = first[n], first[n + 1]
    if a == b:
        return
    low, high = start[a], start[b]
    x, own = X[a:b], start[a : b + 1] - start[a]
    for k in range(n + 1):
        a2, b2 = first[k], first[k + 1]
        if a2 == b2:
            continue
        low2, high2 = start[a2], start[b2]
        add_covariances(
            x, J[low:high], own, target[low:high], X[a2:b2], J[low2:high2], start[a2 : b2 + 1] - start[a2],
            target[low2:high2], power, raw[:, place[k] : place[k + 1]],
        )  # fmt: skip
