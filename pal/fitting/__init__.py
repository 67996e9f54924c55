"""Fitting: objectives, the trainer and what it descends on."""
