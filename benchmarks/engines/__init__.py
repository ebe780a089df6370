"""Engines that the benchmarks compare: one module each, run in a process of its own."""
