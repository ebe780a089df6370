"""gapkit: fits, energies and forces, variances, descriptor gradients, start-up. gapkit is imported inside the tasks, so
that the start-up can be timed."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

#: fitted potentials and what each is
MODELS = {
    "dense": "every sparse point, zeta as given",
    "projected": "descriptors projected before the fit, zeta as given",
    "zeta2": "zeta 2: the sum over sparse points collapses into one matrix",
    "default": "gapkit.GAP() without a parameter",
}
#: descriptor directions of the projected model
DIRECTIONS = 128


class GivenPoints:
    """A selection of sparse points: the environments of ``sparse.txt``, which gap_fit reads too.

    They are known by their features: a fit does not keep the order of its frames.
    """

    def __init__(self, work: str, frames: list, soap) -> None:
        import numpy as np

        from gapkit.structures.structure import Structure

        described = soap.for_species([14])
        x = [described.environments(Structure(a, soap.r_cut), (14,), derivatives=False).x for a in frames]
        self.wanted = np.vstack(x)[np.loadtxt(Path(work, "sparse.txt"), dtype=int) - 1]
        self.n_environments = sum(map(len, x))

    def __call__(self, candidates, kernel, n, rng):
        import numpy as np

        if len(candidates) < self.n_environments:
            return rng.permutation(len(candidates))[:n]  # more environments than gapkit's pool keeps
        place: dict[bytes, list[int]] = {}
        for k, row in enumerate(np.round(candidates, 9) + 0.0):
            place.setdefault(row.tobytes(), []).append(k)
        # atoms that symmetry makes alike are as many here as there
        return np.array(sorted(place[row.tobytes()].pop() for row in np.round(self.wanted, 9) + 0.0))


def _terms(work: str, settings: dict[str, Any], model: str, frames: list) -> Any:
    """Terms of one of :data:`MODELS`; None where this gapkit has no such thing."""
    from gapkit import SOAP, DotProduct, Term

    if model == "default":
        return "auto"
    soap = SOAP(r_cut=settings["r_cut"], n_max=settings["n_max"], l_max=settings["l_max"], sigma=settings["sigma"])
    term = Term(
        soap,
        DotProduct(2 if model == "zeta2" else settings["zeta"]),
        n_sparse=settings["n_sparse"],
        selection=GivenPoints(work, frames, soap),
        signal=settings["signal"],
    )
    # -- compressed kernels: the place that picks them up ---------------------------------------------------------
    names = {f.name for f in dataclasses.fields(Term)}
    if model == "projected":
        if "projection" not in names:
            return None
        term = dataclasses.replace(term, projection=DIRECTIONS)
    elif "projection" in names:
        term = dataclasses.replace(term, projection=None)
    # -------------------------------------------------------------------------------------------------------------
    return [term]


def fit(work: str, settings: dict[str, Any], model: str, e0: float, virials: bool, fixed: bool = True) -> dict:
    """Fit to ``train.xyz`` and save ``MODEL.gapkit``; errors on ``test.xyz``. ``fixed``: hyperparameters as given."""
    from ase.io import read

    import gapkit
    from engines.measure import blas_kernels, peak

    frames = read(Path(work, "train.xyz"), ":")
    if not virials:
        for atoms in frames:
            atoms.info.pop("virial", None)
    terms = _terms(work, settings, model, frames)
    if terms is None:
        return {"failed": "not in this version of gapkit"}
    given = {"noise_levels": settings["noise"], "e0": {"Si": e0}, "folds": 1} if fixed and model != "default" else {}
    begin, begin_cpu = time.perf_counter(), time.process_time()
    gap = gapkit.GAP(terms=terms, random_state=0, **given).fit(frames)
    wall, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    memory = peak()
    gap.save(Path(work, f"{model}.gapkit"))
    errors = gap.evaluate(read(Path(work, "test.xyz"), ":"), uncertainty=False).summary
    return {
        "wall": wall,
        "cpu": cpu,
        "peak_mb": memory,
        "n_sparse": int(gap.potential_.metadata["n_sparse"]),
        "labels": int(gap.potential_.metadata["n_labels"]),
        "force_rmse": errors["force_rmse_ev_per_ang"],
        "energy_rmse_mev": errors["energy_rmse_mev_per_atom"],
        "terms": [str(t.settings()) for t in gap.potential_.terms],
        "blas": blas_kernels(),
    }


def compile_all() -> dict[str, Any]:
    """Run everything once on next to nothing, so that no later process compiles; how long that took (s)."""
    from engines.systems import made_frames

    begin = time.process_time()
    import gapkit

    frames = made_frames(2)
    soap = gapkit.SOAP(r_cut=3.5, n_max=2, l_max=2)
    for zeta in (2, 4):
        terms = [gapkit.Term(gapkit.PairDistance(r_cut=3.5), gapkit.SquaredExponential(0.5), n_sparse=10)]
        terms.append(gapkit.Term(soap, gapkit.DotProduct(zeta), n_sparse=20))
        gap = gapkit.GAP(terms=terms, folds=2, random_state=0).fit(frames)
        for uncertainty in (None, "local", "full"):
            gap.calculator(uncertainty=uncertainty).calculate(frames[0], ["energy", "forces", "stress"])
    return {"cpu": time.process_time() - begin}


def _calculator(work: str, model: str, **options: Any):
    import gapkit

    return gapkit.load(Path(work, f"{model}.gapkit")).calculator(**options)


def _seconds_per_atom(calculator, frames, repeats: int) -> dict[str, float]:
    from engines.measure import median_cost, per_atom

    wanted = ["energy", "forces", "stress"]
    cost = median_cost(lambda k: calculator.calculate(frames[k % len(frames)], wanted), repeats)
    return per_atom(cost, len(frames[0]))


def speed(work: str, model: str, n_atoms: int, repeats: int) -> dict[str, Any]:
    """Energy, forces and stress through the ASE calculator: crystals never seen before, and steps of dynamics."""
    from engines.measure import blas_kernels, gemm_rate, peak_above
    from engines.systems import crystal, small_moves
    from gapkit.structures.structure import Structure

    calculator = _calculator(work, model, skin=0.0)  # no list is kept: every frame is new
    frames = [crystal(n_atoms, seed) for seed in range(repeats + 1)]
    potential = calculator.potential
    calculator.calculate(crystal(64), ["energy", "forces", "stress"])
    memory = peak_above(lambda: calculator.calculate(frames[0], ["energy", "forces", "stress"]))
    new = _seconds_per_atom(calculator, frames, repeats)
    steps = _seconds_per_atom(_calculator(work, model), small_moves(frames[0], repeats + 1), repeats)
    pairs = Structure(crystal(64, 0), potential.r_cut).pairs(potential.r_cut)
    points = potential.basis.blocks[-1].points
    return {
        "time": new,
        "steps": steps,
        "peak_mb": memory,
        "n_sparse": potential.basis.n_columns,
        "features": points.shape[1],
        "neighbours": len(pairs.distances) / 64,
        "blas": blas_kernels(),
        "gemm_gflops": gemm_rate(128, points.shape[1], len(points)),
    }


def variance(work: str, model: str, n_atoms: int, repeats: int) -> dict[str, Any]:
    """What each level of uncertainty costs, in us per atom: none, local energies, everything (on 64 atoms)."""
    from engines.systems import crystal

    frames = [crystal(n_atoms, seed) for seed in range(repeats + 1)]
    none = _seconds_per_atom(_calculator(work, model, skin=0.0), frames, repeats)
    local = _seconds_per_atom(_calculator(work, model, skin=0.0, uncertainty="local"), frames, repeats)
    few = [crystal(64, seed) for seed in range(3)]
    full = _seconds_per_atom(_calculator(work, model, skin=0.0, uncertainty="full"), few, 2)
    return {"none": none, "local": local, "full": full}


def small_cells(work: str, model: str, repeats: int) -> dict[str, Any]:
    """Wall time of one call (ms) for cells of 2, 8 and 16 atoms in dynamics."""
    from engines.systems import crystal, small_moves

    calculator = _calculator(work, model)
    answer = {}
    for n in (2, 8, 16):
        cost = _seconds_per_atom(calculator, small_moves(crystal(n), 20 * repeats + 1), 20 * repeats)
        answer[str(n)] = {key: 1e-3 * n * cost[key] for key in ("wall", "cpu")}
    return answer


def scaling(work: str, model: str, n_atoms: int, repeats: int) -> dict[str, Any]:
    """Time per atom and the peak memory of this whole process."""
    from engines.measure import peak
    from engines.systems import crystal

    frames = [crystal(n_atoms, seed) for seed in range(2)]
    calculator = _calculator(work, model, skin=0.0)
    calculator.calculate(crystal(64), ["energy", "forces", "stress"])
    cost = _seconds_per_atom(calculator, frames, repeats)
    return {"time": cost, "peak_mb": peak()}


def start_up(work: str, model: str) -> dict[str, Any]:
    """Seconds of ``import gapkit``, and of loading a model and a first call; compiled code is cached on disk."""
    begin, begin_cpu = time.perf_counter(), time.process_time()
    import gapkit  # noqa: F401

    imported, imported_cpu = time.perf_counter(), time.process_time()
    calculator = _calculator(work, model)
    from ase.build import bulk

    calculator.calculate(bulk("Si", cubic=True), ["energy", "forces", "stress"])
    return {
        "import": {"wall": imported - begin, "cpu": imported_cpu - begin_cpu},
        "first_call": {"wall": time.perf_counter() - imported, "cpu": time.process_time() - imported_cpu},
    }


def gradients(settings: dict[str, Any], n_atoms: int, repeats: int, block: int = 64) -> dict[str, Any]:
    """Descriptors and their derivatives by positions and strain, in blocks of ``block`` environments, each used once
    and thrown away; the whole frame's at once for comparison. Both with the pair list."""
    import numpy as np

    from engines.measure import median_cost, peak_above, per_atom
    from engines.systems import crystal
    from gapkit import SOAP
    from gapkit.structures.structure import Structure

    soap = SOAP(r_cut=settings["r_cut"], n_max=settings["n_max"], l_max=settings["l_max"], sigma=settings["sigma"])
    soap = soap.for_species([14])

    def describe(atoms, block: int) -> None:
        structure = Structure(atoms, settings["r_cut"])
        for begin in range(0, len(atoms), block):
            part = np.arange(begin, min(begin + block, len(atoms)))
            soap.environments(structure, (14,), atoms=part)

    describe(crystal(8), 8)
    atoms = crystal(n_atoms)
    memory = peak_above(lambda: describe(atoms, block))
    streamed = per_atom(median_cost(lambda k: describe(atoms, block), repeats), n_atoms)
    if n_atoms <= block:
        return {"time": streamed, "peak_mb": memory}
    whole_memory = peak_above(lambda: describe(atoms, n_atoms))
    whole = per_atom(median_cost(lambda k: describe(atoms, n_atoms), repeats, warm_up=False), n_atoms)
    return {"time": streamed, "peak_mb": memory, "whole": whole, "whole_peak_mb": whole_memory}
