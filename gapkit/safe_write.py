"""Files that are replaced as a whole or not at all, and checks of the places where they are to stand."""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gapkit.exceptions import GapkitError

try:
    import fcntl
except ImportError:  # pragma: no cover - systems without POSIX locks
    fcntl = None  # type: ignore[assignment]

#: longest name of a file (bytes) on common file systems
_LONGEST_NAME = 255
#: beginning of the names of temporary files, before eight hexadecimal digits
_PREFIX = ".gapkit-"
#: longest piece of a path in a message (characters)
_SHOWN = 100


def shown(path: str | os.PathLike) -> str:
    """A path as text for a message: on one line, without control characters, its middle left out where it is long."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in os.fsdecode(path))
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}...{text[-_SHOWN // 2 :]}"


def check_target(path: str | os.PathLike, error: type[GapkitError] = GapkitError) -> Path:
    """The file that a write to ``path`` makes or replaces: links are followed.

    Raises
    ------
    error
        Where ``path`` is, or leads to, something other than a regular file (a folder, device, pipe or socket), where
        its folder is not there, or where the name cannot be that of a file.
    """
    name = os.fsdecode(path)
    if not name:
        raise error("no name of a file was given; give one")
    if "\0" in name:
        raise error(f"{shown(path)}: a name cannot hold the character NUL; give another")
    known = None
    try:
        known = os.stat(name)
    except FileNotFoundError:
        pass
    except OSError as reason:
        raise error(f"{shown(path)}: cannot be written there ({reason.strerror}); give another name") from None
    target = Path(os.path.realpath(name))
    if known is not None:
        if not stat.S_ISREG(known.st_mode):
            raise error(f"{shown(path)}: is {_kind(known.st_mode)}; give the name of a file")
        if not target.exists():  # a deleted file behind /dev/stdout
            raise error(f"{shown(path)}: leads to a file without a name; give the name of a file")
    elif not target.parent.is_dir():
        folder = shown(target.parent)
        raise error(f"{shown(path)}: cannot be written there, the folder {folder} does not exist; make it first")
    return target


def make_folder(path: str | os.PathLike, error: type[GapkitError] = GapkitError) -> Path:
    """A folder, made with those above it where it is missing.

    Raises
    ------
    error
        Where it cannot be made.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as reason:  # ValueError: the character NUL
        text = getattr(reason, "strerror", None) or reason
        raise error(f"{shown(path)}: cannot be made ({text}); choose another folder") from None
    return folder


@contextmanager
def replacing(path: str | os.PathLike, error: type[GapkitError] = GapkitError) -> Iterator[Path]:
    """A temporary file in the folder of ``path``, flushed and renamed to it when the block ends well.

    After an error, the old file is as it was and the temporary one is gone. Where ``path`` is a link, the file that it
    leads to is replaced. A file that is replaced hands on its permissions and, where that is allowed, its owner; a new
    one has the permissions that the process's mask allows. Temporary files of earlier writes to the same file, whose
    processes were killed, are removed.

    Parameters
    ----------
    path
        Target; the temporary name ends in its name, for writers that judge a format by it.
    error
        Raised, with the path and the remedy, where the operating system refuses, and for what :func:`check_target`
        refuses.
    """
    target = check_target(path, error)
    old = _status(target)
    _remove_remains(target)
    try:
        handle, temporary = _new_file(target, 0o666 if old is None else 0o600)
    except OSError as reason:
        raise error(f"{shown(path)}: cannot be written there ({reason.strerror}); choose another folder") from None
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        if old is not None:
            _hand_on(old, temporary)
        os.replace(temporary, target)
    except OSError as reason:
        text = reason.strerror or str(reason)[:100]
        raise error(f"{shown(path)}: cannot be written ({text}); the old file is as it was") from reason
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)  # and with it the lock


def _status(target: Path) -> os.stat_result | None:
    """Status of a file; None where there is none."""
    try:
        return target.stat()
    except OSError:
        return None


def _kind(mode: int) -> str:
    """Name of the kind of a file that is not a regular one."""
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _hand_on(old: os.stat_result, temporary: Path) -> None:
    """Give a new file the owner, group and permissions of the old one."""
    new = temporary.stat()
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        with suppress(OSError):  # only the superuser may give files away
            os.chown(temporary, old.st_uid, old.st_gid)
    os.chmod(temporary, stat.S_IMODE(old.st_mode))


def _ending(target: Path) -> str:
    """End of the names of temporary files of a target: its name, or as much of its end as leaves room."""
    room = _LONGEST_NAME - len(_PREFIX) - 9
    return "-" + os.fsdecode(os.fsencode(target.name)[-room:])


def _new_file(target: Path, mode: int) -> tuple[int, Path]:
    """Descriptor and path of a new file beside ``target``, locked for as long as the descriptor is open.

    Permissions are those of ``mode`` that the process's mask allows.
    """
    while True:
        temporary = target.with_name(f"{_PREFIX}{secrets.token_hex(4)}{_ending(target)}")
        try:
            handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            continue
        if not _locked(handle, wait=True) or _same(handle, temporary):
            return handle, temporary
        os.close(handle)  # another write took it for remains before it was locked


def _locked(handle: int, wait: bool) -> bool:
    """Whether a lock on an open file could be had, after those who hold it where ``wait`` says so.

    A process that ends gives its locks back. Not every file system has locks.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _same(handle: int, path: Path) -> bool:
    """Whether an open file still has this name."""
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except FileNotFoundError:
        return False


def _remove_remains(target: Path) -> None:
    """Remove temporary files of writes to ``target`` that no living process holds locked."""
    if fcntl is None:
        return
    pattern = re.compile(re.escape(_PREFIX) + "[0-9a-f]{8}" + re.escape(_ending(target)))
    try:
        names = os.listdir(target.parent)
    except OSError:  # a folder may allow writing without reading
        return
    for name in filter(pattern.fullmatch, names):
        temporary = target.with_name(name)
        with suppress(OSError):
            if os.lstat(temporary).st_uid != os.geteuid():
                continue
            handle = os.open(temporary, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if stat.S_ISREG(os.fstat(handle).st_mode) and _locked(handle, wait=False):
                    temporary.unlink()
            finally:
                os.close(handle)
