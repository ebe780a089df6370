"""Pure and compiled functions on arrays: no ASE, no state (floor F1)."""
