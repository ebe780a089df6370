"""From labelled frames to a fitted potential, and the file that holds one."""
