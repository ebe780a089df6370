"""A descriptor and a calculator that are right, and many that are wrong in one thing each."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

import gapkit
from gapkit.descriptors import Descriptor, EnvironmentBatch, PairDistance
from gapkit.descriptors.base import check_cutoff, smooth_cutoff
from gapkit.exceptions import SettingsError
from gapkit.structures.structure import Structure
from gapkit.testing.finite_differences import VOIGT

CENTRES = np.array([0.3, 0.5, 0.7])


class Shells(Descriptor):
    """One environment per atom: how many neighbours are in each of three smooth shells, and all of them."""

    name = "test_shells"

    def __init__(self, r_cut: float = 4.0, power: float = 2.0) -> None:
        self.r_cut, self.power = check_cutoff(r_cut), power

    def for_species(self, species):
        described = copy.copy(self)
        described.species = tuple(sorted(species))
        return described

    @property
    def channels(self):
        return tuple((z,) for z in self.species)

    def n_features(self, channel):
        return 4

    def settings(self):
        return {"name": self.name, "r_cut": self.r_cut, "power": self.power}

    def shells(self, r):
        """Share of each shell (p, 4) of neighbours at the distances r (A), and its slopes."""
        cut, dcut = smooth_cutoff(r, self.r_cut, 0.6 * self.r_cut)
        s = (r[:, None] / self.r_cut - CENTRES) / 0.15
        bell = np.exp(-(s**self.power))
        slope = -self.power * s ** (self.power - 1) * bell / (0.15 * self.r_cut)
        value, slope = np.column_stack([bell, np.ones_like(r)]), np.column_stack([slope, np.zeros_like(r)])
        return value * cut[:, None], slope * cut[:, None] + value * dcut[:, None]

    def by_vectors(self, vectors, distances):
        """Shares (p, 4) of the shells, and their derivatives (p, 3, 4) by the vectors (p, 3)."""
        value, slope = self.shells(distances)
        return value, slope[:, None, :] * (vectors / distances[:, None])[:, :, None]

    def environments(self, structure, channel, derivatives=True, atoms=None):
        centres, pairs, n = self.centres(structure, channel, atoms), self.pairs(structure), structure.n_atoms
        value, by_pair = self.by_vectors(pairs.vectors, pairs.distances)
        x = np.zeros((n, 4))
        np.add.at(x, pairs.i, value)
        if not derivatives:
            none = np.zeros(0)
            start = np.zeros(len(centres) + 1, dtype=np.int64)
            return EnvironmentBatch(
                x[centres], np.ones(len(centres)), centres, start, none.astype(np.int64), np.zeros((0, 4)), none
            )
        # derivatives by the pair vectors, then by all atoms and the six strains
        by_atom, by_strain = np.zeros((n, n, 3, 4)), np.zeros((n, 6, 4))
        np.add.at(by_atom, (pairs.i, pairs.j), by_pair)
        np.add.at(by_atom, (pairs.i, pairs.i), -by_pair)
        for v, (a, b) in enumerate(VOIGT):
            both = pairs.vectors[:, a, None] * by_pair[:, b] + pairs.vectors[:, b, None] * by_pair[:, a]
            np.add.at(by_strain[:, v], pairs.i, 0.5 * both)
        J = np.concatenate([by_atom.reshape(n, 3 * n, 4), by_strain], axis=1)[centres].reshape(-1, 4)
        rows = 3 * n + 6
        start = rows * np.arange(len(centres) + 1)
        target = np.tile(np.arange(rows), len(centres))
        return EnvironmentBatch(x[centres], np.ones(len(centres)), centres, start, target, J, np.zeros(len(J)))

    def centres(self, structure, channel, atoms):
        return structure.centres_of(channel[0], atoms)

    def pairs(self, structure):
        return structure.pairs(self.r_cut)


class Nameless(Shells):
    """A descriptor without a name of its class: it cannot stand in files."""

    name = None

    def settings(self):
        return {**super().settings(), "name": "nameless"}


# -- wrong descriptors -------------------------------------------------------------------------------------------


class Faulty(Shells):
    """Shells whose environments go through :meth:`spoil`."""

    name = None

    def environments(self, structure, channel, derivatives=True, atoms=None):
        return self.spoil(super().environments(structure, channel, derivatives, atoms), structure)


class Faultless(Faulty):
    def spoil(self, b, s):
        return b


class WrongSign(Faulty):
    def spoil(self, b, s):
        return replace(b, J=-b.J)


class WrongTarget(Faulty):
    def spoil(self, b, s):
        shifted = np.where(b.target < 3 * s.n_atoms, (b.target + 3) % (3 * s.n_atoms), b.target)
        return replace(b, target=shifted)


class ForgottenStrain(Faulty):
    def spoil(self, b, s):
        J = b.J.copy()
        J[b.target >= 3 * s.n_atoms] = 0.0
        return replace(b, J=J)


class WholeShear(Faulty):
    def spoil(self, b, s):
        J = b.J.copy()
        J[b.target >= 3 * s.n_atoms + 3] *= 2.0
        return replace(b, J=J)


class AtomOff(Faulty):
    def spoil(self, b, s):
        return replace(b, atom=(b.atom + 1) % s.n_atoms)


class AtomBeyond(Faulty):
    def spoil(self, b, s):
        return replace(b, atom=b.atom + s.n_atoms)


class Single(Faulty):
    def spoil(self, b, s):
        return replace(b, J=b.J.astype(np.float32))


class Transposed(Faulty):
    def spoil(self, b, s):
        return replace(b, J=np.asfortranarray(b.J))


class LonelyRows(Faulty):
    """Rows that are zero are left out one by one."""

    def spoil(self, b, s):
        keep = np.abs(b.J).max(axis=1, initial=0.0) > 0
        before = np.concatenate([[0], np.cumsum(keep)])
        return replace(b, start=before[b.start], target=b.target[keep], J=b.J[keep], dweight=b.dweight[keep])


class NoneWhenEmpty(Faulty):
    def spoil(self, b, s):
        return b if len(b) else replace(b, x=np.zeros((0, 0)))


class NanAlone(Faulty):
    def spoil(self, b, s):
        alone = b.x.max(axis=1, initial=0.0, keepdims=True) == 0
        return replace(b, x=np.where(alone, np.nan, b.x))


class Backwards(Faulty):
    """Environments are made from the last atom to the first, whatever atoms are asked for."""

    def spoil(self, b, s):
        return replace(b, x=b.x[::-1].copy(), atom=b.atom[::-1].copy())


class IgnoresAtoms(Shells):
    name = None

    def centres(self, structure, channel, atoms):
        return super().centres(structure, channel, None)


class AllCentres(Shells):
    """Ghosts have environments too."""

    name = None

    def centres(self, structure, channel, atoms):
        return (
            np.flatnonzero(structure.numbers == channel[0])
            if atoms is None
            else super().centres(structure, channel, atoms)
        )


class LongestList(Shells):
    name = None

    def pairs(self, structure):
        return structure._longest

    def shells(self, r):
        value, slope = super().shells(r)
        value[:, 3], slope[:, 3] = np.exp(-r), -np.exp(-r)  # does not end at the cutoff
        return value, slope


class Jump(Shells):
    name = None

    def shells(self, r):
        value, slope = super().shells(r)
        value[:, 3], slope[:, 3] = r, 1.0
        return value, slope


class Kink(Shells):
    name = None

    def shells(self, r):
        value, slope = super().shells(r)
        value[:, 3], slope[:, 3] = self.r_cut - r, -1.0
        return value, slope


class Oriented(Shells):
    """Distances are longer along z than they are, in the derivatives too."""

    name = None

    def by_vectors(self, vectors, distances):
        stretch = np.array([1.0, 1.0, 1.1])
        longer = vectors * stretch
        value, by_vector = super().by_vectors(longer, np.linalg.norm(longer, axis=1))
        return value, by_vector * stretch[:, None]


class ByIndex(Faulty):
    """A feature depends on the number of the atom."""

    def spoil(self, b, s):
        x = b.x.copy()
        x[:, 3] += 0.1 * b.atom
        return replace(b, x=x)


class Remembers(Shells):
    """One array is given out for all calls of one size."""

    name = None
    store: dict = {}  # noqa: RUF012

    def environments(self, structure, channel, derivatives=True, atoms=None):
        b = super().environments(structure, channel, derivatives, atoms)
        x = self.store.setdefault((structure.numbers.tobytes(), channel, derivatives, len(b)), b.x)
        if not np.isnan(x).any():
            x[:] = b.x
        return replace(b, x=x)


class ChangesItself(Shells):
    name = None

    def for_species(self, species):
        self.species = tuple(sorted(species))
        return self


class Unsorted(Shells):
    name = None

    def for_species(self, species):
        described = copy.copy(self)
        described.species = tuple(species)
        return described


class TwiceTheFrame(Shells):
    name = None

    def frame_environments(self, structure, channel, derivatives=True):
        b = self.environments(structure, channel, derivatives)
        return replace(b, weight=2 * b.weight)


class NotAlone(Shells):
    """The frame's environments are the atoms' environments from the last to the first."""

    name = None
    each_atom_alone = True

    def frame_environments(self, structure, channel, derivatives=True):
        b = self.environments(structure, channel, derivatives)
        rows = len(b.target) // max(len(b), 1)
        turned = np.arange(len(b.target)).reshape(len(b), rows)[::-1].ravel()
        return EnvironmentBatch(
            b.x[::-1].copy(), b.weight, b.atom[::-1].copy(), b.start, b.target[turned], b.J[turned], b.dweight
        )


class NoUnitVectors(Shells):
    name = None
    of_atoms = True


class ForgottenWeight(PairDistance):
    name = None

    def environments(self, structure, channel, derivatives=True, atoms=None):
        b = super().environments(structure, channel, derivatives, atoms)
        return replace(b, dweight=np.zeros(len(b.dweight)))


class NarrowRange(PairDistance):
    name = None

    def __init__(self, r_cut=4.0, cutoff_width=1.0):
        super().__init__(r_cut, cutoff_width)
        self.feature_range = (0.0, 0.5 * r_cut)


class HalfDistances(PairDistance):
    """of_pairs, but the feature is half the distance."""

    name = None

    def environments(self, structure, channel, derivatives=True, atoms=None):
        b = super().environments(structure, channel, derivatives, atoms)
        return replace(b, x=b.x / 2, J=b.J / 2)

    def frame_environments(self, structure, channel, derivatives=True):
        b = super().frame_environments(structure, channel, derivatives)
        return replace(b, x=b.x / 2, J=b.J / 2)


class Overwrites(Shells):
    name = None

    def add_prediction(self, structure, channel, predictor, sums):
        sums.local[:] = 0.0
        super().add_prediction(structure, channel, predictor, sums)


class HalfGradient(Shells):
    name = None

    def add_prediction(self, structure, channel, predictor, sums):
        before = sums.gradient.copy()
        super().add_prediction(structure, channel, predictor, sums)
        sums.gradient[:] = before + 0.5 * (sums.gradient - before)


class WrongNine(PairDistance):
    """Nine components are those of the transposed pairs only: the upper triangle twice."""

    name = None

    def add_prediction(self, structure, channel, predictor, sums):
        before = sums.strain.copy()
        super().add_prediction(structure, channel, predictor, sums)
        if sums.strain.shape[1] == 9:
            added = (sums.strain - before).reshape(-1, 3, 3)
            sums.strain[:] = before + (2 * np.triu(added) - added * np.eye(3)).reshape(-1, 9)


class OtherWithout(Shells):
    """Features are others where no derivatives are asked for."""

    name = None

    def environments(self, structure, channel, derivatives=True, atoms=None):
        b = super().environments(structure, channel, derivatives, atoms)
        return b if derivatives else replace(b, x=2 * b.x)


class PerAtom(Faulty):
    """Features are per atom of the whole structure: wrong where a structure holds many frames."""

    def spoil(self, b, s):
        return replace(b, x=b.x * 4 / s.n_atoms, J=b.J * 4 / s.n_atoms)


class CountsAtoms(Shells):
    """Predictions depend on how many atoms the structure has."""

    name = None

    def add_prediction(self, structure, channel, predictor, sums):
        if structure.n_atoms <= 10 or len(structure.centres) < structure.n_atoms:
            super().add_prediction(structure, channel, predictor, sums)


class PredictsGhosts(Shells):
    """Ghosts are predicted too."""

    name = None

    def add_prediction(self, structure, channel, predictor, sums):
        whole = Structure.of_pairs(structure.numbers, structure.pairs(self.r_cut))
        super().add_prediction(whole, channel, predictor, sums)


class LosesItsShape(Shells):
    name = None

    def reshaped(self, cutoff, finer, width, finest):
        return Shells(cutoff * self.r_cut)


class PickledWithoutPower(Shells):
    """A pickle loses the power; copies do not."""

    name = None

    def __getstate__(self):
        return {**self.__dict__, "power": 2.0}

    def __copy__(self):
        other = type(self)(self.r_cut)
        other.__dict__.update(self.__dict__)
        return other

    def __deepcopy__(self, memo):
        return copy.copy(self)


class RefusesNine(PairDistance):
    name = None

    def add_prediction(self, structure, channel, predictor, sums):
        if sums.strain.shape[1] == 9:
            raise SettingsError("six only")
        super().add_prediction(structure, channel, predictor, sums)


class ForgetsASetting(Shells):
    name = "test_forgets_a_setting"

    def settings(self):
        return {"name": self.name, "r_cut": self.r_cut}


class SettingsOfArrays(Shells):
    name = "test_settings_of_arrays"

    def settings(self):
        return {"name": self.name, "r_cut": np.float32(self.r_cut), "power": self.power}


class ForgetsArrays(Shells):
    name = "test_forgets_arrays"

    def for_species(self, species):
        described = super().for_species(species)
        described.table = np.random.default_rng().normal(size=3)
        return described

    def arrays(self):
        return {"table": self.table}


class LosesItsPower(Shells):
    """A copy loses the power."""

    name = None

    def __deepcopy__(self, memo):
        return type(self)(self.r_cut).for_species(self.species)


# -- calculators -------------------------------------------------------------------------------------------------


class Repulsion(gapkit.ZBL):
    """A calculator that passes: ZBL of long range, with local stresses and batches."""

    def __init__(self, **kwargs):
        super().__init__(r_cut=4.0, cutoff_width=3.0, **kwargs)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.spoil(self.results, self.atoms)

    def spoil(self, results, atoms):
        pass

    def batch_forces(self, atoms):
        work = atoms.copy()

        def evaluate(positions):
            energies, forces = [], []
            for x in positions:
                work.positions = x
                energies.append(self.get_property("energy", work))
                forces.append(self.get_property("forces", work))
            return np.array(energies), np.array(forces)

        return evaluate


class PressureSign(Repulsion):
    def spoil(self, results, atoms):
        if "stress" in results:
            results["stress"] *= -1


class ShearOfEngineers(Repulsion):
    def spoil(self, results, atoms):
        if "stress" in results:
            results["stress"][3:] *= 2


class DoubleForces(Repulsion):
    def spoil(self, results, atoms):
        results["forces"] = 2 * results["forces"]


class OneForceOff(Repulsion):
    """Every atom has a small force too much."""

    def spoil(self, results, atoms):
        results["forces"] = results["forces"] + [1e-3 * np.abs(results["forces"]).max(), 0.0, 0.0]


class EnergiesOff(Repulsion):
    def spoil(self, results, atoms):
        results["energies"] = 2 * results["energies"]


class NoFreeEnergy(Repulsion):
    implemented_properties = ["energy", "forces", "stress", "energies"]  # noqa: RUF012


class FreeEnergyOff(Repulsion):
    """Forces are those of the energy, not of what is given as the free energy."""

    def spoil(self, results, atoms):
        results["free_energy"] = 0.9 * results["energy"]


class WrongShape(Repulsion):
    def spoil(self, results, atoms):
        results["forces"] = results["forces"].ravel()


class StressesOff(Repulsion):
    implemented_properties = [*gapkit.ZBL.implemented_properties, "stresses"]  # noqa: RUF012

    def spoil(self, results, atoms):
        if "stress" in results:
            results["stresses"] = np.tile(results["stress"], (len(atoms), 1))


class EnergiesByIndex(Repulsion):
    """The first atom owns more than its share, the last less."""

    def spoil(self, results, atoms):
        results["energies"] = results["energies"] + np.linspace(0.1, -0.1, len(atoms))


class Oblong(Repulsion):
    """Distances along z are a tenth too long."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        longer = atoms.copy()
        longer.set_cell(atoms.cell.array * [1.0, 1.0, 1.1])
        longer.positions = atoms.positions * [1.0, 1.0, 1.1]
        super().calculate(longer, properties, system_changes)
        Calculator.calculate(self, atoms, properties, system_changes)
        self.results["forces"] = self.results["forces"] * [1.0, 1.0, 1.1]
        self.results.pop("stress", None)

    implemented_properties = ["energy", "free_energy", "forces", "energies"]  # noqa: RUF012


