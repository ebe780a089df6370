"""Bad input: each is an error that names the frame, the key and the remedy, in Python and on the command line."""

import re

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

import gapkit
from gapkit.cli import main
from gapkit.exceptions import DataError, GapkitError, SettingsError, SpeciesError
from gapkit.structures.files import write_frames
from tests.conftest import copper_frames, label, small_gap

# folds=1 is chosen on purpose in several tests
pytestmark = pytest.mark.filterwarnings("ignore:all frames fall into one fold:gapkit.exceptions.GapkitWarning")


def unlabelled(atoms):
    bare = atoms.copy()
    bare.calc = None
    return bare


def in_arrays(atoms, **changes):
    """The frame with its labels in info and arrays, some replaced; None removes one."""
    labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": None, **changes}
    bare = unlabelled(atoms)
    for key, value in labels.items():
        if value is not None:
            (bare.arrays if key == "forces" and np.shape(value)[:1] == (len(atoms),) else bare.info)[key] = value
    return bare


def with_number(values, place, number):
    changed = np.array(values, dtype=float)
    changed.flat[place] = number
    return changed


def nan_energy(atoms):
    return in_arrays(atoms, energy=np.nan)


def infinite_energy(atoms):
    return in_arrays(atoms, energy=np.inf)


def nan_force(atoms):
    return in_arrays(atoms, forces=with_number(atoms.get_forces(), 4, np.nan))


def infinite_force(atoms):
    return in_arrays(atoms, forces=with_number(atoms.get_forces(), 4, -np.inf))


def nan_virial(atoms):
    return in_arrays(atoms, virial=with_number(np.eye(3), 2, np.nan))


def narrow_forces(atoms):
    return in_arrays(atoms, forces=np.zeros((len(atoms), 2)))


def stress_and_virial_that_disagree(atoms):
    stress = atoms.get_stress(voigt=False)
    return in_arrays(atoms, stress=stress, virial=stress * atoms.get_volume())  # the sign is wrong


def nan_position(atoms):
    bad = in_arrays(atoms)
    bad.positions[2, 1] = np.nan
    return bad


def infinite_position(atoms):
    bad = in_arrays(atoms)
    bad.positions[2, 1] = np.inf
    return bad


def zero_volume(atoms):
    bad = in_arrays(atoms)
    bad.cell[2] = bad.cell[0] + bad.cell[1]
    return bad


def zero_vector(atoms):
    bad = in_arrays(atoms)
    bad.cell[2] = 0.0
    return bad


def one_spot(atoms):
    bad = in_arrays(atoms)
    bad.positions[3] = bad.positions[1] + 1e-5
    return bad


def one_spot_across_the_boundary(atoms):
    bad = in_arrays(atoms)
    bad.positions[3] = bad.positions[1] + bad.cell[0] - bad.cell[2]
    return bad


def tiny_cell(atoms):
    bad = in_arrays(atoms)
    bad.set_cell(bad.cell.array * 0.03, scale_atoms=True)
    return bad


def thin_cell(atoms):
    bad = in_arrays(atoms)
    bad.set_cell(np.diag([0.3, 12.0, 12.0]), scale_atoms=False)
    return bad


def far_away(atoms):
    bad = in_arrays(atoms)
    bad.pbc = (True, True, False)
    bad.positions[1, 2] = 1e5
    return bad


LABELS = [
    (nan_energy, "'energy' holds NaN or infinity.*(repair|remove)"),
    (infinite_energy, "'energy' holds NaN or infinity"),
    (nan_force, "'forces' holds NaN or infinity"),
    (infinite_force, "'forces' holds NaN or infinity"),
    (nan_virial, "'virial' holds NaN or infinity"),
    (narrow_forces, r"'forces' has shape \(8, 2\).*\(8, 3\)"),
    (stress_and_virial_that_disagree, "'virial' and 'stress' disagree.*(remove|virial_key)"),
]
STRUCTURES = [
    (nan_position, "position of atom 2 is not finite.*(repair|remove)"),
    (infinite_position, "position of atom 2 is not finite"),
    (zero_volume, "linearly dependent.*pbc"),
    (zero_vector, "direction 2 is periodic but its cell vector is zero.*pbc"),
    (one_spot, "atoms [13] and [13] are .* apart, on one spot.*(remove|repair)"),
    (one_spot_across_the_boundary, "atoms [13] and [13] are .* apart, on one spot"),
    (tiny_cell, "the cell is too small"),
    (thin_cell, "every atom is 0.3 A from its own periodic image: the cell is too small; repair"),
    (far_away, "atom 1 .*direction that is not periodic.*remove"),
]
WRITABLE = [
    (f, m) for f, m in LABELS + STRUCTURES if f is not narrow_forces and f is not zero_vector
]  # a file with a zero cell vector is a file of a frame that is not periodic there


