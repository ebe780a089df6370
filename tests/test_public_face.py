"""The public face: version, subpackages after ``import gapkit``, one vocabulary for uncertainty."""

import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import numpy as np
import pytest

import gapkit
from gapkit.exceptions import SettingsError

ROOT = Path(__file__).parent.parent


def test_the_version_stands_in_one_place_and_is_that_of_the_installed_package():
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert config["metadata"]["version"] == "attr: gapkit.version.__version__"
    assert gapkit.__version__.count(".") == 2


def test_subpackages_are_there_after_import_gapkit():
    code = "import gapkit; print(gapkit.exceptions.GapkitError, gapkit.plotting, gapkit.apps.growth, gapkit.sampling)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_tab_completion_shows_names_and_subpackages():
    shown = dir(gapkit)
    assert {"GAP", "load", "exceptions", "plotting", "uncertainty", "apps", "__version__"} <= set(shown)
    assert not {"checks", "safe_write", "submodules"} & set(shown)
    assert not [name for name in shown if name.startswith("_") and name != "__version__"]


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = gapkit.nothing


@pytest.mark.parametrize("same", [(None, False), ("full", True)])
def test_a_bool_is_a_short_name_of_a_kind_of_uncertainty(gap, held_out, same):
    one, other = (gap.predict(held_out[:2], uncertainty=kind) for kind in same)
    assert (one.energy_std is None) == (other.energy_std is None)
    if one.energy_std is not None:
        np.testing.assert_array_equal(one.energy_std, other.energy_std)


def test_each_kind_of_uncertainty_gives_what_it_names(gap, held_out):
    local, energy, full = (gap.predict(held_out[:2], uncertainty=kind) for kind in ("local", "energy", "full"))
    assert local.energy_std is None and local.forces_std is None
    np.testing.assert_allclose(local.local_energy_std[0], full.local_energy_std[0], rtol=0.2)
    np.testing.assert_allclose(energy.energy_std, full.energy_std, rtol=1e-6)
    assert energy.forces_std[0] is None and full.forces_std[0].shape == (len(held_out[0]), 3)


@pytest.mark.parametrize("kind", ["local", "energy", "full", True])
def test_a_calculator_has_standard_deviations_as_properties(gap, held_out, kind):
    atoms = held_out[0].copy()
    atoms.calc = gap.calculator(uncertainty=kind)
    n = len(atoms)
    shapes = {"energies_std": (n,), "domain_excess": (), "energy_std": (), "forces_std": (n, 3), "stress_std": (6,)}
    for name in atoms.calc.implemented_properties:
        if name in shapes:
            assert np.shape(atoms.calc.get_property(name, atoms)) == shapes[name]
    assert ("energy_std" in atoms.calc.implemented_properties) == (kind != "local")
    assert ("forces_std" in atoms.calc.implemented_properties) == (kind in ("full", True))


def test_a_calculator_without_uncertainty_has_no_such_properties(gap):
    assert not [p for p in gap.calculator().implemented_properties if p.endswith("_std")]


@pytest.mark.parametrize("ask", ["predict", "evaluate", "calculator"])
def test_an_unknown_kind_of_uncertainty_is_refused_in_the_same_words(gap, held_out, ask):
    frames = () if ask == "calculator" else (held_out[:1],)
    with pytest.raises(SettingsError, match="uncertainty must be None, 'local', 'energy', 'full' or a bool, not 'all'"):
        getattr(gap, ask)(*frames, uncertainty="all")


def test_evaluate_judges_error_bars_of_energies_alone(gap, held_out):
    energies, both = (gap.evaluate(held_out[:4], uncertainty=kind).summary for kind in ("energy", "full"))
    assert energies["energy_z_std"] == pytest.approx(both["energy_z_std"], rel=1e-6)
    assert energies["force_z_std"] is None and both["force_z_std"] > 0
