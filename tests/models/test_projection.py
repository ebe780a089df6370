"""Projection on fewer directions, and sums of low powers collapsed into one polynomial: one number by two routes."""

import numpy as np
import pytest

from gapkit.descriptors import SOAP
from gapkit.descriptors.base import Sums
from gapkit.descriptors.soap_predictor import SoapPredictor
from gapkit.exceptions import SettingsError
from gapkit.kernels import DotProduct, SquaredExponential
from gapkit.models.basis import SparseBasis
from gapkit.models.posterior import Posterior
from gapkit.models.projection import leading_directions, principal_directions
from gapkit.models.terms import Term, term_from_settings
from gapkit.structures.structure import Structure
from tests import systems

FRAMES = systems.frames(4)
SOAP_SI_O = SOAP(r_cut=3.5, n_max=3, l_max=2).for_species([8, 14])


def environments(channel):
    return np.vstack([
        SOAP_SI_O.environments(Structure(a, 3.5), channel, derivatives=False).x for a in FRAMES
    ])  # fmt: skip


def basis(powers, n_directions=None, n_points=5):
    """One term per power on the same descriptor, each projected on its own directions or on none."""
    chosen, directions = [], {}
    for term, power in enumerate(powers):
        for channel in SOAP_SI_O.channels:
            x = environments(channel)
            chosen.append((term, SOAP_SI_O, DotProduct(power), channel, x[term : term + n_points]))
            if n_directions:
                directions[term, channel] = principal_directions(x, n_directions)
    return SparseBasis.build(chosen, len(powers), directions=directions)


