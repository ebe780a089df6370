r"""Steady state of a mechanism by mean-field kinetics: stiff integration, then Newton's method in logarithms.

With :math:`u = \ln\theta` the logarithms of the amounts, every gross rate is
:math:`r_j = \exp(\ln k_j + \sum_i \nu_{ij} u_i + \sum_g \nu_{gj} \ln a_g)`. At the steady state the production
:math:`P_i` of each species equals its loss :math:`L_i`. Newton's method solves :math:`\ln P_i - \ln L_i = 0`, with one
species of each kind of site replaced by the law that its sites sum to one. Logarithms keep amounts positive and treat
those of 1e-20 as well as those near one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.integrate import solve_ivp
from scipy.special import logsumexp, xlogy

from gapkit.apps.kinetics.mechanism import Mechanism
from gapkit.checks import check_positive
from gapkit.exceptions import DataError, NumericsError, SettingsError
from gapkit.randomness import generator_of

#: largest residual ln P - ln L at the end
TOLERANCE = 1e-11
_STEPS = 100  # of Newton's method
_LONGEST = 3.0  # largest change of a logarithm in one of them
_LOWEST = -690.0  # logarithm below which an amount has vanished
#: change of a logarithm by Newton's method up to which a state counts as at rest
_NEAR = 0.5
#: distance of two solutions in logarithms up to which they are the same
_SAME = 1e-6


@dataclass(frozen=True)
class Conditions:
    """Temperature, and activities of the species that reactions do not change.

    Attributes
    ----------
    temperature : float, K
    activities : dict of str to float
        Pressures (bar) of gases, activities of fixed species; one is the default of fixed species.
    """

    temperature: float
    activities: Mapping[str, float]

    def __post_init__(self) -> None:
        check_positive("temperature", self.temperature, "K")
        for name, value in self.activities.items():
            if not (np.isfinite(value) and value >= 0):
                raise SettingsError(f"the activity of {name} must be finite and not negative, not {value}")


@dataclass(frozen=True)
class SteadyState:
    """Amounts and rates of a mechanism at rest.

    Attributes
    ----------
    amounts : dict of str to float
        Coverages (shares of sites) and amounts of wells.
    logarithms : (s,)
        Their logarithms, in the order of ``Mechanism.dynamic``.
    ln_forward, ln_backward : (r,)
        Logarithms of the gross rates (1/s).
    turnover : float, 1/s
        Turnover frequency: the net rates of the observed reactions; negative where the reactions run backwards.
    residual : float
        Largest ln P - ln L.
    resolution : float
        Relative error of the turnover from rounding: that of the gross rates that cancel in it.
    is_stable : bool
        Whether small changes of the amounts die away.
    """

    amounts: dict[str, float]
    logarithms: np.ndarray
    ln_forward: np.ndarray
    ln_backward: np.ndarray
    turnover: float
    residual: float
    resolution: float
    is_stable: bool

    @property
    def net_rates(self) -> np.ndarray:
        """Net rates (r,) of the reactions (1/s)."""
        return _net(self.ln_forward, self.ln_backward)


class Network:
    """Arrays of a mechanism at fixed conditions, for many solutions with different energies.

    Parameters
    ----------
    mechanism, conditions

    Raises
    ------
    SettingsError
        For unknown activities, and pressures of gases that are missing.
    """

    def __init__(self, mechanism: Mechanism, conditions: Conditions) -> None:
        self.mechanism, self.conditions = mechanism, conditions
        dynamic, given = mechanism.dynamic, mechanism.given
        known = {s.name for s in given}
        unknown = sorted(set(conditions.activities) - known)
        if unknown:
            raise SettingsError(
                f"activities of {', '.join(unknown)}, which have none; there are {', '.join(sorted(known))}"
            )
        missing = [s.name for s in given if s.kind == "gas" and s.name not in conditions.activities]
        if missing:
            raise SettingsError(f"pressures (bar) are missing: {', '.join(missing)}")
        self.orders_forward = mechanism.orders("reactants", dynamic)
        self.orders_backward = mechanism.orders("products", dynamic)
        self.S = self.orders_backward - self.orders_forward
        self.laws = mechanism.site_laws()
        activities = np.array([conditions.activities.get(s.name, 1.0) for s in given])
        self.ln_given = (
            xlogy(mechanism.orders("reactants", given), activities[:, None]).sum(axis=0),
            xlogy(mechanism.orders("products", given), activities[:, None]).sum(axis=0),
        )
        self.weights = np.array([mechanism.observed.get(r.name, 0.0) for r in mechanism.reactions])

    def ln_constants(self, energies: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Logarithms (r,) of forward and backward constants times the activities of given species."""
        forward, backward = self.mechanism.ln_constants(self.conditions.temperature, energies)
        return forward + self.ln_given[0], backward + self.ln_given[1]

    def gross(self, u: np.ndarray, ln_k: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Logarithms (r,) of the gross rates forward and backward."""
        return ln_k[0] + self.orders_forward.T @ u, ln_k[1] + self.orders_backward.T @ u

    def residual(
        self, u: np.ndarray, ln_k: tuple[np.ndarray, np.ndarray], replaced: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Residual (s,), its Jacobian (s, s) by u, and its slopes (s, 2 r) by the logarithms of the constants."""
        ln_r = np.concatenate(self.gross(u, ln_k))
        orders = np.concatenate([self.orders_forward, self.orders_backward], axis=1)  # (s, 2 r)
        change = np.concatenate([self.S, -self.S], axis=1)
        shares = []
        values = []
        for sign in (1.0, -1.0):
            amount = np.maximum(sign * change, 0.0)
            with np.errstate(divide="ignore"):
                terms = np.log(amount) + ln_r
            total = logsumexp(terms, axis=1)
            values.append(total)
            shares.append(np.exp(terms - total[:, None]))
        F = values[0] - values[1]
        slopes = shares[0] - shares[1]
        J = slopes @ orders.T
        for law, at in zip(self.laws, replaced, strict=True):
            with np.errstate(divide="ignore"):
                terms = np.log(law) + u
            total = logsumexp(terms)
            F[at], J[at], slopes[at] = total, np.exp(terms - total), 0.0
        return F, J, slopes

    def replaced(self, u: np.ndarray) -> np.ndarray:
        """Species (sites,) whose balance the site laws replace: of each kind of site the most abundant."""
        return np.array([int(np.argmax(np.where(law > 0, u, -np.inf))) for law in self.laws], dtype=int)


def steady_state(
    mechanism: Mechanism,
    conditions: Conditions,
    energies: np.ndarray | None = None,
    start: np.ndarray | Mapping[str, float] | None = None,
) -> SteadyState:
    """Steady state of a mechanism.

    Parameters
    ----------
    mechanism, conditions
    energies : (p,) eV, optional
        Energies in the order of ``mechanism.parameters``; default: the mechanism's own.
    start : (s,) or dict, optional
        Logarithms of amounts near the solution, or amounts from which the kinetics start; default: empty sites.

    Raises
    ------
    NumericsError
        Where no steady state is found, such as one that oscillates.
    SettingsError, DataError
        For conditions and energies that cannot work.
    """
    return solve(Network(mechanism, conditions), energies, start)


def solve(
    network: Network, energies: np.ndarray | None = None, start: np.ndarray | Mapping[str, float] | None = None
) -> SteadyState:
    """Steady state of a network; see :func:`steady_state`."""
    ln_k = network.ln_constants(energies)
    if not (np.isfinite(ln_k[0]) | (ln_k[0] == -np.inf)).all():
        raise NumericsError("a rate constant is not finite: check energies and temperature")
    u = None
    if isinstance(start, np.ndarray):
        u = _newton(network, ln_k, start)
    if u is None:
        amounts = None if isinstance(start, np.ndarray) else start
        u = _newton(network, ln_k, _integrate(network, ln_k, amounts))
    if u is None:
        raise NumericsError(
            "no steady state was found: the kinetics may oscillate, or a species may neither be made nor consumed; "
            "start from other amounts"
        )
    return _state(network, u, ln_k)


def steady_states(
    mechanism: Mechanism,
    conditions: Conditions,
    n_starts: int = 20,
    *,
    random_state: int | np.random.Generator | None = None,
) -> list[SteadyState]:
    """Different stable steady states that kinetics from random amounts reach, the most often reached first."""
    network, rng = Network(mechanism, conditions), generator_of(random_state)
    found: list[SteadyState] = []
    count: list[int] = []
    for _ in range(n_starts):
        state = solve(network, None, _random_amounts(network, rng))
        for k, other in enumerate(found):
            if np.abs(other.logarithms - state.logarithms).max() < _SAME:
                count[k] += 1
                break
        else:
            found.append(state)
            count.append(1)
    return [found[k] for k in np.argsort(count)[::-1]]


def _net(ln_forward: np.ndarray, ln_backward: np.ndarray) -> np.ndarray:
    """Net rates from logarithms of gross rates, either of which may vanish."""
    larger, smaller = np.maximum(ln_forward, ln_backward), np.minimum(ln_forward, ln_backward)
    runs = larger > -np.inf
    ratio = np.where(runs, smaller, 0.0) - np.where(runs, larger, 0.0)
    return np.where(ln_forward >= ln_backward, 1.0, -1.0) * np.exp(larger) * -np.expm1(ratio)


def _state(network: Network, u: np.ndarray, ln_k: tuple[np.ndarray, np.ndarray]) -> SteadyState:
    at = network.replaced(u)
    F, _, _ = network.residual(u, ln_k, at)
    ln_f, ln_b = network.gross(u, ln_k)
    seen = network.weights != 0
    turnover = float(network.weights @ _net(ln_f, ln_b))
    gross = float(np.abs(network.weights[seen]) @ (np.exp(ln_f) + np.exp(ln_b))[seen])
    eps = float(np.finfo(float).eps * max(1.0, np.abs(u).max()))
    names = [s.name for s in network.mechanism.dynamic]
    return SteadyState(
        dict(zip(names, np.exp(u).tolist(), strict=True)), u, ln_f, ln_b, turnover, float(np.abs(F).max()),
        eps * gross / max(abs(turnover), 1e-300), _is_stable(network, u, ln_f, ln_b),
    )  # fmt: skip


def _is_stable(network: Network, u: np.ndarray, ln_f: np.ndarray, ln_b: np.ndarray) -> bool:
    """Whether no direction that keeps the site laws grows."""
    slopes = np.exp(ln_f)[:, None] * network.orders_forward.T - np.exp(ln_b)[:, None] * network.orders_backward.T
    rates = network.S @ slopes
    # slopes by logarithms over amounts are slopes by amounts; the growth rates are those of the amounts
    growth = np.linalg.eigvals(rates * np.exp(-u)[:, None])
    return bool(growth.real.max() < 1e-9 * np.abs(growth).max())


def _newton(network: Network, ln_k: tuple[np.ndarray, np.ndarray], start: np.ndarray) -> np.ndarray | None:
    """Logarithms of a steady state near ``start``, or None."""
    u = np.array(start, dtype=float)
    best = np.inf
    for _ in range(_STEPS):
        at = network.replaced(u)
        F, J, _ = network.residual(u, ln_k, at)
        if not np.isfinite(F).all():
            return None
        size = float(np.abs(F).max())
        if size < TOLERANCE and size >= 0.5 * best:
            return u
        best = min(best, size)
        try:
            step = np.linalg.solve(J, F)
        except np.linalg.LinAlgError:
            return None
        u = u - step * min(1.0, _LONGEST / max(float(np.abs(step).max()), 1e-300))
        if u.min() < _LOWEST or not np.isfinite(u).all():
            return None
    F, _, _ = network.residual(u, ln_k, network.replaced(u))
    return u if np.abs(F).max() < TOLERANCE else None


def _integrate(
    network: Network, ln_k: tuple[np.ndarray, np.ndarray], amounts: Mapping[str, float] | None
) -> np.ndarray:
    """Logarithms of amounts after a long time, by stiff integration (BDF) of the amounts."""
    y0 = _initial(network, amounts)
    kf, kb = np.exp(ln_k[0]), np.exp(ln_k[1])
    of, ob = network.orders_forward.T, network.orders_backward.T

    def gross(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        y = np.maximum(y, 0.0)
        return kf * np.prod(y**of, axis=1), kb * np.prod(y**ob, axis=1)

    def velocity(_: float, y: np.ndarray) -> np.ndarray:
        f, b = gross(y)
        return network.S @ (f - b)

    def jacobian(_: float, y: np.ndarray) -> np.ndarray:
        y = np.maximum(y, 1e-30)
        f, b = gross(y)
        return network.S @ (f[:, None] * of / y - b[:, None] * ob / y)

    rates = [k for k in (*kf, *kb) if k > 0]
    time, end = 0.1 / max(rates), 1e4 / min(rates)
    y, begin = y0, 0.0
    # decade by decade: the state is at rest where Newton's method hardly moves it
    while begin < end:
        found = solve_ivp(velocity, (begin, time), y, method="BDF", jac=jacobian, rtol=1e-6, atol=1e-20)
        if not found.success:
            break
        y = np.maximum(found.y[:, -1], 1e-300)
        u = _newton(network, ln_k, np.log(y))
        if u is not None and np.abs(u - np.log(y)).max() < _NEAR and _is_stable(network, u, *network.gross(u, ln_k)):
            return u
        begin, time = time, 10.0 * time
    return np.log(np.maximum(y, 1e-300))


def _initial(network: Network, amounts: Mapping[str, float] | None) -> np.ndarray:
    """Amounts (s,) at the start: as given, the rest of each kind of site empty."""
    dynamic = network.mechanism.dynamic
    names = [s.name for s in dynamic]
    given = dict(amounts or {})
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise DataError(f"amounts of unknown species {', '.join(unknown)}; there are {', '.join(names)}")
    y = np.array([max(float(given.get(name, 0.0)), 0.0) for name in names])
    for law, site in zip(network.laws, [s for s in dynamic if s.kind == "site"], strict=True):
        at = names.index(site.name)
        y[at] = 0.0
        if law @ y > 1 + 1e-9:
            raise DataError(f"the amounts occupy {law @ y:.3g} of the sites {site.name}, more than one")
        y[at] = 1.0 - law @ y
    return y


def _random_amounts(network: Network, rng: np.random.Generator) -> dict[str, float]:
    """Random amounts that obey the site laws."""
    amounts: dict[str, float] = {}
    dynamic = network.mechanism.dynamic
    for law in network.laws:
        on = np.flatnonzero(law)
        for k, share in zip(on, rng.dirichlet(np.full(len(on), 0.5)), strict=True):
            amounts[dynamic[k].name] = float(share / law[k])
    for s in dynamic:
        amounts.setdefault(s.name, float(rng.uniform()))
    return amounts