def name_of(value):
    return getattr(value, "__name__", None)


def fit_arguments(tmp_path, frames, *more):
    path = tmp_path / "train.xyz"
    ase.io.write(path, frames, format="extxyz")
    return ["fit", str(path), "-o", str(tmp_path / "m.gapkit"), "--quiet", *more]


def refused(capsys, arguments, pattern=""):
    """The command ends with 2 and exactly one line on standard error, which is returned."""
    code = main([str(a) for a in arguments])
    err = capsys.readouterr().err
    assert code == 2
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    assert "\r" not in err
    assert err.startswith("gapkit: error: ")
    assert "Traceback" not in err
    assert re.search(pattern, err), err
    return err


# ---- frames, in Python


@pytest.mark.parametrize(("spoil", "message"), LABELS + STRUCTURES, ids=name_of)
def test_fit_names_the_frame_and_what_is_wrong(train, spoil, message):
    frames = [*train[:4], spoil(train[4]), *train[5:]]
    with pytest.raises(DataError, match=f"^frame 4: .*{message}"):
        small_gap().fit(frames)


@pytest.mark.parametrize(("spoil", "message"), LABELS + STRUCTURES, ids=name_of)
def test_evaluate_names_the_frame_and_what_is_wrong(gap, train, spoil, message):
    with pytest.raises(DataError, match=f"^frame 1: .*{message}"):
        gap.evaluate([train[0], spoil(train[4])])


@pytest.mark.parametrize(("spoil", "message"), STRUCTURES, ids=name_of)
def test_predict_and_calculator_refuse_the_structure(gap, train, spoil, message):
    bad = spoil(train[4])
    with pytest.raises(DataError, match=f"^frame 1: .*{message}"):
        gap.predict([train[0], bad], uncertainty=True)
    bad.calc = gap.calculator()
    with pytest.raises(DataError, match=message):
        bad.get_potential_energy()
    assert bad.calc.results == {}


def test_predict_does_not_read_labels(gap, train):
    bad = nan_force(train[4])
    np.testing.assert_array_equal(gap.predict([bad]).forces[0], gap.predict([train[4]]).forces[0])


def test_update_refuses_and_leaves_the_model_as_it_was(train, held_out):
    gap = small_gap(noise_levels={"energy": 0.01, "forces": 0.1, "virial": 0.1}).fit(train)
    before = gap.predict(held_out).energy
    for spoil, message in LABELS + STRUCTURES:
        with pytest.raises(DataError, match=f"^frame 0: .*{message}"):
            gap.update([spoil(train[4])])
    with pytest.raises(SpeciesError, match="^frame 1: atom 0 is Au"):
        gap.update([held_out[0], label(bulk("Au"))])
    np.testing.assert_array_equal(gap.predict(held_out).energy, before)


def test_no_labels_at_all(gap, train):
    bare = [unlabelled(a) for a in train]
    for use in (small_gap().fit, gap.evaluate, gap.score):
        with pytest.raises(DataError, match="none of the 12 frames has labels; .*energy_key"):
            use(bare)


def test_a_named_key_that_no_frame_has(train):
    with pytest.raises(
        DataError, match="energy_key 'dft_energy' is in none of the 12 frames; they have: .*config_type"
    ):
        small_gap(energy_key="dft_energy").fit(train)


def test_an_unknown_species(gap, train):
    gold = label(bulk("Au", cubic=True))
    mixed = train[0].copy()
    mixed.symbols[2] = "Ag"
    for use in (gap.predict, gap.evaluate):
        with pytest.raises(SpeciesError, match=r"^frame 1: atom 0 is Au, .*not trained on \(Cu\); add frames with Au"):
            use([train[0], gold])
    with pytest.raises(SpeciesError, match="^frame 0: atom 2 is Ag"):
        gap.predict([mixed])
    mixed.calc = gap.calculator("full")
    with pytest.raises(SpeciesError, match="atom 2 is Ag"):
        mixed.get_forces()


