"""Serving: a fitted model that scores, ranks, adapts, is saved, shared and exported."""
