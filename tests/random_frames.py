"""Random frames, tiny training sets with labels of a generating potential, and verdicts on what gapkit makes of them.

Frame and fit number k of a seed are the same wherever they are made. Each is judged in a process that may end or hang
(:func:`isolated`): an answer is a prediction of finite numbers, or one gapkit error of one line.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk, fcc111
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.morse import MorsePotential
from ase.calculators.singlepoint import SinglePointCalculator

import gapkit
from gapkit.exceptions import GapkitError
from gapkit.uncertainty.label_errors import KINDS
from gapkit.uncertainty.variance_parts import VarianceParts

#: longest message of an error (characters)
LONGEST = 600
#: an error bar counts as wider than that of the prior beyond this factor
WIDER = 1 + 1e-6
#: shortest height of a periodic cell (A) whose frame the generating potentials label
THINNEST = 1.5
#: kinds of random frames; see :func:`frame`
KINDS_OF_FRAMES = (
    "crystal", "supercell", "slab", "wire", "cluster", "dimer", "atom", "gas", "wide", "flat", "tilted", "left-handed",
    "tiny", "expanded", "coincident", "other species", "far", "partly periodic", "not a number", "empty",
)  # fmt: skip


@dataclass(frozen=True)
class Material:
    """A generating potential and the structure that random frames are made from.

    Attributes
    ----------
    name : str
    symbol : str
    distance : float
        Between nearest neighbours (A).
    calculator : function
        Makes an ASE calculator.
    scale : float
        Factor on energies and forces.
    """

    name: str
    symbol: str
    distance: float
    calculator: Callable[[], Calculator]
    scale: float = 1.0

    def crystal(self, cubic: bool = True) -> Atoms:
        """The close-packed crystal."""
        return bulk(self.symbol, "fcc", a=self.distance * np.sqrt(2), cubic=cubic)

    def labels(self, atoms: Atoms) -> dict[str, Any] | None:
        """Energy, forces and (periodic frames) stress; None where the potential has no finite answer."""
        heights = _heights(atoms)
        if not 0 < len(atoms) <= 64 or not np.isfinite(atoms.positions).all() or np.any(heights[atoms.pbc] < THINNEST):
            return None
        atoms = atoms.copy()
        atoms.calc = self.calculator()
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
                if atoms.pbc.all():
                    results["stress"] = atoms.get_stress()
        except Exception:  # whatever ASE says of species that it does not know, and of atoms on top of each other
            return None
        results = {key: self.scale * np.asarray(value) for key, value in results.items()}
        if not all(np.isfinite(value).all() and np.abs(value).max() < 1e12 for value in results.values()):
            return None
        return {**results, "energy": float(results["energy"])}


def _heights(atoms: Atoms) -> np.ndarray:
    """Heights (3,) of the cell; zero where there is none."""
    with np.errstate(all="ignore"):
        normals = np.linalg.pinv(np.nan_to_num(atoms.cell.array))
        return np.nan_to_num(1 / np.linalg.norm(normals, axis=0), nan=0.0, posinf=0.0)


def material(rng: np.random.Generator, scaled: bool = False) -> Material:
    """EMT of a metal, a Morse or a Lennard-Jones potential; ``scaled``: sometimes in units far from eV."""
    scale = float(10 ** rng.uniform(-6, 6)) if scaled and rng.random() < 0.3 else 1.0
    kind = rng.choice(["emt", "emt", "morse", "lj"])
    if kind == "emt":
        symbol = str(rng.choice(["Cu", "Al", "Ni", "Au"]))
        distance = {"Cu": 2.55, "Al": 2.86, "Ni": 2.49, "Au": 2.88}[symbol]
        return Material("emt", symbol, distance, EMT, scale)
    distance = float(rng.uniform(1.5, 4.0))
    if kind == "morse":
        stiff = float(rng.uniform(4, 7))
        return Material(
            "morse", "Ar", distance,
            lambda: MorsePotential(r0=distance, epsilon=1.0, rho0=stiff, rcut1=1.5 * distance, rcut2=1.8 * distance),
            scale,
        )  # fmt: skip
    sigma = distance / 2 ** (1 / 6)
    return Material(
        "lj", "Ar", distance, lambda: LennardJones(sigma=sigma, epsilon=0.1, rc=1.9 * distance, smooth=True), scale
    )


def frame(rng: np.random.Generator, of: Material, kind: str | None = None) -> tuple[str, Atoms]:
    """A random frame of one of ``KINDS_OF_FRAMES``, and its kind: 1 to 60 atoms, most of them ordinary."""
    kind = str(rng.choice(KINDS_OF_FRAMES)) if kind is None else kind
    d = of.distance
    atoms = of.crystal(bool(rng.integers(2)))
    if kind == "supercell":
        atoms = of.crystal(False) * tuple(rng.integers(1, 5, size=3).tolist())
        atoms = atoms[: int(rng.integers(1, 61))] if rng.random() < 0.3 else atoms[:60]
    elif kind == "slab":
        atoms = fcc111(of.symbol, (2, 2, int(rng.integers(1, 4))), a=d * np.sqrt(2), vacuum=float(rng.uniform(2, 40)))
    elif kind == "wire":
        atoms.pbc = np.roll([True, False, False], rng.integers(3))
    elif kind in ("cluster", "gas"):
        n = int(rng.integers(2, 20))
        edge = (
            d * n ** (1 / 3) * (float(rng.uniform(0.9, 1.4)) if kind == "cluster" else float(10 ** rng.uniform(0, 2)))
        )
        atoms = Atoms([of.symbol] * n, rng.uniform(0, edge, size=(n, 3)))
    elif kind == "dimer":
        atoms = Atoms([of.symbol] * 2, [[0, 0, 0], [d * float(rng.uniform(0.5, 4)), 0, 0]])
    elif kind == "atom":
        atoms = Atoms([of.symbol], cell=rng.choice([0.0, 0.5 * d, d, 50.0]) * np.eye(3), pbc=bool(rng.integers(2)))
        if not atoms.cell.volume:
            atoms.pbc = False
    elif kind == "wide":
        atoms = Atoms([of.symbol] * 3, rng.uniform(0, 2 * d, size=(3, 3)), pbc=rng.integers(0, 2, size=3))
        atoms.cell = np.diag(10 ** rng.uniform(0.3, 4.2, size=3))
    elif kind == "flat":
        atoms = Atoms([of.symbol] * 2, [[0, 0, 0], [d, 0.1, 0.1]], pbc=True)
        atoms.cell = np.diag([2 * d, 2 * d, 10 ** float(rng.uniform(-7, 1))])
    elif kind == "tilted":
        sheared = np.eye(3) + np.triu(rng.integers(-5, 6, size=(3, 3)), 1)
        atoms.cell = sheared @ atoms.cell.array
    elif kind == "left-handed":
        atoms.cell = atoms.cell.array[[1, 0, 2]] if rng.random() < 0.5 else -atoms.cell.array
    elif kind in ("tiny", "expanded"):
        powers = (-6, 0) if kind == "tiny" else (0, 5)
        atoms.set_cell(atoms.cell.array * 10 ** float(rng.uniform(*powers)), scale_atoms=bool(rng.integers(2)))
    atoms.rattle(d * 10 ** float(rng.uniform(-4, -0.9)), seed=int(rng.integers(1 << 30)))
    if kind == "coincident" and len(atoms) > 1:
        atoms.positions[1] = (
            atoms.positions[0] + float(rng.choice([0.0, 1e-300, 1e-9, 1e-4, 1e-2, 0.3])) + atoms.cell[0]
        )
    elif kind == "other species":
        atoms.numbers[int(rng.integers(len(atoms)))] = int(rng.choice([0, 1, 8, 79, 118, 119]))
    elif kind == "far":
        atoms.positions[0] += 10 ** rng.uniform(1, 9) * rng.normal(size=3)
    elif kind == "partly periodic":
        atoms.pbc = rng.integers(0, 2, size=3)
    elif kind == "not a number":
        atoms.positions[0, int(rng.integers(3))] = float(rng.choice([np.nan, np.inf, 1e300]))
    elif kind == "empty":
        atoms = Atoms(cell=atoms.cell, pbc=atoms.pbc) if rng.random() < 0.3 else atoms
    return kind, atoms


def ordinary(rng: np.random.Generator, of: Material, shape: str, size: float) -> Atoms:
    """A frame of a tiny training set: one of a few shapes, rattled by ``size`` (A), strained where it is periodic."""
    d = of.distance
    if shape == "crystal":
        atoms = of.crystal() * (1, 1, int(rng.integers(1, 3)))
    elif shape == "primitive":
        atoms = of.crystal(False) * (2, 2, 2)
    elif shape == "slab":
        atoms = fcc111(of.symbol, (2, 2, 2), a=d * np.sqrt(2), vacuum=6.0)
    elif shape == "dimer":
        atoms = Atoms([of.symbol] * 2, [[0, 0, 0], [d, 0, 0]])
    else:
        atoms = Atoms([of.symbol] * 4, d * np.array([[0, 0, 0], [1, 0, 0], [0.5, 0.866, 0], [0.5, 0.289, 0.816]]))
    if shape in ("crystal", "primitive"):
        strain = np.eye(3) + (size / d) * rng.normal(scale=0.5, size=(3, 3))
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    atoms.rattle(size * float(rng.uniform(0.3, 1.0)), seed=int(rng.integers(1 << 30)))
    return atoms


def labelled(atoms: Atoms, results: dict[str, Any]) -> Atoms:
    """A copy of the frame with these results."""
    atoms = atoms.copy()
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def model_to_ask(name: str) -> tuple[Material, gapkit.GAP]:
    """A default fit to 24 frames: of copper crystals by EMT (``crystals``), of clusters by Morse (``clusters``)."""
    rng = np.random.default_rng(5)
    if name == "crystals":
        of, shape = Material("emt", "Cu", 2.55, EMT), "primitive"
    else:
        of = Material("morse", "Ar", 2.5, lambda: MorsePotential(r0=2.5, epsilon=1.0, rho0=6.0, rcut1=4.0, rcut2=5.0))
        shape = "tetrahedron"
    frames = [ordinary(rng, of, shape, 0.15) for _ in range(24)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return of, gapkit.GAP(random_state=0, screen=False).fit([labelled(a, of.labels(a) or {}) for a in frames])


def refused(error: GapkitError) -> str:
    """``refused`` for an error of one readable line, else what is wrong with it."""
    message = str(error)
    fine = 0 < len(message) <= LONGEST and len(message.splitlines()) == 1
    return "refused" if fine else f"refused in {len(message)} characters: {type(error).__name__}: {message[:120]!r}"


def judged(gap: gapkit.GAP, atoms: Atoms, truth: dict[str, Any] | None, kinds: Sequence[str] = KINDS) -> dict[str, Any]:
    """The verdict on a prediction: ``predicted`` or what is wrong, and of each kind of label with a true value the
    absolute z (list) and the largest error bar over that of the prior."""
    try:
        p = gap.predict([atoms], uncertainty=True)
    except GapkitError as error:
        return {"verdict": refused(error)}
    for name, values in vars(p).items():
        for value in values:
            if value is not None and not np.isfinite(np.asarray(value, dtype=float)).all():
                return {"verdict": f"{name} is not finite"}
            if value is not None and name.endswith("_std") and np.any(np.asarray(value) < 0):
                return {"verdict": f"{name} is negative"}
    found: dict[str, Any] = {"verdict": "predicted", "wide": _wide(gap, atoms, p)}
    predicted = {"energy": (p.energy[0], p.energy_std[0]), "forces": (p.forces[0], p.forces_std[0])}
    for kind, (value, std) in predicted.items():
        if truth is not None and kind in truth and kind in kinds:
            error = np.abs(np.asarray(value) - truth[kind]).ravel()
            # a force that vanishes by symmetry has no error bar, and rounding is no error
            floor = 1e-9 * max(1.0, float(np.abs(truth[kind]).max()))
            found[kind] = np.where(error < floor, 0.0, error / np.maximum(np.ravel(std), 1e-300)).tolist()
    if found["wide"] > WIDER:
        found["verdict"] = f"an error bar is {found['wide']:.3g} times that of the prior"
    return found


def _wide(gap: gapkit.GAP, atoms: Atoms, p: Any) -> float:
    """The largest error bar of energy and forces in units of that before any frame was seen."""
    potential = gap.potential_
    structure = potential.structure(atoms)
    rows = potential.basis.rows(structure, derivatives=True, hidden=True)
    prior = rows.prior @ potential.posterior.signal**2
    parts = VarianceParts.of_rows(potential.posterior, potential.basis.whiten(rows.K), rows)
    parts = parts._replace(weights=np.maximum(prior - parts.residual, 0.0))
    n, config, largest = len(atoms), atoms.info.get("config_type"), 0.0
    extra = {"energy": float(np.sum(potential.reference.loadings(structure) ** 2)) / n, "forces": 0.0}
    for kind, std in (("energy", p.energy_std[0] / np.sqrt(n)), ("forces", np.ravel(p.forces_std[0]))):
        widest = np.sqrt(potential.errors.variance(kind, parts.of_labels(kind, n), config) + extra[kind])
        largest = max(largest, float(np.max((std - 1e-12) / np.maximum(widest, 1e-300))))
    return largest


def ask(model: tuple[Material, gapkit.GAP], seed: int, number: int) -> dict[str, Any]:
    """The verdict on random frame ``number`` of a seed."""
    of, gap = model
    rng = np.random.default_rng((seed, number))
    kind, atoms = frame(rng, of)
    return {"kind": kind, **judged(gap, atoms, of.labels(atoms))}


#: what is done to one frame of a training set, or to its labels, so that errors against the potential are not judged
SPOILED = (
    "energy is not a number", "forces are infinite", "huge energy", "coincident atoms", "flat cell", "far atom",
    "no labels", "other species", "same frame twice", "single atom",
)  # fmt: skip
#: which labels a training set has
LABELS = (("energy", "forces", "stress"), ("energy", "forces"), ("energy",), ("forces",), ("forces", "stress"))
SHAPES = ("crystal", "primitive", "slab", "dimer", "tetrahedron")


def tiny_fit(seed: int, number: int, folder: str | Path) -> dict[str, Any]:
    """The verdict on tiny fit ``number`` of a seed: one to six frames, and what it predicts of three new ones."""
    rng = np.random.default_rng((seed, number, 1))
    of, shape = material(rng, scaled=True), str(rng.choice(SHAPES))
    size = of.distance * 10 ** float(rng.uniform(-2.0, -1.0))
    n, kinds = int(rng.integers(1, 7)), LABELS[int(rng.choice(len(LABELS), p=[0.5, 0.2, 0.1, 0.1, 0.1]))]
    frames = []
    for _ in range(n):
        atoms = ordinary(rng, of, shape, size)
        results = of.labels(atoms) or {}
        frames.append(labelled(atoms, {k: v for k, v in results.items() if k in kinds}))
    spoiled = str(rng.choice(SPOILED)) if rng.random() < 0.25 else ""
    if spoiled:
        frames = _spoil(rng, frames, spoiled)
    about = {"kind": spoiled or "+".join(kinds), "n": n, "shape": shape, "potential": of.name}
    settings: dict[str, Any] = {"folds": int(rng.choice([5, 5, 5, 1, 2])), "random_state": 0}
    if rng.random() < 0.3:
        settings["terms"] = [
            gapkit.Term(gapkit.PairDistance(r_cut=1.6 * of.distance), gapkit.SquaredExponential(0.6), n_sparse=8),
            gapkit.Term(
                gapkit.SOAP(r_cut=1.6 * of.distance, n_max=3, l_max=2),
                gapkit.DotProduct(int(rng.choice([1, 2, 4]))),
                n_sparse=10,
            ),
        ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            gap = gapkit.GAP(**settings).fit(frames)
        except GapkitError as error:
            return {**about, "verdict": refused(error)}
        found: dict[str, Any] = {**about, "verdict": "predicted", "energy": [], "forces": [], "wide": 0.0}
        # without energies, those of a model are known up to a constant
        judged_kinds = [] if spoiled else ["forces", *(["energy"] if "energy" in kinds else [])]
        for k in range(4):
            atoms = ordinary(rng, of, shape, size) if k < 3 else frame(rng, of)[1]
            answer = judged(gap, atoms, of.labels(atoms) if k < 3 else None, judged_kinds)
            if k == 0:
                again = _saved(gap, atoms, Path(folder) / f"{os.getpid()}.gapkit")
                answer = {**answer, "verdict": again} if again else answer
            for kind in ("energy", "forces"):
                found[kind] += answer.get(kind, [])
            found["wide"] = max(found["wide"], answer.get("wide", 0.0))
            if answer["verdict"] not in ("predicted", "refused") or (k < 3 and answer["verdict"] == "refused"):
                return {**found, "verdict": f"{answer['verdict']} (frame {k})"}
    return found


def _saved(gap: gapkit.GAP, atoms: Atoms, path: Path) -> str:
    """What is wrong with the model once it was saved and loaded; nothing where predictions are the same."""
    gap.save(path)
    try:
        first, second = gap.predict([atoms], uncertainty=True), gapkit.load(path).predict([atoms], uncertainty=True)
    finally:
        path.unlink()
    same = first.energy[0] == second.energy[0] and first.energy_std[0] == second.energy_std[0]
    return "" if same else "a loaded model predicts other numbers"


def _spoil(rng: np.random.Generator, frames: list[Atoms], how: str) -> list[Atoms]:
    k = int(rng.integers(len(frames)))
    atoms, results = frames[k].copy(), dict(frames[k].calc.results)
    if how == "energy is not a number":
        results["energy"] = np.nan
    elif how == "forces are infinite":
        results["forces"] = np.full((len(atoms), 3), np.inf)
    elif how == "huge energy":
        results["energy"] = float(rng.choice([-1e300, 1e12, 1e30]))
    elif how == "coincident atoms":
        atoms.positions[-1] = atoms.positions[0] + float(rng.choice([0.0, 1e-9, 1e-3]))
    elif how == "flat cell":
        atoms.cell, atoms.pbc = np.diag([3.0, 3.0, 10 ** float(rng.uniform(-9, 0))]), True
    elif how == "far atom":
        atoms.positions[0] += 10 ** rng.uniform(2, 9)
    elif how == "no labels":
        results = {}
    elif how == "other species":
        atoms.numbers[0] = int(rng.choice([0, 1, 79, 119]))
    elif how == "same frame twice":
        return [*frames, frames[k], frames[k]]
    else:
        atoms = Atoms(atoms.symbols[:1], cell=atoms.cell, pbc=False)
        results = {"energy": -1.0} if rng.random() < 0.7 else {"forces": np.zeros((1, 3))}
    frames[k] = labelled(atoms, results)
    return frames


def isolated(
    work: Callable[[int], dict[str, Any]], numbers: Sequence[int], seconds: float, memory: float
) -> Iterator[tuple[int, dict[str, Any], float]]:
    """Each number, what ``work`` says of it in a forked process, and the time it took (s).

    A process goes on from number to number until it ends or says nothing for ``seconds``; the number then has the
    verdict ``ended`` or ``hung``, and the next process begins after it. ``memory`` (bytes) is what it may have beyond
    its parent's.
    """
    at = 0
    while at < len(numbers):
        read, write = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of threads that a fork leaves behind
            child = os.fork()
        if child == 0:
            os.close(read)
            _work_through(work, numbers[at:], write, memory)
        os.close(write)
        try:
            for answer, took in _answers(read, seconds):
                if answer is not None:
                    yield numbers[at], answer, took
                    at += 1
                    continue
                os.kill(child, signal.SIGKILL)
                yield numbers[at], {"verdict": "hung"}, took
                at += 1
                break
            else:
                if at < len(numbers):
                    status = os.waitpid(child, 0)[1]
                    child = 0
                    how = (
                        f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"code {os.WEXITSTATUS(status)}"
                    )
                    yield numbers[at], {"verdict": f"ended by {how}"}, 0.0
                    at += 1
        finally:
            os.close(read)
            if child:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


def _work_through(work: Callable[[int], dict[str, Any]], numbers: Sequence[int], write: int, memory: float) -> None:
    """The forked process: one line of JSON a number; it never returns."""
    code = 1
    try:
        mapped = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (int(mapped + memory),) * 2)
        for number in numbers:
            try:
                answer = work(number)
            except Exception as error:  # whatever is raised, and is no answer
                where = error.__traceback__
                while where is not None and where.tb_next is not None:
                    where = where.tb_next
                line = "" if where is None else f" at {Path(where.tb_frame.f_code.co_filename).name}:{where.tb_lineno}"
                answer = {"verdict": f"{type(error).__name__}: {str(error)[:200]}{line}"}
            os.write(write, (json.dumps(answer) + "\n").encode())
        code = 0
    finally:
        os._exit(code)


def _answers(read: int, seconds: float) -> Iterator[tuple[dict[str, Any] | None, float]]:
    """Answers as they come, with the time since the one before; None where none comes in time."""
    waiting, begin = b"", time.monotonic()
    while True:
        if not select.select([read], [], [], max(0.0, begin + seconds - time.monotonic()))[0]:
            yield None, time.monotonic() - begin
            return
        part = os.read(read, 1 << 16)
        if not part:
            return
        *lines, waiting = (waiting + part).split(b"\n")
        for line in lines:
            now = time.monotonic()
            yield json.loads(line), now - begin
            begin = now