@pytest.mark.parametrize("X", ["train.xyz", 5, None, [1, 2], [], {"a": 1}], ids=repr)
def test_what_is_not_a_list_of_frames(gap, X):
    with pytest.raises(DataError, match="ase.Atoms"):
        small_gap().fit(X)
    if X != []:
        with pytest.raises(DataError, match="ase.Atoms"):
            gap.predict(X)


def test_predicting_nothing_gives_nothing(gap):
    assert gap.predict([]).energy.shape == (0,)
    with pytest.raises(SettingsError, match="uncertainty must be None, 'local', 'energy', 'full' or a bool"):
        gap.predict([], uncertainty="forces")


def test_only_isolated_atoms():
    atom = Atoms("Cu", info={"energy": 0.1})
    with pytest.raises(DataError, match="isolated atoms: there is nothing to learn; add"):
        small_gap().fit([atom, atom])


# ---- labels that are missing are not missed


def test_a_frame_with_some_labels_is_used_for_what_it_has(train, held_out):
    """Dropping one kind of label from a frame equals never having had it, and differs from dropping the frame."""
    noise = {"energy": 0.01, "forces": 0.1, "virial": 0.1}
    e0 = {"Cu": 0.4}

    def fitted(frames):
        return small_gap(noise_levels=noise, e0=e0, folds=1).fit(frames)

    full = fitted(train)
    rows = {k: full._fit.triangles.count(k) for k in noise}
    assert rows == {"energy": 12, "forces": 3 * sum(map(len, train)), "virial": 6 * 9}
    results = train[0].calc.results
    for key, lost in (("energy", 1), ("forces", 24), ("stress", 6)):
        kept = {k: v for k, v in results.items() if k != key}
        reduced = unlabelled(train[0])
        for k, v in kept.items():
            (reduced.arrays if k == "forces" else reduced.info)[k] = v
        part = fitted([reduced, *train[1:]])
        kind = "virial" if key == "stress" else key
        assert part._fit.triangles.count(kind) == rows[kind] - lost
        # a key that only the other frames have gives the same model
        renamed = [a.copy() for a in train]
        for n, (a, original) in enumerate(zip(renamed, train, strict=True)):
            for k, v in original.calc.results.items():
                name = f"my_{k}" if k == key else k
                if not (n == 0 and k == key):
                    (a.arrays if k == "forces" else a.info)[name] = v
        named = small_gap(noise_levels=noise, e0=e0, folds=1, **{f"{kind}_key": f"my_{key}"}).fit(renamed)
        np.testing.assert_allclose(named.predict(held_out).energy, part.predict(held_out).energy, rtol=0, atol=1e-9)
        assert np.abs(part.predict(held_out).energy - full.predict(held_out).energy).max() > 1e-6
        assert np.abs(part.predict(held_out).energy - fitted(train[1:]).predict(held_out).energy).max() > 1e-6


@pytest.mark.parametrize("kind", ["energy", "forces", "stress"])
@pytest.mark.filterwarnings("ignore:no frame has an energy:gapkit.exceptions.GapkitWarning")
def test_one_kind_of_label_is_enough(train, kind):
    frames = []
    for atoms in train:
        bare = unlabelled(atoms)
        if kind in atoms.calc.results:
            (bare.arrays if kind == "forces" else bare.info)[kind] = atoms.calc.results[kind]
        frames.append(bare)
    gap = small_gap().fit(frames)
    p = gap.predict(train, uncertainty=True)
    assert np.isfinite(p.energy).all()
    assert all(np.isfinite(f).all() and (f > 0).all() for f in p.forces_std)
    if kind == "energy":
        assert np.sqrt(np.mean((p.energy - [a.get_potential_energy() for a in train]) ** 2)) < 0.05
    if kind == "forces":
        assert gap.score(train) > -0.05


# ---- parameters of GAP


def without_address(changes):
    """The parameters as a test's name: no addresses of objects, on which parallel workers would not agree."""
    return re.sub(" at 0x[0-9a-f]+", "", str(changes))[1:60]


