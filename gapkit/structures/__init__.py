"""Frames with checked labels, files in and out, reference energies (floor F2)."""
