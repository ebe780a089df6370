"""Reference energies: exact on made-up data, rules of precedence, what is refused."""

import warnings

import numpy as np
import pytest
from ase import Atoms

from gapkit.exceptions import DataError, GapkitWarning, SettingsError, SpeciesError
from gapkit.structures.labels import labelled_frames
from gapkit.structures.reference_energies import ReferenceEnergies, reference_energies

TRUE = {1: -13.0, 6: -1030.0, 8: -2040.0}


def frame(formula, energy=None, **info):
    """Atoms far apart whose energy is the sum of the true reference energies unless given."""
    atoms = Atoms(formula)
    atoms.positions[:, 0] = 3.0 * np.arange(len(atoms))
    atoms.info["energy"] = sum(TRUE[z] for z in atoms.numbers) if energy is None else energy
    atoms.info.update(info)
    return atoms


def fit(frames, species, e0="auto"):
    return reference_energies(labelled_frames(frames), species, e0)


def test_of_sums_over_atoms():
    e0 = ReferenceEnergies({1: -13.0, 8: -2040.0}, {})
    assert e0.of(np.array([8, 1, 1])) == -2066.0
    assert e0.of([]) == 0.0
    with pytest.raises(SpeciesError, match=r"no reference energy for C, N; known are H, O"):
        e0.of([6, 7, 1])


def test_isolated_atoms_are_taken_where_they_are():
    e0 = fit([frame("H"), frame("O"), frame("H2O", energy=0.0)], [1, 8])
    assert e0.values == {1: -13.0, 8: -2040.0}
    assert e0.source == {1: "isolated atom, frame 0", 8: "isolated atom, frame 1"}
    assert fit([frame("H"), frame("O"), frame("H2O", energy=0.0)], [1, 8], "isolated") == e0


def test_least_squares_is_exact_on_exact_data_and_silent():
    frames = [frame("H2O"), frame("CH4"), frame("CO2"), frame("H2"), frame("C6H6")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        e0 = fit(frames, [1, 6, 8])
    for z, value in TRUE.items():
        assert e0.values[z] == pytest.approx(value, rel=1e-12)
        assert e0.source[z] == "least squares"


def test_the_rest_is_fitted_with_the_isolated_ones_fixed():
    """With e0(H) held at a wrong -10, water (-2066) leaves -2046 for oxygen."""
    e0 = fit([frame("H", energy=-10.0), frame("H2O")], [1, 8])
    assert e0.values == {1: -10.0, 8: pytest.approx(-2046.0)}
    assert e0.source == {1: "isolated atom, frame 0", 8: "least squares"}


def test_least_squares_weighs_frames_by_energy_per_atom():
    """One species: e0 is the mean over frames of E / N, whatever the sizes."""
    e0 = fit([frame("H2", energy=-20.0), frame("H8", energy=-160.0)], [1])
    assert e0.values[1] == pytest.approx((-10.0 - 20.0) / 2)


def test_least_squares_on_request_does_not_look_at_isolated_atoms():
    frames = [frame("H", energy=500.0), frame("H2O"), frame("H2")]
    e0 = fit(frames, [1, 8], "least_squares")
    assert e0.values == {1: pytest.approx(-13.0), 8: pytest.approx(-2040.0)}


def test_compositions_that_do_not_determine_give_a_warning_and_still_the_right_sum():
    with pytest.warns(GapkitWarning, match=r"do not determine the reference energies of H, O"):
        e0 = fit([frame("H2O", energy=-30.0), frame("H4O2", energy=-60.0)], [1, 8])
    assert e0.of([1, 1, 8]) == pytest.approx(-30.0)
    # one common energy explains it: the smallest deviation from the mean is none
    assert e0.values == {1: pytest.approx(-10.0), 8: pytest.approx(-10.0)}
    assert "not determined" in e0.source[1]


def test_only_the_undetermined_species_are_named():
    frames = [frame("H2"), frame("H3"), frame("H2CO"), frame("H4C2O2")]
    with pytest.warns(GapkitWarning, match=r"reference energies of C, O:"):
        e0 = fit(frames, [1, 6, 8])
    assert e0.values[1] == pytest.approx(-13.0)
    assert e0.of([1, 1, 6, 8]) == pytest.approx(-26.0 - 1030.0 - 2040.0)
    assert "not" not in e0.source[1]


def test_nearly_equal_compositions_do_not_blow_up():
    """A defect in 2000 atoms must not be read as a difference of species."""
    frames = [frame("Si1000C1000", energy=-10000.0), frame("Si1000C999", energy=-9994.0)]
    with pytest.warns(GapkitWarning, match=r"do not determine"):
        e0 = fit(frames, [6, 14])
    assert abs(e0.values[6] - e0.values[14]) < 0.1


def test_a_species_without_energies_stands_at_the_mean():
    forces_only = frame("CO")
    del forces_only.info["energy"]
    forces_only.arrays["forces"] = np.zeros((2, 3))
    with pytest.warns(GapkitWarning, match=r"reference energies of C:"):
        e0 = fit([frame("O2"), forces_only], [6, 8])
    assert e0.values == {6: pytest.approx(-2040.0), 8: pytest.approx(-2040.0)}


def test_no_energies_at_all_gives_zero_and_a_warning():
    atoms = Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.1]])
    atoms.arrays["forces"] = np.ones((2, 3))
    with pytest.warns(GapkitWarning, match=r"no frame has an energy .* C, O"):
        e0 = fit([atoms], [6, 8])
    assert e0.values == {6: 0.0, 8: 0.0}


def test_isolated_atoms_of_other_species_are_known_too():
    e0 = fit([frame("C"), frame("H"), frame("H2")], [1])
    assert e0.values == {1: -13.0, 6: -1030.0}


def test_isolated_atoms_that_agree_are_averaged_and_that_disagree_refused():
    e0 = fit([frame("H", energy=-13.0), frame("H", energy=-13.0004)], [1])
    assert e0.values[1] == pytest.approx(-13.0002)
    with pytest.raises(DataError, match=r"isolated H atoms disagree: -13\.00\d+ eV in frame 2, -12.99.* in frame 0"):
        fit([frame("H", energy=-12.99), frame("H2"), frame("H", energy=-13.0)], [1])


def test_isolated_atoms_required_but_missing():
    with pytest.raises(DataError, match=r"no isolated-atom frame with an energy for C, O"):
        fit([frame("H"), frame("CO")], [1, 6, 8], "isolated")


def test_given_values_by_symbol_or_number():
    e0 = fit([frame("H2O"), frame("H", energy=0.0)], [1, 8], {"H": -1.0, 8: -2.0})
    assert e0.values == {1: -1.0, 8: -2.0}
    assert e0.source == {1: "given", 8: "given"}


@pytest.mark.parametrize(
    ("e0", "error", "message"),
    [
        ({"H": -1.0}, SpeciesError, "e0 has no value for O"),
        ({"H": -1.0, 1: -1.0, "O": 0.0}, SettingsError, "H is given twice"),
        ({"H": -1.0, "Oo": 0.0}, SettingsError, "'Oo' is no chemical symbol"),
        ({"H": -1.0, 0: 0.0}, SettingsError, "0 is no chemical symbol"),
        ({"H": np.nan, "O": 0.0}, SettingsError, "'H' is not finite"),
        ("mean", SettingsError, "'auto', 'isolated', 'least_squares' or a dict, not 'mean'"),
    ],
)
def test_settings_that_cannot_work_are_refused(e0, error, message):
    with pytest.raises(error, match=message):
        fit([frame("H2O")], [1, 8], e0)
