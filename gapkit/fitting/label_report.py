"""Report on the labels of a set of frames: labels read, labels not read, contradictions, coverage."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gapkit.fitting.screening import Findings, alike_line, left_out_line
from gapkit.fitting.training_ranges import training_domain
from gapkit.structures.labels import LabelledFrame
from gapkit.structures.suspicions import Problem

#: label kinds in the order of tables
KINDS = ("energy", "forces", "virial")
#: labels with the largest out-of-fold errors that the text names, and the score from which on it does
WORST, WORTH_NAMING = 5, 5.0


@dataclass(frozen=True)
class LabelReport:
    """Report on the labels of a set of frames; prints as a table.

    Attributes
    ----------
    n_frames, n_atoms : int
    sources : dict
        By label kind and place where labels were found, the number of frames.
    held : int
        Force components of held atoms, which are no labels.
    problems : list of Problem
        Suspicions (kind, frames, text).
    notes : list of str
        Facts about the labels that are no faults.
    findings : Findings
        Findings of a small model of the other frames about each frame's labels.
    coverage : dict
        Species, config_types, densities, distances, energies and forces of the frames.
    per_frame : dict
        Arrays (n_frames,): ``frame``, position in the user's list; ``energy`` (eV/atom), ``force`` (root mean square,
        eV/A), ``volume`` (A^3/atom), NaN where there is none.
    """

    n_frames: int
    n_atoms: int
    sources: Mapping[str, Mapping[str, int]]
    held: int
    problems: list[Problem]
    notes: list[str]
    findings: Findings
    coverage: dict[str, Any]
    per_frame: dict[str, np.ndarray] = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether nothing is suspicious."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary of the report."""
        scores: dict[str, dict[int, float]] = {}
        for (frame, kind), z in self.findings.scores.items():
            scores.setdefault(kind, {})[frame] = z
        return {
            "ok": self.ok,
            "n_frames": self.n_frames,
            "n_atoms": self.n_atoms,
            "sources": {kind: dict(places) for kind, places in self.sources.items()},
            "held_force_components": self.held,
            "problems": [{"kind": p.kind, "frames": list(p.frames), "text": p.text} for p in self.problems],
            "notes": self.notes,
            "consistency": [c.as_dict() for c in self.findings.consistencies],
            "left_out": [label.as_dict() for label in self.findings.left_out],
            "alike": [pair.as_dict() for pair in self.findings.alike],
            "scores": {kind: {str(k): z for k, z in sorted(of.items())} for kind, of in sorted(scores.items())},
            "coverage": self.coverage,
        }

    def to_json(self) -> str:
        """JSON text of :meth:`as_dict`."""
        return json.dumps(self.as_dict(), indent=1)

    def __str__(self) -> str:
        lines = [f"{self.n_frames} frames, {self.n_atoms} atoms"]
        for kind in KINDS:
            places = self.sources.get(kind, {})
            missing = self.n_frames - sum(places.values())
            words = [f"{n} from {place}" for place, n in sorted(places.items(), key=lambda item: -item[1])]
            words += [f"{missing} without"] if missing else []
            lines.append(f"  {kind:<7} {', '.join(words)}")
        if self.held:
            lines.append(f"  {self.held} force components of held atoms are no labels")
        lines += ["coverage", *(f"  {line}" for line in _coverage_lines(self.coverage))]
        if self.findings.consistencies:
            lines += ["one function (slope 1: labels belong together)"]
            lines += [f"  {c}" for c in self.findings.consistencies]
        worst = sorted(self.findings.scores.items(), key=lambda item: -item[1])[:WORST]
        named = [f"frame {frame} {kind} {z:.1f}" for (frame, kind), z in worst if z > WORTH_NAMING]
        if self.findings.scores:
            lines.append("largest errors out of fold, over that of a typical frame")
            lines.append(f"  {', '.join(named) if named else f'none above {WORTH_NAMING:g}'}")
        lines += ["notes", *(f"  {note}" for note in self.notes)] if self.notes else []
        lines.append("suspicious" if self.problems else "nothing is suspicious")
        lines += [f"  {p.kind}: {p.text}" for p in self.problems]
        return "\n".join(lines)


