"""Frames with checked labels: the places of labels, their conventions, and the labels that are refused.

Units: energies eV (of the whole frame), forces eV/A, stresses eV/A^3 (ASE: tension positive), virials eV with
``virial = -stress * volume``; six components are in ASE's Voigt order xx yy zz yz xz xy.

Where a label is found, first hit wins:

1. the key that the user names, in ``atoms.info`` (energy, virial) or ``atoms.arrays`` (forces), or, because
   ASE's readers move some keys there, in the calculator's results. A frame without the named key lacks that
   label;
2. the results of the attached calculator: ``energy``, ``forces``, ``stress``;
3. ``energy``, ``forces`` (or ``force``), ``virial`` (or ``virials``) and ``stress`` in ``atoms.info`` and
   ``atoms.arrays``.

Forces and stresses are derivatives of the free energy of the electrons. Where any frame has forces, a stress or a
virial, the energy of every frame is therefore its ``free_energy``, where its calculator's results have one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import compare_atoms
from ase.constraints import FixAtoms, FixCartesian, FixScaled
from ase.data import chemical_symbols
from ase.geometry import minkowski_reduce

from gapkit.exceptions import DataError
from gapkit.structures.placeholders import placeholder_forces

ISOLATED_SPACING = 12.0  # A; a lone atom whose periodic images are all at least this far away is isolated
SAME_SPOT = 1e-3  # A; two atoms closer than this are taken for a mistake
_RELATIVE_TOLERANCE = 1e-3  # of the largest component: stress against virial, and symmetry of a 3x3 virial
_ABSOLUTE_TOLERANCE = 1e-4  # eV, added to the above
#: names of labels that need not be given, in the order in which they are looked for
FORCE_NAMES, VIRIAL_NAMES = ("forces", "force"), ("virial", "virials")
_FARTHEST = 1e6  # A; larger coordinates lose the digits that forces need, and squares of far larger ones overflow
_FLAT_CELL = 1e-6  # volume (area) over the product of the edges: below it the periodic vectors are dependent


@dataclass(frozen=True, eq=False)
class LabelledFrame:
    """One structure with its labels, checked.

    Parameters
    ----------
    atoms
        The structure: a copy without calculator.
    energy
        Total energy in eV, or None.
    forces
        Forces (N, 3) in eV/A, or None.
    virial
        Virial (6,) in eV, Voigt order xx yy zz yz xz xy, ``-stress * volume``, or None.
    config_type
        ``atoms.info["config_type"]`` as text, or None.
    trajectory
        ``atoms.info["trajectory"]`` as text, or None: frames that share it are not independent.
    index
        Position in the list that the frame came from.
    held
        Force components (N, 3) that are no labels: zeros under a constraint, or zeros that stand for no force
        (:mod:`gapkit.structures.placeholders`); None: there are none.
    placeholders
        Number of atoms whose zero forces stand for no force.
    sources
        By label kind, where the label was found, in words.
    """

    atoms: Atoms
    energy: float | None
    forces: np.ndarray | None
    virial: np.ndarray | None
    config_type: str | None
    trajectory: str | None
    index: int
    held: np.ndarray | None = None
    placeholders: int = 0
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.atoms)

    @property
    def force_labels(self) -> np.ndarray:
        """Booleans (3N,) of the force components that are labels, of a frame with forces."""
        return np.ones(3 * self.n_atoms, dtype=bool) if self.held is None else ~self.held.ravel()

    @property
    def volume(self) -> float | None:
        """Cell volume in A^3; None where no direction is periodic or the cell is not three-dimensional."""
        return cell_volume(self.atoms)

    @property
    def is_isolated_atom(self) -> bool:
        """Whether this is one atom without neighbours.

        True for a frame of one atom that is not periodic in any direction, or whose config_type says so
        (``isolated_atom``, ``IsolatedAtom``, ``isolated``, ``single atom``, ``free-atom``, ``atom``), or whose
        nearest periodic image is at least 12 A away.
        """
        if self.n_atoms != 1:
            return False
        word = "".join(letter for letter in (self.config_type or "").lower() if letter.isalpha())
        if word.startswith("isolated") or word in ("atom", "freeatom", "singleatom"):
            return True
        pbc = self.atoms.pbc
        if not pbc.any():
            return True
        reduced = minkowski_reduce(self.atoms.cell, pbc)[0]
        return bool(np.linalg.norm(reduced[pbc], axis=1).min() >= ISOLATED_SPACING)


def cell_volume(atoms: Atoms) -> float | None:
    """Cell volume in A^3, or None where no direction is periodic or the cell is not three-dimensional."""
    if not atoms.pbc.any():
        return None
    (a, b, c), (d, e, f), (g, h, i) = atoms.cell.array.tolist()  # plain numbers: a tenth of the time of arrays
    volume = abs(a * (e * i - f * h) + b * (f * g - d * i) + c * (d * h - e * g))
    edges = math.hypot(a, b, c) * math.hypot(d, e, f) * math.hypot(g, h, i)
    return volume if volume > _FLAT_CELL * edges else None


def check_structure(atoms: Atoms, context: str) -> None:
    """Raise :class:`DataError` unless ``atoms`` is a structure that can be computed with.

    Refused: no atoms; an atomic number of 0 (``X``) or beyond the periodic table; NaN, infinity or
    coordinates beyond 1e6 A in positions or cell; periodic directions whose cell vectors are zero or
    linearly dependent. Atoms on one spot are found by :func:`check_distances`, which needs the pair list.

    Parameters
    ----------
    atoms
        The structure.
    context
        Start of the message, for example ``"frame 3"``.
    """
    numbers = atoms.numbers
    if len(numbers) == 0:
        raise DataError(f"{context}: it has no atoms; remove the frame")
    if numbers.min() < 1 or numbers.max() >= len(chemical_symbols):
        atom = int(np.argmax((numbers < 1) | (numbers >= len(chemical_symbols))))
        raise DataError(
            f"{context}: atom {atom} has atomic number {numbers[atom]}, which is no element; "
            "give every atom a chemical symbol"
        )
    positions = atoms.positions
    if not np.isfinite(positions).all():
        atom = int(np.argmin(np.isfinite(positions).all(axis=1)))
        raise DataError(f"{context}: the position of atom {atom} is not finite; repair or remove the frame")
    cell = atoms.cell.array
    if not np.isfinite(cell).all():
        raise DataError(f"{context}: the cell is not finite; repair or remove the frame")
    far = np.abs(positions).max(axis=1)
    if far.max() > _FARTHEST:
        atom = int(np.argmax(far))
        raise DataError(
            f"{context}: the position of atom {atom} is {far[atom]:.3g} A from the origin; wrap it into the cell, "
            "or repair the frame"
        )
    if np.abs(cell).max() > _FARTHEST:
        raise DataError(f"{context}: a cell vector is longer than {_FARTHEST:.0e} A; repair the cell")
    pbc = atoms.pbc
    if not pbc.any():
        return
    vectors = cell[pbc]
    edges = np.sqrt((vectors * vectors).sum(axis=1))
    if edges.min() == 0.0:
        direction = int(np.flatnonzero(pbc)[np.argmin(edges)])
        raise DataError(
            f"{context}: direction {direction} is periodic but its cell vector is zero; "
            "give the cell, or set pbc to False in that direction"
        )
    if len(vectors) == 3:
        size = abs(np.linalg.det(vectors))
    elif len(vectors) == 2:
        size = np.linalg.norm(np.cross(vectors[0], vectors[1]))
    else:
        return
    if size <= _FLAT_CELL * edges.prod():
        raise DataError(
            f"{context}: the periodic cell vectors are linearly dependent (zero volume); "
            "give the cell, or set pbc to False where the structure is not periodic"
        )


def check_distances(distances: np.ndarray, i: np.ndarray, j: np.ndarray, context: str) -> None:
    """Raise :class:`DataError` where two atoms (periodic images included) sit on one spot, closer than 1e-3
    A.

    Parameters
    ----------
    distances
        Distance of each pair (p,) in A, from any pair list.
    i, j
        Atoms of each pair (p,).
    context
        Start of the message, for example ``"frame 3"``.
    """
    if len(distances) == 0:
        return
    pair = int(np.argmin(distances))
    distance = distances[pair]
    if distance >= SAME_SPOT:
        return
    if i[pair] == j[pair]:
        raise DataError(
            f"{context}: atom {i[pair]} is {distance:.2g} A from its own periodic image; the cell is too small"
        )
    raise DataError(
        f"{context}: atoms {i[pair]} and {j[pair]} are {distance:.2g} A apart, on one spot; "
        "remove the duplicate atom or repair the frame"
    )


def voigt(tensor: Any, context: str, key: str) -> np.ndarray:
    """Six Voigt components (6,), order xx yy zz yz xz xy, of a symmetric tensor in eV.

    Parameters
    ----------
    tensor
        Shape (3, 3), (9,) or (6,) in Voigt order. An asymmetry within 1e-3 of the largest component plus 1e-4
        eV is averaged out, more is a :class:`DataError`.
    context, key
        Start of the message and the name of the label.

    Examples
    --------
    >>> voigt([[1, 6, 5], [6, 2, 4], [5, 4, 3]], "frame 0", "virial").tolist()
    [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    """
    t = np.asarray(tensor, dtype=float)
    if t.shape == (6,):
        return t.copy()
    if t.shape not in ((3, 3), (9,)):
        raise DataError(
            f"{context}: {key!r} has shape {t.shape}; give a 3x3 matrix, 9 numbers, or 6 in the order xx yy zz yz xz xy"
        )
    t = t.reshape(3, 3)
    if np.abs(t - t.T).max() > _tolerance(t):
        raise DataError(f"{context}: {key!r} is not symmetric: {t.tolist()}; repair or remove it")
    t = 0.5 * (t + t.T)
    return t[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


def labelled_frames(
    frames: Atoms | Iterable[Atoms],
    energy_key: str | None = None,
    forces_key: str | None = None,
    virial_key: str | None = None,
    require_labels: bool = True,
) -> list[LabelledFrame]:
    """Check structures and labels, and gather the labels of each frame.

    Two atoms on one spot are not looked for here: see :func:`check_distances`.

    Parameters
    ----------
    frames
        A list of ``ase.Atoms``; a single one stands for a list of one.
    energy_key, forces_key, virial_key
        Names under which the labels are stored; None for the usual places (see the module's text). A virial
        key whose name contains ``stress`` is read as a stress in eV/A^3, any other as a virial in eV. With a
        named virial key no other virial or stress is looked at.
    require_labels
        Whether it is an error that no frame has any label, or that no frame has a label that the user named.

    Raises
    ------
    DataError
        For labels that cannot be used, with the index of the frame: see the rules of :func:`check_structure`; NaN or
        infinity or a wrong shape in a label; stress and virial that disagree; a stress other than zero in a frame where
        it has no meaning (not periodic, or a cell without volume).

    Examples
    --------
    >>> from ase.build import bulk
    >>> crystal = bulk("Si", a=5.4)
    >>> crystal.info.update(my_energy=-10.8, my_virial=[0.3, 0.3, 0.3, 0, 0, 0])
    >>> frame = labelled_frames(crystal, energy_key="my_energy", virial_key="my_virial")[0]
    >>> frame.energy, frame.forces, frame.virial.tolist()
    (-10.8, None, [0.3, 0.3, 0.3, 0.0, 0.0, 0.0])
    """
    frames = atoms_list(frames)
    labelled = []
    for index, atoms in enumerate(frames):
        context = f"frame {index}"
        check_structure(atoms, context)
        config_type, trajectory = atoms.info.get("config_type"), atoms.info.get("trajectory")
        all_forces, forces_source = _forces(atoms, forces_key, context)
        forces, held, placeholders = _free_forces(atoms, all_forces)
        virial, virial_source = _virial(atoms, virial_key, context)
        labelled.append(
            LabelledFrame(
                atoms=atoms.copy(),
                energy=None,
                forces=forces,
                virial=virial,
                config_type=None if config_type is None else str(config_type),
                trajectory=None if trajectory is None else str(trajectory),
                index=index,
                held=held,
                placeholders=placeholders,
                sources={"forces": forces_source, "virial": virial_source},
            )
        )
    derivatives = any(f.forces is not None or f.virial is not None for f in labelled)
    for k, (frame, atoms) in enumerate(zip(labelled, frames, strict=True)):
        energy, source = _energy(atoms, energy_key, f"frame {frame.index}", derivatives)
        frame = replace(frame, energy=energy, sources={"energy": source, **frame.sources})
        have = {kind: words for kind, words in frame.sources.items() if getattr(frame, kind) is not None}
        labelled[k] = replace(frame, sources=have)
    if require_labels:
        _require_labels(labelled, frames, {"energy": energy_key, "forces": forces_key, "virial": virial_key})
    return labelled


def atoms_list(frames: Any, may_be_empty: bool = False) -> list[Atoms]:
    """Frames as a list of ``ase.Atoms``, also for a single one; an error names the type of anything else."""
    if isinstance(frames, Atoms):
        return [frames]
    if isinstance(frames, (str, bytes, dict)) or not isinstance(frames, Iterable):
        raise DataError(
            f"expected a list of ase.Atoms, got {type(frames).__name__}; read a file with ase.io.read(path, ':')"
        )
    frames = list(frames)
    if not frames and not may_be_empty:
        raise DataError("expected a list of ase.Atoms, got an empty one; give at least one frame")
    for index, atoms in enumerate(frames):
        if not isinstance(atoms, Atoms):
            raise DataError(f"frame {index}: expected ase.Atoms, got {type(atoms).__name__}")
    return frames


def _require_labels(labelled: list[LabelledFrame], frames: list[Atoms], keys: dict[str, str | None]) -> None:
    """Raise unless every named key occurs somewhere and at least one frame has a label."""
    for label, key in keys.items():
        if key is not None and all(getattr(frame, label) is None for frame in labelled):
            present = sorted({k for atoms in frames for k in (*atoms.info, *atoms.arrays, *_results(atoms))})
            raise DataError(
                f"{label}_key {key!r} is in none of the {len(frames)} frames; they have: {', '.join(present)}"
            )
    if all(f.energy is None and f.forces is None and f.virial is None for f in labelled):
        looked = [
            f"{label} (key {key!r})" if key is not None else f"{label} (calculator results, info and arrays)"
            for label, key in keys.items()
        ]
        raise DataError(
            f"none of the {len(frames)} frames has labels; looked for {', '.join(looked)}; "
            + ("forces of exactly zero stand for no force; " if any(f.placeholders for f in labelled) else "")
            + "name the keys with energy_key, forces_key, virial_key"
        )


def _tolerance(*tensors: np.ndarray) -> float:
    """Largest difference in eV that passes for rounding in these virials."""
    return _ABSOLUTE_TOLERANCE + _RELATIVE_TOLERANCE * max(float(np.abs(t).max()) for t in tensors)


def _results(atoms: Atoms) -> dict[str, Any]:
    """Results of the attached calculator, empty without one."""
    return getattr(atoms.calc, "results", None) or {}


def _result(atoms: Atoms, key: str, context: str) -> Any:
    """One result of the attached calculator, or None; refused where it was computed for another structure."""
    value = _results(atoms).get(key)
    if value is None:
        return None
    computed = getattr(atoms.calc, "atoms", None)
    if computed is not None:
        changed = compare_atoms(computed, atoms, tol=1e-10, excluded_properties={"initial_charges", "initial_magmoms"})
        if changed:
            raise DataError(
                f"{context}: the {key!r} of its calculator was computed for another structure "
                f"(changed since: {', '.join(changed)}); compute it again, or set atoms.calc = None"
            )
    return value


def _first(*found: tuple[Any, str]) -> tuple[Any, str]:
    """The first value, with where it is from, that is not None; else None and no words."""
    return next(((value, source) for value, source in found if value is not None), (None, ""))


def _of_calculator(atoms: Atoms, key: str, context: str) -> tuple[Any, str]:
    return _result(atoms, key, context), f"{key} of the calculator"


def _of_info(atoms: Atoms, key: str) -> tuple[Any, str]:
    return atoms.info.get(key), f"info[{key!r}]"


def _of_arrays(atoms: Atoms, key: str) -> tuple[Any, str]:
    return atoms.arrays.get(key), f"arrays[{key!r}]"


def _numbers(value: Any, context: str, key: str) -> np.ndarray:
    """``value`` as finite float64, or an error."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise DataError(f"{context}: {key!r} has rows of different lengths; repair or remove it") from None
    if array.dtype.kind not in "iuf":
        entry = next((v for v in array.ravel().tolist() if isinstance(v, bool) or not isinstance(v, Real)), None)
        raise DataError(f"{context}: {key!r} is not numeric: {entry!r:.60}; repair or remove it")
    array = array.astype(float)
    if not np.isfinite(array).all():
        raise DataError(f"{context}: {key!r} holds NaN or infinity; repair it, or remove it from the frame")
    return array


def _energy(atoms: Atoms, key: str | None, context: str, derivatives: bool) -> tuple[float | None, str]:
    """Total energy in eV, and where it is from: the free energy, where ``derivatives`` are to be consistent with it."""
    if key is not None:
        value, source = _first(_of_info(atoms, key), _of_calculator(atoms, key, context))
    else:
        key = "energy"
        energies = [_of_calculator(atoms, name, context) for name in ("energy", "free_energy")]
        value, source = _first(*(energies[::-1] if derivatives else energies), _of_info(atoms, "energy"))
    if value is None:
        return None, ""
    energy = _numbers(value, context, key)
    if energy.size != 1:
        raise DataError(f"{context}: {key!r} has shape {energy.shape}; give one number (eV, whole frame)")
    return float(energy.reshape(())), source


def _forces(atoms: Atoms, key: str | None, context: str) -> tuple[np.ndarray | None, str]:
    """Forces (N, 3) in eV/A, and where they are from."""
    if key is not None:
        value, source = _first(_of_arrays(atoms, key), _of_calculator(atoms, key, context))
    else:
        key = next((name for name in FORCE_NAMES if name in atoms.arrays), "forces")
        value, source = _first(_of_calculator(atoms, "forces", context), _of_arrays(atoms, key))
    if value is None:
        return None, ""
    forces = _numbers(value, context, key)
    if forces.shape != (len(atoms), 3):
        raise DataError(f"{context}: {key!r} has shape {forces.shape}; its atoms need ({len(atoms)}, 3)")
    return forces, source


def _free_forces(atoms: Atoms, forces: np.ndarray | None) -> tuple[np.ndarray | None, np.ndarray | None, int]:
    """Forces (N, 3), which components are no labels (None: all are; no forces where none is), and placeholder atoms.

    ASE and many codes write zero where an atom is held (``FixAtoms``, ``FixCartesian``, ``FixScaled``), which says
    nothing of the force on it; some write zeros without a constraint.
    """
    if forces is None:
        return None, None, 0
    moves = np.ones((len(atoms), 3))
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms | FixCartesian | FixScaled):
            constraint.adjust_forces(atoms, moves)
    held = (moves == 0.0) & (forces == 0.0)
    placeholders = placeholder_forces(atoms, forces) & ~held.all(axis=1)
    held |= placeholders[:, None]
    if held.all():
        return None, None, int(placeholders.sum())
    return forces, held if held.any() else None, int(placeholders.sum())


def _virial(atoms: Atoms, key: str | None, context: str) -> tuple[np.ndarray | None, str]:
    """Virial (6,) in eV, from a virial or a stress, and where it is from."""
    if key is not None:
        value, source = _first(_of_info(atoms, key), _of_calculator(atoms, key, context))
        if value is None:
            return None, ""
        read = _virial_of_stress if "stress" in key.lower() else _virial_of_virial
        return read(value, atoms, context, key), source
    stress, of_stress = _first(_of_calculator(atoms, "stress", context), _of_info(atoms, "stress"))
    virial, of_virial = _first(*(_of_info(atoms, name) for name in VIRIAL_NAMES))
    from_stress = None if stress is None else _virial_of_stress(stress, atoms, context, "stress")
    from_virial = None if virial is None else _virial_of_virial(virial, atoms, context, "virial")
    if from_stress is None or from_virial is None:
        return _first((from_virial, of_virial), (from_stress, of_stress))
    if np.abs(from_stress - from_virial).max() > _tolerance(from_stress, from_virial):
        raise DataError(
            f"{context}: 'virial' and 'stress' disagree: the virial is {from_virial.tolist()} eV, "
            f"-stress * volume is {from_stress.tolist()} eV; "
            "remove one of them, or name the right one with virial_key"
        )
    return from_virial, of_virial


def _virial_of_virial(value: Any, atoms: Atoms, context: str, key: str) -> np.ndarray | None:
    """Virial (6,) in eV; None for the zeros that some codes write for frames without periodicity."""
    virial = voigt(_numbers(value, context, key), context, key)
    if atoms.pbc.any() and cell_volume(atoms) is None:
        if virial.any():
            raise DataError(f"{context}: {key!r} is not zero, but the cell has no volume; remove it, or give the cell")
        return None
    return virial if atoms.pbc.any() or virial.any() else None


def _virial_of_stress(value: Any, atoms: Atoms, context: str, key: str) -> np.ndarray | None:
    """Virial (6,) in eV from a stress in eV/A^3; None for zeros where a stress has no meaning."""
    stress = _numbers(value, context, key)
    volume = cell_volume(atoms)
    if volume is None:
        if stress.any():
            reason = "the cell has no volume" if atoms.pbc.any() else "the frame is not periodic"
            raise DataError(
                f"{context}: {key!r} is not zero, but {reason}, so that a stress has no meaning; "
                "remove it, or give cell and pbc"
            )
        return None
    return voigt(-volume * stress, context, key)
