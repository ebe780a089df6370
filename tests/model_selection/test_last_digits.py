"""How far last digits move a fit: noise that is noise, a fit that stays, and the account of it."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

import gapkit
from gapkit.cli import main
from gapkit.exceptions import DataError, SettingsError
from gapkit.model_selection import last_digits, model_card
from gapkit.model_selection.last_digits import noisy_copies
from gapkit.structures.labels import labelled_frames
from tests.conftest import copper_frames, label, small_gap


def test_copies_differ_in_last_digits_alone():
    frames = [*copper_frames(3, seed=1), label(Atoms("Cu"))]
    copies = noisy_copies(frames, gapkit.GAP(), np.random.default_rng(0))
    before, after = (labelled_frames(f, None, None, None, True) for f in (frames, copies))
    for a, b in zip(before, after, strict=True):
        assert a.is_isolated_atom == b.is_isolated_atom
        for x, y in ((a.energy, b.energy), (a.forces, b.forces), (a.virial, b.virial)):
            if x is not None:
                np.testing.assert_allclose(y, x, rtol=0, atol=6e-12 * np.abs(x).max())
    assert any(np.any(a.positions != b.positions) for a, b in zip(frames, copies, strict=True))
    again = noisy_copies(frames, gapkit.GAP(), np.random.default_rng(0))
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(copies, again, strict=True))


def test_copies_of_frames_with_labels_under_other_names():
    frames = []
    for atoms in copper_frames(2, seed=2):
        bare = atoms.copy()
        bare.info["e_dft"], bare.arrays["f_dft"] = atoms.get_potential_energy(), atoms.get_forces()
        frames.append(bare)
    gap = small_gap(energy_key="e_dft", forces_key="f_dft")
    found = labelled_frames(noisy_copies(frames, gap, np.random.default_rng(0)), None, None, None, True)
    for atoms, frame in zip(frames, found, strict=True):
        assert frame.energy == pytest.approx(atoms.info["e_dft"], abs=1e-9)
        np.testing.assert_allclose(frame.forces, atoms.arrays["f_dft"], rtol=0, atol=1e-9)


def test_a_fit_stays_where_it_is_and_says_so(tmp_path):
    frames = copper_frames(20, seed=3)
    gap = small_gap().fit(frames)
    moved = last_digits(gap, frames, refits=2)
    assert 0 < moved.energy < 5e-5 and 0 < moved.force < 1e-3
    assert (moved.refits, moved.frames) == (2, 20)
    gap.save(tmp_path / "model")
    assert str(moved) in model_card(gapkit.load(tmp_path / "model"))
    assert "was not measured" in model_card(small_gap().fit(frames))


def test_an_order_of_frames_that_follows_last_digits_moves_a_fit(monkeypatch):
    """What the measure is for: sparse points that are chosen by what comes first."""
    frames = copper_frames(20, seed=3)
    gap = small_gap().fit(frames)
    steady = last_digits(gap, frames).force

    def by_last_digits(data):
        order = np.argsort([float(np.sum(f.atoms.positions) * 1e12 % 1) for f in data.frames])
        frames, targets = (tuple(x[k] for k in order) for x in (data.frames, data.targets))
        return replace(data, frames=frames, targets=targets)

    monkeypatch.setattr("gapkit.fitting.fit.in_order", by_last_digits)
    assert last_digits(small_gap().fit(frames), frames).force > 100 * steady


def test_settings_that_cannot_work():
    frames = copper_frames(6, seed=3)
    gap = small_gap().fit(frames)
    with pytest.raises(SettingsError, match="refits"):
        last_digits(gap, frames, refits=0)
    with pytest.raises(SettingsError, match="amplitude"):
        last_digits(gap, frames, amplitude=0.0)
    with pytest.raises(DataError, match="no frames to compare"):
        last_digits(gap, frames, test=[])


def test_the_command_line_keeps_it(tmp_path, capsys):
    write(tmp_path / "train.xyz", copper_frames(8, seed=4))
    (tmp_path / "fit.toml").write_text("folds = 2\nsparse = 20\n")
    settings = ["--config", str(tmp_path / "fit.toml"), "--quiet", "--last-digits"]
    assert main(["fit", str(tmp_path / "train.xyz"), "-o", str(tmp_path / "model"), *settings]) == 0
    assert "last digits" in capsys.readouterr().out
    assert gapkit.load(tmp_path / "model").potential_.metadata["last_digits"]["refits"] == 1
