"""featomic: SOAP power spectra and their gradients by positions and cell; a descriptor, not a potential."""

from __future__ import annotations

from typing import Any


def gradients(settings: dict[str, Any], n_atoms: int, repeats: int) -> dict[str, Any]:
    """Of one crystal, on one thread; its cutoff function and basis differ from gapkit's, their numbers do not."""
    from featomic import SoapPowerSpectrum
    from featomic.basis import Gto, TensorProduct
    from featomic.cutoff import Cutoff, ShiftedCosine
    from featomic.density import Gaussian

    from engines.measure import median_cost, peak_above, per_atom
    from engines.systems import crystal

    soap = SoapPowerSpectrum(
        cutoff=Cutoff(radius=settings["r_cut"], smoothing=ShiftedCosine(width=1.0)),
        density=Gaussian(width=settings["sigma"]),
        basis=TensorProduct(max_angular=settings["l_max"], radial=Gto(max_radial=settings["n_max"] - 1)),
    )
    atoms = crystal(n_atoms)

    def describe(k: int = 0):
        return soap.compute(atoms, gradients=["positions", "cell"])

    soap.compute(crystal(8), gradients=["positions", "cell"])
    memory = peak_above(describe)
    cost = median_cost(describe, repeats, warm_up=False)
    block = soap.compute(crystal(8)).block(0)
    return {"time": per_atom(cost, n_atoms), "peak_mb": memory, "features": block.values.shape[-1]}
