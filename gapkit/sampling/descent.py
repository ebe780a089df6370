r"""L-BFGS as a state that is asked for positions and told energies: many minimisations can then share one batch.

Nocedal and Wright, Numerical Optimization (2006), algorithm 7.4, with steps of bounded length. A step is shortened
where the energy rises and the slope along the step has not fallen.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

MEMORY = 20  # steps that L-BFGS remembers
LONGEST_STEP = 0.15  # A, of any atom
FIRST_SCALE = 0.02  # A^2/eV, inverse curvature before the first step: that of a stiff bond

#: from a vector (3 m,) to a vector (3 m,)
Linear = Callable[[np.ndarray], np.ndarray]


def two_loops(g: np.ndarray, steps: list[np.ndarray], changes: list[np.ndarray], inverse: Linear) -> np.ndarray:
    """Minus the approximate inverse Hessian times g (eV/A).

    Parameters
    ----------
    g : (3 m,)
        Gradient, of any length.
    steps, changes
        Steps s (A) and changes y of the gradient (eV/A), the latest last.
    inverse
        Product of the initial inverse Hessian (A^2/eV) with a vector.

    Examples
    --------
    >>> two_loops(np.array([2.0]), [np.array([1.0])], [np.array([4.0])], lambda q: q)
    array([-0.5])
    """
    q, kept = g.copy(), []
    for s, y in zip(reversed(steps), reversed(changes), strict=True):
        alpha = (s @ q) / (y @ s)
        q -= alpha * y
        kept.append(alpha)
    r = inverse(q)
    for (s, y), alpha in zip(zip(steps, changes, strict=True), reversed(kept), strict=True):
        r += s * (alpha - (y @ r) / (y @ s))
    return -r


def shortened(d: np.ndarray, longest: float) -> np.ndarray:
    """The step d (3 m,), scaled so that no atom moves further than ``longest`` (A)."""
    length = np.linalg.norm(d.reshape(-1, 3), axis=1).max()
    return d * min(1.0, longest / length) if length > 0 else d


class Descent:
    """State of one minimisation by L-BFGS.

    Parameters
    ----------
    x : (m, 3)
        Positions at the start (A).
    energy : float
        eV, at the start.
    gradient : (3 m,)
        eV/A, at the start.
    inverse
        Product of an approximate inverse Hessian (A^2/eV) with a vector; default: a multiple of the unit matrix, which
        follows the last step.
    across
        Projection of gradients on the directions that are allowed; default: all.
    longest_step : float
        A, of any atom.
    """

    def __init__(
        self,
        x: np.ndarray,
        energy: float,
        gradient: np.ndarray,
        inverse: Linear | None = None,
        across: Linear | None = None,
        longest_step: float = LONGEST_STEP,
    ):
        self.x, self.energy, self.gradient = x, energy, gradient
        self._inverse = inverse if inverse is not None else self._scaled
        self._across = across if across is not None else lambda g: g
        self._longest_step = longest_step
        self._steps: list[np.ndarray] = []
        self._changes: list[np.ndarray] = []
        self._damping, self._scale = 1.0, FIRST_SCALE
        self._d = np.zeros_like(gradient)

    def _scaled(self, q: np.ndarray) -> np.ndarray:
        if not self._steps:
            return self._scale * q
        s, y = self._steps[-1], self._changes[-1]
        return (s @ y) / (y @ y) * q

    @property
    def projected(self) -> np.ndarray:
        """Gradient (3 m,; eV/A) along the allowed directions."""
        return self._across(self.gradient)

    def trial(self) -> np.ndarray:
        """Positions (m, 3) where energy and gradient are wanted next (A)."""
        g = self.projected
        d = two_loops(g, self._steps, self._changes, self._inverse)
        if d @ g > -1e-12 * np.linalg.norm(d) * np.linalg.norm(g):
            self._forget()
            d = -self._inverse(g)
        longest = np.linalg.norm(d.reshape(-1, 3), axis=1).max()
        self._d = d * (self._damping * min(1.0, self._longest_step / longest))
        return self.x + self._d.reshape(-1, 3)

    def tell(self, energy: float, gradient: np.ndarray) -> bool:
        """Take energy (eV) and gradient (3 m,; eV/A) at the trial positions; whether the step is accepted.

        An infinite energy refuses the step.
        """
        d, g, new = self._d, self.projected, self._across(gradient)
        # energies carry rounding of 1e-9 eV: a step that small is judged by its slope alone
        rises = energy > self.energy + 1e-4 * (d @ g) + 1e-8
        if energy == np.inf or (rises and abs(d @ new) > 0.5 * abs(d @ g)):
            self._damping *= 0.4
            if self._damping < 1e-4:
                self._forget()
                self._damping = 0.1
            return False
        self._damping = min(1.0, 2.0 * self._damping)
        y = new - g
        if y @ d > 1e-10 * np.linalg.norm(y) * np.linalg.norm(d):
            self._steps, self._changes = [*self._steps, d][-MEMORY:], [*self._changes, y][-MEMORY:]
        elif self._inverse == self._scaled and y @ d < 0:  # downwards from a saddle or a slope that steepens
            self._forget()
            self._scale = min(2.0 * self._scale, 1.0)
        self.x, self.energy, self.gradient = self.x + d.reshape(-1, 3), energy, gradient
        return True

    def _forget(self) -> None:
        self._steps, self._changes = [], []