PARAMETERS = [
    ({"terms": "many"}, "terms must be 'auto' or a list"),
    ({"terms": []}, "terms must be 'auto' or a list"),
    ({"terms": 5}, "terms must be 'auto' or a list"),
    ({"terms": {"name": "soap"}}, "terms must be 'auto' or a list"),
    ({"terms": [5]}, r"terms\[0\] must be a gapkit.Term or a table"),
    ({"terms": [{"name": "pair"}, {"name": "saop"}]}, r"terms\[1\]: a term's name must be one of pair, soap, triplet"),
    ({"terms": [{"name": ["soap"]}]}, r"terms\[0\]"),
    ({"terms": [{"name": "soap", "nmax": 4}]}, r"terms\[0\]: .*nmax"),
    ({"terms": [{"name": "soap", "n_max": "4"}]}, r"terms\[0\]: n_max must be an integer, not '4'"),
    ({"terms": [{"name": "soap", "n_max": 4.5}]}, r"terms\[0\]: n_max must be an integer"),
    ({"terms": [{"name": "soap", "n_max": 13}]}, "n_max must be 1 to 12"),
    ({"terms": [{"name": "soap", "l_max": -1}]}, "l_max must be 0 to 12"),
    ({"terms": [{"name": "soap", "r_cut": "5"}]}, r"terms\[0\]: r_cut must be a finite number"),
    ({"terms": [{"name": "soap", "r_cut": float("nan")}]}, r"r_cut must be a finite"),
    ({"terms": [{"name": "soap", "r_cut": 0.9}]}, r"r_cut must be a finite distance above 1.0 A"),
    ({"terms": [{"name": "soap", "sigma": 0.0}]}, "sigma must be from 0.01 to 10, not 0.0"),
    ({"terms": [{"name": "soap", "sigma": True}]}, "sigma must be a finite number"),
    ({"terms": [{"name": "soap", "compression": "zip"}]}, "compression must be"),
    ({"terms": [{"name": "soap", "compression": 3}]}, "compression must be a word"),
    ({"terms": [{"name": "soap", "cutoff_power": 0}]}, "cutoff_power must be at least 1"),
    ({"terms": [{"name": "soap", "zeta": "four"}]}, r"zeta must be an integer"),
    ({"terms": [{"name": "soap", "zeta": 2.5}]}, r"zeta must be an integer"),
    ({"terms": [{"name": "soap", "n_sparse": 0}]}, "n_sparse must be at least 1"),
    ({"terms": [{"name": "soap", "n_sparse": 10.5}]}, "n_sparse must be an integer"),
    ({"terms": [{"name": "soap", "signal": -1.0}]}, "signal must be positive"),
    ({"terms": [{"name": "soap", "signal": float("inf")}]}, "signal must be a finite number"),
    ({"terms": [{"name": "soap", "signal": 1e200}]}, r"signal must be from 1e-10 to 1e[+]10"),
    ({"terms": [{"name": "soap", "sigma": 1e-9}]}, r"sigma must be from 0.01 to 10"),
    ({"terms": [{"name": "soap", "r_cut": 1e9}]}, r"r_cut must be from 0.5 to 100"),
    ({"terms": [{"name": "soap", "zeta": 10**6}]}, r"zeta must be from 1 to 100"),
    ({"terms": [{"name": "pair", "length_scale": 1e-200}]}, r"length_scale must be from 0.001 to 1e[+]06"),
    ({"terms": [{"name": "soap", "selection": "best"}]}, "selection must be one of greedy"),
    ({"terms": [{"name": "soap", "selection": 7}]}, "selection must be a (word|name)"),
    ({"terms": [{"name": "pair", "cutoff_width": 0.0}]}, "cutoff_width must be positive"),
    ({"terms": [{"name": "pair", "r_cut": 3.0, "cutoff_width": 4.0}]}, "cutoff_width must be .* at most r_cut"),
    ({"terms": [{"name": "pair", "cutoff_width": "wide"}]}, "cutoff_width must be positive"),
    ({"terms": [{"name": "pair", "length_scale": -1.0}]}, "length_scale must be positive"),
    ({"terms": [{"name": "pair", "length_scale": [1.0, 2.0]}]}, "length_scale must be one number or 1, not 2"),
    ({"terms": [{"name": "triplet", "length_scale": [1.0, 2.0]}]}, "length_scale must be one number or 3, not 2"),
    ({"baseline": "zlb"}, "baseline must be None, 'zbl' or an ASE calculator, not 'zlb'"),
    ({"baseline": 3}, "baseline must be None, 'zbl' or an ASE calculator, not 3"),
    ({"baseline": ["zbl"]}, "baseline must be None, 'zbl' or an ASE calculator"),
    ({"baseline": gapkit.ZBL}, r"not the class ZBL; write it with \(\)"),
    ({"baseline": {"r_cut": 2.0}}, "baseline must be"),
    ({"baseline": {"name": "zbl", "rcut": 2.0}}, "keys r_cut and cutoff_width, not rcut"),
    ({"baseline": {"name": "zbl", "r_cut": "2"}}, "r_cut of the ZBL baseline must be a distance in A"),
    ({"baseline": {"name": "zbl", "r_cut": -2.0}}, "r_cut must be a finite distance"),
    ({"baseline": {"name": "zbl", "cutoff_width": 0.0}}, "cutoff_width of the ZBL baseline"),
    ({"baseline": {"name": "zbl", "cutoff_width": 9.0}}, "cutoff_width of the ZBL baseline"),
    ({"e0": "free"}, "e0 must be 'auto', 'isolated', 'least_squares'"),
    ({"e0": 1.0}, "e0 must be 'auto', 'isolated', 'least_squares'"),
    ({"e0": {"Cu": "low"}}, "e0: 'Cu' = 'low'"),
    ({"e0": {"Cu": float("nan")}}, "e0: 'Cu' = nan"),
    ({"e0": {"Kp": 1.0}}, "e0: 'Kp' is no chemical symbol"),
    ({"e0": {"Au": 1.0}}, "e0 has no value for Cu"),
    ({"e0": "isolated"}, "no isolated-atom frame with an energy for Cu; add one"),
    ({"noise_levels": "low"}, "noise_levels must be 'auto' or a table"),
    ({"noise_levels": 0.1}, "noise_levels must be 'auto' or a table"),
    ({"noise_levels": {"force": 0.1}}, "noise_levels is for energy, forces and virial, not for 'force'"),
    ({"noise_levels": {"forces": 0.0}}, "noise of 'forces' must be 'auto' or a positive number .* not 0.0"),
    ({"noise_levels": {"forces": "low"}}, "noise of 'forces' must be 'auto' or a positive number .* not 'low'"),
    ({"noise_levels": {"energy": float("inf")}}, "noise of 'energy' must be 'auto' or a positive number"),
    ({"noise_levels": {"energy": 1e-300}}, "noise of 'energy' must be .* from 1e-10 to 1e[+]10"),
    ({"noise_levels": {"config_types": 3}}, "config_types must be a table of tables"),
    ({"noise_levels": {"config_types": {"bulk": 0.1}}}, "config_types must be a table of tables"),
    (
        {"noise_levels": {"config_types": {"bulk": {"forces": -1}}}},
        "noise of 'forces' must be 'auto' or a positive number",
    ),
    ({"sparse": 0}, "sparse must be 'auto', a number of at least 1"),
    ({"sparse": -3}, "sparse must be 'auto', a number of at least 1"),
    ({"sparse": 2.5}, "sparse must be 'auto', a number of at least 1"),
    ({"sparse": True}, "sparse must be 'auto', a number of at least 1"),
    ({"sparse": [10]}, "sparse must be 'auto', a number of at least 1"),
    ({"sparse": "best"}, "selection must be one of greedy"),
    ({"sparse": {"m": 10}}, "sparse has the keys n, selection and stratified, not m"),
    ({"sparse": {"n": "ten"}}, "sparse must be 'auto', a number of at least 1"),
    ({"sparse": {"selection": 3}}, "sparse: selection must be a name or a callable"),
    ({"folds": 0}, "folds must be an integer of at least 1, not 0"),
    ({"folds": 2.0}, "folds must be an integer"),
    ({"folds": "five"}, "folds must be an integer"),
    ({"folds": True}, "folds must be an integer"),
    ({"n_jobs": 0}, "n_jobs must be"),
    ({"n_jobs": "all"}, "n_jobs must be"),
    ({"random_state": "lucky"}, "random_state must be"),
    ({"random_state": -1}, "random_state must be"),
    ({"random_state": 1.5}, "random_state must be"),
    ({"energy_key": 5}, "energy_key must be None or the name"),
    ({"virial_key": ["virial"]}, "virial_key must be None or the name"),
]


