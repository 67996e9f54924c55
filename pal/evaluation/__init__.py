"""Evaluation: accuracies with intervals, the number of prototypes, tests of plurality."""
