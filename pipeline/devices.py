"""Where to compute: auto, cpu or cuda as params.yaml says."""

from pipeline.errors import PipelineError


def pick(wanted: str, what: str) -> str:
    """Cpu or cuda.

    Args:
        wanted: auto, cpu or cuda; auto takes a GPU where there is one.
        what: The parameter, for messages.

    Raises:
        PipelineError: If cuda is asked for and there is none.
    """
    if wanted == "cpu":
        return "cpu"
    import torch

    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise PipelineError(f"{what} is cuda, but torch sees no GPU here; set it to auto or cpu")
    return "cuda" if there else "cpu"
