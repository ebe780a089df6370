"""QUIP: a GAP of the same settings, made by gap_fit and evaluated through quippy."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

from engines import launch


def command(work: Path, settings: dict[str, Any], out: str, forces: bool, virials: bool, e0: float) -> list[str]:
    """gap_fit on ``train.xyz`` with the sparse points of ``sparse.txt``; ``settings`` as in ``benchmarks/peers.py``."""
    beside = Path(sys.executable).with_name("gap_fit")
    program = str(beside) if beside.exists() else shutil.which("gap_fit") or "gap_fit"
    noise = settings["noise"]
    soap = (
        f"soap l_max={settings['l_max']} n_max={settings['n_max']} cutoff={settings['r_cut']} "
        f"cutoff_transition_width=1.0 atom_sigma={settings['sigma']} zeta={settings['zeta']} "
        f"delta={settings['signal']} covariance_type=dot_product n_sparse={settings['n_sparse']} "
        f"sparse_method=index_file sparse_file={work / 'sparse.txt'} add_species=T"
    )
    return [
        program,
        f"atoms_filename={work / 'train.xyz'}",
        f"gap={{{soap}}}",
        f"default_sigma={{{noise['energy']} {noise['forces']} {noise['virial']} 0.0}}",
        f"e0={{Si:{e0!r}}}",
        "energy_parameter_name=energy",
        f"force_parameter_name={'forces' if forces else 'none'}",
        f"virial_parameter_name={'virial' if virials else 'none'}",
        "sparse_jitter=1e-8",
        "do_copy_atoms_file=F",
        "sparse_separate_file=T",
        f"gap_file={out}",
    ]


def train(work: Path, settings: dict[str, Any], e0: float, forces: bool = True, virials: bool = True) -> dict[str, Any]:
    """Run gap_fit on one thread in ``work``: its cost, and the command as one would type it."""
    why = launch.missing("quippy_gap")
    if why:
        return {"failed": why}
    name = "gap_all.xml" if forces else "gap_energies.xml"
    line = command(work, settings, name, forces, virials, e0)
    cost = launch.process(line, 1, work / f"{name}.log", work)
    shown = " ".join(f"'{part}'" if " " in part else part for part in line).replace(f"{work}/", "")
    shown = shown.replace(line[0], "gap_fit", 1)
    if cost["exit"] or not (work / name).exists():
        return {"failed": f"gap_fit: exit code {cost['exit']}, see {name}.log", "command": shown}
    log = (work / f"{name}.log").read_text(errors="replace")
    found = {kind: int(n) for kind, n in re.findall(r"Number of target (\w+) \(.*\) found: +(\d+)", log)}
    return {**cost, "command": shown, "labels": found, "model": name}


def speed(work: str, model: str, n_atoms: int, repeats: int, r_cut: float) -> dict[str, Any]:
    """Energy, forces and stress of crystals never seen before; the same with variances of local energies."""
    from quippy.descriptors import Descriptor
    from quippy.potential import Potential

    from engines.measure import blas_kernels, median_cost, peak_above, per_atom
    from engines.systems import crystal

    path = Path(work, model)
    potential = Potential(param_filename=str(path))
    frames = [crystal(n_atoms, seed) for seed in range(repeats + 1)]

    def evaluate(k: int) -> None:
        potential.calculate(frames[k], ["energy", "forces", "stress"])

    memory = peak_above(lambda: evaluate(0))
    plain = median_cost(evaluate, repeats, warm_up=False)
    with_variance = Potential(param_filename=str(path), calc_args="local_gap_variance")
    spread = median_cost(
        lambda k: with_variance.calculate(frames[k], ["energy", "forces", "stress"]), min(repeats, 2), warm_up=False
    )
    text = path.read_text()
    describe = Descriptor(re.search(r"<descriptor[^>]*>([^<]*)</descriptor>", text).group(1))
    small = crystal(64, 0)
    own = describe.calc(small, grad=True)
    return {
        "time": per_atom(plain, n_atoms),
        "with_variance": per_atom(spread, n_atoms),
        "peak_mb": memory,
        "n_sparse": int(re.search(r'n_sparseX="(\d+)"', text).group(1)),
        "features": own["data"].shape[1],
        "neighbours": len(own["grad_index_0based"]) / len(small) - 1,
        "blas": blas_kernels(),
    }
