r"""Reaction mechanisms: species, elementary reactions, and the energies from which all rate constants follow.

Every species and every transition state has one free energy, :math:`G = H - TS`. Forward and backward constants of a
reaction both follow from these, so that the equilibrium constants of any cycle multiply to one by construction
(detailed balance; Wegscheider, Z. Phys. Chem. 39, 257 (1902)).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import units
from ase.formula import Formula

from gapkit.exceptions import DataError, SettingsError

#: h/e: one over this time (s) is the frequency of one eV
_PLANCK = units._hplanck / units._e
KINDS = ("gas", "surface", "site", "well", "fixed")


@dataclass(frozen=True)
class Species:
    """A species of a mechanism.

    Attributes
    ----------
    name : str
    kind : str
        ``"gas"`` (activity: its pressure in bar), ``"fixed"`` (a given activity, such as a reactant in excess),
        ``"surface"`` (a coverage that occupies sites), ``"site"`` (an empty site), or ``"well"`` (an amount without
        sites, such as a conformer).
    energy : float, eV
        Enthalpy, or a free energy that does not depend on temperature.
    entropy : float, eV/K
    site : str
        Name of the empty site that a surface species occupies.
    n_sites : int
        Number of sites that it occupies.
    composition : dict of str to int, or None
        Atoms by symbol; None: not checked.
    """

    name: str
    kind: str
    energy: float = 0.0
    entropy: float = 0.0
    site: str = ""
    n_sites: int = 0
    composition: Mapping[str, int] | None = None

    @property
    def is_dynamic(self) -> bool:
        """Whether its amount follows from the reactions."""
        return self.kind in ("surface", "site", "well")


@dataclass(frozen=True)
class Reaction:
    """An elementary reaction.

    Attributes
    ----------
    name : str
    reactants, products : dict of str to int
        Species and their numbers.
    energy, entropy : float or None, eV and eV/K
        Enthalpy and entropy of the transition state, on the scale of the species. None for adsorption without a
        barrier.
    sticking, area, mass : float or None
        Of adsorption without a barrier: sticking probability, area of a site (A^2), mass of the molecule (amu).
    """

    name: str
    reactants: Mapping[str, int]
    products: Mapping[str, int]
    energy: float | None = None
    entropy: float = 0.0
    sticking: float | None = None
    area: float | None = None
    mass: float | None = None

    @property
    def is_adsorption(self) -> bool:
        """Whether the forward constant comes from the collisions of a gas with sites."""
        return self.energy is None

    @property
    def equation(self) -> str:
        """The reaction as text."""

        def side(terms: Mapping[str, int]) -> str:
            return " + ".join(name if n == 1 else f"{n} {name}" for name, n in terms.items())

        return f"{side(self.reactants)} <-> {side(self.products)}"


@dataclass(frozen=True)
class Mechanism:
    """A network of elementary reactions with the energies of all its states.

    The parameters are the energies of all species, then those of all transition states, in the order of
    :attr:`parameters`; methods take other energies in their place, such as draws from a posterior.

    Attributes
    ----------
    species : tuple of Species
    reactions : tuple of Reaction
    observed : dict of str to float
        Reactions whose net rates, with these weights, sum to the turnover frequency.

    Raises
    ------
    DataError
        For a reaction that does not balance in atoms or sites, an unknown species, or conserved amounts without a
        site that fixes them.
    """

    species: tuple[Species, ...]
    reactions: tuple[Reaction, ...]
    observed: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [s.name for s in self.species]
        doubled = sorted({n for n in names if names.count(n) > 1})
        if doubled:
            raise DataError(f"species given twice: {', '.join(doubled)}")
        titles = [r.name for r in self.reactions]
        if len(set(titles)) < len(titles):
            raise DataError("two reactions have the same name")
        if not self.reactions:
            raise DataError("the mechanism has no reactions")
        for reaction in self.reactions:
            _check_reaction(reaction, {s.name: s for s in self.species})
        unknown = sorted(set(self.observed) - set(titles))
        if unknown:
            raise DataError(
                f"observed reactions that do not exist: {', '.join(unknown)}; there are {', '.join(titles)}"
            )
        if not self.observed:
            object.__setattr__(self, "observed", {titles[-1]: 1.0})
        self._check_conservation()

    @property
    def dynamic(self) -> list[Species]:
        """Species whose amounts follow from the reactions."""
        return [s for s in self.species if s.is_dynamic]

    @property
    def given(self) -> list[Species]:
        """Species whose activities are conditions."""
        return [s for s in self.species if not s.is_dynamic]

    @property
    def parameters(self) -> list[str]:
        """Names of the energies: those of species, then ``"TS:" + reaction`` of activated reactions."""
        activated = [f"TS:{r.name}" for r in self.reactions if not r.is_adsorption]
        return [s.name for s in self.species] + activated

    @property
    def energies(self) -> np.ndarray:
        """Energies (p,) of the parameters (eV)."""
        activated = [r.energy for r in self.reactions if r.energy is not None]
        return np.array([s.energy for s in self.species] + activated)

    def stoichiometry(self, kind: str = "dynamic") -> np.ndarray:
        """Net numbers (species, reactions) of dynamic or of given species made by each reaction."""
        chosen = self.dynamic if kind == "dynamic" else self.given
        return self.orders("products", chosen) - self.orders("reactants", chosen)

    def orders(self, side: str, chosen: Sequence[Species]) -> np.ndarray:
        """Numbers (species, reactions) of the chosen species on one side, ``"reactants"`` or ``"products"``."""
        return np.array([[getattr(r, side).get(s.name, 0) for r in self.reactions] for s in chosen], dtype=float)

    def site_laws(self) -> np.ndarray:
        """Sites (sites, dynamic species) that each species occupies; each row sums with the coverages to one."""
        sites = [s for s in self.dynamic if s.kind == "site"]
        occupied = [[s.n_sites if s.site == t.name else float(s.name == t.name) for s in self.dynamic] for t in sites]
        return np.array(occupied, dtype=float).reshape(len(sites), len(self.dynamic))

    def _check_conservation(self) -> None:
        if not self.dynamic:
            raise DataError("no species has an amount that could change: give some the kind surface, site or well")
        S = self.stoichiometry()
        conserved = len(S) - np.linalg.matrix_rank(S)
        laws = len(self.site_laws())
        if conserved > laws:
            raise DataError(
                f"the mechanism conserves {conserved} amounts and has {laws} kinds of sites: a part of the network is "
                "closed, and nothing says how much of it there is; connect it to a species of kind gas or fixed"
            )

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Mechanism:
        """Mechanism from tables ``species`` and ``reactions``, as in a TOML file.

        Raises
        ------
        DataError
            As the class, and for unknown or missing keys.
        """
        unknown = sorted(set(table) - {"species", "reactions", "observed", "title", "sources"})
        if unknown:
            raise DataError(f"unknown tables {', '.join(unknown)}; known: species, reactions, observed, title, sources")
        species = tuple(_species(name, dict(entry)) for name, entry in table.get("species", {}).items())
        reactions = tuple(_reaction(name, dict(entry)) for name, entry in table.get("reactions", {}).items())
        observed = {str(k): float(v) for k, v in table.get("observed", {}).items()}
        return cls(species, reactions, observed)

    @classmethod
    def from_file(cls, path: str | Path) -> Mechanism:
        """Mechanism from a TOML file (:meth:`from_dict`)."""
        try:
            table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from None
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise DataError(f"{path} is not a TOML file: {error}") from None
        return cls.from_dict(table)

    def ln_constants(self, temperature: float, energies: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Logarithms (r,) of forward and backward rate constants (1/s, per bar of gases) at a temperature (K).

        Activated reactions have :math:`k = (k_BT/h)\\, e^{-(G^\\ddagger - G)/k_BT}`; adsorption without a barrier has
        :math:`k = s p A/\\sqrt{2\\pi m k_BT}`. The backward constant is the forward one over the equilibrium constant.
        """
        E = self._checked(energies)
        kT = units.kB * temperature
        G, TS = self._free_energies(temperature, E)
        change = self.changes() @ G
        forward = np.empty(len(self.reactions))
        activated = iter(TS)
        before = self.orders("reactants", self.species).T @ G
        for j, r in enumerate(self.reactions):
            if r.is_adsorption:
                forward[j] = np.log(_collisions(r, temperature))
            else:
                forward[j] = np.log(kT / _PLANCK) - (next(activated) - before[j]) / kT
        return forward, forward + change / kT

    def changes(self) -> np.ndarray:
        """Net numbers (reactions, species) of all species made by each reaction."""
        return (self.orders("products", self.species) - self.orders("reactants", self.species)).T

    def constant_slopes(self, temperature: float) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives (r, p) of the logarithms of both constants by the energies (1/eV)."""
        kT = units.kB * temperature
        n, p = len(self.species), len(self.parameters)
        forward = np.zeros((len(self.reactions), p))
        before = self.orders("reactants", self.species).T
        k = n
        for j, r in enumerate(self.reactions):
            if not r.is_adsorption:
                forward[j, :n] = before[j] / kT
                forward[j, k] = -1.0 / kT
                k += 1
        backward = forward.copy()
        backward[:, :n] += self.changes() / kT
        return forward, backward

    def temperature_slopes(self, temperature: float) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives (r,) of the logarithms of forward and backward constants by temperature (1/K)."""
        n = len(self.species)
        H, H_ts = self.energies[:n], iter(self.energies[n:])
        before = self.orders("reactants", self.species).T @ H
        square = units.kB * temperature**2
        forward = np.array(
            [
                -0.5 / temperature if r.is_adsorption else 1.0 / temperature + (next(H_ts) - b) / square
                for r, b in zip(self.reactions, before, strict=True)
            ]
        )
        return forward, forward - self.changes() @ H / square

    def _free_energies(self, temperature: float, energies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n = len(self.species)
        S = np.array([s.entropy for s in self.species])
        S_ts = np.array([r.entropy for r in self.reactions if not r.is_adsorption])
        return energies[:n] - temperature * S, energies[n:] - temperature * S_ts

    def _checked(self, energies: np.ndarray | None) -> np.ndarray:
        E = self.energies if energies is None else np.asarray(energies, dtype=float)
        if E.shape != self.energies.shape or not np.isfinite(E).all():
            raise DataError(f"energies must be {len(self.energies)} finite numbers: {', '.join(self.parameters)}")
        return E


def _collisions(reaction: Reaction, temperature: float) -> float:
    """Rate constant (1/s per bar) of adsorption without a barrier, by the kinetic theory of gases (Hertz 1882)."""
    assert reaction.sticking is not None and reaction.area is not None and reaction.mass is not None
    area, mass = reaction.area * 1e-20, reaction.mass * units._amu
    return float(reaction.sticking * 1e5 * area / np.sqrt(2 * np.pi * mass * units._k * temperature))


def parse_equation(text: str) -> tuple[dict[str, int], dict[str, int]]:
    """Species and their numbers on both sides of ``"A + 2 B <-> C"``.

    Raises
    ------
    DataError
        For text without exactly one arrow, or an empty side.
    """
    sides = re.split(r"\s*(?:<->|<=>|->|=)\s*", text.strip())
    if len(sides) != 2 or not all(sides):
        raise DataError(f"cannot read the reaction {text!r}; write for example 'CO + * <-> CO*'")
    found = []
    for side in sides:
        terms: dict[str, int] = {}
        for term in re.split(r"\s+\+\s+", side):
            match = re.fullmatch(r"(?:(\d+)\s*\*?\s+)?(\S+)", term.strip())
            if match is None:
                raise DataError(f"cannot read {term!r} in the reaction {text!r}")
            terms[match[2]] = terms.get(match[2], 0) + int(match[1] or 1)
        found.append(terms)
    return found[0], found[1]


def _species(name: str, entry: dict[str, Any]) -> Species:
    _known(entry, {"kind", "energy", "entropy", "site", "n_sites", "formula"}, f"species {name}")
    kind = entry.get("kind")
    if kind not in KINDS:
        raise DataError(f"species {name}: kind must be one of {', '.join(KINDS)}, not {kind!r}")
    site, n_sites = "", 0
    if kind == "surface":
        site, n_sites = str(entry.get("site", "*")), int(entry.get("n_sites", 1))
    formula = entry.get("formula")
    composition = None
    if kind == "site":
        composition = {}
    elif formula is not None:
        try:
            composition = Formula(str(formula)).count()
        except ValueError:
            raise DataError(f"species {name}: cannot read the formula {formula!r}") from None
    energy, entropy = _number(entry, "energy", name, 0.0), _number(entry, "entropy", name, 0.0)
    return Species(name, kind, energy, entropy, site, n_sites, composition)


def _reaction(name: str, entry: dict[str, Any]) -> Reaction:
    _known(entry, {"equation", "energy", "entropy", "sticking", "area", "mass"}, f"reaction {name}")
    if "equation" not in entry:
        raise DataError(f"reaction {name} has no equation")
    reactants, products = parse_equation(str(entry["equation"]))
    collision = {"sticking", "area", "mass"} & set(entry)
    if ("energy" in entry) == bool(collision):
        raise DataError(
            f"reaction {name}: give the energy of its transition state, or sticking, area and mass of adsorption "
            "without a barrier"
        )
    if not collision:
        energy, entropy = _number(entry, "energy", name), _number(entry, "entropy", name, 0.0)
        return Reaction(name, reactants, products, energy, entropy)
    sticking, area, mass = (_number(entry, key, name) for key in ("sticking", "area", "mass"))
    return Reaction(name, reactants, products, None, 0.0, sticking, area, mass)


def _number(entry: Mapping[str, Any], key: str, name: str, default: float | None = None) -> float:
    value = entry.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise DataError(f"{name}: {key} must be a finite number, not {value!r}")
    return float(value)


def _known(entry: Mapping[str, Any], names: set[str], of: str) -> None:
    unknown = sorted(set(entry) - names)
    if unknown:
        raise DataError(f"{of}: unknown keys {', '.join(unknown)}; known: {', '.join(sorted(names))}")


def _check_reaction(reaction: Reaction, known: Mapping[str, Species]) -> None:
    """Raise DataError where a reaction names no species of the mechanism, or does not balance."""
    context = f"reaction {reaction.name} ({reaction.equation})"
    missing = sorted((set(reaction.reactants) | set(reaction.products)) - set(known))
    if missing:
        raise DataError(f"{context}: unknown species {', '.join(missing)}")
    if dict(reaction.reactants) == dict(reaction.products):
        raise DataError(f"{context}: both sides are the same")
    both = [known[name] for name in (*reaction.reactants, *reaction.products)]
    if all(s.composition is not None for s in both):
        sums: list[dict[str, int]] = []
        for terms in (reaction.reactants, reaction.products):
            atoms: dict[str, int] = {}
            for name, n in terms.items():
                for symbol, count in (known[name].composition or {}).items():
                    atoms[symbol] = atoms.get(symbol, 0) + n * count
            sums.append(atoms)
        if sums[0] != sums[1]:
            raise DataError(f"{context} does not balance in atoms: {_formula(sums[0])} becomes {_formula(sums[1])}")
    sites = {s.site for s in both if s.site} | {s.name for s in both if s.kind == "site"}
    for site in sites:
        counts = [
            sum(n * (known[k].n_sites if known[k].site == site else int(k == site)) for k, n in terms.items())
            for terms in (reaction.reactants, reaction.products)
        ]
        if counts[0] != counts[1]:
            raise DataError(f"{context} does not balance in sites: {counts[0]} {site} become {counts[1]}")
    if reaction.is_adsorption:
        numbers = (reaction.sticking, reaction.area, reaction.mass)
        gases = sum(n for k, n in reaction.reactants.items() if known[k].kind == "gas")
        if gases != 1:
            raise SettingsError(f"{context}: adsorption takes one gas molecule, not {gases}")
        if not all(v is not None and 0 < v < np.inf for v in numbers) or (reaction.sticking or 0) > 1:
            raise DataError(f"{context}: sticking must lie in (0, 1], area (A^2) and mass (amu) must be positive")


def _formula(atoms: Mapping[str, int]) -> str:
    return "".join(f"{k}{v if v > 1 else ''}" for k, v in sorted(atoms.items())) or "nothing"
