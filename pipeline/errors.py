"""PipelineError: a PalError of a stage; the command line prints it as one sentence and exits with 1."""

from pal.errors import PalError


class PipelineError(PalError):
    """What is wrong, where, what was got, what is allowed, and what to do: one sentence."""
