"""Motion of atoms: dynamics, relaxation, and the statistics of time series."""