@pytest.mark.parametrize(
    ("changes", "message"), PARAMETERS, ids=[re.sub(" at 0x[0-9a-f]+", "", str(c))[1:60] for c, _ in PARAMETERS]
)
def test_a_parameter_that_cannot_work(train, changes, message):
    with pytest.raises(GapkitError, match=message):
        small_gap(**changes).fit(train)


@pytest.mark.parametrize(
    "changes",
    [
        {"folds": np.int64(2), "random_state": np.int64(3), "sparse": np.int32(12)},
        {"random_state": np.random.default_rng(0), "sparse": "random"},
        {"random_state": np.random.RandomState(0), "sparse": {"n": 12, "selection": "random"}},
        {"folds": 100, "n_jobs": 2},
        {"folds": 1, "n_jobs": -1, "noise_levels": {"forces": 0.1, "energy": "auto"}},
        {"e0": {29: 0.4}, "noise_levels": {"config_types": {"cluster": {"forces": 0.2}}}},
        {"terms": [{"name": "triplet", "r_cut": 3.5, "length_scale": [1.0, 1.0, 1.0], "n_sparse": 12}], "folds": 1},
    ],
    ids=lambda c: " ".join(c),  # no addresses: parallel workers must agree on names
)
def test_parameters_that_do_work(train, held_out, changes, tmp_path):
    gap = small_gap(**changes).fit(train)
    gap.save(tmp_path / "m.gapkit")
    np.testing.assert_array_equal(
        gapkit.load(tmp_path / "m.gapkit").predict(held_out).energy, gap.predict(held_out).energy
    )


