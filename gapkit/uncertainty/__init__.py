"""Errors of labels: calibration, error models, and statistics of predictions against labels."""