class PerCell(Repulsion):
    """The energy is that of the cell per atom."""

    def spoil(self, results, atoms):
        for name in results:
            results[name] = results[name] / len(atoms)


class ForcesAfterEnergy(Repulsion):
    """Forces are there only where the energy was asked for first."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if "energy" not in properties:
            self.results["forces"] = 0 * self.results["forces"]


class Outside(Repulsion):
    """An energy that depends on where the frame is."""

    def spoil(self, results, atoms):
        results["energy"] += atoms.positions[:, 0].sum()
        results["free_energy"] = results["energy"]
        results["energies"] = results["energies"] + atoms.positions[:, 0]
        results["forces"] = results["forces"] - [1.0, 0.0, 0.0]


class Wraps(Repulsion):
    """The frame that is given is wrapped."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        atoms.positions += 1e-3


class OneBuffer(Repulsion):
    """Forces of all frames stand in one array, which is given out."""

    buffer = np.zeros((100, 3))

    def spoil(self, results, atoms):
        self.buffer[: len(atoms)] = results["forces"]
        results["forces"] = self.buffer[: len(atoms)]

    def get_property(self, name, atoms=None, allow_calculation=True):
        super().get_property(name, atoms, allow_calculation)
        return self.results[name]


class NoCopies(Repulsion):
    def get_property(self, name, atoms=None, allow_calculation=True):
        super().get_property(name, atoms, allow_calculation)
        return self.results[name]