def test_a_fit_that_fails_leaves_the_fitted_model(train, held_out):
    gap = small_gap(folds=1).fit(train)
    before = gap.predict(held_out).energy
    with pytest.raises(DataError):
        gap.fit([nan_energy(train[0])])
    with pytest.raises(SettingsError):
        gap.set_params(folds=0).fit(train)
    np.testing.assert_array_equal(gap.predict(held_out).energy, before)


def test_calculator_refuses_an_unknown_uncertainty(gap):
    with pytest.raises(SettingsError, match="uncertainty must be None, 'local', 'energy', 'full' or a bool, not 'all'"):
        gap.calculator("all")


# ---- the same through the command line


@pytest.mark.parametrize(("spoil", "message"), WRITABLE, ids=name_of)
def test_command_line_fit_refuses_the_frame(train, tmp_path, capsys, spoil, message):
    arguments = fit_arguments(tmp_path, [*train[:4], spoil(train[4])])
    err = refused(capsys, arguments, f"train.xyz: frame 4: .*{message}")
    assert "train.xyz" in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["train.xyz"]


def test_command_line_fit_keeps_the_old_model(train, tmp_path, capsys):
    old = tmp_path / "m.gapkit"
    old.write_bytes(b"an older model")
    refused(capsys, fit_arguments(tmp_path, [nan_force(train[0])]), "'forces' holds NaN")
    refused(capsys, fit_arguments(tmp_path, [unlabelled(a) for a in train]), "none of the 12 frames has labels")
    refused(capsys, fit_arguments(tmp_path, train, "--test", tmp_path / "none.xyz"), "none.xyz: no such file")
    assert old.read_bytes() == b"an older model"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.gapkit", "train.xyz"]


def test_command_line_names_the_file_among_several(train, tmp_path, capsys):
    for name, frames in (("a.xyz", train[:3]), ("b.xyz", [train[3], one_spot(train[4])])):
        ase.io.write(tmp_path / name, frames, format="extxyz")
    arguments = ["fit", tmp_path / "a.xyz", tmp_path / "b.xyz", "-o", tmp_path / "m.gapkit", "--quiet"]
    refused(capsys, arguments, "b.xyz: frame 1: .*on one spot")
    arguments = ["fit", tmp_path / "a.xyz", "--test", tmp_path / "b.xyz", "-o", tmp_path / "m.gapkit", "--quiet"]
    refused(capsys, arguments, "b.xyz: frame 1: .*on one spot")
    assert not (tmp_path / "m.gapkit").exists()


@pytest.mark.parametrize("command", ["evaluate", "predict", "md"])
@pytest.mark.parametrize("spoil", [one_spot, nan_position, zero_volume], ids=name_of)
def test_command_line_use_of_a_model_refuses_the_structure(model_file, train, tmp_path, capsys, command, spoil):
    bad = tmp_path / "bad.xyz"
    ase.io.write(bad, [train[0], spoil(train[4])], format="extxyz")
    more = {"evaluate": ["--json", tmp_path / "out", "--quiet"]}.get(command, ["-o", tmp_path / "out.xyz"])
    err = refused(capsys, [command, model_file, bad, *more], "bad.xyz: frame 1: ")
    assert "bad.xyz" in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.xyz"]


