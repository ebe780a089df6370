"""Terms whose signal vanished: found, left out exactly, and named in the report."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

import gapkit
from gapkit.exceptions import GapkitWarning
from gapkit.fitting import stages as fitting
from gapkit.fitting.pruning import summary_without, vanished_terms, without_terms
from gapkit.models.held_out import HeldOutError
from gapkit.models.levels import Levels
from gapkit.models.posterior import Posterior
from tests import systems
from tests.conftest import small_gap

NOISE = {"energy": 0.05, "forces": 0.3, "virial": 0.5}


@pytest.fixture(scope="module")
def model() -> systems.SmallModel:
    return systems.small_model(12)


def terms():
    return [
        gapkit.Term(gapkit.PairDistance(3.6, 0.8), gapkit.SquaredExponential(0.7)),
        gapkit.Term(gapkit.Triplet(3.0, 0.8), gapkit.SquaredExponential((1.0, 1.5, 1.0))),
        gapkit.Term(gapkit.SOAP(r_cut=3.8, n_max=4, l_max=3), gapkit.DotProduct(3)),
    ]


def test_without_a_term_the_mean_is_that_of_a_vanishing_signal(model):
    levels = Levels(NOISE, np.array([0.7, 0.4, 1.5]))
    basis, triangles, kept_levels, left = without_terms(model.basis, model.triangles, levels, terms(), [1])
    assert [type(t.descriptor).__name__ for t in left] == ["PairDistance", "SOAP"]
    posterior = Posterior.solve(triangles, kept_levels.noise, kept_levels.signal, basis.column_terms())
    faint = Posterior.solve(model.triangles, NOISE, np.array([0.7, 1e-7, 1.5]), model.terms)
    for atoms in model.frames[:3]:
        few, many = (b.rows(b.structure(atoms)) for b in (basis, model.basis))
        np.testing.assert_allclose(
            posterior.mean(basis.whiten(few.K)), faint.mean(model.basis.whiten(many.K)), rtol=1e-6, atol=1e-6
        )
        np.testing.assert_allclose(few.prior, many.prior[:, [0, 2]])
    key = ("forces", 0)
    np.testing.assert_allclose(triangles.items[key].prior, model.triangles.items[key].prior[[0, 2]])


def test_the_last_term_that_has_columns_stays(model):
    """A single atom has no pairs: the term of pairs has no sparse points, and that of environments must not go."""
    lone = Atoms("Cu", cell=4 * np.eye(3), pbc=[0, 0, 1])
    lone.calc = SinglePointCalculator(lone, energy=1.0)  # that of the atom, so that nothing is left to explain
    with pytest.warns(GapkitWarning, match="most evidence"):
        gap = small_gap(noise_levels="evidence").fit([lone])
    assert "SOAP" in [type(t.descriptor).__name__ for t in gap.potential_.terms]


def test_only_a_term_that_is_faint_and_useless_goes(model):
    start = Levels(NOISE, np.array([0.7, 0.4, 1.5]))
    objective = HeldOutError(model.triangles, model.terms, start, tuple(NOISE), (0, 1, 2))
    assert vanished_terms(objective, start) == ()
    faint = Levels(NOISE, np.array([0.7, 4e-6, 1.5]))
    assert vanished_terms(objective, faint) == (1,)
    everything = Levels(NOISE, np.array([7e-6, 4e-6, 1.5e-5]))
    assert len(vanished_terms(objective, everything)) == 2


def test_a_fit_drops_it_and_says_so(train, monkeypatch, tmp_path):
    choose = fitting.choose_levels

    def vanishing(*arguments, **keywords):
        levels, summary = choose(*arguments, **keywords)
        return levels, {**summary, "vanished": [0]}

    monkeypatch.setattr(fitting, "choose_levels", vanishing)
    gap = small_gap().fit(train)
    assert len(gap.potential_.terms) == 1
    assert gap.potential_.basis.n_columns == 20
    assert "dropped, because their signal vanished: pair (r_cut 4.0 A)" in gap.describe()
    assert list(gap.potential_.metadata["levels"]["signal_errors"]) == ["0"]
    gap.save(tmp_path / "m.gapkit", updatable=True)
    again = gapkit.load(tmp_path / "m.gapkit")
    assert "dropped" in again.describe()
    np.testing.assert_allclose(again.predict(train[:2]).energy, gap.predict(train[:2]).energy, rtol=1e-12)
    assert np.isfinite(again.update(train[:2]).predict(train[:1]).energy).all()


def test_renumbered_errors():
    summary = {"signal_errors": {"0": 0.1, "2": 0.3}, "vanished": [1]}
    changed = summary_without(summary, terms())
    assert changed["signal_errors"] == {"0": 0.1, "1": 0.3}
    assert changed["dropped_terms"] == ["triplet (r_cut 3.0 A)"]
    assert "vanished" not in changed
    assert summary_without({"vanished": []}, terms())["dropped_terms"] == pytest.approx([])
