"""Motion of atoms: dynamics, relaxation, and the statistics of time series."""

from gapkit.sampling.dynamics import Trajectory, check_run, langevin, run_md
from gapkit.sampling.time_series import statistical_inefficiency

__all__ = ["Trajectory", "check_run", "langevin", "run_md", "statistical_inefficiency"]
