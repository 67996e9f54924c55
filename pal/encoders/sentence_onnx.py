"""A sentence-transformers model's network through ONNX Runtime: exported once, checked, and kept."""

import hashlib
import shutil
import warnings
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pal.encoders import cache
from pal.encoders.base import Described
from pal.encoders.weights import sha256_of
from pal.errors import PalError

if TYPE_CHECKING:
    from torch import Tensor

    from pal.encoders.sentence_engines import Network

OPSET = 17
INPUTS = ("numbers", "own")
NEAR = 1e-3
"""How far a token's vector may lie from torch's at most; rounding alone is 1e-5."""


def network(described: Described, model: Any, limit: int) -> "Network":
    """Export the network, or find what was exported before, and open it; see `sentence_engines.network`."""
    import onnxruntime
    import torch

    model.set_attn_implementation("eager")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    path = _exported(described, model, limit)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return _runs(session)


def _runs(session: Any) -> "Network":
    import torch

    def run(numbers: "Tensor", own: "Tensor | None") -> "Tensor":
        own = torch.ones_like(numbers) if own is None else own
        given = dict(zip(INPUTS, (numbers.numpy(), own.numpy()), strict=True))
        return torch.from_numpy(session.run(None, given)[0])

    return run


def _exported(described: Described, model: Any, limit: int) -> Path:
    """The exported network, in a folder named after all that shapes it, under the name of its own hash."""
    libraries = [f"{name} {metadata.version(name)}" for name in ("torch", "transformers", "onnx")]
    parts = "\n".join([described.files_sha256, described.weights_sha256, str(OPSET), *libraries])
    short = "".join(c if c.isalnum() or c in "-." else "-" for c in described.name)
    folder = cache.folder() / "onnx" / f"{short}-{hashlib.sha256(parts.encode()).hexdigest()[:16]}"
    for path in folder.glob("*.onnx"):
        if sha256_of(path) == path.stem:
            return path
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with cache.once(folder) as new:
            path = new / "network.onnx"
            _export(described, model, path)
            _check(described, model, path, limit)
            path.rename(new / f"{sha256_of(path)}.onnx")
    except OSError as error:
        raise PalError(
            f"{described.name} could not be exported into {folder} ({error.strerror or error}); make room "
            "there, or set PAL_STORE to another folder"
        ) from None
    return next(folder.glob("*.onnx"))


def _export(described: Described, model: Any, path: Path) -> None:
    try:
        _trace(model, path)
    except (RuntimeError, TypeError, ValueError) as error:  # the exporter's own are of the first
        reason = " ".join(str(error).split())[:200]
        raise PalError(
            f"{described.name} could not be exported to ONNX ({reason}); set encode.engine to torch"
        ) from None


def _trace(model: Any, path: Path) -> None:
    import torch

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, numbers: Any, own: Any) -> Any:
            return self.model(input_ids=numbers, attention_mask=own).last_hidden_state

    numbers = torch.ones((2, 7), dtype=torch.int64)
    own = torch.ones_like(numbers)
    own[0, 5:] = 0
    axes = {0: "rows", 1: "tokens"}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # what tracing may lose is what the check is for
        torch.onnx.export(
            Network().eval(),
            (numbers, own),
            str(path),
            input_names=list(INPUTS),
            output_names=["vectors"],
            dynamic_axes=dict.fromkeys((*INPUTS, "vectors"), axes),
            opset_version=OPSET,
            dynamo=False,
        )


def _check(described: Described, model: Any, path: Path, limit: int) -> None:
    """Compare with torch at lengths other than the one that was traced, the longest among them."""
    import onnxruntime
    import torch

    run = _runs(onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]))
    draw = torch.Generator().manual_seed(0)
    for rows, tokens in ((1, 2), (3, 16), (2, limit)):
        numbers = torch.randint(model.config.vocab_size, (rows, tokens), generator=draw)
        own = torch.ones_like(numbers)
        own[-1, tokens // 2 :] = 0
        with torch.inference_mode():
            there = model(input_ids=numbers, attention_mask=own).last_hidden_state
        apart = (there - run(numbers, own)).abs().amax(-1)
        worst = float(apart[own.bool()].max())
        if not worst <= NEAR:
            raise PalError(
                f"{described.name} exported to ONNX must give torch's vectors, got some {worst:.1e} "
                "apart; set encode.engine to torch"
            )