@pytest.mark.parametrize("n_directions", [None, 6, 40], ids=["whole", "6 directions", "40 directions"])
@pytest.mark.parametrize("powers", [(1,), (2,), (1, 2), (3,), (2, 4), (2, 2)], ids=str)
def test_predictions_equal_rows_times_weights(powers, n_directions):
    model = basis(powers, n_directions)
    alpha = np.random.default_rng(0).normal(size=model.n_columns)
    for atoms in FRAMES:
        structure, n = model.structure(atoms), len(atoms)
        sums = Sums.zeros(n)
        for descriptor, channel, predictor in model.predictors(alpha):
            descriptor.add_prediction(structure, channel, predictor, sums)
        expected = model.rows(structure).K @ alpha
        np.testing.assert_allclose(sums.local, model.local_rows(structure).K @ alpha, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(sums.gradient.ravel(), expected[1 : 1 + 3 * n], atol=1e-11)
        np.testing.assert_allclose(sums.strain.sum(axis=0), expected[1 + 3 * n :], atol=1e-10)


def test_low_powers_share_one_pass_whose_cost_does_not_depend_on_the_points():
    def passes(powers, n_directions=None, n_points=5):
        model = basis(powers, n_directions, n_points)
        return model.predictors(np.ones(model.n_columns))[0][2]

    (few,), (many,) = passes((1, 2), n_points=3), passes((1, 2), n_points=8)
    assert few.collapsed
    assert few.n_products == many.n_products == len(few.mean) ** 2
    assert [p.collapsed for p in passes((2, 4, 1))] == [True, False]
    (narrow,) = passes((2,), n_directions=4)
    assert narrow.n_products == 4 * 4 + 2 * 4 * len(few.mean)
    (wide,) = passes((2,), n_directions=30)  # one whole matrix is cheaper than the way there and back
    assert isinstance(wide, SoapPredictor)
    assert wide.n_products == len(few.mean) ** 2


def test_few_candidates_have_the_directions_of_their_moment():
    """From the small matrix of products, and from the moment, which repeated candidates leave as it is."""
    few = environments(SOAP_SI_O.channels[0])[:9]
    assert len(few) < few.shape[1]
    values = np.linalg.eigvalsh(few @ few.T / len(few))[::-1]
    n = int(np.sum(values > 1e-6))  # others are rounding
    assert n >= 3
    one, other = leading_directions(few, n), leading_directions(np.vstack([few] * 9), n)
    np.testing.assert_allclose(one @ one.T, np.eye(n), atol=1e-12)
    np.testing.assert_allclose(one.T @ one, other.T @ other, atol=1e-7)
    assert 1 <= len(leading_directions(few, "auto")) <= 9


def test_all_directions_change_nothing():
    whole = basis((3,))
    turned = basis((3,), n_directions=SOAP_SI_O.basis_.n_features - 1)
    channel = whole.blocks[0].channel
    assert turned.blocks[0].directions.shape == (SOAP_SI_O.basis_.n_features - 1, SOAP_SI_O.basis_.n_features)
    x = environments(channel)[:5]
    np.testing.assert_allclose(turned.blocks[0].kernel.of_scaled(turned.blocks[0].points), DotProduct(3)(x), rtol=1e-9)
    structure = whole.structure(FRAMES[0])
    a, b = whole.rows(structure), turned.rows(structure)
    np.testing.assert_allclose(a.K, b.K, atol=1e-8)
    np.testing.assert_allclose(a.prior, b.prior, rtol=1e-12)


def test_hidden_variances_equal_mixed_finite_differences():
    """Of the double sum of (x x')^3 - (Ux Ux')^3 over environments, by plain products of descriptors."""
    model = basis((3,), n_directions=4)
    atoms, h = FRAMES[0], 1e-3

    def environments_of(frame):
        structure = model.structure(frame)
        return {b.channel: SOAP_SI_O.environments(structure, b.channel, derivatives=False).x for b in model.blocks}

    def covariance(one, two):
        total = 0.0
        for b in model.blocks:
            x, y = b.kernel.scale(one[b.channel]), b.kernel.scale(two[b.channel])
            total += float(np.sum((x @ y.T) ** 3 - ((x @ b.directions.T) @ (y @ b.directions.T).T) ** 3))
        return total

    rows = model.rows(model.structure(atoms), hidden=True)
    here = environments_of(atoms)
    assert rows.hidden[0, 0] == pytest.approx(covariance(here, here), rel=1e-10)
    for k in (0, 4, 8):
        moved = []
        for step in (h, -h):
            frame = atoms.copy()
            frame.positions.flat[k] += step
            moved.append(environments_of(frame))
        plus, minus = moved
        mixed = covariance(plus, plus) - 2 * covariance(plus, minus) + covariance(minus, minus)
        assert rows.hidden[1 + k, 0] == pytest.approx(mixed / (2 * h) ** 2, rel=1e-4)
    assert (rows.hidden <= rows.prior * (1 + 1e-12)).all()
    assert not model.rows(model.structure(atoms)).hidden.any()  # only where it was asked for


def test_what_a_projection_hides_is_in_the_variance():
    """The prior is that of the whole features: k - k_U is a kernel, so the residual only grows, and never below it."""
    whole, narrow = basis((4,)), basis((4,), n_directions=3)
    for atoms in FRAMES:
        structure = whole.structure(atoms)
        rows, projected = whole.rows(structure), narrow.rows(structure)
        np.testing.assert_allclose(rows.prior, projected.prior, rtol=1e-12)

        def residual(model, rows):
            m = model.n_columns
            zero = Posterior(np.zeros(m), np.eye(m), np.ones(1), np.ones(m), np.zeros(m, dtype=int))
            return zero.residual(model.whiten(rows.K), rows.prior)

        hidden = 0.0
        for block in narrow.blocks:
            x = SOAP_SI_O.environments(structure, block.channel, derivatives=False).x
            z = block.project(x)
            hidden += (DotProduct(4)(x) - DotProduct(4)(z)).sum()
        assert hidden > 1e-4
        assert residual(narrow, projected)[0] >= hidden * (1 - 1e-9)


def test_principal_directions_are_orthonormal_and_keep_the_most():
    x = environments((14,))
    u = principal_directions(x, 5)
    np.testing.assert_allclose(u @ u.T, np.eye(5), atol=1e-12)
    kept = np.sum((x @ u.T) ** 2)
    rng = np.random.default_rng(0)
    other = np.linalg.qr(rng.normal(size=(x.shape[1], 5)))[0].T
    best_of_data = np.linalg.svd(x, full_matrices=False)[1][:5]
    assert kept == pytest.approx(np.sum(best_of_data**2), rel=1e-12)
    assert np.sum((x @ other.T) ** 2) < kept
    assert principal_directions(x, x.shape[1]) is None


def test_auto_keeps_what_matters_and_is_none_where_nothing_can_be_dropped():
    rng = np.random.default_rng(1)
    flat = rng.normal(size=(200, 10)) @ rng.normal(size=(10, 64))
    flat /= np.linalg.norm(flat, axis=1)[:, None]
    u = principal_directions(flat, "auto")
    assert len(u) == 16  # ten, rounded up to eights
    round_cloud = rng.normal(size=(500, 24))
    round_cloud /= np.linalg.norm(round_cloud, axis=1)[:, None]
    assert principal_directions(round_cloud, "auto") is None


def test_settings_are_checked_and_kept():
    term = Term(SOAP(), DotProduct(2), projection=64)
    assert term_from_settings(term.settings()).projection == 64
    for bad in (0, -3, 2.5, "most", True):
        with pytest.raises(SettingsError, match="projection"):
            Term(SOAP(), DotProduct(2), projection=bad)
    with pytest.raises(SettingsError, match="dot-product"):
        Term(SOAP(), SquaredExponential(1.0), projection=10)
