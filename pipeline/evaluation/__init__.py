"""Predictions on held-out comparisons, and every number that is made of them."""
