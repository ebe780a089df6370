"""Label report: what is read, what is suspicious, as text, JSON and picture, before a fit and after it."""

import json
import warnings

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.constraints import FixAtoms
from ase.io import write

import gapkit
from gapkit.cli.main import main
from gapkit.exceptions import DataError, GapkitWarning
from tests.conftest import label, small_gap
from tests.fitting.test_screening import cells, copied, with_fault

FRAMES = cells(16, 2)


def kinds(report):
    return {p.kind: p.frames for p in report.problems}


def test_nothing_is_suspicious_in_frames_without_faults():
    report = gapkit.check_labels(FRAMES)
    assert report.ok and not report.problems
    text = str(report)
    assert "energy  16 from energy of the calculator" in text and "nothing is suspicious" in text
    assert "Cu 128" in text and "slope 1" in text


def test_a_label_that_contradicts_all_others_is_named_with_its_frame():
    assert kinds(gapkit.check_labels(with_fault(FRAMES, 5, "energy +20 eV"))) == {"contradiction": (5,)}


def test_labels_in_other_units_are_named():
    frames = copied(FRAMES)
    for atoms in frames:
        atoms.calc.results["forces"] *= units.Bohr / units.Hartree
    report = gapkit.check_labels(frames)
    assert kinds(report) == {"units": ()} and "forces in Hartree/Bohr" in str(report)


def test_one_geometry_with_two_energies_is_named_also_among_few_frames():
    frames = copied(FRAMES[:2]) + copied(FRAMES[:1])
    frames[2].positions += [0.3, 0.1, 0.2]
    frames[2].calc.atoms = frames[2].copy()
    assert gapkit.check_labels(frames).ok
    frames[2].calc.results["energy"] += 0.5
    report = gapkit.check_labels(frames)
    assert kinds(report) == {"same geometry": (0, 2)} and "62.5 meV/atom" in str(report)


def test_half_of_the_energies_in_rydberg_are_named():
    frames = [
        Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 3 + 0.1 * k]], info={"energy": -40 + 0.01 * k}) for k in range(8)
    ]
    for atoms in frames[:3]:
        atoms.info["energy"] /= units.Rydberg
    report = gapkit.check_labels(frames)
    assert kinds(report)["mixed units"] == (0, 1, 2) and "Rydberg" in str(report)


def test_energies_per_atom_among_whole_ones_are_named():
    frames = copied(FRAMES)
    for atoms in frames:
        atoms.calc.results["energy"] -= 8 * 100.0
    for atoms in frames[3:6]:
        atoms.calc.results["energy"] /= 8
    report = gapkit.check_labels(frames)
    assert kinds(report)["mixed units"] == (3, 4, 5) and "eV per atom" in str(report)


def test_labels_beyond_all_measure_are_named():
    frames = copied(FRAMES)
    frames[7].calc.results["forces"] = frames[7].calc.results["forces"] * 1e6
    assert kinds(gapkit.check_labels(frames))["size"] == (7,)


def test_what_is_not_read_and_what_is_held_are_said():
    frames = copied(FRAMES)
    for atoms in frames[:4]:
        atoms.arrays["dft_forces"] = atoms.calc.results.pop("forces")
    held = frames[8].calc.results["forces"]
    held[2] = 0.0
    frames[8].set_constraint(FixAtoms([2]))
    report = gapkit.check_labels(frames)
    assert kinds(report) == {"unread": (0, 1, 2, 3)} and "'dft_forces'" in str(report)
    assert report.held == 3 and "12 from forces of the calculator, 4 without" in str(report)


def test_frames_that_a_fit_refuses_are_problems_and_the_others_are_judged():
    frames = copied(FRAMES)
    frames[3].positions[0] = np.nan
    frames[9].calc = None
    frames[9].positions[1] = frames[9].positions[0]
    report = gapkit.check_labels(frames)
    assert [(p.kind, p.frames) for p in report.problems] == [("refused", (3,)), ("refused", (9,))]
    assert report.problems[0].text.startswith("frame 3:") and report.n_frames == 14
    assert 10 in {frame for frame, _ in report.findings.scores}


def test_no_usable_frame_is_an_error():
    with pytest.raises(DataError, match="no frame can be used: frame 0"):
        gapkit.check_labels([bulk("Cu", a=0.1)])


def test_a_fit_keeps_the_report():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GapkitWarning)
        gap = small_gap().fit(with_fault(FRAMES, 5, "energy +20 eV"))
    assert kinds(gap.label_report_) == {"contradiction": (5,)}
    assert gap.label_report_.as_dict()["left_out"][0]["frame"] == 5


def test_the_command_prints_writes_and_says_by_its_exit_code(tmp_path, capsys):
    good, bad = tmp_path / "good.xyz", tmp_path / "bad.xyz"
    write(good, FRAMES)
    write(bad, with_fault(FRAMES, 5, "energy +20 eV"))
    assert main(["check", str(good), "--quiet"]) == 0
    out, picture = tmp_path / "a.json", tmp_path / "a.png"
    assert main(["check", str(bad), "--quiet", "--json", str(out), "--plot", str(picture)]) == 1
    assert "contradiction" in capsys.readouterr().out
    table = json.loads(out.read_text())
    assert not table["ok"] and table["problems"][0]["frames"] == [5] and table["sources"]["forces"]
    assert picture.stat().st_size > 10_000


def test_the_command_judges_a_model_file(tmp_path, model_file, capsys):
    assert main(["check", str(model_file)]) == 0
    assert "the model file is sound" in capsys.readouterr().out


def test_a_report_of_molecules_says_that_reference_energies_are_not_determined_as_a_note():
    frames = [label(Atoms("CO", positions=[[0, 0, 0], [0, 0, d]])) for d in np.linspace(1.0, 1.4, 12)]
    report = gapkit.check_labels(frames)
    assert report.ok and "do not determine the reference energies" in report.notes[0]
