"""Files that are replaced as a whole or not at all."""

import os
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import gapkit
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


def kept(path, text="the new one"):
    with replacing(path, DataError) as temporary:
        temporary.write_text(text)


def test_a_device_a_pipe_and_a_socket_are_refused_and_stay_as_they_are(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    server = socket.socket(socket.AF_UNIX)
    os.chdir(tmp_path)  # the path of a socket may have no more than 100 bytes
    server.bind("socket")
    server.close()
    (tmp_path / "link").symlink_to("/dev/null")
    for path, kind in (("pipe", "a pipe"), ("socket", "a socket"), ("/dev/null", "a device"), ("link", "a device")):
        before = os.lstat(path)
        with pytest.raises(DataError, match=f"is {kind}; give the name of a file"):
            kept(path)
        assert os.lstat(path).st_ino == before.st_ino
    assert sorted(os.listdir()) == ["link", "pipe", "socket"]


@pytest.fixture(autouse=True)
def _back_to_the_folder_of_before():
    before = os.getcwd()
    yield
    os.chdir(before)


def test_links_are_followed_also_where_they_lead_to_no_file_yet(tmp_path):
    (tmp_path / "store").mkdir()
    link, chain = tmp_path / "link", tmp_path / "chain"
    link.symlink_to("store/table.txt")
    chain.symlink_to("link")
    for path in (link, chain):
        kept(path, f"by {path.name}")
        assert link.is_symlink() and chain.is_symlink()
        assert (tmp_path / "store" / "table.txt").read_text() == f"by {path.name}"
    assert len(list((tmp_path / "store").iterdir())) == 1
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(DataError, match="round: cannot be written there"):
        kept(tmp_path / "round")


def test_a_file_that_is_replaced_hands_on_its_permissions(tmp_path):
    path = tmp_path / "table.txt"
    for mode in (0o600, 0o640, 0o400, 0o664, 0o755):
        path.touch()
        path.chmod(mode)
        with replacing(path) as temporary:
            assert temporary.stat().st_mode & 0o077 == 0  # nobody else reads what is not complete yet
            temporary.write_text("the new one")
        assert path.stat().st_mode & 0o777 == mode
    if os.geteuid() == 0:
        os.chown(path, 1, 1)
        kept(path)
        assert (path.stat().st_uid, path.stat().st_gid) == (1, 1)


def test_no_write_touches_the_mask_of_permissions_of_the_process(tmp_path, monkeypatch):
    """Another thread would make its files with the mask that stands there for a moment."""

    def touched(mask):
        raise AssertionError("the mask of the process was set")

    monkeypatch.setattr(os, "umask", touched)
    kept(tmp_path / "table.txt")


KILLED = """
import os, signal, sys
from gapkit.safe_write import replacing
with replacing(sys.argv[1]) as temporary:
    temporary.write_text("half of the n")
    print(temporary, flush=True)
    if sys.argv[2] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


def writer(path, what):
    """A process that has begun a write, and the path of its temporary file."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path), what], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    return process, Path(process.stdout.readline().strip())


def test_remains_of_killed_writes_go_with_the_next_one_and_only_those(tmp_path):
    """Files of a living process, of writes to other files, and files that only look alike stay."""
    path, other = tmp_path / "table.txt", tmp_path / "b-table.txt"
    alike = [tmp_path / name for name in (".gapkit-table.txt", ".gapkit-1234567-table.txt", ".abcdefgh-table.txt")]
    for file in alike:
        file.touch()
    remains = []
    for target in (path, path, other):
        process, temporary = writer(target, "kill")
        process.communicate()
        remains.append(temporary)
    living, held = writer(path, "wait")
    assert not remains[0].exists() and not remains[1].exists() and remains[2].exists()
    kept(path)
    assert held.exists() and remains[2].exists() and all(file.exists() for file in alike)
    living.communicate("")
    assert path.read_text() == "half of the n"
    kept(other)
    assert sorted(tmp_path.iterdir()) == sorted([*alike, path, other])


def test_remains_of_another_user_are_left(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only the superuser may give files away")
    remains = tmp_path / ".gapkit-0123abcd-table.txt"
    remains.touch()
    os.chown(remains, 1, 1)
    kept(tmp_path / "table.txt")
    assert remains.exists()
    os.chown(remains, 0, 0)
    kept(tmp_path / "table.txt")
    assert not remains.exists()


def test_threads_that_write_one_file_do_not_take_each_others_files_for_remains(tmp_path):
    path = tmp_path / "table.txt"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: kept(path, str(k)), range(400)))
    assert path.read_text().isdecimal()
    assert os.listdir(tmp_path) == ["table.txt"]


def test_a_name_of_the_greatest_length_can_be_written(tmp_path):
    path = tmp_path / ("ä" * 125 + ".xyz")
    kept(path)
    assert path.read_text() == "the new one"


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("x" * 300, "File name too long; give another name|cannot be written there"),
        ("y/" * 3000, "cannot be written there"),
        ("a\0b", r"a\\x00b: a name cannot hold the character NUL"),
        ("", "no name of a file was given"),
        (".", "is a folder"),
        ("none/a\nb", r"none/a\\nb: cannot be written there, the folder .*none does not exist; make it first"),
        ("/proc/x", "cannot be written there"),
    ],
)
def test_names_that_no_file_can_have_are_refused_in_one_line(tmp_path, name, what):
    os.chdir(tmp_path)
    with pytest.raises(DataError, match=what) as caught:
        kept(name)
    assert "\n" not in str(caught.value) and "\0" not in str(caught.value) and len(str(caught.value)) <= 300
    assert os.listdir(tmp_path) == []


def test_a_disk_without_room_is_a_clear_error_and_leaves_the_old_file(tmp_path):
    """A limit on the size of files stands for the disk."""
    path = tmp_path / "table.txt"
    path.write_text("the old one")
    code = (
        "import resource, sys\nfrom gapkit.exceptions import DataError\nfrom gapkit.safe_write import replacing\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    with replacing(sys.argv[1], DataError) as temporary:\n        temporary.write_text('x' * 2000)\n"
        "except DataError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == f"{path}: cannot be written (File too large); the old file is as it was\n"
    assert path.read_text() == "the old one" and os.listdir(tmp_path) == ["table.txt"]


def test_every_output_of_the_package_is_written_by_one_of_three_doors():
    """Nothing else in the package opens a file to write: such a file would be half there after a kill."""
    doors = {"safe_write.py", "recording.py", "md_files.py"}
    opening = re.compile(
        r"\bopen\([^)\n]*,\s*[\"'](?:[wax]|r\+)|\b(?:to_csv|tofile|savetxt|mkstemp|NamedTemporaryFile)\(|os\.umask"
    )
    found = []
    package = Path(gapkit.__file__).parent
    for module in sorted(package.rglob("*.py")):
        if module.relative_to(package).parts[0] == "data":
            continue  # an installed package holds the scripts that made the data
        text = module.read_text()
        for line in text.splitlines():
            written = re.search(r"(\w+)\.write_(?:text|bytes)\(|(?:savefig|ase\.io\.write|np\.savez?)\((\w+)", line)
            name = written and (written[1] or written[2])
            opens = opening.search(line) and "open(temporary" not in line
            if module.name not in doors and (opens or (name and name not in {"temporary", "buffer", "file"})):
                found.append(f"{module.name}: {line.strip()}")
    assert not found
