"""Records of replicas on disk, and averages in memory that does not grow with the length of a run.

A file of records begins with one line of JSON that describes them. Records of one size follow, one after the other, so
that the file can be read while it grows, and cut to a number of records when a run is resumed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase import units

from gapkit.exceptions import DataError, SettingsError
from gapkit.safe_write import check_target

_MAGIC = b'{"format": "gapkit replicas 1"'


def _record_type(header: Mapping[str, Any]) -> np.dtype:
    """Layout of one record: step, energies, positions and, where they are asked for, velocities."""
    R, n = header["replicas"], len(header["numbers"])
    fields: list[tuple[str, str, tuple[int, ...]]] = [
        ("step", "<i8", ()),
        ("potential_energy", "<f8", (R,)),
        ("kinetic_energy", "<f8", (R,)),
        ("positions", "<f8", (R, n, 3)),
    ]
    return np.dtype(fields + [("velocities", "<f8", (R, n, 3))] * bool(header["velocities"]))


class RecordWriter:
    """File of records that is being written.

    Each record reaches the operating system before :meth:`append` returns, and the disk before :meth:`sync` returns.

    Parameters
    ----------
    path
        The file.
    header
        Description of the run, JSON-ready: ``replicas``, ``numbers``, ``masses``, ``cell``, ``pbc``, ``n_free``,
        ``timestep`` (fs), ``record_every``, ``velocities`` (whether they are recorded); more is kept as it is.
    records
        Number of records that are kept, at the beginning of a file of the same header; what follows is cut off.

    Raises
    ------
    DataError
        For a file of another header, or with fewer records; where the operating system refuses.
    """

    def __init__(self, path: str | os.PathLike, header: Mapping[str, Any], records: int = 0) -> None:
        self.path = check_target(path, DataError)
        self._buffer = np.zeros(1, dtype=_record_type(header))
        text = _MAGIC + b", " + json.dumps(header).encode()[1:]
        text += b" " * (-(len(text) + 1) % 64) + b"\n"
        if records and not self.path.exists():
            raise DataError(
                f"{path}: is not there, though the checkpoint counts {records} records; remove the checkpoint to start "
                "anew"
            )
        try:
            # without a buffer, a write that failed is not tried again when the file is closed
            self._file = open(self.path, "r+b" if self.path.exists() else "w+b", buffering=0)  # noqa: SIM115
        except OSError as reason:
            raise DataError(f"{path}: cannot be written ({reason.strerror}); choose another file") from None
        try:
            self._begin(text, records)
        except BaseException:
            self._file.close()
            raise

    def _begin(self, text: bytes, records: int) -> None:
        size = len(text) + records * self._buffer.dtype.itemsize
        begun = self._file.read(len(text))
        if not text.startswith(begun):
            raise DataError(
                f"{self.path}: holds something other than the records of this run; give the trajectory that belongs to "
                "the checkpoint, or start anew with other names"
            )
        there = self._file.seek(0, os.SEEK_END)
        if records and there < size:
            complete = max(there - len(text), 0) // self._buffer.dtype.itemsize
            raise DataError(
                f"{self.path}: holds {complete} complete records, the checkpoint counts {records}: records are lost; "
                "remove both to start anew"
            )
        try:
            if there < len(text):
                self._file.seek(0)
                self._write(text)
            self._file.truncate(size)
            self._file.seek(size)
        except OSError as reason:
            raise self._refused(reason) from reason

    def append(
        self,
        step: int,
        potential_energy: np.ndarray,
        kinetic_energy: np.ndarray,
        positions: np.ndarray,
        velocities: np.ndarray,
    ) -> None:
        """Write one record; velocities where the header says so.

        Raises
        ------
        DataError
            Where the operating system refuses.
        """
        record = self._buffer[0]
        record["step"], record["positions"] = step, positions
        record["potential_energy"], record["kinetic_energy"] = potential_energy, kinetic_energy
        if "velocities" in self._buffer.dtype.fields:  # type: ignore[operator]
            record["velocities"] = velocities
        try:
            self._write(self._buffer.tobytes())
        except OSError as reason:
            raise self._refused(reason) from reason

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def sync(self) -> None:
        """Wait until all records are on the disk.

        Raises
        ------
        DataError
            Where the operating system refuses.
        """
        try:
            os.fsync(self._file.fileno())
        except OSError as reason:
            raise self._refused(reason) from reason

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _refused(self, reason: OSError) -> DataError:
        return DataError(f"{self.path}: cannot be written ({reason.strerror or reason}); free space and resume the run")


@dataclass(frozen=True)
class ReplicaRecords:
    """Records of replicas in a file; arrays are read from the disk when they are looked at.

    Attributes
    ----------
    path
        The file.
    header : dict
        Description of the run.
    table : (k,) structured array
        All complete records at the time of reading.
    """

    path: Path
    header: dict[str, Any]
    table: np.ndarray

    def __len__(self) -> int:
        return len(self.table)

    @property
    def time(self) -> np.ndarray:
        """Time of each record (k,; fs)."""
        return self.table["step"] * self.header["timestep"]

    @property
    def positions(self) -> np.ndarray:
        """Positions (k, R, n, 3; A)."""
        return self.table["positions"]

    @property
    def velocities(self) -> np.ndarray:
        """Velocities (k, R, n, 3; ASE's unit, in A/fs times ``ase.units.fs``).

        Raises
        ------
        SettingsError
            Where they were not recorded.
        """
        if not self.header["velocities"]:
            raise SettingsError(f"{self.path}: velocities were not recorded; set record_velocities")
        return self.table["velocities"]

    @property
    def potential_energy(self) -> np.ndarray:
        """Potential energies (k, R; eV)."""
        return self.table["potential_energy"]

    @property
    def kinetic_energy(self) -> np.ndarray:
        """Kinetic energies (k, R; eV)."""
        return self.table["kinetic_energy"]

    @property
    def temperature(self) -> np.ndarray:
        """Kinetic temperatures (k, R; K)."""
        return 2 * self.kinetic_energy / (units.kB * self.header["n_free"])

    @cached_property
    def _template(self) -> ase.Atoms:
        h = self.header
        return ase.Atoms(h["numbers"], cell=h["cell"], pbc=h["pbc"], masses=h["masses"])

    def frames(self, record: int = -1) -> list[ase.Atoms]:
        """All replicas of one record as frames, with velocities where they were recorded.

        Raises
        ------
        SettingsError
            For a record that is not there.
        """
        if not -len(self) <= record < len(self):
            raise SettingsError(f"{self.path}: record {record} is not there; the file holds {len(self)}")
        row, frames = self.table[record], []
        for r in range(self.header["replicas"]):
            frame = self._template.copy()
            frame.positions = row["positions"][r]
            if self.header["velocities"]:
                frame.set_velocities(row["velocities"][r])
            frames.append(frame)
        return frames


def read_records(path: str | os.PathLike) -> ReplicaRecords:
    """Records in a file of :func:`gapkit.sampling.replicas.run_replicas`, also while it grows.

    A record that is not complete, at the end of the file, is left out.

    Raises
    ------
    DataError
        For a file that is not there, or not of this kind.
    """
    try:
        with open(path, "rb") as file:
            line = file.readline() if file.read(len(_MAGIC)) == _MAGIC else b""
            start = file.tell()
            there = file.seek(0, os.SEEK_END) - start
        if not line.endswith(b"\n"):
            raise ValueError("its first line is another")
        header = json.loads(b"{" + line.removeprefix(b","))
        layout = _record_type(header)
    except OSError as reason:
        raise DataError(f"{path}: cannot be read ({reason.strerror or reason})") from None
    except (ValueError, KeyError, TypeError) as reason:
        raise DataError(f"{path}: no file of replica records ({reason})") from None
    count = there // layout.itemsize
    if not count:
        return ReplicaRecords(Path(path), header, np.empty(0, dtype=layout))
    table = np.memmap(path, dtype=layout, mode="r", offset=start, shape=(count,))
    return ReplicaRecords(Path(path), header, table)


@dataclass
class RunningAverages:
    """Means, variances and slopes in time of several series for R replicas, updated by one value at a time.

    Welford, Technometrics 4, 419 (1962). Sums of products are about the running means, so that no digits are lost.

    Attributes
    ----------
    count : int
    time, time_square : float
        Mean of the times, and sum of the squares of their differences from it.
    mean, square, product : (s, R) array
        Means; sums of squared differences from them; sums of their products with those of the time.

    Examples
    --------
    >>> averages = RunningAverages.empty(1, 1)
    >>> for time, value in [(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]:
    ...     averages.add(time, np.array([[value]]))
    >>> averages.mean, averages.std.round(3), averages.slope
    (array([[3.]]), array([[1.633]]), array([[2.]]))
    """

    count: int
    time: float
    time_square: float
    mean: np.ndarray
    square: np.ndarray
    product: np.ndarray

    @classmethod
    def empty(cls, series: int, replicas: int) -> RunningAverages:
        """Averages before the first sample."""
        return cls(0, 0.0, 0.0, *(np.zeros((series, replicas)) for _ in range(3)))

    def add(self, time: float, values: np.ndarray) -> None:
        """Take one more value (s, R) of each series in."""
        self.count += 1
        late, off = time - self.time, values - self.mean
        self.time += late / self.count
        self.mean = self.mean + off / self.count
        self.time_square += late * (time - self.time)
        self.square = self.square + off * (values - self.mean)
        self.product = self.product + late * (values - self.mean)

    @property
    def std(self) -> np.ndarray:
        """Standard deviations (s, R) about the means; zero for less than two values."""
        return np.sqrt(self.square / max(self.count, 1))

    @property
    def slope(self) -> np.ndarray:
        """Slopes in time (s, R) of the best straight lines; zero for less than two times."""
        return self.product / self.time_square if self.time_square > 0 else np.zeros_like(self.product)

    def as_arrays(self) -> dict[str, np.ndarray]:
        """Arrays of the state, for a checkpoint."""
        return {f"averages_{name}": np.asarray(value) for name, value in vars(self).items()}

    @classmethod
    def from_arrays(cls, state: Mapping[str, np.ndarray]) -> RunningAverages:
        """Averages from a checkpoint's state."""
        a = {k.removeprefix("averages_"): v for k, v in state.items() if k.startswith("averages_")}
        return cls(int(a["count"]), float(a["time"]), float(a["time_square"]), a["mean"], a["square"], a["product"])
