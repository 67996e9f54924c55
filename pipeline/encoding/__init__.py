"""Encoding of texts and images in batches, shared between processes."""