def label_report(
    labelled: Sequence[LabelledFrame],
    findings: Findings,
    problems: Sequence[Problem] = (),
    notes: Sequence[str] = (),
    domain: Mapping[str, Any] | None = None,
) -> LabelReport:
    """Report of frames whose labels were read and compared with predictions.

    Parameters
    ----------
    labelled
        The frames with their labels.
    findings
        Result of :func:`gapkit.fitting.screening.findings`.
    problems, notes
        Suspicions and facts that the findings do not hold.
    domain
        Result of :func:`gapkit.fitting.training_ranges.training_domain`; None: found here.
    """
    sources: dict[str, Counter[str]] = {}
    for frame in labelled:
        for kind, place in frame.sources.items():
            sources.setdefault(kind, Counter())[place] += 1
    return LabelReport(
        n_frames=len(labelled),
        n_atoms=sum(f.n_atoms for f in labelled),
        sources=sources,
        held=sum(int(f.held.sum()) for f in labelled if f.held is not None) - 3 * sum(f.placeholders for f in labelled),
        problems=[*problems, *_found(findings)],
        notes=list(notes),
        findings=findings,
        coverage=_coverage(labelled, training_domain(labelled) if domain is None else domain),
        per_frame={
            "frame": np.array([f.index for f in labelled]),
            "energy": np.array([np.nan if f.energy is None else f.energy / f.n_atoms for f in labelled]),
            "force": np.array([np.nan if f.forces is None else np.sqrt(np.mean(f.forces**2)) for f in labelled]),
            "volume": np.array([f.volume / f.n_atoms if f.volume else np.nan for f in labelled]),
        },
    )


def _found(findings: Findings) -> list[Problem]:
    """Problems among the findings."""
    found = []
    for c in findings.consistencies:
        if c.conventions:
            found.append(Problem("units", (), f"{c}: convert them to eV, eV/A and eV/A^3 (tension positive)"))
        elif c.factor != 1.0:
            found.append(Problem("units", (), f"{c}; times {c.factor:.2g} they would belong there far better"))
    for kind, frames, line in (
        ("contradiction", {label.frame for label in findings.left_out}, left_out_line(findings.left_out)),
        ("same geometry", {k for pair in findings.alike for k in pair.frames}, alike_line(findings.alike)),
    ):
        if line is not None:
            found.append(Problem(kind, tuple(sorted(frames)), line))
    return found


def _coverage(labelled: Sequence[LabelledFrame], domain: Mapping[str, Any]) -> dict[str, Any]:
    """JSON-ready: what the frames span."""
    species: Counter[str] = Counter()
    for frame in labelled:
        species.update(frame.atoms.get_chemical_symbols())
    energies = [f.energy / f.n_atoms for f in labelled if f.energy is not None and not f.is_isolated_atom]
    forces = [float(np.abs(f.forces).max()) for f in labelled if f.forces is not None]
    return {
        "species": dict(sorted(species.items())),
        "compositions": dict(Counter(f.atoms.get_chemical_formula() for f in labelled).most_common()),
        "config_types": dict(Counter(f.config_type or "none" for f in labelled).most_common()),
        "isolated_atoms": sum(f.is_isolated_atom for f in labelled),
        "energy_per_atom": [min(energies), max(energies)] if energies else None,
        "largest_force": [min(forces), max(forces)] if forces else None,
        **domain,
    }


def _coverage_lines(coverage: Mapping[str, Any]) -> list[str]:
    """The coverage in words."""
    lines = ["atoms: " + ", ".join(f"{symbol} {n}" for symbol, n in coverage["species"].items())]
    for name in ("config_types", "compositions"):
        items = list(coverage[name].items())
        more = f", and {len(items) - 6} more" if len(items) > 6 else ""
        lines.append(f"{name}: " + ", ".join(f"{key} {n}" for key, n in items[:6]) + more)
    for name, words, unit in (
        ("energy_per_atom", "energies", "eV/atom"),
        ("largest_force", "largest force of a frame", "eV/A"),
        ("nearest_neighbour", "nearest neighbours", "A"),
        ("density", "densities", "atoms/A^3"),
    ):
        if coverage[name] is not None:
            lines.append(f"{words}: {coverage[name][0]:.4g} to {coverage[name][1]:.4g} {unit}")
    lines.append(f"isolated atoms: {coverage['isolated_atoms']}")
    return lines
