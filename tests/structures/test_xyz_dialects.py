"""Dialects of extended XYZ: symbols of isotopes, tensors of six numbers, spellings of isolated atoms."""

import numpy as np
import pytest

from gapkit.structures.files import read_frames
from gapkit.structures.labels import labelled_frames

WATER = """3
Properties={} energy=-10.0 pbc="F F F"
{}
"""


@pytest.mark.parametrize(
    ("properties", "rows"),
    [
        ("species:S:1:pos:R:3", ("D 0 0 0", "O 0 0 1", "T 0.8 0 1.5")),
        ("pos:R:3:species:S:1", ("0 0 0 D", "0 0 1 O", "0.8 0 1.5 T")),
    ],
)
def test_isotopes_of_hydrogen_are_hydrogen_with_their_masses(tmp_path, properties, rows):
    path = tmp_path / "water.xyz"
    path.write_text(2 * WATER.format(properties, "\n".join(rows)))
    for atoms in read_frames(path):
        assert atoms.get_chemical_symbols() == ["H", "O", "H"]
        np.testing.assert_allclose(atoms.get_masses(), [2.0141, 15.999, 3.01605], rtol=1e-4)
        np.testing.assert_allclose(atoms.positions[2], [0.8, 0, 1.5])


@pytest.mark.parametrize("name", ["virial", "stress"])
def test_six_numbers_are_a_symmetric_tensor_in_the_order_of_voigt(tmp_path, name):
    path = tmp_path / "a.xyz"
    path.write_text(
        f'1\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3 {name}="1 2 3 4 5 6" pbc="T T T"\nSi 0 0 0\n'
    )
    found = labelled_frames(read_frames(path))[0].virial
    scale = 1 if name == "virial" else -27
    np.testing.assert_allclose(found, scale * np.arange(1, 7.0))


def test_a_file_without_dialects_is_read_as_it_is(tmp_path):
    path = tmp_path / "a.xyz"
    path.write_text(WATER.format("species:S:1:pos:R:3", "H 0 0 0\nO 0 0 1\nH 0.8 0 1.5"))
    atoms = read_frames(path)[0]
    assert "masses" not in atoms.arrays and atoms.get_potential_energy() == -10


@pytest.mark.parametrize("words", ["isolated_atom", "IsolatedAtom", "isolated-atom", "Isolated atom", "single atom"])
def test_an_isolated_atom_may_be_spelled_in_many_ways(tmp_path, words):
    path = tmp_path / "a.xyz"
    path.write_text(
        '1\nLattice="8 0 0 0 8 0 0 0 8" Properties=species:S:1:pos:R:3 '
        f'energy=-1.0 config_type="{words}" pbc="T T T"\nSi 0 0 0\n'
    )
    assert labelled_frames(read_frames(path))[0].is_isolated_atom
