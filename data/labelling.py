"""The machinery that every reference set shares: a queue of frames, labels one by one, split files, checks.

A set is a folder with a ``generate.py`` that knows its physics: which frames, which calculator. Everything else is
here. The work folder (not kept in the repository) holds ``queue.xyz`` and one small file per labelled frame, each
written to a temporary name and renamed, so that a run may be killed at any moment and resumed with the same command.

Units: eV, angstrom, eV/A^3 (stress as ASE has it: Voigt xx yy zz yz xz xy, tension positive).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from tqdm import tqdm

Label = Callable[[Atoms], Atoms]
SPLITS = ("train", "calibration", "test")


def write_atomically(path: Path, frames: Sequence[Atoms]) -> None:
    """Write ``frames`` as extxyz under a temporary name, then rename: a crash leaves the old file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    ase.io.write(temporary, list(frames), format="extxyz")
    os.replace(temporary, path)


def labelled(atoms: Atoms, *, energy: float, forces: np.ndarray, stress: np.ndarray | None = None) -> Atoms:
    """Copy of ``atoms`` that carries its labels as ASE results.

    Parameters: ``energy`` in eV (the one whose derivative the forces are), ``forces`` (n_atoms, 3) in eV/A,
    ``stress`` (6,) in eV/A^3, Voigt.
    """
    out = atoms.copy()
    results = {"energy": float(energy), "forces": np.asarray(forces, dtype=float)}
    if stress is not None:
        results["stress"] = np.asarray(stress, dtype=float)
    out.calc = SinglePointCalculator(out, **results)
    return out


def interleave(families: dict[str, list[Atoms]], *, start: dict[str, float] | None = None) -> list[Atoms]:
    """Order frames so that any prefix of the queue is a balanced set, in families and in splits.

    Frame ``i`` of the ``n`` of a family and split gets the rank ``s + (1 - s) (i + u) / n``, where ``s`` (default 0)
    lets an expensive family start later and ``u`` is 1/2 in train, 1/5 in the smaller splits, so that there is
    something to judge with early on. Frames are sorted by rank.
    """
    ranked = []
    for family, frames in families.items():
        begin = (start or {}).get(family, 0.0)
        for split in sorted({atoms.info["split"] for atoms in frames}):
            part = [atoms for atoms in frames if atoms.info["split"] == split]
            early = 0.5 if split == "train" else 0.2
            ranked += [
                (begin + (1 - begin) * (i + early) / len(part), family, split, i, atoms) for i, atoms in enumerate(part)
            ]
    return [atoms for *_, atoms in sorted(ranked, key=lambda entry: entry[:4])]


def round_robin(frames: Sequence[Atoms], *, rng: np.random.Generator) -> list[Atoms]:
    """First frames of all trajectories (in random order), then all second frames, and so on."""
    groups: dict[str, list[Atoms]] = {}
    for atoms in frames:
        groups.setdefault(atoms.info["trajectory"], []).append(atoms)
    order = [groups[name] for name in rng.permutation(sorted(groups))]
    return [group[i] for i in range(max(map(len, order))) for group in order if i < len(group)]


def write_queue(path: Path, frames: Sequence[Atoms]) -> None:
    """Give each frame its key (trajectory and number within it) and write them as the queue, in the given order.

    A queue may be written again, in another order or with more frames: labels are found by key. A frame that is
    labelled already must not change: that raises ValueError.
    """
    numbers: dict[str, int] = {}
    for atoms in frames:
        trajectory = atoms.info["trajectory"]
        numbers[trajectory] = numbers.get(trajectory, 0) + 1
        atoms.info["key"] = f"{trajectory}-{numbers[trajectory]}"
        done = path.parent / "labels" / f"{atoms.info['key']}.xyz"
        if done.exists() and not np.allclose(ase.io.read(done).positions, atoms.positions, atol=1e-6):
            raise ValueError(f"{done} is labelled at another geometry: remove it, or keep the old queue")
    write_atomically(path, frames)


def restore(work: Path, folder: Path) -> int:
    """Turn the collected files of ``folder`` into labels of the queue again, where the work folder was lost.

    A collected frame belongs to the first frame of the queue with its trajectory and its geometry (1e-4 A) that has no
    label yet; a frame that the queue does not hold (dynamics may differ between machines) keeps its place in the
    set under a key of its own. The recorded cost is shared out evenly. Returns the number of labels written.
    """
    labels = work / "labels"
    if labels.exists() and any(labels.glob("*.xyz")):
        return 0
    part = work / "labels.part"  # complete before it counts: a killed restoration begins again
    shutil.rmtree(part, ignore_errors=True)
    names = json.loads((folder / "summary.json").read_text()) if (folder / "summary.json").exists() else {}
    stored = [a for split in names.get("frames", {}) for a in _read_all(folder / f"{split}.xyz")]
    queue = ase.io.read(work / "queue.xyz", ":")
    taken: set[str] = set()
    for number, atoms in enumerate(stored):
        same = [
            a.info["key"]
            for a in queue
            if a.info["key"] not in taken
            and a.info["trajectory"] == atoms.info["trajectory"]
            and len(a) == len(atoms)
            and np.allclose(a.positions, atoms.positions, atol=1e-4)
            and np.allclose(a.cell, atoms.cell, atol=1e-4)
            and all(a.info.get(name) == atoms.info.get(name) for name in ("spin_state", "step"))
        ]
        key = same[0] if same else f"{atoms.info['trajectory']}-kept{number}"
        taken.add(key)
        atoms.info.update(key=key, cpu_s=round(3600 * names["cpu_hours"] / len(stored), 1))
        write_atomically(part / f"{key}.xyz", [atoms])
    if stored:
        if labels.exists():
            labels.rmdir()
        os.replace(part, labels)
    return len(stored)