@pytest.mark.parametrize("command", ["evaluate", "predict", "md"])
def test_command_line_refuses_an_unknown_species(model_file, tmp_path, capsys, command):
    bad = tmp_path / "gold.xyz"
    ase.io.write(bad, [label(bulk("Au", cubic=True))], format="extxyz")
    more = {"predict": ["-o", tmp_path / "out.xyz"]}.get(command, [])
    refused(capsys, [command, model_file, bad, *more], r"gold.xyz: frame 0: atom 0 is Au, .*not trained on \(Cu\)")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["gold.xyz"]


def test_command_line_refuses_test_frames_of_another_species_before_the_fit(train, tmp_path, capsys):
    ase.io.write(tmp_path / "gold.xyz", [train[0], label(bulk("Au", cubic=True))], format="extxyz")
    arguments = fit_arguments(tmp_path, train, "--test", tmp_path / "gold.xyz")
    refused(capsys, arguments, r"gold.xyz: frame 1: Au is in no training frame; add")
    assert not (tmp_path / "m.gapkit").exists()


def test_command_line_evaluate_without_labels(model_file, train, tmp_path, capsys):
    ase.io.write(tmp_path / "bare.xyz", [unlabelled(a) for a in train], format="extxyz")
    out = tmp_path / "out.json"
    refused(
        capsys, ["evaluate", model_file, tmp_path / "bare.xyz", "--json", out, "--quiet"], "none of the 12 frames has"
    )
    assert not out.exists()


def garbage(path):
    path.write_bytes(np.random.default_rng(0).bytes(500))


def truncated_frame(path):
    ase.io.write(path, copper_frames(2, 0), format="extxyz")
    path.write_text("\n".join(path.read_text().splitlines()[:-3]))


FILES = [
    (lambda p: p.write_bytes(b""), "the file is empty"),
    (lambda p: p.write_text("\n\n"), "holds no frames|cannot be read"),
    (lambda p: None, "no such file"),
    (lambda p: p.mkdir(), "not a file"),
    (garbage, "cannot be read"),
    (lambda p: p.write_text("these are not frames\nbut words\n"), "cannot be read"),
    (truncated_frame, "frame 1, line 11: cannot be read"),
    (lambda p: p.write_text("2\nProperties=species:S:1:pos:R:3\nCu 0 0 0\nCu 0 x 0\n"), "frame 0, line 1: "),
]


@pytest.mark.parametrize("use", ["fit", "test", "evaluate", "predict", "md"])
@pytest.mark.parametrize(("make", "message"), FILES, ids=[m for _, m in FILES])
def test_a_file_without_frames(model_file, train, tmp_path, capsys, use, make, message):
    bad, out = tmp_path / "bad.xyz", tmp_path / "out.xyz"
    make(bad)
    before = sorted(tmp_path.iterdir())
    arguments = {
        "fit": ["fit", bad, "-o", out, "--quiet"],
        "test": ["fit", bad, "--test", bad, "-o", out, "--quiet"],
        "evaluate": ["evaluate", model_file, bad, "--json", out, "--quiet"],
        "predict": ["predict", model_file, bad, "-o", out],
        "md": ["md", model_file, bad, "-o", out],
    }[use]
    refused(capsys, arguments, f"bad.xyz: .*({message})")
    assert sorted(tmp_path.iterdir()) == before


def test_outputs_that_cannot_be_written(model_file, train, tmp_path, capsys, monkeypatch):
    """Refused before any work: a folder in the file's place, a folder that is missing, one without permission."""
    data = tmp_path / "train.xyz"
    ase.io.write(data, train, format="extxyz")
    commands = {
        "fit": lambda out: ["fit", data, "-o", out, "--quiet"],
        "json": lambda out: ["evaluate", model_file, data, "--json", out, "--quiet"],
        "plot": lambda out: ["evaluate", model_file, data, "--plot", out, "--quiet"],
        "predict": lambda out: ["predict", model_file, data, "-o", out],
        "md": lambda out: ["md", model_file, data, "-o", out],
    }
    monkeypatch.setattr(gapkit.GAP, "fit", None)  # nothing of this may be reached
    monkeypatch.setattr(gapkit.GAP, "predict", None)
    monkeypatch.setattr(gapkit.GAP, "evaluate", None)
    for command in commands.values():
        refused(capsys, command(tmp_path), "is a folder; give the name of a file")
        refused(capsys, command(tmp_path / "none" / "out.png"), "none does not exist; make it first")
    refused(capsys, commands["plot"](tmp_path / "out.docx"), "no picture format")
    monkeypatch.setattr("os.access", lambda *_: False)
    for command in commands.values():
        refused(capsys, command(tmp_path / "out.png"), "cannot be written to; choose another")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["train.xyz"]


