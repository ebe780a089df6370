r"""Reference energies: the contribution of each atom to the energy before anything is learned.

Least squares on compositions leaves two things open. A combination of species that no composition tells apart (both of
a compound of fixed composition) may have any value. And an atom without neighbours has the energy e0, which bonded
frames do not tell: what is added to e0 is taken off their local energies. Both are uncertain by a prior standard
deviation :math:`s_k`. The loading :math:`l_k` of a frame is :math:`s_k` times the projection of its composition on the
combination, or times its number of lone atoms of a species, where atoms with few neighbours count in part. Energies of
frames i and j have the covariance :math:`\sum_k l_{ik} l_{jk}` from this. Loadings vanish for compositions and
coordinations like those of the training frames.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from gapkit.exceptions import DataError, GapkitWarning, SettingsError, SpeciesError
from gapkit.structures.labels import LabelledFrame
from gapkit.structures.structure import Structure

_AGREEMENT = 1e-3  # eV; isolated atoms of one species must agree within this
_RANK = 1e-3  # singular values below this fraction of the largest leave a combination of species undetermined


#: an atom is on the way to a lone one below this share of the least coordination of the training frames
FEW_NEIGHBOURS = 0.5
LEAST_SQUARES, NO_ENERGIES = "least squares", "no energies: zero"


@dataclass(frozen=True)
class OpenCombination:
    """A combination of species whose reference energies no composition determines.

    Attributes
    ----------
    weights : dict
        Atomic number to component of a unit vector.
    std : float
        Prior standard deviation (eV) along it.
    """

    weights: dict[int, float]
    std: float


@dataclass(frozen=True)
class ReferenceEnergies:
    """Energy of each species, e0 in ``E = sum_i e0[Z_i] + ...``.

    Parameters
    ----------
    values
        Atomic number to energy in eV per atom.
    source
        Atomic number to where the value is from, in words.
    open_combinations
        Combinations of reference energies that the compositions of the frames do not determine.
    alone
        Atomic number to the standard deviation (eV) of the energy of an atom without neighbours, of species for which
        no isolated atom was seen.
    bonded
        Atomic number to the least coordination of such an atom in the training frames.
    shift
        Atomic number to what an atom without neighbours has beside its reference energy (eV); for samples.
    """

    values: dict[int, float]
    source: dict[int, str]
    open_combinations: tuple[OpenCombination, ...] = ()
    alone: dict[int, float] = field(default_factory=dict)
    bonded: dict[int, float] = field(default_factory=dict)
    shift: dict[int, float] = field(default_factory=dict)

    def loneliness(self, structure: Structure) -> np.ndarray:
        """Share (n,) of the lone atom in each atom of a structure: 0 for a coordination of half the least that a
        training frame had, or more; 1 without neighbours."""
        found = np.zeros(structure.n_atoms)
        if not self.bonded:
            return found
        coordination = structure.coordination()
        for z, least in self.bonded.items():
            of_species = structure.numbers == z
            found[of_species] = np.maximum(1.0 - coordination[of_species] / (FEW_NEIGHBOURS * least), 0.0)
        return found

    def loadings(self, structure: Structure) -> np.ndarray:
        """Loadings (k,) in eV of a frame."""
        numbers, lone = structure.numbers, self.loneliness(structure)
        of_species = [
            c.std * sum(w * np.count_nonzero(numbers == z) for z, w in c.weights.items())
            for c in self.open_combinations
        ]
        of_lone = [s * lone[numbers == z].sum() for z, s in sorted(self.alone.items())]
        return np.array([*of_species, *of_lone], dtype=float)

    def alone_std(self, structure: Structure) -> np.ndarray:
        """Standard deviation (n,) in eV of each atom's energy because it is alone, or nearly so; zero for others."""
        std = np.zeros(structure.n_atoms)
        for z, s in self.alone.items():
            std[structure.numbers == z] = s
        return std * self.loneliness(structure)

    def sampled(self, rng: np.random.Generator) -> ReferenceEnergies:
        """Reference energies with open combinations drawn from their prior; atoms nearly alone count as bonded."""
        values = dict(self.values)
        for c in self.open_combinations:
            drawn = c.std * rng.normal()
            values.update({z: values[z] + w * drawn for z, w in c.weights.items()})
        return replace(self, values=values, shift={z: s * float(rng.normal()) for z, s in sorted(self.alone.items())})

    def of(self, numbers: np.ndarray | Sequence[int]) -> float:
        """Sum of the reference energies in eV of atoms with these atomic numbers (N,)."""
        species, counts = np.unique(np.asarray(numbers, dtype=int), return_counts=True)
        unknown = [z for z in species.tolist() if z not in self.values]
        if unknown:
            raise SpeciesError(
                f"no reference energy for {_symbols(unknown)}; known are {_symbols(sorted(self.values))}"
            )
        return float(sum(n * self.values[z] for z, n in zip(species.tolist(), counts.tolist(), strict=True)))