def _read_all(path: Path) -> list[Atoms]:
    return ase.io.read(path, ":") if path.exists() else []


def label_queue(queue: Path, label: Label, *, limit: int | None = None) -> None:
    """Label every frame of ``queue`` that has no label file yet, in order, at most ``limit`` of them.

    The queue is read anew before each frame, so that it may grow meanwhile. A frame that fails is noted in
    ``failed.txt`` and skipped from then on. The cost of each is kept in ``info["cpu_s"]`` of its work file (seconds of
    processor time on one core).
    """
    folder, failures = queue.parent / "labels", queue.parent / "failed.txt"
    progress = tqdm(unit="frame", desc=queue.parent.parent.name, mininterval=0)
    while limit is None or progress.n < limit:
        failed = set(failures.read_text().split()) if failures.exists() else set()
        frames = [a for a in ase.io.read(queue, ":") if a.info["key"] not in failed]
        waiting = [a for a in frames if not (folder / f"{a.info['key']}.xyz").exists()]
        if not waiting:
            break
        atoms = waiting[0]
        progress.total = progress.n + len(waiting[: limit and limit - progress.n])
        progress.set_postfix_str(f"{atoms.info['key']}, {len(atoms)} atoms")
        start = time.process_time()
        try:
            done = label(atoms)
        except Exception as error:  # one bad frame must not end a run
            tqdm.write(f"frame {atoms.info['key']} failed: {error}")
            with failures.open("a") as log:
                log.write(f"{atoms.info['key']}\n")
            continue
        done.info["cpu_s"] = round(time.process_time() - start, 1)
        write_atomically(folder / f"{atoms.info['key']}.xyz", [done])
        progress.update()


def labelled_frames(work: Path) -> list[Atoms]:
    """All frames labelled so far."""
    return [ase.io.read(path) for path in sorted((work / "labels").glob("*.xyz"))]


def collect(
    work: Path, folder: Path, *, splits: Sequence[str] = SPLITS, split_key: str = "split"
) -> dict[str, list[Atoms]]:
    """Write ``<split>.xyz`` for the frames labelled so far, the summary, the hashes and the plot.

    ``splits`` are the files, ``split_key`` the entry of ``info`` that says which file a frame belongs to.

    ``summary.json`` counts frames and atoms by split and config_type and gives the cost in CPU hours.
    """
    frames = labelled_frames(work)
    cost = sum(atoms.info.pop("cpu_s", 0.0) for atoms in frames)
    parts: dict[str, list[Atoms]] = {}
    for split in splits:
        parts[split] = sorted(
            (a for a in frames if a.info[split_key] == split),
            key=lambda a: (a.info["config_type"], a.info["trajectory"], a.info["key"]),
        )
    counts: dict[str, dict[str, int]] = {}
    for split, part in parts.items():
        for atoms in part:
            atoms.info.pop("key", None)
            row = counts.setdefault(atoms.info["config_type"], dict.fromkeys(splits, 0))
            row[split] += 1
        if part:
            write_atomically(folder / f"{split}.xyz", part)
    summary = {
        "frames": {s: len(p) for s, p in parts.items()},
        "atoms": {s: sum(map(len, p)) for s, p in parts.items()},
        "config_types": dict(sorted(counts.items())),
        "cpu_hours": round(cost / 3600, 2),
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    write_counts(folder / "README.md", summary, splits)
    write_hashes(folder)
    plot_distributions({s: p for s, p in parts.items() if p}, folder / "distributions.png")
    return parts


def write_counts(readme: Path, summary: dict, splits: Sequence[str]) -> None:
    """Put the table of frames by config_type and split, and the plot, between the ``counts`` marks of ``readme``."""
    rows = [["config_type", *splits], ["---"] * (len(splits) + 1)]
    rows += [[name, *(str(row[s]) for s in splits)] for name, row in summary["config_types"].items()]
    rows += [["**frames**", *(str(summary["frames"][s]) for s in splits)]]
    rows += [["**atoms**", *(str(summary["atoms"][s]) for s in splits)]]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    cost = f"Cost: {summary['cpu_hours']:.2f} CPU hours on one core."
    before, mark, rest = readme.read_text().partition("<!-- counts -->")
    _, end, after = rest.partition("<!-- /counts -->")
    if mark and end:
        readme.write_text(f"{before}{mark}\n{table}\n\n{cost}\n\n![distributions](distributions.png)\n{end}{after}")


def write_hashes(folder: Path) -> None:
    """``SHA256SUMS`` of every data file in ``folder`` (the format of sha256sum, checked with ``sha256sum -c``)."""
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in sorted(folder.glob("*.xyz"))]
    (folder / "SHA256SUMS").write_text("".join(lines))


