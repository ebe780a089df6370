r"""Diagnosis of a Hessian against a reference: are the springs wrong, or the modes?

Let e_i be the mass-weighted modes of the reference, :math:`\lambda_i` their curvatures, and
:math:`R_{ij} = e_i^T M^{-1/2} H M^{-1/2} e_j` the other Hessian between them. The relative error matrix
:math:`D_{ij} = (R_{ij} - \lambda_i \delta_{ij}) / \sqrt{|\lambda_i \lambda_j|}` has two parts: its diagonal is a wrong
scale of each spring, the rest mixes modes. The error of a frequency is split exactly: ``scaling`` is the frequency of
:math:`R_{ii}` less that of the reference, ``mixing`` is what the other elements add. Both can be large and cancel: a
table of frequencies sees nothing of two modes that are rotated into each other.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.transform import Rotation

from gapkit.exceptions import DataError, SettingsError
from gapkit.vibrations import Hessian, NormalModes
from gapkit.vibrations.modes import wavenumbers
from gapkit.vibrations.rigid_motions import centred

#: edges (cm^-1) of the bands of frequencies that have a scale of their own
BANDS = (0.0, 500.0, 1000.0, 1500.0, 2000.0)
#: modes of the reference nearer than this (cm^-1) are compared as one subspace
DEGENERATE = 5.0


@dataclass(frozen=True)
class HessianDiagnosis:
    """A Hessian beside a reference, both at one geometry.

    Attributes
    ----------
    reference : (k,) cm^-1
        Frequencies of the reference, negative where imaginary.
    frequencies : (k,) cm^-1
        Frequencies of the other Hessian, each beside the mode of the reference that it overlaps with.
    assignment : (k,) int
        Number of that mode among the other Hessian's, from the lowest.
    overlap : (k, k)
        Products of modes of the reference (rows) with those of the other.
    relative_errors : (k, k)
        D, see the module's text.
    scaling, mixing : (k,) cm^-1
        The two parts of ``frequencies - reference``.
    subspace_overlap : (k,)
        Share of each mode of the reference, averaged over its near-degenerate group, in the span of the modes that the
        group is assigned to.
    """

    reference: np.ndarray
    frequencies: np.ndarray
    assignment: np.ndarray
    overlap: np.ndarray
    relative_errors: np.ndarray
    scaling: np.ndarray
    mixing: np.ndarray
    subspace_overlap: np.ndarray

    @property
    def scale(self) -> float:
        """Mean of R_ii / lambda_i: 0.9 where springs are 10 % too soft on average."""
        return float(1.0 + np.mean(np.diagonal(self.relative_errors) * np.sign(self.reference)))

    @property
    def least_squares_scale(self) -> float:
        """The factor c with the least sum of (R_ii - c lambda_i)^2: blind to soft modes, whose lambda is small."""
        weight = self.reference**4
        ratio = 1.0 + np.diagonal(self.relative_errors) * np.sign(self.reference)
        return float(np.sum(weight * ratio) / np.sum(weight))

    def band_scales(self, edges: Sequence[float] = BANDS) -> dict[tuple[float, float], float]:
        """Mean of R_ii / lambda_i over the modes of each band (cm^-1) that has any; the last band has no upper end."""
        ratio = 1.0 + np.diagonal(self.relative_errors) * np.sign(self.reference)
        size = np.abs(self.reference)
        found = {}
        for low, high in zip(edges, [*edges[1:], np.inf], strict=True):
            inside = (size >= low) & (size < high)
            if inside.any():
                found[float(low), float(high)] = float(ratio[inside].mean())
        return found

    @property
    def mixing_share(self) -> float:
        """Share of the squared relative errors that is off the diagonal; 0 where there is no error."""
        squares = self.relative_errors**2
        total = squares.sum()
        return float(1.0 - np.trace(squares) / total) if total > 0 else 0.0

    def to_dict(self) -> dict:
        """All numbers, JSON-ready."""
        arrays = ("reference", "frequencies", "assignment", "overlap", "relative_errors", "scaling", "mixing")
        table = {name: getattr(self, name).tolist() for name in (*arrays, "subspace_overlap")}
        return {**table, "scale": self.scale, "mixing_share": self.mixing_share}

    def __str__(self) -> str:
        lines = [f"{'reference':>10} {'found':>9} {'error':>8} {'of it scaling':>14} {'mixing':>8} {'overlap^2':>10}"]
        rows = zip(
            self.reference, self.frequencies, self.scaling, self.mixing, self.subspace_overlap, strict=True
        )  # fmt: skip
        for nu, found, scaling, mixing, share in rows:
            lines.append(f"{nu:>10.1f} {found:>9.1f} {found - nu:>8.1f} {scaling:>14.1f} {mixing:>8.1f} {share:>10.3f}")
        bands = ", ".join(
            f"{low:g} to {high:g}: {scale:.3f}" if np.isfinite(high) else f"above {low:g}: {scale:.3f}"
            for (low, high), scale in self.band_scales().items()
        )
        error = self.frequencies - self.reference
        lines += [
            f"mean absolute error {np.abs(error).mean():.1f} cm^-1, largest {np.abs(error).max():.1f}",
            f"scale of the springs {self.scale:.4f} (by bands in cm^-1: {bands})",
            f"{100 * self.mixing_share:.0f} % of the squared relative errors mix modes",
        ]
        return "\n".join(lines)


def compare_hessians(reference: NormalModes, hessian: Hessian) -> HessianDiagnosis:
    """Diagnosis of a Hessian at the geometry of a reference.

    Parameters
    ----------
    reference
        Modes of the reference, whose translations and rotations are projected out.
    hessian
        The other Hessian, of the same atoms at the same positions.

    Raises
    ------
    DataError
        For other atoms, another geometry, or a mode of the reference without a frequency.
    """
    if not np.array_equal(reference.atoms.numbers, hessian.atoms.numbers):
        raise DataError("the two Hessians are of different atoms: give both for one structure, in one order")
    moved = float(np.abs(reference.atoms.positions - hessian.atoms.positions).max())
    if moved > 1e-6:
        raise DataError(
            f"the two Hessians are at different geometries (an atom is moved by {moved:.2g} A): compute both at one, "
            "or compare minima by duschinsky"
        )
    vectors = reference.eigenvectors[:, hessian.indices].reshape(len(reference.frequencies), -1)
    if np.abs(vectors @ vectors.T - np.eye(len(vectors))).max() > 1e-8:
        raise DataError("atoms that move in the reference are held in the Hessian: use the same indices in both")
    root = np.sqrt(np.repeat(reference.masses[hessian.indices], 3))
    R = vectors @ (hessian.matrix / np.outer(root, root)) @ vectors.T
    kappa = np.sign(reference.frequencies) * reference.angular_frequencies**2
    if not np.all(kappa):
        raise DataError("a mode of the reference has the frequency zero: no relative error can be stated")
    squared, inside = np.linalg.eigh(R)
    own = wavenumbers(squared)
    _, assignment = linear_sum_assignment(-(inside**2))
    size = np.sqrt(np.abs(kappa))
    alone = wavenumbers(np.diagonal(R))
    return HessianDiagnosis(
        reference=reference.frequencies,
        frequencies=own[assignment],
        assignment=assignment,
        overlap=inside,
        relative_errors=(R - np.diag(kappa)) / np.outer(size, size),
        scaling=alone - reference.frequencies,
        mixing=own[assignment] - alone,
        subspace_overlap=_subspace_overlap(reference.frequencies, inside, assignment),
    )


def _subspace_overlap(frequencies: np.ndarray, overlap: np.ndarray, assignment: np.ndarray) -> np.ndarray:
    """Mean squared overlap of each group of near-degenerate modes with the modes that it is assigned to."""
    begins = np.concatenate([[True], np.diff(frequencies) > DEGENERATE])
    group = np.cumsum(begins)
    shares = np.zeros(len(frequencies))
    for g in np.unique(group):
        members = np.flatnonzero(group == g)
        shares[members] = np.sum(overlap[np.ix_(members, assignment[members])] ** 2) / len(members)
    return shares


@dataclass(frozen=True)
class Duschinsky:
    r"""Normal coordinates Q' of one minimum from those of another: :math:`Q' = J Q + K` (Duschinsky, Acta Physicochim.
    URSS 7, 551 (1937)).

    Attributes
    ----------
    matrix : (k', k)
        J.
    shift : (k',) A amu^(1/2)
        K.
    distance : float, A
        Root mean square distance of the atoms after the alignment.
    """

    matrix: np.ndarray
    shift: np.ndarray
    distance: float


def duschinsky(first: NormalModes, second: NormalModes) -> Duschinsky:
    """Duschinsky matrix and shift from the modes of one minimum to those of another, aligned by Eckart's conditions.

    The molecule of ``second`` is turned so that the mass-weighted squared distance of the atoms is least, which fulfils
    Eckart's conditions (Kudin and Dymarsky, J. Chem. Phys. 122, 224105 (2005)).

    Raises
    ------
    DataError
        For different atoms or masses.
    SettingsError
        For a periodic structure, which cannot be turned.
    """
    same = np.array_equal(first.atoms.numbers, second.atoms.numbers) and np.allclose(first.masses, second.masses)
    if not same:
        raise DataError("the two minima have different atoms or masses: give one molecule, its atoms in one order")
    if first.atoms.pbc.any() or second.atoms.pbc.any():
        raise SettingsError("a periodic structure cannot be turned: compare its Hessians at one geometry")
    x, y = centred(first.atoms.positions, first.masses), centred(second.atoms.positions, second.masses)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Optimal rotation")  # the turn of a linear molecule about its axis is free
        turn, _ = Rotation.align_vectors(x, y, weights=first.masses)
    y, vectors = turn.apply(y), second.eigenvectors @ turn.as_matrix().T
    root = np.sqrt(first.masses)[:, None]
    matrix = np.einsum("kac,lac->kl", vectors, first.eigenvectors)
    shift = np.einsum("kac,ac->k", vectors, root * (x - y))
    return Duschinsky(matrix, shift, float(np.sqrt(np.mean(np.sum((x - y) ** 2, axis=1)))))
