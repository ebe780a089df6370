"""Motion of atoms: dynamics, relaxation, and the statistics of time series."""

from gapkit.sampling.dynamics import Trajectory, check_run, langevin, run_md
from gapkit.sampling.recording import ReplicaRecords, read_records
from gapkit.sampling.replica_motion import ReplicaSettings, ReplicaState
from gapkit.sampling.replicas import ReplicaRun, run_replicas
from gapkit.sampling.time_series import statistical_inefficiency

__all__ = [
    "ReplicaRecords",
    "ReplicaRun",
    "ReplicaSettings",
    "ReplicaState",
    "Trajectory",
    "check_run",
    "langevin",
    "read_records",
    "run_md",
    "run_replicas",
    "statistical_inefficiency",
]
