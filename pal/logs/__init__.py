"""Logs of what people preferred, in whatever form they were kept, as comparisons to fit a model to."""
