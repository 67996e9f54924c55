"""The pipeline: preferences in, personal reward models and honest accuracies out, one module per stage."""

from pal.errors import PalError


class PipelineError(PalError):
    """What is wrong, where, what was got, what is allowed, and what to do, in one sentence; exit code 1."""
