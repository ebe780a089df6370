"""Evaluation and the choice of settings: cross-validation by group, learning curves, successive halving."""

from gapkit.model_selection.card import model_card, write_card
from gapkit.model_selection.cross_validation import CrossValidation, cross_validate
from gapkit.model_selection.last_digits import Movement, last_digits
from gapkit.model_selection.learning_curves import LearningCurve, learning_curve, sparse_curve
from gapkit.model_selection.tuning import Candidate, Trial, Tuning, candidates, fast_terms, tune

__all__ = [
    "Candidate",
    "CrossValidation",
    "LearningCurve",
    "Movement",
    "Trial",
    "Tuning",
    "candidates",
    "cross_validate",
    "fast_terms",
    "last_digits",
    "learning_curve",
    "model_card",
    "sparse_curve",
    "tune",
    "write_card",
]
