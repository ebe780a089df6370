"""Files that are replaced as a whole or not at all."""

import os

import pytest

from gapkit.exceptions import DataError
from gapkit.safe_write import replacing


def test_who_reads_the_old_file_during_a_write_reads_it_to_its_end(tmp_path):
    """The new file is another one with the same name; nothing is written into the old."""
    path = tmp_path / "table.txt"
    path.write_text("the old one")
    with open(path) as held:
        with replacing(path) as temporary:
            temporary.write_text("the new one")
            assert path.read_text() == "the old one"
        assert held.read() == "the old one"
    assert path.read_text() == "the new one"
    assert [p.name for p in tmp_path.iterdir()] == ["table.txt"]


def test_an_error_leaves_the_old_file_and_no_debris(tmp_path):
    path = tmp_path / "table.txt"
    path.write_text("the old one")

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("half of the n")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "the old one"
    assert [p.name for p in tmp_path.iterdir()] == ["table.txt"]


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="is a folder"), replacing(tmp_path, DataError):
        pass


def test_a_write_leaves_the_mask_of_permissions_as_it_was(tmp_path):
    """The file has the permissions that the mask allows, and so has the next file that the process makes."""
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "table.txt") as temporary:
            temporary.write_text("the new one")
        (tmp_path / "next.txt").touch()
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"table.txt": 0o640, "next.txt": 0o640}
