"""Preference models: what a reward reads of prompt and response, and how it meets a user's state."""
