"""Transferability: does a potential of bulk crystals carry to surfaces and phases, and does it say where it fails?"""

from gapkit.apps.transferability.learning import run_learning
from gapkit.apps.transferability.phases import run_phases
from gapkit.apps.transferability.run import DomainResult, DomainSettings, run_domain
from gapkit.apps.transferability.si100 import run_dimers

__all__ = ["DomainResult", "DomainSettings", "run_dimers", "run_domain", "run_learning", "run_phases"]
