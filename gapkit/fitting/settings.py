"""The settings of a fit: the parameters of ``gapkit.GAP``, checked once, before any work is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gapkit.checks import LARGEST, is_integer, is_number
from gapkit.exceptions import SettingsError
from gapkit.fitting.noise_settings import NoiseSettings
from gapkit.kernels import SquaredExponential
from gapkit.models.sparse_points import selection
from gapkit.models.terms import Term, term_from_settings
from gapkit.potential.baseline import baseline_calculator

_INTEGERS = ("n_max", "l_max", "cutoff_power", "zeta", "n_sparse")
#: bounds beyond which nothing can be computed; what is sensible lies far inside
_BOUNDS = {
    "r_cut": (0.5, 100.0),
    "sigma": (0.01, 10.0),
    "zeta": (1, 100),
    "length_scale": (1e-3, 1e6),
    "signal": (1e-10, 1e10),
}
_WORDS = ("name", "compression", "selection")


@dataclass(frozen=True)
class FitSettings:
    """Settings of a fit: the parameters of ``gapkit.GAP``, checked once, before any work is done.

    Attributes
    ----------
    terms
        ``"auto"``, or a list of terms.
    baseline
        ASE calculator or None.
    e0
        A word or a table of energies; ``structures.reference_energies`` judges words and symbols.
    noise : NoiseSettings
    sparse : dict
        Changes to the terms that are not of pairs; empty for ``"auto"``.
    exact
        True, False or ``"auto"``.
    n_folds : int
    screen : bool
        Whether labels that contradict all others are left out.
    n_jobs : int or None
    random_state
        None, a seed or a generator.
    """

    terms: Any = "auto"
    baseline: Any = None
    e0: Any = "auto"
    noise: NoiseSettings = field(default_factory=NoiseSettings)
    sparse: Mapping[str, Any] = field(default_factory=dict)
    exact: bool | str = "auto"
    n_folds: int = 5
    screen: bool = True
    n_jobs: int | None = None
    random_state: Any = None

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> FitSettings:
        """Settings from ``gapkit.GAP(...).get_params(deep=False)``.

        Raises
        ------
        SettingsError
            Names the parameter, its value, and what it may be.
        """
        for key in ("energy_key", "forces_key", "virial_key"):
            if not (parameters[key] is None or isinstance(parameters[key], str)):
                raise SettingsError(f"{key} must be None or the name of a label, not {parameters[key]!r}")
        folds, n_jobs = parameters["folds"], parameters["n_jobs"]
        if not is_integer(folds) or not 1 <= folds <= LARGEST:
            raise SettingsError(f"folds must be an integer of at least 1, not {folds!r:.30} (at most {LARGEST:.0e})")
        if n_jobs is not None and (not is_integer(n_jobs) or n_jobs == 0):
            raise SettingsError(f"n_jobs must be None, a number of threads, or -1 for all cores, not {n_jobs!r}")
        return cls(
            terms=_terms(parameters["terms"]),
            baseline=baseline_calculator(parameters["baseline"]),
            e0=_e0(parameters["e0"]),
            noise=NoiseSettings.parse(parameters["noise"]),
            sparse=_sparse(parameters["sparse"]),
            exact=_exact(parameters["exact"]),
            n_folds=int(folds),
            screen=_screen(parameters["screen"]),
            n_jobs=n_jobs,
            random_state=_random_state(parameters["random_state"]),
        )

    @property
    def all_auto(self) -> bool:
        """Whether terms and sparse points follow from the training frames."""
        return isinstance(self.terms, str) and not self.sparse


def _terms(terms: Any) -> Any:
    """``"auto"``, or a list of checked terms."""
    if isinstance(terms, str):
        if terms != "auto":
            raise SettingsError(f"terms must be 'auto' or a list of gapkit.Term, not {terms!r}")
        return terms
    if not isinstance(terms, list | tuple) or not terms:
        raise SettingsError(f"terms must be 'auto' or a list of one or more terms, not {terms!r:.80}")
    return [_term(term, f"terms[{k}]") for k, term in enumerate(terms)]


def _term(given: Any, context: str) -> Term:
    if isinstance(given, Term):
        term = given
    elif isinstance(given, Mapping):
        try:
            term = term_from_settings(given)
        except SettingsError as error:
            raise SettingsError(f"{context}: {error}") from None
        except (TypeError, ValueError) as error:
            _check_numbers(given, context)
            raise SettingsError(f"{context}: {error}; see gapkit.Term") from None
    else:
        raise SettingsError(f"{context} must be a gapkit.Term or a table of its settings, not {given!r:.80}")
    _check_numbers(term.settings(), context)
    descriptor, kernel = term.descriptor, term.kernel
    if not (callable(term.selection) or isinstance(term.selection, str)):
        raise SettingsError(f"{context}: selection must be a name or a callable, not {term.selection!r}")
    width = getattr(descriptor, "cutoff_width", None)
    if width is not None and not 0 < width <= descriptor.r_cut:
        raise SettingsError(f"{context}: cutoff_width must be above 0 and at most r_cut, not {width!r}")
    if isinstance(kernel, SquaredExponential) and np.size(kernel.length_scale) > 1:
        scales, described = np.size(kernel.length_scale), descriptor.for_species([1])
        features = described.n_features(described.channels[0])
        if not descriptor.of_atoms and scales != features:
            raise SettingsError(f"{context}: length_scale must be one number or {features}, not {scales}")
    return term


def _check_numbers(settings: Mapping[str, Any], context: str) -> None:
    """Every setting of a term must be a word, a finite number, or a list of them (length_scale)."""
    for key, value in settings.items():
        if (value is None and key in ("signal", "projection")) or (key, value) == ("projection", "auto"):
            continue
        if key == "stratified":
            if not isinstance(value, bool | np.bool_):
                raise SettingsError(f"{context}: stratified must be true or false, not {value!r}")
            continue
        if key in _WORDS:
            if not isinstance(value, str) and not (key == "selection" and callable(value)):
                raise SettingsError(f"{context}: {key} must be a word, not {value!r}")
            continue
        if key in _INTEGERS and not is_integer(value):
            raise SettingsError(f"{context}: {key} must be an integer, not {value!r}")
        numbers = value if key == "length_scale" and isinstance(value, list | tuple) else [value]
        if not numbers or not all(is_number(v) for v in numbers):
            raise SettingsError(f"{context}: {key} must be a finite number, not {value!r}")
        low, high = _BOUNDS.get(key, (-np.inf, np.inf))
        if not all(low <= v <= high for v in numbers):
            raise SettingsError(f"{context}: {key} must be from {low:g} to {high:g}, not {value!r}")


def _e0(e0: Any) -> Any:
    """``e0`` as a word or a table of finite numbers; ``reference_energies`` judges the words and symbols."""
    if isinstance(e0, str):
        return e0
    if not isinstance(e0, Mapping):
        raise SettingsError(
            f"e0 must be 'auto', 'isolated', 'least_squares' or a table of energies by symbol, not {e0!r:.80}"
        )
    for key, value in e0.items():
        if not (isinstance(key, str) or is_integer(key)) or not is_number(value):
            raise SettingsError(f"e0: {key!r} = {value!r}: give a finite energy (eV) by chemical symbol")
    return e0


def _sparse(sparse: Any) -> dict[str, Any]:
    """``sparse`` of ``gapkit.GAP`` as changes to a term."""
    if isinstance(sparse, str):
        table = {} if sparse == "auto" else {"selection": sparse}
    elif isinstance(sparse, Mapping):
        table = dict(sparse)
    else:
        table = {"n": sparse}
    unknown = set(table) - {"n", "selection", "stratified"}
    if unknown:
        raise SettingsError(
            f"sparse has the keys n, selection and stratified, not {', '.join(sorted(map(str, unknown)))}"
        )
    n, selected, stratified = table.get("n", 1), table.get("selection", "greedy"), table.get("stratified", False)
    if not is_integer(n) or int(n) < 1:
        raise SettingsError(
            f"sparse must be 'auto', a number of at least 1, the name of a selection or a table, not {sparse!r:.80}"
        )
    if not (isinstance(selected, str) or callable(selected)):
        raise SettingsError(f"sparse: selection must be a name or a callable, not {selected!r}")
    if not isinstance(stratified, bool | np.bool_):
        raise SettingsError(f"sparse: stratified must be true or false, not {stratified!r}")
    selection(selected)
    return {"n_sparse" if k == "n" else k: int(v) if k == "n" else v for k, v in table.items()}


def _exact(exact: Any) -> bool | str:
    """True, False or ``"auto"``."""
    if isinstance(exact, bool | np.bool_) or (isinstance(exact, str) and exact == "auto"):
        return exact if isinstance(exact, str) else bool(exact)
    raise SettingsError(f"exact must be True, False or 'auto', not {exact!r}")


def _screen(screen: Any) -> bool:
    """True or False."""
    if isinstance(screen, bool | np.bool_):
        return bool(screen)
    raise SettingsError(f"screen must be True or False, not {screen!r}")


def _random_state(random_state: Any) -> Any:
    """None, a seed that is not negative, or a generator."""
    if random_state is None or isinstance(random_state, np.random.Generator):
        return random_state
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31))
    if is_integer(random_state) and random_state >= 0:
        return int(random_state)
    raise SettingsError(f"random_state must be None, an integer of at least 0, or a generator, not {random_state!r}")
