"""Active learning: explore with the model, label the most uncertain frames, learn, and repeat."""

from gapkit.active.acquisition import AtomThreshold, DOptimal, MaximumVariance, RandomChoice, VarianceReduction
from gapkit.active.explorers import DynamicsExplorer, GeneratorExplorer, PoolExplorer
from gapkit.active.labelling import LabelStore, StoredLabels, label_frames
from gapkit.active.loop import ActiveLearning, Stop

__all__ = [
    "ActiveLearning",
    "AtomThreshold",
    "DOptimal",
    "DynamicsExplorer",
    "GeneratorExplorer",
    "LabelStore",
    "MaximumVariance",
    "PoolExplorer",
    "RandomChoice",
    "Stop",
    "StoredLabels",
    "VarianceReduction",
    "label_frames",
]
