"""What a projection hides of held-out frames, by directions that those frames had no part in."""

import numpy as np
import pytest

import gapkit
from gapkit.fitting import hidden_directions
from gapkit.fitting.hidden_directions import LeftOutDirections
from gapkit.models.projection import leading_directions
from gapkit.structures.structure import Structure
from tests.fitting.test_screening import cells


@pytest.fixture(scope="module")
def fitted():
    """A default fit of two dozen copper cells, and the directions that judged it."""
    kept = []

    class Keeping(LeftOutDirections):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            kept.append((self, arguments))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gapkit.fitting.out_of_fold.LeftOutDirections", Keeping)
        gap = gapkit.GAP(random_state=0).fit(cells(24, 0))
    return gap, *kept[0]


def soap_block(basis):
    return next((k, b) for k, b in enumerate(basis.blocks) if b.descriptor.of_atoms)


def test_a_fold_is_judged_by_directions_of_the_others(fitted):
    _, left_out, (data, basis, _, folds) = fitted
    k, block = soap_block(basis)
    for fold in (0, 3):
        others = [
            block.descriptor.environments(Structure(f.atoms, basis.r_cut), block.channel, derivatives=False).x
            for f, mine in zip(data.frames, folds, strict=True)
            if mine != fold
        ]
        expected = leading_directions(np.vstack(others), "auto")
        np.testing.assert_allclose(left_out.without(fold)[k], expected, atol=1e-9)
    assert set(left_out.without(0)) == {k}


def test_what_is_hidden_of_a_held_out_frame_is_no_less_than_of_a_new_one(fitted):
    """More, because folds are clusters of similar frames; by the model's own directions it is far less."""
    _, left_out, (data, basis, _, folds) = fitted
    own, held_out, new = [], [], []
    for n in range(0, len(data.frames), 4):
        structure = basis.structure(data.frames[n].atoms)
        own.append(basis.rows(structure, derivatives=False, hidden=True).hidden[0].sum())
        directions = left_out.without(folds[n])
        held_out.append(basis.rows(structure, derivatives=False, hidden=directions).hidden[0].sum())
    for atoms in cells(6, 9):
        new.append(basis.rows(basis.structure(atoms), derivatives=False, hidden=True).hidden[0].sum())
    assert 0.5 < np.median(held_out) / np.median(new) < 100
    assert np.median(own) < 0.3 * np.median(new)


def test_error_bars_of_energies_of_few_frames_are_of_the_order_of_the_errors(fitted):
    gap, _, _ = fitted
    test = cells(16, 9)
    p = gap.predict(test, uncertainty=True)
    error = p.energy - [a.get_potential_energy() for a in test]
    assert 0.4 < np.sqrt(np.mean((error / p.energy_std) ** 2)) < 2.5
    assert np.median(p.energy_std) < 3 * np.sqrt(np.mean(error**2))


def test_many_environments_are_thinned_by_frames(fitted, monkeypatch):
    _, _, arguments = fitted
    data, basis = arguments[0], arguments[1]
    k, _ = soap_block(basis)
    monkeypatch.setattr(hidden_directions, "POOL", sum(len(f.atoms) for f in data.frames) // 3)
    few = LeftOutDirections(*arguments)
    assert len(few.features[k]) == sum(len(f.atoms) for f in data.frames[::3])
