"""Vibrational spectra: frequencies with error bars, and whether springs or modes are wrong."""

from gapkit.apps.vibrational_spectra.diagnosis import compare_hessians, duschinsky
from gapkit.apps.vibrational_spectra.hessian_errors import hessian_errors
from gapkit.apps.vibrational_spectra.run import VibrationsResult, VibrationsSettings, run_vibrations

__all__ = [
    "VibrationsResult",
    "VibrationsSettings",
    "compare_hessians",
    "duschinsky",
    "hessian_errors",
    "run_vibrations",
]
