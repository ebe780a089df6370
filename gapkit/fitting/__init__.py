"""Fit of a potential to labelled frames, and the file that holds one."""
