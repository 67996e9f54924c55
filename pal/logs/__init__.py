"""Logs of what people preferred, in whatever form they were kept, to comparisons that a model is fitted to.

`read` turns files into a table of texts, `columns` finds out what its columns mean, and `shapes` makes
comparisons of its rows. Nothing is guessed without being said.
"""