class Stale(Calculator):
    """Results are kept as long as what :meth:`same` looks at is as before."""

    implemented_properties = ["energy", "free_energy", "forces", "stress", "energies"]  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.inner, self.last = Repulsion(), None

    def get_property(self, name, atoms=None, allow_calculation=True):
        if self.last is None or not self.same(self.last, atoms):
            self.inner.calculate(atoms)
            self.last, self.results = atoms.copy(), self.inner.results
        return np.copy(self.results[name])


class ForgetsCell(Stale):
    def same(self, a, b):
        return len(a) == len(b) and np.array_equal(a.positions, b.positions) and np.array_equal(a.pbc, b.pbc)


class ForgetsPositions(Stale):
    def same(self, a, b):
        return len(a) == len(b) and np.array_equal(a.cell, b.cell) and np.array_equal(a.pbc, b.pbc)


class KeepsTheFrame(Stale):
    """The frame that results were made for is kept, not a copy: changes in place are not seen."""

    def get_property(self, name, atoms=None, allow_calculation=True):
        if self.last is not atoms:
            self.inner.calculate(atoms)
            self.last, self.results = atoms, self.inner.results
        return np.copy(self.results[name])


class KeepsResults(Repulsion):
    """An error leaves the results of the frame before."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        before = self.results or self.__dict__.get("old", {})
        self.old = dict(before)
        try:
            super().calculate(atoms, properties, system_changes)
        except Exception:
            self.results = self.old or {"energy": 0.0}
            raise


class TakesNan(Repulsion):
    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        clean = atoms.copy()
        clean.positions = np.nan_to_num(clean.positions)
        super().calculate(clean, properties, system_changes)


class Trips(Repulsion):
    """Everything after an error is wrong."""

    tripped = False

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        try:
            super().calculate(atoms, properties, system_changes)
        except Exception:
            self.tripped = True
            raise

    def spoil(self, results, atoms):
        results["energy"] += self.tripped
        results["free_energy"] += self.tripped


class FirstOfBatch(Repulsion):
    """All copies of a batch get the energy of the first."""

    def batch_forces(self, atoms):
        function = super().batch_forces(atoms)

        def evaluate(positions):
            energies, forces = function(positions)
            return np.full_like(energies, energies[0]), forces

        return evaluate


class NoImages(Repulsion):
    """Neighbours are those of the nearest images as the atoms stand: wrong for atoms in other cells."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        alone = atoms.copy()
        alone.pbc = False
        volume = atoms.get_volume() if atoms.cell.rank == 3 else None
        super().calculate(alone, properties, system_changes)
        Calculator.calculate(self, atoms, properties, system_changes)
        if volume:
            from gapkit.descriptors.base import Sums

            sums = Sums.zeros(len(alone))
            self.add_prediction(Structure(alone, self.r_cut), sums)
            self.results["stress"] = sums.strain.sum(axis=0) / volume


class Noisy(Repulsion):
    """Noise of the energy that depends on the positions."""

    size = 1e-2

    def spoil(self, results, atoms):
        seed = int(abs(atoms.positions).sum() * 1e12) % 2**32
        noise = self.size * np.random.default_rng(seed).normal()
        results["energy"] += noise
        results["free_energy"] += noise
        results["energies"] = results["energies"] + noise / len(atoms)


class LittleNoise(Noisy):
    size = 1e-7
