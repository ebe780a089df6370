"""Command line: ``gapkit quickstart | fit | evaluate | predict | info | md``."""

from gapkit.cli.main import main

__all__ = ["main"]
