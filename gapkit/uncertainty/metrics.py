r"""Measures of calibration: numbers and curves from errors and predicted standard deviations.

Everything here takes errors (predicted less reference) and predicted standard deviations as arrays of one shape, and
compares with a normal distribution: z = error / std. Sources: Kuleshov, Fenner, Ermon, ICML 2018 (reliability curve);
Gneiting and Raftery, J. Am. Stat. Assoc. 102, 359 (2007) (likelihood, sharpness); Levi et al., Sensors 22, 5540 (2022)
(calibration error by bins of the standard deviation); Tran et al., Mach. Learn.: Sci. Technol. 1, 025006 (2020)
(miscalibration area).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata, spearmanr
from sklearn.metrics import roc_auc_score

from gapkit.exceptions import DataError
from gapkit.randomness import generator_of


def z_scores(error: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Standardised errors z = error / std (n,).

    Raises
    ------
    DataError
        For arrays of different shapes, none at all, an error that is not finite, or a standard deviation that is not
        positive.
    """
    error, std = np.asarray(error, dtype=float).ravel(), np.asarray(std, dtype=float).ravel()
    if error.shape != std.shape or len(error) == 0:
        raise DataError(f"give as many errors as standard deviations, at least one: {len(error)} and {len(std)}")
    if not np.isfinite(error).all():
        raise DataError(f"error {int(np.argmin(np.isfinite(error)))} is not finite; leave out what has no label")
    if not (np.isfinite(std).all() and (std > 0).all()):
        bad = int(np.argmin(np.isfinite(std) & (std > 0)))
        raise DataError(f"standard deviation {bad} is {std[bad]}, not positive and finite; use those with noise")
    return error / std


def reliability_curve(error: np.ndarray, std: np.ndarray, levels: Sequence[float] | None = None) -> np.ndarray:
    """Nominal probabilities (first row) and the share of errors inside the central interval of each (second row).

    ``levels``: nominal probabilities; by default 99 from 0.01 to 0.99.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> std = rng.uniform(0.1, 1.0, size=10000)
    >>> reliability_curve(std * rng.normal(size=10000), std, levels=[0.5, 0.9]).round(2)
    array([[0.5, 0.9],
           [0.5, 0.9]])
    """
    nominal = np.linspace(0.01, 0.99, 99) if levels is None else np.asarray(levels, dtype=float)
    if nominal.ndim != 1 or not np.all((nominal > 0) & (nominal < 1)):
        raise DataError("nominal probabilities must be between 0 and 1")
    size = np.sort(np.abs(z_scores(error, std)))
    inside = np.searchsorted(size, ndtri(0.5 + 0.5 * nominal), side="right") / len(size)
    return np.array([nominal, inside])


def miscalibration_area(error: np.ndarray, std: np.ndarray) -> float:
    """Area between the reliability curve and the diagonal: 0 is perfect, 0.5 the worst.

    Examples
    --------
    >>> import numpy as np
    >>> error = np.random.default_rng(0).normal(size=10000)
    >>> honest, timid = miscalibration_area(error, np.ones(10000)), miscalibration_area(error, np.full(10000, 2.0))
    >>> bool(honest < 0.01), bool(timid > 0.15)
    (True, True)
    """
    nominal, inside = reliability_curve(error, std)
    nominal, gap = np.r_[0.0, nominal, 1.0], np.r_[0.0, np.abs(inside - nominal), 0.0]
    return float(np.trapezoid(gap, nominal))


def deciles(error: np.ndarray, std: np.ndarray, n_bins: int = 10) -> np.ndarray:
    """Root mean squares of standard deviations (row 0) and errors (row 1), in bins of equal count by ``std``.

    Fewer bins where there are fewer errors.
    """
    z_scores(error, std)
    error, std = np.ravel(error), np.ravel(std)
    order = np.argsort(std, kind="stable")
    parts = np.array_split(order, min(n_bins, len(order)))
    return np.array([[np.sqrt(np.mean(x[p] ** 2)) for p in parts] for x in (std, error)])


def calibration_error(error: np.ndarray, std: np.ndarray, n_bins: int = 10) -> float:
    """Expected normalised error: the mean over :func:`deciles` of ``|rms error - rms std| / rms std``."""
    predicted, seen = deciles(error, std, n_bins)
    return float(np.mean(np.abs(seen - predicted) / predicted))


def negative_log_likelihood(error: np.ndarray, std: np.ndarray) -> float:
    """Mean of log(std) + z^2/2 + log(2 pi)/2: nats per label, in the logarithm of the labels' unit."""
    z = z_scores(error, std)
    return float(np.mean(np.log(np.ravel(std)) + 0.5 * z**2 + 0.5 * np.log(2 * np.pi)))


def rank_correlation(error: np.ndarray, std: np.ndarray) -> float:
    """Spearman's correlation of ``|error|`` and ``std``; nan where one of them does not vary."""
    z_scores(error, std)
    size, std = np.abs(np.ravel(error)), np.ravel(std)
    if len(size) < 2 or np.ptp(size) == 0 or np.ptp(std) == 0:
        return float("nan")
    return float(spearmanr(size, std).statistic)


