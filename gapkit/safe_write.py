"""Files that are replaced as a whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gapkit.exceptions import GapkitError


@contextmanager
def replacing(path: str | os.PathLike, error: type[GapkitError] = GapkitError) -> Iterator[Path]:
    """A temporary file in the folder of ``path``, flushed and renamed to it when the block ends well.

    After an error, the old file is as it was and the temporary one is gone. Where ``path`` is a link, the file that it
    leads to is replaced.

    Parameters
    ----------
    path
        Target; the temporary name ends in its name, for writers that judge a format by it.
    error
        Raised, with the path and the remedy, where the operating system refuses.
    """
    target = Path(path).resolve()
    if target.is_dir():
        raise error(f"{path}: is a folder; give the name of a file")
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=f"-{target.name}")
    except OSError as reason:
        raise error(f"{path}: cannot be written there ({reason.strerror}); choose another folder") from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except OSError as reason:
        raise error(f"{path}: cannot be written ({reason.strerror or reason}); the old file is as it was") from reason
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    """The process's mask of permissions, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