def reference_energies(
    frames: Sequence[LabelledFrame],
    species: Iterable[int],
    e0: str | Mapping[str | int, float] = "auto",
) -> ReferenceEnergies:
    """Reference energies of ``species``.

    Parameters
    ----------
    frames
        Training frames, isolated atoms included.
    species
        Atomic numbers that need a value: those of the frames that are not isolated atoms.
    e0
        ``"auto"``: from isolated atoms where a species has one with an energy, the rest by least squares with
        those fixed. ``"isolated"``: from isolated atoms, an error where one is missing. ``"least_squares"``:
        by least squares, isolated atoms unused. Or values in eV by chemical symbol or atomic number.

    Returns
    -------
    ReferenceEnergies
        For all of ``species``, and for species that are known but not asked for (isolated or given).

    Notes
    -----
    Least squares minimises ``sum_frames (E / N - sum_Z e0[Z] n_Z / N)^2`` over the frames that have an energy
    and are not isolated atoms. Where the compositions do not determine it, the solution nearest to one common
    energy (the mean of what the known species leave, per atom) is taken, with a :class:`GapkitWarning`.
    Without any energies the values are zero, with a warning.

    Examples
    --------
    >>> from ase import Atoms
    >>> from gapkit.structures.labels import labelled_frames
    >>> frames = [Atoms("H2", positions=[[0, 0, 0], [0, 0, d]], info={"energy": -31.0}) for d in (0.7, 0.8)]
    >>> reference_energies(labelled_frames(frames), species=[1]).values
    {1: -15.5}
    """
    species = sorted({int(z) for z in species})
    if isinstance(e0, Mapping):
        return _given(e0, species)
    if e0 not in ("auto", "isolated", "least_squares"):
        raise SettingsError(f"e0 must be 'auto', 'isolated', 'least_squares' or a dict, not {e0!r}")
    values: dict[int, float] = {}
    source: dict[int, str] = {}
    if e0 != "least_squares":
        values, source = _isolated(frames)
    missing = [z for z in species if z not in values]
    if missing and e0 == "isolated":
        raise DataError(
            f"no isolated-atom frame with an energy for {_symbols(missing)}; add one for each "
            "(one atom, no periodic directions), or give e0 as a dict, or choose e0='auto'"
        )
    combinations: tuple[OpenCombination, ...] = ()
    if missing:
        fitted, fitted_source, combinations = _least_squares(frames, missing, values)
        values |= fitted
        source |= fitted_source
    return ReferenceEnergies(values, source, combinations)


def _symbols(numbers: Iterable[int]) -> str:
    """Chemical symbols, for messages."""
    return ", ".join(chemical_symbols[z] if 0 <= z < len(chemical_symbols) else f"Z={z}" for z in numbers)


