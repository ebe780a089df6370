"""Frames from files and into files."""

import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.formats import open_with_compression

from gapkit.exceptions import DataError
from gapkit.structures.files import read_frames, write_frames
from gapkit.structures.labels import labelled_frames


def frames(n, seed=0):
    """Labelled frames of eight silicon atoms, all different, with six different stress components."""
    rng = np.random.default_rng(seed)
    made = []
    for k in range(n):
        atoms = bulk("Si", cubic=True)
        atoms.set_cell(atoms.cell + rng.normal(scale=0.1, size=(3, 3)), scale_atoms=True)
        atoms.rattle(stdev=0.05, rng=rng)
        atoms.info["config_type"] = f"type_{k}"
        atoms.calc = SinglePointCalculator(
            atoms, energy=rng.normal(), forces=rng.normal(size=(8, 3)), stress=rng.normal(size=6)
        )
        made.append(atoms)
    return made


def text(n=2):
    """An extended XYZ file of ``n`` frames with 2 atoms: 4 lines each."""
    frame = '2\nProperties=species:S:1:pos:R:3 energy={} pbc="F F F"\nH 0 0 0\nH 0 0 0.74\n'
    return "".join(frame.format(-k) for k in range(n))


def test_labels_survive_a_round_trip(tmp_path):
    before = frames(3)
    write_frames(tmp_path / "train.xyz", before)
    after = read_frames(tmp_path / "train.xyz")
    for a, b in zip(labelled_frames(before), labelled_frames(after), strict=True):
        np.testing.assert_allclose(b.atoms.positions, a.atoms.positions, atol=1e-7)
        np.testing.assert_allclose(b.atoms.cell, a.atoms.cell, atol=1e-7)
        assert b.energy == pytest.approx(a.energy, rel=1e-12)
        np.testing.assert_allclose(b.forces, a.forces, atol=1e-7)
        np.testing.assert_allclose(b.virial, a.virial, rtol=1e-6)
        assert b.config_type == a.config_type


def test_files_are_read_in_order(tmp_path):
    write_frames(tmp_path / "a.xyz", frames(2, seed=1))
    write_frames(tmp_path / "b.xyz", frames(1, seed=2)[0])
    energies = [a.get_potential_energy() for a in read_frames(str(tmp_path / "b.xyz"), tmp_path / "a.xyz")]
    expected = [a.get_potential_energy() for a in frames(1, seed=2) + frames(2, seed=1)]
    np.testing.assert_allclose(energies, expected)


def test_other_formats_of_ase_are_read(tmp_path):
    ase.io.write(tmp_path / "x.traj", frames(2))
    assert len(read_frames(tmp_path / "x.traj")) == 2


def test_an_at_sign_is_part_of_the_name(tmp_path):
    write_frames(tmp_path / "si@0.xyz", frames(2))
    assert len(read_frames(tmp_path / "si@0.xyz")) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("hello\n", "frame 0, line 1: cannot be read"),
        (text().replace("0.74", "near", 1), "frame 0, line 1: cannot be read.*near"),
        (text() + text(1).replace("0.74", "near"), "frame 2, line 9: cannot be read.*near"),
        (text().rsplit("H", 1)[0], "frame 1, line 5: cannot be read.*1 atoms, expected 2"),
        (text() + "3\n" + text(1).split("\n", 1)[1] + text(), "frame 3, line 14: cannot be read"),
        ("2\n", "frame 0, line 1: cannot be read: the file ends inside a frame"),
    ],
)
def test_a_broken_file_is_refused_in_one_line_that_names_the_place(tmp_path, content, message):
    path = tmp_path / "broken.xyz"
    path.write_text(content)
    with pytest.raises(DataError, match=f"broken.xyz: {message}") as caught:
        read_frames(path)
    assert "\n" not in str(caught.value)


def test_the_message_of_a_reader_is_put_on_one_line(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("first line\n  second line")

    path = tmp_path / "train.xyz"
    path.write_text(text())
    monkeypatch.setattr(ase.io, "iread", fail)
    with pytest.raises(DataError, match=r"train.xyz: .*cannot be read: first line second line$"):
        read_frames(path)


def test_what_is_not_a_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"missing.xyz: no such file"):
        read_frames(tmp_path / "missing.xyz")
    with pytest.raises(DataError, match=r"not a file"):
        read_frames(tmp_path)
    with pytest.raises(DataError, match=r"no file was given"):
        read_frames()
    (tmp_path / "notes.txt").write_text("nothing that a chemist would know\n")
    with pytest.raises(DataError, match=r"notes.txt: unknown format"):
        read_frames(tmp_path / "notes.txt")


