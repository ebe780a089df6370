"""dscribe: the same descriptor with ``derivatives``, weighted and periodic."""

from __future__ import annotations

from typing import Any


def gradients(settings: dict[str, Any], n_atoms: int, repeats: int) -> dict[str, Any]:
    """Descriptors and derivatives of one crystal: dscribe's own choice of method, one process."""
    from engines.measure import median_cost, peak_above, per_atom
    from engines.systems import crystal
    from gapkit import SOAP

    soap = SOAP(
        species=["Si"], r_cut=settings["r_cut"], n_max=settings["n_max"], l_max=settings["l_max"],
        sigma=settings["sigma"],
    )  # fmt: skip
    soap = soap.fit([]).to_dscribe()
    soap.derivatives(crystal(8), return_descriptor=True)
    atoms = crystal(n_atoms)
    cost: dict[str, Any] = {}

    def describe() -> None:
        cost.update(median_cost(lambda k: soap.derivatives(atoms, return_descriptor=True), repeats, warm_up=False))

    memory = peak_above(describe)
    return {"time": per_atom(cost, n_atoms), "peak_mb": memory}
