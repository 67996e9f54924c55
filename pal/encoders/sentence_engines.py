"""What runs a sentence-transformers model's network: torch as it comes, torch.compile, or ONNX Runtime.

Only the network differs; tokens before it and pooling after it are the same, and so are the vectors up to
rounding. Reduced precision is autocast: products in it, sums and norms in float32. Beside weights in reduced
precision that is a few hundredths slower, with a third to two thirds of the error.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pal.encoders.base import Described
from pal.errors import PalError

if TYPE_CHECKING:
    from torch import Tensor

    Network = Callable[[Tensor, Tensor | None], Tensor]

ENGINES = ("torch", "compile", "onnx")
PRECISIONS = ("float32", "bfloat16", "float16")
ONNX_PACKAGES = ("onnxruntime", "onnx")


def refuse(precision: str, engine: str, device: str | None = None) -> None:
    """Refuse what cannot be run, before anything is loaded.

    Args:
        precision: What the network computes in.
        engine: What runs it.
        device: Where; None where that is not known yet.

    Raises:
        PalError: If there is no such precision or engine, they do not go together, or packages are missing.
    """
    if precision not in PRECISIONS:
        raise PalError(f"encode.precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if engine not in ENGINES:
        raise PalError(f"encode.engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    if precision == "float16" and device == "cpu":
        raise PalError(
            "encode.precision float16 needs a GPU, got device cpu, where it is slow and overflows; set it to "
            "bfloat16 or float32"
        )
    if engine == "onnx":
        _refuse_onnx(precision, device)


def _refuse_onnx(precision: str, device: str | None) -> None:
    if precision != "float32":
        raise PalError(
            f"encode.engine onnx computes in float32, got encode.precision {precision!r}; set it to float32, "
            "or the engine to torch or compile"
        )
    if device not in (None, "cpu"):
        raise PalError(f"encode.engine onnx runs on the CPU, got device {device!r}; set the engine to torch")
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if missing:
        raise PalError(
            f"encode.engine onnx needs the packages {' and '.join(ONNX_PACKAGES)}, got no {missing[0]}; run "
            f"`pip install {' '.join(missing)}`, or set encode.engine to torch"
        )


def network(described: Described, model: Any, limit: int, device: str) -> "Network":
    """Build the network of a described model.

    Args:
        described: The model; its engine and precision decide.
        model: The library's network, on the device, in evaluation mode.
        limit: Tokens that it reads at most.
        device: Where it computes.

    Returns:
        A function of (rows, tokens) int64 token numbers, and which of them are texts' own, 1 or 0, or None
        where all are: (rows, tokens, width) float32 vectors of tokens.

    Raises:
        PalError: If it cannot be built here.
    """
    if described.engine == "onnx":
        from pal.encoders import sentence_onnx

        return sentence_onnx.network(described, model, limit)
    run = _plain(model, described.precision, device)
    return _compiled(described, model, run, device) if described.engine == "compile" else run


def _plain(model: Any, precision: str, device: str) -> "Network":
    import torch

    reduced = precision != "float32"
    kind = torch.device(device).type
    dtype = getattr(torch, precision) if reduced else None

    def run(numbers: "Tensor", own: "Tensor | None") -> "Tensor":
        with torch.autocast(kind, dtype, enabled=reduced):
            return model(input_ids=numbers, attention_mask=own).last_hidden_state.float()

    return run


def _compiled(described: Described, model: Any, run: "Network", device: str) -> "Network":
    """Built for any number of rows and tokens, the weights as constants; tried once, so as to fail here.

    One row would be built apart from many, and a batch without padding from one with it: half a minute each,
    for nothing. So a row is doubled, and there is always a mask.
    """
    import torch

    model.compile(dynamic=True, options={"freezing": True})

    def alike(numbers: "Tensor", own: "Tensor | None") -> "Tensor":
        own = torch.ones_like(numbers) if own is None else own
        if len(numbers) > 1:
            return run(numbers, own)
        return run(numbers.repeat(2, 1), own.repeat(2, 1))[:1]

    try:
        with torch.inference_mode():
            alike(torch.ones((2, 3), dtype=torch.int64, device=device), None)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise PalError(
            f"encode.engine compile could not build {described.name} ({reason}); install a C++ compiler, "
            "or set encode.engine to torch"
        ) from None
    return alike