def rank_correlation_ceiling(
    std: np.ndarray, random_state: int | np.random.Generator | None = None, draws: int = 20
) -> float:
    """:func:`rank_correlation` of perfect error bars: errors drawn from normal distributions with these ``std``."""
    std, rng = np.ravel(std), generator_of(random_state)
    order = rankdata(std)
    return float(np.mean([spearmanr(np.abs(rng.normal(size=len(std))) * std, order).statistic for _ in range(draws)]))


def out_of_domain_auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    """Area under the receiver operating characteristic of a standard deviation as a test for "outside the domain".

    The probability that a random frame (or atom) from outside has a larger value than one from inside.
    """
    inside, outside = np.ravel(inside), np.ravel(outside)
    if len(inside) == 0 or len(outside) == 0:
        raise DataError("give at least one frame inside and one outside the training domain")
    truth = np.r_[np.zeros(len(inside)), np.ones(len(outside))]
    return float(roc_auc_score(truth, np.r_[inside, outside]))


@dataclass(frozen=True)
class CalibrationSummary:
    """Calibration of one set of errors.

    Attributes
    ----------
    n : int
    z_std : float
        Root mean square of z; 1 for honest standard deviations.
    within_one_sigma : float
        Share of errors inside one standard deviation; 0.683 for normal ones.
    rank_correlation : float
        See :func:`rank_correlation`.
    calibration_error, miscalibration_area, negative_log_likelihood : float
        See the functions of these names.
    sharpness : float
        Root mean square of the standard deviations, in the labels' unit: small is sharp.
    rmse : float
        Root mean square error, in the labels' unit.
    """

    n: int
    z_std: float
    within_one_sigma: float
    rank_correlation: float
    calibration_error: float
    miscalibration_area: float
    negative_log_likelihood: float
    sharpness: float
    rmse: float

    @classmethod
    def of(cls, error: np.ndarray, std: np.ndarray) -> CalibrationSummary:
        """Summary of errors and standard deviations; raises as :func:`z_scores`.

        Examples
        --------
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> std = rng.uniform(0.1, 1.0, size=10000)
        >>> summary = CalibrationSummary.of(2 * std * rng.normal(size=10000), std)  # errors twice as large as stated
        >>> round(summary.z_std, 1), round(summary.within_one_sigma, 1)
        (2.0, 0.4)
        """
        z = z_scores(error, std)
        return cls(
            n=len(z),
            z_std=float(np.sqrt(np.mean(z**2))),
            within_one_sigma=float(np.mean(np.abs(z) <= 1)),
            rank_correlation=rank_correlation(error, std),
            calibration_error=calibration_error(error, std),
            miscalibration_area=miscalibration_area(error, std),
            negative_log_likelihood=negative_log_likelihood(error, std),
            sharpness=float(np.sqrt(np.mean(np.ravel(std) ** 2))),
            rmse=float(np.sqrt(np.mean(np.ravel(error) ** 2))),
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary of the summary."""
        return asdict(self)


def grouped_summary(error: np.ndarray, std: np.ndarray, groups: Sequence[str]) -> dict[str, CalibrationSummary]:
    """:class:`CalibrationSummary` of each group (a name per error, such as its config_type), and of ``"all"``."""
    error, std, names = np.ravel(error), np.ravel(std), np.asarray([str(g) for g in groups])
    if names.shape != error.shape:
        raise DataError(f"give one group per error: {len(error)} errors, {len(names)} groups")
    table = {str(g): CalibrationSummary.of(error[names == g], std[names == g]) for g in np.unique(names)}
    return {**table, "all": CalibrationSummary.of(error, std)}


def cluster_bootstrap(
    statistic: Any, arrays: Sequence[np.ndarray], clusters: np.ndarray, rng: np.random.Generator, n: int = 1000
) -> tuple[float, float]:
    """95 % interval of ``statistic(*arrays)`` when whole clusters (frames) are drawn with replacement.

    Components of one frame are not independent, so resampling them alone would give far too narrow an interval.
    """
    clusters = np.asarray(clusters)
    order = np.argsort(clusters, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(clusters[order])) + 1)
    values = []
    for _ in range(n):
        pick = np.concatenate([members[k] for k in rng.integers(len(members), size=len(members))])
        values.append(statistic(*(np.asarray(a)[pick] for a in arrays)))
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


def summaries_table(table: Mapping[str, CalibrationSummary]) -> str:
    """Summaries as text, one line each."""
    head = f"{'group':<18} {'n':>8} {'rms z':>7} {'<1 sigma':>9} {'rank':>6} {'ENCE':>6} {'area':>6} {'NLL':>7}"
    lines = [head]
    for name, s in table.items():
        lines.append(
            f"{name:<18.18} {s.n:>8} {s.z_std:>7.2f} {s.within_one_sigma:>9.1%} {s.rank_correlation:>6.2f} "
            f"{s.calibration_error:>6.2f} {s.miscalibration_area:>6.3f} {s.negative_log_likelihood:>7.2f}"
        )
    return "\n".join(lines)
