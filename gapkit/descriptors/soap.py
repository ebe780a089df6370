"""SOAP: the power spectrum of the smoothed neighbour density, with dscribe's numbers."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

import ase
import numpy as np
from ase.data import atomic_numbers
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted

from gapkit.descriptors.base import Channel, Descriptor, EnvironmentBatch, KernelSum, Sums, check_cutoff
from gapkit.descriptors.soap_basis import TABLE_POINTS, SoapBasis, check_radial_table, power_spectrum_blocks
from gapkit.descriptors.soap_predictor import SoapPredictor, predictors, with_variance_form
from gapkit.exceptions import SettingsError
from gapkit.numerics import radial, soap_frames
from gapkit.numerics.threads import map_blocks, thread_count
from gapkit.structures.plausibility import check_contacts
from gapkit.structures.structure import Structure

#: environments per block of the fused energy pass: enough for the matrix products to run at full rate, few enough for
#: the second cache
BLOCK = 48
#: environments up to which a pass is one thread's: another would cost more than it saves
LEAST_PART = 16


class SOAP(TransformerMixin, BaseEstimator, Descriptor):
    r"""Smooth overlap of atomic positions (Bartok, Kondor, Csanyi, Phys. Rev. B 87, 184115 (2013)).

    A transformer from lists of frames to one feature vector per atom. The numbers are those of
    ``dscribe.descriptors.SOAP`` with its GTO basis and polynomial weighting (r0 = r_cut, c = 1, m = cutoff_power),
    to 1e-8 of the vector's norm; :meth:`to_dscribe` gives that object. Periodic, partly periodic and isolated frames
    and any cell shape are treated alike, following ``atoms.pbc``.

    Parameters
    ----------
    species
        Chemical symbols or atomic numbers; default: those seen by :meth:`fit`.
    r_cut
        Cutoff (A), above 1.
    n_max, l_max
        Radial functions (at most 12: the basis is ill-conditioned beyond) and highest angular momentum (at most 12).
    sigma
        Width of the atomic density (A).
    cutoff_power
        m >= 1 in the weight w(r) = (1 + 2 (r/r_cut)^3 - 3 (r/r_cut)^2)^m. With the default 1, energy and forces are
        continuous as a neighbour crosses the cutoff; force constants need 2.
    compression
        ``"off"`` (all species pairs), ``"mu1nu1"`` or ``"mu2"`` (Darby, Kermode, Csanyi, npj Comput. Mater. 8, 166
        (2022)).
    n_jobs
        Threads; default: what the environment allows.

    Attributes
    ----------
    basis_ : SoapBasis
        Tables of the fitted descriptor.

    Examples
    --------
    >>> import gapkit
    >>> from ase.build import molecule
    >>> soap = gapkit.SOAP(r_cut=4.0, n_max=4, l_max=3)
    >>> soap.fit_transform([molecule("H2O")]).shape
    (3, 144)
    """

    def __init__(
        self,
        species: Sequence[str | int] | None = None,
        r_cut: float = 5.0,
        n_max: int = 8,
        l_max: int = 6,
        sigma: float = 0.5,
        cutoff_power: int = 1,
        compression: str = "off",
        n_jobs: int | None = None,
    ) -> None:
        self.species = species
        self.r_cut = r_cut
        self.n_max = n_max
        self.l_max = l_max
        self.sigma = sigma
        self.cutoff_power = cutoff_power
        self.compression = compression
        self.n_jobs = n_jobs

    name = "soap"

    # -- scikit-learn ------------------------------------------------------------------------------------------

    def fit(self, X: Sequence[ase.Atoms], y: Any = None) -> SOAP:
        """Learn the species (unless given) and make the tables."""
        found = self.species if self.species is not None else sorted({int(z) for a in _frames(X) for z in a.numbers})
        self.basis_ = self._make_basis(found)
        return self

    def transform(self, X: Sequence[ase.Atoms]) -> np.ndarray:
        """SOAP vectors of every atom of every frame, stacked, with dscribe's numbers: shape (atoms, features)."""
        check_is_fitted(self)
        rows = [np.zeros((0, self.basis_.n_features))]
        for index, atoms in enumerate(_frames(X)):
            check_contacts(atoms, f"frame {index}")
            rows.append(self._describe(Structure(atoms, self.r_cut), np.append(self.basis_.feature_scale, np.zeros(8))))
        return np.vstack(rows)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names such as ``soap_Si_Si_n0_n1_l2``."""
        check_is_fitted(self)
        symbols = [ase.data.chemical_symbols[z] for z in self.basis_.species]
        symbols = ["all", "all"] if self.basis_.merged else [*symbols, "all"]
        names = []
        for a, b, symmetric, _ in self.basis_.blocks:
            for l in range(self.l_max + 1):
                for n in range(self.n_max):
                    for n2 in range(n if symmetric else 0, self.n_max):
                        names.append(f"soap_{symbols[a]}_{symbols[b]}_n{n}_n{n2}_l{l}")
        return np.array(names, dtype=object)

    def to_dscribe(self, periodic: bool = True):
        """The ``dscribe.descriptors.SOAP`` object that gives the same numbers (isolated frames: ``periodic=False``)."""
        check_is_fitted(self)
        return self._dscribe(self.basis_.species, periodic)

    # -- the contract with models ------------------------------------------------------------------------------

    each_atom_alone = True
    of_atoms = True
    carries_forms = True

    def for_species(self, species: Iterable[int]) -> SOAP:
        described = copy.copy(self)
        described.basis_ = self._make_basis(sorted(species))
        return described

    def n_features(self, channel: Channel) -> int:
        return self.basis_.n_features

    def check_arrays(self) -> None:
        basis = self.basis_
        size = TABLE_POINTS * (basis.l_max + 1) * 2 * basis.n_pad
        padded = -(-basis.n_max // 8) * 8
        if basis.centre.shape != (padded,) or basis.table.shape != (size,):
            raise ValueError(f"the radial table has the shape {basis.table.shape}, not ({size},)")
        check_radial_table(basis.table.reshape(TABLE_POINTS, -1, 2, padded), basis.centre, basis.n_max, self.r_cut)

    def reshaped(self, cutoff: float, finer: int, width: float, finest: int) -> SOAP:
        changed = clone(self).set_params(
            r_cut=round(cutoff * self.r_cut, 1),
            n_max=min(self.n_max + finer, finest),
            l_max=min(self.l_max + finer, finest),
            sigma=round(width * self.sigma, 2),
        )
        return changed.for_species(self.basis_.species)

    def with_form(self, predictor, s: KernelSum, soap: np.ndarray, pair: np.ndarray, signs: np.ndarray):
        return (with_variance_form(predictor[0], s, soap, pair, signs),)

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Channels: the species of the central atom."""
        return tuple((z,) for z in self.basis_.species)

    def environments(
        self, structure: Structure, channel: Channel, derivatives: bool = True, atoms: np.ndarray | None = None
    ) -> EnvironmentBatch:
        """Unit SOAP vectors (with the kernel's multiplicities) of the atoms of one species, and their derivatives."""
        centres = structure.centres_of(channel[0], atoms)
        if not derivatives:
            x = self.unit_vectors(structure, centres)
            none = np.zeros(0)
            start = np.zeros(len(centres) + 1, dtype=np.int64)
            return EnvironmentBatch(
                x, np.ones(len(x)), centres, start, none.astype(np.int64), none[:, None].repeat(x.shape[1], 1), none
            )
        pairs = self._compiled_pairs(structure)
        n_features = self.basis_.n_features
        x = np.empty((len(centres), n_features))
        start = np.zeros(len(centres) + 1, dtype=np.int64)
        np.cumsum(soap_frames.count_columns(centres, pairs[0], pairs[1], structure.n_atoms), out=start[1:])
        target = np.empty(start[-1], dtype=np.int64)
        J = np.empty((start[-1], n_features))
        basis, blocks, scale = self.basis_.compiled_arrays, self.basis_.blocks, self.basis_.padded_scale
        soap_frames.jacobians(centres, pairs, basis, blocks, scale, structure.n_atoms, x, start, target, J)
        return EnvironmentBatch(x, np.ones(len(x)), centres, start, target, J, np.zeros(len(J)))

    def unit_vectors(self, structure: Structure, centres: np.ndarray) -> np.ndarray:
        """Normalised descriptors of ``centres``, in the metric of the SOAP kernel: shape (centres, features)."""
        return self._describe(structure, self.basis_.padded_scale, centres, normalise=True)

    def predictor(self, sums: Sequence[KernelSum]) -> tuple[SoapPredictor | KernelSum, ...]:
        """Passes that give the channel's kernel sums; powers one and two collapse into one quadratic polynomial."""
        return predictors(sums, self.basis_.n_features)

    def describe_predictor(self, channel: Channel, predictor: tuple[SoapPredictor | KernelSum, ...]) -> list[str]:
        """Lines on the number of directions and the form of the sum, for users."""
        symbol = ase.data.chemical_symbols[channel[0]]
        return [f"around {symbol}: {p.describe()}" for p in predictor if isinstance(p, SoapPredictor)]

    def add_prediction(
        self, structure: Structure, channel: Channel, predictor: tuple[SoapPredictor | KernelSum, ...], sums: Sums
    ) -> None:
        """Add this channel's mean prediction to ``sums``: for dot-product kernels by the adjoint, without Jacobians.

        A predictor with a variance form also takes what the model explains from ``sums.variance``.
        """
        for part in predictor:
            if isinstance(part, KernelSum):
                super().add_prediction(structure, channel, (part,), sums)
            else:
                self._add_by_adjoint(structure, channel, part, sums)

    def _add_by_adjoint(self, structure: Structure, channel: Channel, predictor: SoapPredictor, sums: Sums) -> None:
        centres = structure.centres_of(channel[0])
        if len(centres) == 0:
            return
        pairs = structure.pairs(self.r_cut)
        arguments = self._compiled_pairs(structure)
        pair_gradient = np.empty((len(pairs.j), 3))
        n_threads = thread_count(self.n_jobs) if len(centres) > LEAST_PART else 1
        parts = -(-len(centres) // (8 * BLOCK * n_threads)) * n_threads  # as much for each thread
        size = 8 * max(1, -(-len(centres) // (8 * parts)))
        basis, blocks, scale = self.basis_.compiled_arrays, self.basis_.blocks, self.basis_.padded_scale

        def evaluate(part: slice) -> None:
            soap_frames.energies_and_pair_gradients(
                centres[part], arguments, basis, blocks, scale, predictor.mean, predictor.directions,
                predictor.collapsed, predictor.coefficients, predictor.polynomial,
                predictor.variance_form.compiled_arguments, sums.kernels, BLOCK, sums.local, pair_gradient,
                sums.variance,
            )  # fmt: skip

        parts_of = [slice(k, k + size) for k in range(0, len(centres), size)]
        map_blocks(evaluate, parts_of, n_threads, linear_algebra=False)
        soap_frames.scatter_pair_gradients(
            centres, pairs.first, pairs.j, pairs.vectors, pair_gradient, sums.gradient, sums.strain
        )

    def settings(self) -> dict[str, Any]:
        known = {name: getattr(self, name) for name in ("r_cut", "n_max", "l_max", "sigma", "cutoff_power")}
        plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in known.items()}
        return {"name": "soap", **plain, "compression": self.compression}

    def arrays(self) -> dict[str, np.ndarray]:
        return {"table": self.basis_.table, "centre": self.basis_.centre}

    def with_arrays(self, species: Iterable[int], arrays: dict[str, np.ndarray]) -> SOAP:
        """Copy of the descriptor with the stored tables of a model file."""
        self._check()
        described = copy.copy(self)
        described.basis_ = self._assemble_basis(sorted(species), arrays["table"], arrays["centre"])
        return described

    # -- making the tables -------------------------------------------------------------------------------------

    def _check(self) -> None:
        check_cutoff(self.r_cut, smallest=1.0)
        for name in ("n_max", "l_max", "cutoff_power"):
            if not isinstance(getattr(self, name), Integral):
                raise SettingsError(f"{name} must be an integer, not {getattr(self, name)!r}")
        if not 1 <= int(self.n_max) <= 12:
            raise SettingsError(
                f"n_max must be 1 to 12, not {self.n_max}: beyond 12 the GTO basis is so ill-conditioned that the "
                "descriptor depends on the machine (4e-4 at 14)"
            )
        if not 0 <= int(self.l_max) <= 12:
            raise SettingsError(f"l_max must be 0 to 12, not {self.l_max}")
        if not (isinstance(self.sigma, Real) and 0 < self.sigma < np.inf):
            raise SettingsError(f"sigma must be positive and finite (A), not {self.sigma!r}")
        if self.cutoff_power < 1:
            raise SettingsError(f"cutoff_power must be at least 1, not {self.cutoff_power}: below it forces jump")
        if self.compression not in ("off", "mu1nu1", "mu2"):
            raise SettingsError(f"compression must be 'off', 'mu1nu1' or 'mu2', not {self.compression!r}")

    def _dscribe(self, species, periodic: bool):
        from dscribe.descriptors import SOAP as DscribeSOAP

        return DscribeSOAP(
            species=[int(z) for z in species],
            n_max=self.n_max,
            l_max=self.l_max,
            sigma=self.sigma,
            rbf="gto",
            weighting={"function": "poly", "r0": self.r_cut, "c": 1, "m": self.cutoff_power},
            compression={"mode": self.compression, "species_weighting": None},
            periodic=periodic,
        )

    def _make_basis(self, species: Iterable[str | int]) -> SoapBasis:
        self._check()
        unknown = [s for s in species if isinstance(s, str) and s not in atomic_numbers]
        if unknown:
            raise SettingsError(f"species {unknown[0]!r} is no chemical symbol")
        species = sorted({atomic_numbers[s] if isinstance(s, str) else int(s) for s in species})
        if not species:
            raise SettingsError("SOAP needs at least one species: give `species` or fit on frames")
        oracle = self._dscribe(species, periodic=False)
        r = np.linspace(0.0, self.r_cut, TABLE_POINTS)
        value, slope = radial.gto_radial_functions(oracle._alphas, oracle._betas, self.sigma, r)
        weight, weight_slope = radial.cutoff_weight(r, self.r_cut, self.cutoff_power)
        slope = slope * weight[:, None, None] + value * weight_slope[:, None, None]
        value = value * weight[:, None, None]
        n_pad = -(-self.n_max // 8) * 8
        centre = np.zeros(n_pad)
        centre[: self.n_max] = value[0, 0] * math.sqrt(1 / (4 * math.pi))
        table = radial.hermite_table(value, slope, r[1], n_pad)
        return self._assemble_basis(species, table, centre)

    def _assemble_basis(self, species, table: np.ndarray, centre: np.ndarray) -> SoapBasis:
        blocks, prefactor, multiplicity = power_spectrum_blocks(len(species), self.n_max, self.l_max, self.compression)
        merged = self.compression == "mu2"
        summed = len(species) if self.compression == "mu1nu1" else -1
        return SoapBasis(
            species=tuple(int(z) for z in species),
            table=table,
            inverse_spacing=(TABLE_POINTS - 1) / self.r_cut,
            centre=centre,
            n_max=int(self.n_max),
            l_max=int(self.l_max),
            n_pad=len(centre),
            n_channels=1 if merged else len(species) + (summed > 0),
            summed=summed,
            merged=merged,
            blocks=blocks,
            feature_scale=prefactor,
            multiplicity=multiplicity,
        )

    def _compiled_pairs(self, structure: Structure) -> tuple[np.ndarray, ...]:
        """Pairs as ``soap_frames.descriptors`` takes them."""
        pairs = structure.pairs(self.r_cut)
        channel_of = self.basis_.channel_of(structure.numbers)
        return pairs.first, pairs.j, pairs.vectors.reshape(-1), pairs.distances, channel_of

    def _describe(self, structure: Structure, scale, centres=None, normalise: bool = False) -> np.ndarray:
        pairs = self._compiled_pairs(structure)
        centres = np.arange(structure.n_atoms) if centres is None else np.asarray(centres)
        out = np.empty((len(centres), self.basis_.n_features))
        basis, blocks = self.basis_.compiled_arrays, self.basis_.blocks

        def describe(part: slice) -> None:
            soap_frames.descriptors(centres[part], pairs, basis, blocks, scale, normalise, out[part])

        parts = [slice(k, k + BLOCK) for k in range(0, len(centres), BLOCK)]
        map_blocks(describe, parts, thread_count(self.n_jobs))
        return out


def _frames(X: Sequence[ase.Atoms]) -> Sequence[ase.Atoms]:
    return [X] if isinstance(X, ase.Atoms) else X