def test_a_failed_write_leaves_the_old_file_and_no_debris(tmp_path, monkeypatch):
    path = tmp_path / "train.xyz"
    write_frames(path, frames(1))
    old = path.read_bytes()

    def crash(name, images):
        with open(name, "w") as file:
            file.write("half a fra")
        raise OSError("disk full")

    monkeypatch.setattr(ase.io, "write", crash)
    with pytest.raises(DataError, match=r"train.xyz: cannot be written .*disk full"):
        write_frames(path, frames(2))
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["train.xyz"]


def test_a_write_replaces_the_file_and_follows_a_link(tmp_path):
    path, link = tmp_path / "train.xyz", tmp_path / "link.xyz"
    write_frames(path, frames(1))
    link.symlink_to(path)
    write_frames(link, frames(3))
    assert link.is_symlink()
    assert len(read_frames(path)) == 3


def test_what_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no frames to write"):
        write_frames(tmp_path / "x.xyz", [])
    with pytest.raises(DataError, match=r"does not exist"):
        write_frames(tmp_path / "no" / "x.xyz", [Atoms("H")])
    with pytest.raises(DataError, match=r"unknown format"):
        write_frames(tmp_path / "x.nonsense", [Atoms("H")])
    assert list(tmp_path.iterdir()) == []


def test_who_reads_the_old_file_during_a_write_reads_it_to_its_end(tmp_path):
    """The new file is another one with the same name; nothing is written into the old."""
    path = tmp_path / "train.xyz"
    write_frames(path, frames(1))
    old = path.read_bytes()
    with open(path, "rb") as held:
        write_frames(path, frames(2))
        assert held.read() == old
    assert len(read_frames(path)) == 2


@pytest.mark.parametrize("ending", [".xyz.gz", ".extxyz.bz2", ".XYZ.xz", ".xyz"])
def test_compressed_files_are_read_and_refused_as_others_are(tmp_path, ending):
    path = tmp_path / f"frames{ending}"
    text = '1\nlattice="3 0 0 0 3 0 0 0 3" properties=species:S:1:pos:R:3 energy=-1.5\nCu 0 0 0\n'
    with open_with_compression(str(path).lower(), "wt") as file:
        file.write(2 * text)
    Path(str(path).lower()).rename(path)
    frames = read_frames(path)
    assert len(frames) == 2
    assert frames[1].pbc.all()
    assert frames[1].get_potential_energy() == -1.5
    with open_with_compression(str(path).lower(), "wt") as file:
        file.write(text + text.replace("1", "1000000000000", 1))
    Path(str(path).lower()).rename(path)
    with pytest.raises(DataError, match=r"frame 1, line 4: .*ends inside a frame of 1000000000000 atoms; restore"):
        read_frames(path)


@pytest.mark.parametrize("ending", [".xyz.gz", ".xyz.bz2", ".xyz.xz"])
def test_a_damaged_compressed_file_is_refused(tmp_path, ending):
    path = tmp_path / f"frames{ending}"
    with open_with_compression(str(path), "wt") as file:
        file.write("".join(f"1\n\nCu 0 0 {k}\n" for k in range(1000)))
    data = path.read_bytes()
    for bad in (data[: len(data) // 2], data[:40] + b"??" + data[42:], b"1\n\nCu 0 0 0\n"):
        path.write_bytes(bad)
        with pytest.raises(DataError, match=r"frames.xyz.*cannot be read"):
            read_frames(path)


@pytest.mark.parametrize("count", ["1000000000000", "9" * 200, "100"])
@pytest.mark.parametrize("frame", [0, 1])
@pytest.mark.parametrize("ending", [".xyz", ".extxyz"])
def test_a_number_of_atoms_beyond_the_end_of_the_file_is_refused_at_once(tmp_path, count, frame, ending):
    path = tmp_path / f"a{ending}"
    good = "H 0 0 0\nH 0 0 1\n"
    path.write_text(f"2\n\n{good}" * frame + f"{count}\n\n{good}")
    begin = time.process_time()
    with pytest.raises(DataError, match=rf"frame {frame}, line {1 + 4 * frame}: .*ends inside a frame of {count[:20]}"):
        read_frames(path)
    assert time.process_time() - begin < 1