def nearest_distance(atoms: Atoms) -> float:
    """Shortest interatomic distance (A), periodic images included; infinite for an isolated atom."""
    from ase.neighborlist import neighbor_list

    for cutoff in (3.0, 6.0):
        distances = neighbor_list("d", atoms, cutoff)
        if len(distances):
            return float(distances.min())
    return float("inf")


def plot_distributions(parts: dict[str, list[Atoms]], path: Path) -> None:
    """Histograms of energy per atom (above the lowest of its composition), force component and nearest distance."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    lowest: dict[str, float] = {}
    for atoms in (a for part in parts.values() for a in part):
        formula = atoms.symbols.formula.reduce()[0].format("hill")
        lowest[formula] = min(lowest.get(formula, np.inf), atoms.get_potential_energy() / len(atoms))
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    panels: list[list[np.ndarray]] = [[], [], []]
    for part in parts.values():
        energies = [
            a.get_potential_energy() / len(a) - lowest[a.symbols.formula.reduce()[0].format("hill")] for a in part
        ]
        nearest = np.array([nearest_distance(a) for a in part])
        panels[0].append(np.array(energies))
        panels[1].append(np.concatenate([a.get_forces().ravel() for a in part]))
        panels[2].append(nearest[np.isfinite(nearest)])
    names = (
        "energy above the lowest of its composition (eV/atom)",
        "force component (eV/A)",
        "nearest distance (A)",
    )
    for axis, values, name in zip(axes, panels, names, strict=True):
        axis.hist(values, bins=40, stacked=True, label=list(parts))
        axis.set(xlabel=name, ylabel="count", yscale="log")
    axes[0].legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def verify(
    folder: Path,
    label: Label,
    *,
    n_frames: int,
    seed: int,
    energy_tolerance: float = 1e-4,
    force_tolerance: float = 1e-3,
    splits: Sequence[str] = SPLITS,
) -> None:
    """Label ``n_frames`` random frames of the set again and compare with what is stored.

    Tolerances: total energy in eV, force component in eV/A. Raises SystemExit when one is exceeded.
    """
    frames = [a for s in splits if (folder / f"{s}.xyz").exists() for a in ase.io.read(folder / f"{s}.xyz", ":")]
    rng = np.random.default_rng(seed)
    worst = 0.0, 0.0
    for index in rng.choice(len(frames), size=min(n_frames, len(frames)), replace=False):
        stored = frames[index]
        again = label(stored.copy())
        errors = (
            abs(again.get_potential_energy() - stored.get_potential_energy()),
            float(np.abs(again.get_forces() - stored.get_forces()).max()),
        )
        print(
            f"{stored.info['config_type']:>20} {len(stored):3d} atoms  dE {errors[0]:.1e} eV  dF {errors[1]:.1e} eV/A",
            flush=True,
        )
        worst = max(worst[0], errors[0]), max(worst[1], errors[1])
    print(f"largest: {worst[0]:.1e} eV, {worst[1]:.1e} eV/A")
    if worst[0] > energy_tolerance or worst[1] > force_tolerance:
        raise SystemExit("labels do not come out the same: another version, or settings that have changed")


def main(
    folder: Path,
    *,
    frames: Callable[[], list[Atoms]],
    label: Label,
    splits: Sequence[str] = SPLITS,
    split_key: str = "split",
) -> None:
    """Command line of a set: ``frames`` writes the queue, ``label`` works on it, ``collect`` writes the files."""
    parser = argparse.ArgumentParser(description=f"make the set {folder.name}")
    parser.add_argument("step", choices=("frames", "label", "collect", "verify", "all"))
    parser.add_argument("--limit", type=int, help="label at most this many frames, or verify this many (10)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of frames to verify")
    arguments = parser.parse_args()
    work = folder / "work"
    if arguments.step in ("frames", "all") and not (arguments.step == "all" and (work / "queue.xyz").exists()):
        write_queue(work / "queue.xyz", frames())
        print(f"{restore(work, folder)} labels restored from the collected files")
    if arguments.step in ("label", "all"):
        label_queue(work / "queue.xyz", label, limit=arguments.limit)
    if arguments.step in ("collect", "all"):
        parts = collect(work, folder, splits=splits, split_key=split_key)
        print({split: len(part) for split, part in parts.items()})
    if arguments.step == "verify":
        verify(folder, label, n_frames=arguments.limit or 10, seed=arguments.seed, splits=splits)
