r"""Tunnelling through a barrier: factors on a rate by Wigner, Bell and Eckart, and where they end.

With :math:`u = h\nu/k_BT`, :math:`\nu` the size of the imaginary frequency at the saddle:

Wigner, Z. Phys. Chem. B 19, 203 (1932): :math:`\kappa = 1 + u^2/24`, the first term of a series, for small u.
Bell, The Tunnel Effect in Chemistry (1980), eq. 3.21: :math:`\kappa = (u/2)/\sin(u/2)`, a parabolic barrier of
infinite height; it diverges at :math:`u = 2\pi`, the crossover temperature :math:`T_c = h\nu/2\pi k_B`.
Eckart, Phys. Rev. 35, 1303 (1930): the exact transmission of a smooth barrier with the same curvature and both
heights, averaged over energies; Johnston and Heicklen, J. Phys. Chem. 66, 532 (1962).
"""

from __future__ import annotations

import itertools

import numpy as np
from ase import units

from gapkit.checks import check_all_positive, check_positive
from gapkit.exceptions import SettingsError

KINDS = ("none", "wigner", "bell", "eckart")
#: hc in eV cm: energy of a quantum of one wavenumber
_QUANTUM = units.invcm
#: nodes of the Gauss-Legendre rules of the average over energies
_NODES = 400


def tunnelling_factor(
    kind: str,
    wavenumber: float,
    temperature: float | np.ndarray,
    forward: float = np.inf,
    backward: float = np.inf,
) -> np.ndarray:
    """Factor on a classical rate from tunnelling, of the shape of the temperature.

    Parameters
    ----------
    kind
        ``"none"``, ``"wigner"``, ``"bell"`` or ``"eckart"``.
    wavenumber : float, cm^-1
        Size of the imaginary frequency, a positive number.
    temperature : float or array, K
    forward, backward : float, eV
        Barriers from both sides, used by Eckart alone; with zero-point energies, as the particle feels them.

    Raises
    ------
    SettingsError
        For another kind, numbers that are not positive, and Bell's factor at or below the crossover temperature.

    Examples
    --------
    >>> [round(float(tunnelling_factor(k, 1000.0, 500.0, 0.5, 0.5)), 2) for k in ("wigner", "bell", "eckart")]
    [1.35, 1.45, 1.46]
    """
    if kind not in KINDS:
        raise SettingsError(f"tunnelling must be one of {', '.join(KINDS)}, not {kind!r}")
    T = check_all_positive("temperature", temperature, "K")
    u = check_positive("wavenumber", wavenumber, "cm^-1") * _QUANTUM / (units.kB * T)
    if kind == "none":
        return np.ones_like(T)
    if kind == "wigner":
        return 1.0 + u**2 / 24.0
    if kind == "bell":
        if np.any(u >= 2 * np.pi):
            raise SettingsError(
                f"Bell's factor diverges at the crossover temperature, {crossover_temperature(wavenumber):.0f} K: use "
                "eckart, or temperatures well above"
            )
        return 0.5 * u / np.sin(0.5 * u)
    V1, V2 = check_positive("forward", forward, "eV"), check_positive("backward", backward, "eV")
    return np.vectorize(lambda t: _eckart(wavenumber * _QUANTUM, V1, V2, units.kB * t))(T)


def crossover_temperature(wavenumber: float) -> float:
    """Temperature (K) below which tunnelling is the main way across a parabolic barrier, h nu / (2 pi k_B)."""
    return check_positive("wavenumber", wavenumber, "cm^-1") * _QUANTUM / (2 * np.pi * units.kB)


def eckart_transmission(energy: float | np.ndarray, quantum: float, forward: float, backward: float) -> np.ndarray:
    r"""Probability that a particle crosses an Eckart barrier.

    With :math:`\alpha_i = 2\pi V_i/h\nu` and :math:`c = (\alpha_1^{-1/2} + \alpha_2^{-1/2})^{-1}`,

    .. math:: P = \frac{\cosh(a + b) - \cosh(a - b)}{\cosh(a + b) + \cosh d}, \quad
              a = 2c\sqrt{\alpha_1 E/V_1}, \quad b = 2c\sqrt{\alpha_1(E - V_1)/V_1 + \alpha_2}, \quad
              d = 2\sqrt{\alpha_1\alpha_2 - \pi^2/4}

    (:math:`\cosh d` becomes :math:`\cos\lvert d\rvert` where the root is imaginary).

    Parameters
    ----------
    energy : float or array, eV
        Energy above the bottom of the reactant's side; below both bottoms nothing crosses.
    quantum : float, eV
        h nu of the imaginary frequency.
    forward, backward : float, eV
        Heights V_1 and V_2.
    """
    E = np.asarray(energy, dtype=float)
    a1, a2 = 2 * np.pi * forward / quantum, 2 * np.pi * backward / quantum
    c = 1.0 / (a1**-0.5 + a2**-0.5)
    open_channel = (E > 0) & (forward - backward < E)
    e = np.where(open_channel, E, max(forward - backward, 0.0) + forward)
    a = 2 * c * np.sqrt(a1 * e / forward)
    b = 2 * c * np.sqrt(a1 * (e - forward) / forward + a2)
    root = a1 * a2 - 0.25 * np.pi**2
    # all over cosh(a + b), so that nothing overflows
    top = 1.0 + np.exp(-2 * (a + b))
    minus = np.exp(np.abs(a - b) - (a + b)) + np.exp(-np.abs(a - b) - (a + b))
    if root >= 0:
        d = 2 * np.sqrt(root)
        wall = np.exp(np.minimum(d - (a + b), 700.0)) + np.exp(-d - (a + b))
    else:
        wall = 2 * np.cos(2 * np.sqrt(-root)) * np.exp(-(a + b))
    return np.where(open_channel, (top - minus) / (top + wall), 0.0)


def _eckart(quantum: float, forward: float, backward: float, kT: float) -> float:
    """Average of the transmission over a thermal distribution, over that of a classical particle."""
    low = max(0.0, forward - backward)
    edges = np.unique([low, low + 0.5 * (forward - low), forward, forward + 5 * kT, forward + 60 * kT])
    x, w = np.polynomial.legendre.leggauss(_NODES)
    total = 0.0
    for start, end in itertools.pairwise(edges):
        E = 0.5 * (end - start) * x + 0.5 * (end + start)
        total += (
            0.5
            * (end - start)
            * np.sum(w * eckart_transmission(E, quantum, forward, backward) * np.exp((forward - E) / kT))
        )
    return float(total / kT)
