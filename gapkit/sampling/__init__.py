"""Motion of atoms: dynamics, replicas, biases, paths, relaxation, and the statistics of time series."""

from gapkit.sampling.batches import batch_forces
from gapkit.sampling.dynamics import Trajectory, check_run, langevin, run_md
from gapkit.sampling.paths import PathSettings, descend, find_path, refine_saddle
from gapkit.sampling.recording import ReplicaRecords, read_records
from gapkit.sampling.relaxation import RelaxationSettings, relax_many
from gapkit.sampling.replica_motion import ReplicaSettings, ReplicaState
from gapkit.sampling.replicas import ReplicaRun, run_replicas
from gapkit.sampling.time_series import (
    detect_equilibration,
    mean_estimate,
    ratio_estimate,
    slope_estimate,
    statistical_inefficiency,
)

__all__ = [
    "PathSettings",
    "RelaxationSettings",
    "ReplicaRecords",
    "ReplicaRun",
    "ReplicaSettings",
    "ReplicaState",
    "Trajectory",
    "batch_forces",
    "check_run",
    "descend",
    "detect_equilibration",
    "find_path",
    "langevin",
    "mean_estimate",
    "ratio_estimate",
    "read_records",
    "refine_saddle",
    "relax_many",
    "run_md",
    "run_replicas",
    "slope_estimate",
    "statistical_inefficiency",
]
