"""Prediction: the fitted potential, its error bars and domain, baselines, and its calculator."""
