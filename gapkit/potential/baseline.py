r"""Baselines: calculators whose labels are subtracted before the fit and added to predictions.

Any ASE calculator serves. :class:`ZBL` is the screened nuclear repulsion of Ziegler, Biersack and Littmark, The
Stopping and Range of Ions in Solids (1985):

.. math::
    V(r) = \frac{e^2}{4\pi\epsilon_0} \frac{Z_i Z_j}{r} \phi(r/a), \quad
    a = \frac{0.8854\, a_0}{Z_i^{0.23} + Z_j^{0.23}}, \quad
    \phi(x) = 0.1818 e^{-3.2 x} + 0.5099 e^{-0.9423 x} + 0.2802 e^{-0.4029 x} + 0.02817 e^{-0.2016 x}

times a smooth cutoff.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.units import Bohr, Hartree

from gapkit.descriptors.base import Sums, check_cutoff, smooth_cutoff
from gapkit.exceptions import DataError, GapkitError, SettingsError
from gapkit.potential.locked_calculator import LockedCalculator
from gapkit.structures.labels import cell_volume, check_distances
from gapkit.structures.neighbours import neighbours
from gapkit.structures.plausibility import check_extent
from gapkit.structures.structure import Structure

_AMPLITUDE = np.array([0.1818, 0.5099, 0.2802, 0.02817])
_DECAY = np.array([3.2, 0.9423, 0.4029, 0.2016])


class ZBL(LockedCalculator):
    """ZBL repulsion as an ASE calculator: energy (eV), forces (eV/A), stress (eV/A^3) and local energies.

    Parameters
    ----------
    r_cut
        Cutoff (A).
    cutoff_width
        Length over which the energy goes to zero (A), at most ``r_cut``.

    Raises
    ------
    SettingsError
        For lengths that cannot work.
    DataError
        By ``calculate``, for a frame that cannot be computed, two atoms on one spot among them.

    Examples
    --------
    >>> import gapkit
    >>> from ase import Atoms
    >>> pair = Atoms("Si2", positions=[[0, 0, 0], [0.5, 0, 0]])
    >>> pair.calc = gapkit.ZBL()
    >>> round(pair.get_potential_energy())
    471
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress", "energies"]  # noqa: RUF012

    def __init__(self, r_cut: float = 2.0, cutoff_width: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name, value in (("r_cut", r_cut), ("cutoff_width", cutoff_width)):
            if not isinstance(value, Real) or isinstance(value, bool):
                raise SettingsError(f"{name} of the ZBL baseline must be a distance in A, not {value!r}")
        self.r_cut = check_cutoff(r_cut)
        if not 0 < cutoff_width <= r_cut:
            raise SettingsError(
                f"cutoff_width of the ZBL baseline must be above 0 and at most r_cut, not {cutoff_width}"
            )
        self.cutoff_width = float(cutoff_width)

    def settings(self) -> dict[str, Any]:
        """JSON-ready description of the baseline, for model files."""
        return {"name": "zbl", "r_cut": self.r_cut, "cutoff_width": self.cutoff_width}

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        frame = self.atoms
        self.results = {}
        check_extent(frame, "frame")
        pairs = neighbours(frame, self.r_cut)
        check_distances(pairs.distances, pairs.i, pairs.j, "frame")
        sums = Sums.zeros(len(frame))
        self.add_prediction(Structure.of_pairs(frame.numbers, pairs), sums)
        energy = float(sums.local.sum())
        self.results = {
            "energy": energy, "free_energy": energy, "forces": -sums.gradient, "energies": sums.local,
        }  # fmt: skip
        volume = cell_volume(frame)
        if volume is not None:
            self.results["stress"] = sums.strain.sum(axis=0) / volume

    def add_prediction(self, structure: Structure, sums: Sums) -> None:
        """Add the repulsion of the environments of a structure; a baseline with this method is local.

        Each atom owns half of a pair's energy.
        """
        pairs = structure.pairs(self.r_cut)
        z = structure.numbers.astype(float)
        r = pairs.distances
        zi, zj = z[pairs.i], z[pairs.j]
        length = 0.8854 * Bohr / (zi**0.23 + zj**0.23)
        screened = _AMPLITUDE[:, None] * np.exp(-_DECAY[:, None] * r / length)
        phi = screened.sum(axis=0)
        dphi = -(_DECAY[:, None] * screened).sum(axis=0) / length
        coulomb = Hartree * Bohr * zi * zj / r
        cut, dcut = smooth_cutoff(r, self.r_cut, self.cutoff_width)
        energy = 0.5 * coulomb * phi * cut
        slope = 0.5 * coulomb * (-phi * cut / r + dphi * cut + phi * dcut)
        pull = (slope / r)[:, None] * pairs.vectors
        np.add.at(sums.gradient, pairs.j, pull)
        np.add.at(sums.gradient, pairs.i, -pull)
        np.add.at(sums.local, pairs.i, energy)
        outer = pairs.vectors[:, :, None] * pull[:, None, :]
        if sums.strain.shape[1] == 9:
            np.add.at(sums.strain, pairs.i, outer.reshape(-1, 9))
        else:
            np.add.at(sums.strain, pairs.i, outer[:, [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]])


def is_local(baseline: Any) -> bool:
    """Whether a baseline is a sum over environments that it can add by itself (``add_prediction``), as ZBL is."""
    return hasattr(baseline, "add_prediction") and hasattr(baseline, "r_cut")


def baseline_calculator(baseline: Any) -> Calculator | None:
    """Baseline of a setting: None, ``"zbl"``, ``{"name": "zbl", "r_cut": ..., ...}`` or an ASE calculator."""
    if isinstance(baseline, type):
        raise SettingsError(f"baseline must be a calculator, not the class {baseline.__name__}; write it with ()")
    if baseline is None or (hasattr(baseline, "get_potential_energy") and hasattr(baseline, "get_property")):
        return baseline
    settings = {"name": baseline} if not isinstance(baseline, Mapping) else dict(baseline)
    name = settings.pop("name", None)
    if not isinstance(name, str) or name != "zbl":
        raise SettingsError(f"baseline must be None, 'zbl' or an ASE calculator, not {name!r:.80}")
    unknown = sorted(str(k) for k in settings if k not in ("r_cut", "cutoff_width"))
    if unknown:
        raise SettingsError(f"baseline 'zbl' has the keys r_cut and cutoff_width, not {', '.join(unknown)}")
    return ZBL(**settings)


def baseline_labels(calculator: Any, atoms: ase.Atoms, context: str, stress: bool) -> dict[str, Any]:
    """Energy, forces and (where asked) virial of the baseline for one frame.

    Returns ``energy`` (eV), ``forces`` (n, 3), ``virial`` (6,) or None, ``energies`` (n,): the baseline's own local
    energies, or its energy shared equally where it has none.
    """
    frame = atoms.copy()
    frame.set_constraint()  # ASE would take forces from atoms that are held
    frame.calc = calculator
    virial = None
    volume = cell_volume(frame)
    if stress and volume is None:
        raise DataError(
            f"{context}: it has a virial, but its cell has no volume, so that the baseline's share of it is not known; "
            "remove the virial, or give a three-dimensional cell"
        )
    try:
        energy, forces = float(frame.get_potential_energy()), np.array(frame.get_forces(), dtype=float)
        if stress and volume is not None:
            virial = -np.array(frame.get_stress(), dtype=float) * volume
    except DataError as error:
        raise DataError(f"{context}: {str(error).removeprefix('frame: ')}") from error
    except Exception as error:
        raise GapkitError(
            f"{context}: the baseline calculator {type(calculator).__name__} failed ({type(error).__name__}: {error}); "
            "remove the frame, or use a baseline that covers its species and labels"
        ) from error
    finite = np.isfinite(energy) and np.isfinite(forces).all() and (virial is None or np.isfinite(virial).all())
    if not finite:
        raise GapkitError(
            f"{context}: the baseline calculator {type(calculator).__name__} gives an energy, force or stress that is "
            "not finite; remove the frame"
        )
    local = calculator.results.get("energies") if hasattr(calculator, "results") else None
    if local is None or np.shape(local) != (len(frame),) or not np.isclose(np.sum(local), energy):
        local = np.full(len(frame), energy / len(frame))
    return {"energy": energy, "forces": forces, "virial": virial, "energies": np.array(local, dtype=float)}
