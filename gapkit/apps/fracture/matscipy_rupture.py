"""The load of rupture by matscipy's own crack (Sinclair, Philos. Mag. 31, 647 (1975)): the same potential and field,
other code for geometry, boundary and minimisation. An oracle for :mod:`gapkit.apps.fracture.bond_labels`."""

from __future__ import annotations

import contextlib
import io

import numpy as np

from gapkit.apps.fracture.crystals import CrackSystem, Material, matscipy_module
from gapkit.exceptions import DataError, SettingsError
from gapkit.structures.neighbours import neighbours

#: searches, each from where the last one ended: whether the first is enough may depend on last digits
_SEARCHES = 3
_BROKEN = 1.35  # bond lengths, as in gapkit.apps.fracture.clusters


def rupture_by_matscipy(
    material: Material,
    system: CrackSystem,
    radius: float = 16.0,
    cutoff: float = 3.8,
    factor: float = 1.01,
    largest: float = 2.5,
    flexible: bool = False,
    fmax: float = 5e-3,
) -> tuple[float, float]:
    """Stress intensities kI (eV/A^(5/2)) between which a crack leaves its place, loaded quasi-statically in mode I.

    Parameters
    ----------
    radius, cutoff : float, A
        Radius of the free part, and range of the potential.
    factor, largest : float
        Between loads, and of the largest load over Griffith's, where loading begins.
    flexible : bool
        Whether the tip of the far field moves with the crack (Sinclair's boundary), or stays at the tip bond.
    fmax : float
        eV/A, or the largest residual of matscipy's Newton-Krylov search. The crack has left its place where the tip
        bond is broken, or where the search finds no equilibrium next to the last one.

    Raises
    ------
    DataError
        Where the crack does not stay at Griffith's load, or stays at the largest.
    """
    if not factor > 1:
        raise SettingsError(f"factor must be above 1, not {factor}")
    clusters = matscipy_module("fracture_mechanics.clusters")
    crack = matscipy_module("fracture_mechanics.crack").SinclairCrack
    axes = (list(system.plane), list(system.front))
    unit = clusters.diamond(material.symbol, material.a0, [1, 1, 1], *axes).cell.lengths()
    n = [int(np.ceil(2.0 * (radius + 2.0 * cutoff + 2.0) / length)) // 2 * 2 + 1 for length in unit[:2]] + [1]
    shift = clusters.centred_shift(material.symbol, material.a0, n, *axes)
    crystal = clusters.diamond(material.symbol, material.a0, n, *axes, shift=shift)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it sorts by
        crystal = clusters.set_regions(crystal, radius, cutoff, radius + 2.0 * cutoff, sort_type="radial")
    pairs = neighbours(crystal, 1.2 * material.bond)
    middles = crystal.positions[pairs.i] + 0.5 * pairs.vectors - 0.5 * crystal.cell.lengths()
    across = np.flatnonzero((np.abs(middles[:, 1]) < 1e-2) & (pairs.vectors[:, 1] > 0.3))
    at = middles[across, 0]
    tip = float(at[np.argmin(np.abs(at))])
    i, j = pairs.i[across], pairs.j[across]
    shifts = pairs.vectors[across] - (crystal.positions[j] - crystal.positions[i])
    here = np.abs(at - tip) < 0.1

    def holds(model) -> bool:
        lengths = np.linalg.norm(model.atoms.positions[j] - model.atoms.positions[i] + shifts, axis=1)
        return bool(np.all(lengths[here] < _BROKEN * material.bond))

    k = start = material.griffith(system)
    model = crack(
        material.k_field(system), crystal, material.calculator, None, kI=k, alpha=tip, variable_alpha=flexible
    )  # fmt: skip
    model.atoms.write = lambda *args, **kwargs: None  # it leaves a file where it finds no equilibrium
    while k <= largest * start:
        model.kI = k
        model.update_atoms()
        stays = _relaxed(model, fmax) and holds(model)
        if not stays:
            if k == start:
                raise DataError(f"{system.name}: the crack does not stay at Griffith's load")
            return k / factor, k
        k *= factor
    raise DataError(f"{system.name}: the crack stays at {largest} times Griffith's load")


def _relaxed(model, fmax: float) -> bool:
    """Whether matscipy finds an equilibrium from where the model is."""
    for _ in range(_SEARCHES):
        with contextlib.suppress(RuntimeError), contextlib.redirect_stdout(io.StringIO()):  # it prints every step
            model.optimize(ftol=fmax, steps=100, method="krylov")
            return True
    return False
