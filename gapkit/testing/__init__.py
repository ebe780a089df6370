"""Checks for those who write their own descriptor or calculator: :func:`check_descriptor`, :func:`check_calculator`."""

from gapkit.testing.calculators import check_calculator
from gapkit.testing.descriptors import check_descriptor
from gapkit.testing.report import Check, CheckReport

__all__ = ["Check", "CheckReport", "check_calculator", "check_descriptor"]
