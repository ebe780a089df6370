"""Estimators in the manner of scikit-learn: the potential, regressors on plain matrices, and calibrated regressors."""
