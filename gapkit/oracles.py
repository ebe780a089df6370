"""Live reference calculators by name, for frames without stored labels.

``oracle(name)`` returns an ASE calculator (energies in eV, forces in eV/A, stress in eV/A^3). None of the codes behind
it is needed by the rest of gapkit; each is imported when it is asked for, and its absence says what to install.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.units import Bohr, Hartree

from gapkit.datasets import data_file
from gapkit.exceptions import GapkitError
from gapkit.potential.locked_calculator import LockedCalculator


class OracleNotInstalledError(GapkitError, ImportError):
    """The code behind an oracle is not installed."""


@dataclass(frozen=True)
class Oracle:
    """Reference calculator behind a name: the module it needs, how to get it, and how to build it."""

    description: str
    module: str
    install: str
    build: Callable[..., Calculator]


def oracle(name: str, **settings) -> Calculator:
    """ASE calculator of the reference method ``name``; ``settings`` override those of the underlying calculator.

    ============  ====================================================================================
    name          method
    ============  ====================================================================================
    "gpaw-si"     GPAW with the settings of the silicon sets (PBE, plane waves): periodic solids
    "gfn2"        GFN2-xTB (tblite): molecules and periodic cells at Gamma
    "pyscf-pbe"   PBE/def2-SVP with density fitting (pyscf): molecules; ``charge``, ``spin`` (unpaired electrons)
    "emt"         effective-medium theory (ASE): Cu, Ni, Pd, Ag, Pt, Au, Al; a classical reference
    "sw-si"       Stillinger-Weber silicon (matscipy): a classical reference
    ============  ====================================================================================

    Raises ValueError for an unknown name, OracleNotInstalledError (an ImportError) with the remedy when the code is
    absent.

    Examples
    --------
    >>> from ase.build import bulk
    >>> from gapkit.oracles import oracle
    >>> copper = bulk("Cu", a=3.6)
    >>> copper.calc = oracle("emt")
    >>> float(round(copper.get_potential_energy(), 3))
    -0.007
    """
    if name not in ORACLES:
        raise ValueError(f"no oracle is called {name!r}: choose one of {', '.join(ORACLES)}")
    entry = ORACLES[name]
    try:
        importlib.import_module(entry.module)
    except ImportError as error:
        raise OracleNotInstalledError(
            f"the oracle {name!r} needs the Python package {entry.module!r} ({error}). {entry.install}"
        ) from error
    return entry.build(**settings)


def _gpaw_silicon(**settings) -> Calculator:
    from gpaw import GPAW, PW, FermiDirac

    chosen = json.loads(data_file("silicon", "settings.json"))
    defaults = {
        "mode": PW(chosen["plane_wave_cutoff_ev"]),
        "xc": chosen["xc"],
        "kpts": {"density": chosen["kpoint_density_angstrom"], "even": True},
        "occupations": FermiDirac(chosen["fermi_width_ev"]),
        "convergence": {"density": chosen["density_convergence"]},
        "eigensolver": "rmm-diis",
        "maxiter": 120,
        "txt": None,
    }
    return GPAW(**{**defaults, **settings})


def _gfn2(**settings) -> Calculator:
    from tblite.ase import TBLite

    return TBLite(**{"method": "GFN2-xTB", "verbosity": 0, **settings})


def _emt(**settings) -> Calculator:
    from ase.calculators.emt import EMT

    return EMT(**settings)


def _stillinger_weber(**settings) -> Calculator:
    from matscipy.calculators.manybody import Manybody
    from matscipy.calculators.manybody.explicit_forms import StillingerWeber
    from matscipy.calculators.manybody.explicit_forms.stillinger_weber import (
        Stillinger_Weber_PRB_31_5262_Si as parameters,
    )

    return Manybody(**{**StillingerWeber(parameters), **settings})


class PySCFCalculator(LockedCalculator):
    """Kohn-Sham energy and forces of an isolated molecule with pyscf (density fitting).

    Parameters: ``xc`` and ``basis`` by pyscf's names, ``charge`` (e), ``spin`` (number of unpaired electrons: 0 is
    restricted, anything else unrestricted), ``convergence`` of the energy in Hartree.
    """

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 - the name and form that ASE asks for
    default_parameters = {"xc": "pbe", "basis": "def2-svp", "charge": 0, "spin": 0, "convergence": 1e-9}  # noqa: RUF012

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        """Run the self-consistent field, and its gradient when forces are asked for."""
        super().calculate(atoms, properties, system_changes)
        if self.atoms.pbc.any():
            raise ValueError("the oracle 'pyscf-pbe' is for isolated molecules: set atoms.pbc = False")
        from pyscf import dft, gto

        settings = self.parameters
        molecule = gto.M(
            atom=list(zip(self.atoms.get_chemical_symbols(), self.atoms.positions / Bohr, strict=True)),
            unit="Bohr",
            basis=settings.basis,
            charge=settings.charge,
            spin=settings.spin,
            verbose=0,
        )
        field = (dft.UKS if settings.spin else dft.RKS)(molecule, xc=settings.xc).density_fit()
        field.conv_tol = settings.convergence
        energy = field.kernel()
        if not field.converged:
            raise RuntimeError(f"pyscf did not converge for {self.atoms.get_chemical_formula()}")
        self.results = {"energy": energy * Hartree}
        if "forces" in properties:
            gradient = field.nuc_grad_method()
            gradient.grid_response = True  # without it the forces do not sum to zero
            self.results["forces"] = -np.asarray(gradient.kernel()) * Hartree / Bohr


ORACLES: dict[str, Oracle] = {
    "gpaw-si": Oracle(
        "GPAW, PBE, plane waves, as in the silicon sets",
        "gpaw",
        "Debian: apt install libxc-dev libopenblas-dev libfftw3-dev; then pip install gpaw gpaw-data.",
        _gpaw_silicon,
    ),
    "gfn2": Oracle("GFN2-xTB", "tblite", "pip install tblite.", _gfn2),
    "pyscf-pbe": Oracle("PBE/def2-SVP, density fitting", "pyscf", "pip install pyscf.", PySCFCalculator),
    "emt": Oracle("effective-medium theory", "ase.calculators.emt", "pip install ase.", _emt),
    "sw-si": Oracle("Stillinger-Weber silicon", "matscipy", "pip install matscipy.", _stillinger_weber),
}