def test_a_full_disk_while_writing_frames(model_file, train, tmp_path, capsys, monkeypatch):
    data, out = tmp_path / "train.xyz", tmp_path / "out.xyz"
    ase.io.write(data, train, format="extxyz")
    out.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    refused(capsys, ["predict", model_file, data, "-o", out], "No space left on device")
    refused(capsys, ["evaluate", model_file, data, "--json", out, "--quiet"], "No space left on device")
    assert out.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.xyz", "train.xyz"]


CONFIGS = [
    ("folds = ", "config.toml: cannot be read as TOML"),
    ("nmax = 4\nfold = 3", "config.toml: unknown keys fold, nmax; known: .*terms, virial_key"),
    ("folds = 0", "config.toml: folds must be"),
    ('noise_levels = {forces = "low"}', "config.toml: noise of 'forces'"),
    ('sparse = "best"', "selection must be one of"),
    ('baseline = "emt"', "config.toml: baseline must be"),
    ("[[terms]]\nname = 'soap'\nn_max = 20", "n_max must be 1 to 12"),
    ("[[terms]]\nname = 'soup'", r"config.toml: terms\[0\]: a term's name"),
    ("e0 = {Cu = 'x'}", "config.toml: e0: 'Cu'"),
    ("e0 = {Si = 1.0}", "e0 has no value for Cu"),
    ("random_state = 'x'", "config.toml: random_state"),
    ("energy_key = 'dft'", "energy_key 'dft' is in none of the 12 frames"),
]


@pytest.mark.parametrize(("text", "message"), CONFIGS, ids=[t.replace("\n", " ") for t, _ in CONFIGS])
def test_a_bad_configuration(train, tmp_path, capsys, text, message):
    config = tmp_path / "config.toml"
    config.write_text(text)
    refused(capsys, fit_arguments(tmp_path, train, "--config", config), message)
    assert not (tmp_path / "m.gapkit").exists()


def test_a_configuration_that_is_missing_or_no_text(train, tmp_path, capsys):
    refused(capsys, fit_arguments(tmp_path, train, "--config", tmp_path / "none.toml"), "none.toml: cannot be read")
    refused(capsys, fit_arguments(tmp_path, train, "--config", tmp_path), "cannot be read")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    refused(capsys, fit_arguments(tmp_path, train, "--config", tmp_path / "binary.toml"), "cannot be read as TOML")


@pytest.mark.parametrize(
    "more",
    [
        ["--steps", "0"],
        ["--timestep", "-1"],
        ["--timestep", "nan"],
        ["--temperature", "-1"],
        ["--temperature", "inf"],
    ],
)
def test_a_run_that_cannot_work(model_file, train, tmp_path, capsys, more):
    write_frames(tmp_path / "start.xyz", train[0])
    refused(capsys, ["md", model_file, tmp_path / "start.xyz", *more], f"{more[0][2:]} must be")


@pytest.mark.parametrize("arguments", [["fit"], ["fit", "a.xyz"], ["guess"], ["md", "m", "a", "--steps", "many"]])
def test_wrong_arguments_are_one_line_too(capsys, arguments):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("gapkit: error: ")


def test_a_warning_is_one_line_and_an_error_after_it_in_quiet_mode_is_the_only_one(tmp_path, capsys):
    """Cu and Au always in the same ratio: their reference energies are not determined, which is a warning."""
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(12):
        atoms = bulk("Cu", a=3.8, cubic=True)
        atoms.symbols[:2] = "Au"
        atoms.rattle(0.1, rng=rng)
        frames.append(label(atoms))
    config = tmp_path / "c.toml"
    config.write_text("folds = 2\n[[terms]]\nname = 'pair'\nr_cut = 4.0\nn_sparse = 10\n")
    arguments = fit_arguments(tmp_path, frames, "--config", config)
    assert main([str(a) for a in arguments]) == 0
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("gapkit: warning: the compositions of the frames do not determine")
    (tmp_path / "m.gapkit").unlink()
    config.write_text("[[terms]]\nname = 'soap'\nn_max = 20\n")
    code = main([str(a) for a in arguments])
    err = capsys.readouterr().err
    assert code == 2
    assert err.count("\n") == 1, err
    assert err.startswith("gapkit: error: n_max must be")
    assert not (tmp_path / "m.gapkit").exists()
