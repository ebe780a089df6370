"""Reference sets and the programs that make them: see ``data/README.md``."""
