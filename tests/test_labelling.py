"""The machinery of the reference sets: interrupted, resumed, collected, restored, verified."""

import json

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from data import labelling


def label(atoms):
    bare = atoms.copy()
    bare.calc = EMT()
    return labelling.labelled(
        atoms, energy=bare.get_potential_energy(), forces=bare.get_forces(), stress=bare.get_stress()
    )


def queue(n=7):
    rng = np.random.default_rng(0)
    frames = []
    for k in range(n):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, rng=rng)
        split = "test" if k % 3 == 2 else "train"
        atoms.info.update(config_type="rattled", trajectory=f"rattled-{k // 2}", split=split)
        frames.append(atoms)
    return frames


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "copper"
    (folder / "work").mkdir(parents=True)
    (folder / "README.md").write_text("# Copper\n<!-- counts -->\nnone\n<!-- /counts -->\n")
    labelling.write_queue(folder / "work" / "queue.xyz", queue())
    return folder


def collect(folder):
    return labelling.collect(folder / "work", folder, splits=("train", "test"))


def test_a_run_is_resumed_and_labels_nothing_twice(folder):
    seen = []

    def counted(atoms):
        seen.append(atoms.info["key"])
        if len(seen) == 3:
            raise KeyboardInterrupt
        return label(atoms)

    with pytest.raises(KeyboardInterrupt):
        labelling.label_queue(folder / "work" / "queue.xyz", counted)
    labelling.label_queue(folder / "work" / "queue.xyz", counted)
    assert len(seen) == 8  # the interrupted one twice
    assert len(set(seen)) == 7


def test_a_frame_that_fails_is_noted_and_skipped(folder):
    def fails_once(atoms):
        if atoms.info["trajectory"] == "rattled-1":
            raise RuntimeError("no convergence")
        return label(atoms)

    labelling.label_queue(folder / "work" / "queue.xyz", fails_once)
    assert len((folder / "work" / "failed.txt").read_text().split()) == 2
    parts = collect(folder)
    assert sum(map(len, parts.values())) == 5
    assert "| **frames** | 4 | 1 |" in (folder / "README.md").read_text()


def test_a_lost_work_folder_is_restored_from_the_collected_files(folder):
    work = folder / "work"
    labelling.label_queue(work / "queue.xyz", label, limit=5)
    before = collect(folder)
    files = {p.name: p.read_bytes() for p in folder.glob("*.xyz")}
    for path in sorted(work.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    labelling.write_queue(work / "queue.xyz", queue())
    assert labelling.restore(work, folder) == 5
    assert labelling.restore(work, folder) == 0  # nothing is lost any more
    again = collect(folder)
    assert {s: len(p) for s, p in again.items()} == {s: len(p) for s, p in before.items()}
    assert {p.name: p.read_bytes() for p in folder.glob("*.xyz")} == files
    seen = []
    labelling.label_queue(work / "queue.xyz", lambda atoms: seen.append(0) or label(atoms))
    assert len(seen) == 2


def test_a_killed_restoration_begins_again(folder, monkeypatch):
    work = folder / "work"
    labelling.label_queue(work / "queue.xyz", label)
    collect(folder)
    for path in (work / "labels").iterdir():
        path.unlink()
    written = []
    write = labelling.write_atomically

    def killed(path, frames):
        written.append(path)
        if len(written) == 3:
            raise KeyboardInterrupt
        write(path, frames)

    monkeypatch.setattr(labelling, "write_atomically", killed)
    with pytest.raises(KeyboardInterrupt):
        labelling.restore(work, folder)
    monkeypatch.setattr(labelling, "write_atomically", write)
    assert labelling.restore(work, folder) == 7
    assert sum(map(len, collect(folder).values())) == 7


def test_a_stored_frame_that_the_queue_does_not_hold_stays_in_the_set(folder):
    work = folder / "work"
    labelling.label_queue(work / "queue.xyz", label)
    collect(folder)
    for path in (work / "labels").iterdir():
        path.unlink()
    labelling.write_queue(work / "queue.xyz", queue(4))
    assert labelling.restore(work, folder) == 7
    assert sum("kept" in p.name for p in (work / "labels").iterdir()) == 3
    assert sum(map(len, collect(folder).values())) == 7


def test_changed_labels_are_found(folder):
    labelling.label_queue(folder / "work" / "queue.xyz", label)
    collect(folder)
    assert json.loads((folder / "summary.json").read_text())["frames"] == {"train": 5, "test": 2}
    labelling.verify(folder, label, n_frames=7, seed=0, splits=("train", "test"))

    def other(atoms):
        out = label(atoms)
        out.calc.results["energy"] += 0.01
        return out

    with pytest.raises(SystemExit, match="do not come out the same"):
        labelling.verify(folder, other, n_frames=2, seed=0, splits=("train", "test"))
