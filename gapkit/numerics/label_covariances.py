r"""Prior covariances between the labels of two frames under a dot-product kernel.

With :math:`k(x, x') = (x \cdot x')^\zeta` every label is a derivative: a position or strain component moves the
features of environment e by :math:`J_e = dx_e/d\theta`, and an energy is their derivative along :math:`J_e = x_e/\zeta`
(Euler, for homogeneous functions). With t = x.x', sums over the environments e of one frame and f of the other give

.. math::
    \langle \partial_\theta E, \partial_{\theta'} E' \rangle = \sum_{ef} \zeta (\zeta - 1) t^{\zeta - 2}
        (J_e \cdot x_f)(x_e \cdot J_f) + \zeta t^{\zeta - 1} J_e \cdot J_f .

The second sum is the larger work. Summed over f first, :math:`H_e = \sum_f \zeta t^{\zeta - 1} J_f`, it takes a product
of derivatives per environment, not per pair of environments.
"""

import numpy as np


def covariances(x: np.ndarray, J: np.ndarray, x2: np.ndarray, J2: np.ndarray, power: int) -> np.ndarray:
    """Covariances of the labels of two frames (n, n2).

    Parameters
    ----------
    x, J : (e, d), (n, e, d)
        Features of the first frame's environments, and what each label's coordinate does to them; for an energy
        ``x / power``. Those of the second frame follow.
    power : int
        zeta, at least 1.
    """
    (n, e, d), (n2, f, _) = J.shape, J2.shape
    t = x @ x2.T
    slope = power * t ** (power - 1)
    moved = (slope @ J2).reshape(n2, e * d)
    out = J.reshape(n, e * d) @ moved.T
    if power > 1:
        bend = power * (power - 1) * t ** (power - 2)
        across = (J.reshape(n * e, d) @ x2.T).reshape(n, e, f) * bend
        back = (J2.reshape(n2 * f, d) @ x.T).reshape(n2, f, e)
        out += across.reshape(n, e * f) @ back.transpose(0, 2, 1).reshape(n2, e * f).T
    return out
