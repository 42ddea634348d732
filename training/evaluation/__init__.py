"""Predictions against ground truth, with intervals, by condition, beside baselines, as pages."""