def _given(e0: Mapping[str | int, float], species: list[int]) -> ReferenceEnergies:
    """Values that the user gives."""
    values: dict[int, float] = {}
    for key, value in e0.items():
        z = atomic_numbers.get(key, 0) if isinstance(key, str) else int(key)
        if not 0 < z < len(chemical_symbols):
            raise SettingsError(f"e0: {key!r} is no chemical symbol or atomic number")
        if z in values:
            raise SettingsError(f"e0: {chemical_symbols[z]} is given twice")
        if not np.isfinite(value):
            raise SettingsError(f"e0: the value of {key!r} is not finite: {value!r}")
        values[z] = float(value)
    missing = [z for z in species if z not in values]
    if missing:
        raise SpeciesError(f"e0 has no value for {_symbols(missing)}; add it, or choose e0='auto'")
    return ReferenceEnergies(values, dict.fromkeys(values, "given"))


def _isolated(frames: Sequence[LabelledFrame]) -> tuple[dict[int, float], dict[int, str]]:
    """Values from isolated atoms: the mean where a species has several that agree."""
    found: dict[int, list[tuple[float, int]]] = {}
    for frame in frames:
        if frame.energy is not None and frame.is_isolated_atom:
            found.setdefault(int(frame.atoms.numbers[0]), []).append((frame.energy, frame.index))
    values, source = {}, {}
    for z, atoms in sorted(found.items()):
        (low, low_index), (high, high_index) = min(atoms), max(atoms)
        if high - low > _AGREEMENT:
            raise DataError(
                f"isolated {chemical_symbols[z]} atoms disagree: {low:.6f} eV in frame {low_index}, "
                f"{high:.6f} eV in frame {high_index}; keep the right one, or give e0 as a dict"
            )
        values[z] = float(np.mean([energy for energy, _ in atoms]))
        source[z] = "isolated atom, frame " + ", ".join(str(index) for _, index in atoms)
    return values, source


def _least_squares(
    frames: Sequence[LabelledFrame], missing: list[int], known: Mapping[int, float]
) -> tuple[dict[int, float], dict[int, str], tuple[OpenCombination, ...]]:
    """Values of the ``missing`` species by least squares on compositions, the ``known`` ones fixed."""
    rows, targets = [], []
    for frame in frames:
        numbers = frame.atoms.numbers
        counts = np.array([np.count_nonzero(numbers == z) for z in missing], dtype=float)
        if frame.energy is None or frame.is_isolated_atom or not counts.any():
            continue
        rest = sum(value * np.count_nonzero(numbers == z) for z, value in known.items())
        rows.append(counts / len(numbers))
        targets.append((frame.energy - rest) / len(numbers))
    if not rows:
        warnings.warn(
            f"no frame has an energy that would fix the reference energy of {_symbols(missing)}: it is set "
            "to zero and total energies are known up to a constant per atom; add energies, or give e0",
            GapkitWarning,
            stacklevel=3,
        )
        return dict.fromkeys(missing, 0.0), dict.fromkeys(missing, NO_ENERGIES), ()
    X, y = np.array(rows), np.array(targets)
    mean = y.sum() / X.sum()
    left, s, right = np.linalg.svd(X)
    rank = int(np.count_nonzero(s > _RANK * s[0]))
    solution = mean + right[:rank].T @ ((left[:, :rank].T @ (y - mean * X.sum(axis=1))) / s[:rank])
    values = {z: float(e) for z, e in zip(missing, solution, strict=True)}
    # A species is determined where its unit vector lies in the space of the rows that count.
    leverage = np.einsum("rz,rz->z", right[:rank], right[:rank])
    undetermined = [z for z, h in zip(missing, leverage, strict=True) if h < 1.0 - 1e-6]
    source = dict.fromkeys(missing, LEAST_SQUARES)
    combinations = tuple(
        OpenCombination({z: float(w) for z, w in zip(missing, row, strict=True)}, abs(float(mean)))
        for row in right[rank:]
    )
    if undetermined:
        source |= dict.fromkeys(undetermined, f"{LEAST_SQUARES}, not determined by the compositions")
        warnings.warn(
            "the compositions of the frames do not determine the reference energies of "
            f"{_symbols(undetermined)}: energies of other compositions will be off by a constant per atom; "
            "add isolated-atom frames, or give e0 as a dict",
            GapkitWarning,
            stacklevel=3,
        )
    return values, source, combinations
