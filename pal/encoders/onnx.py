"""A sentence-transformers network by ONNX Runtime: exported once, compared with torch, and cached.

`SentenceTransformer(backend="onnx")` needs optimum, which does not follow transformers 5.
"""

import hashlib
import shutil
import warnings
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pal.encoders.registry import Described
from pal.encoders.weights import ADVICE, sha256_of
from pal.errors import PalError, reason
from pal.files import new_folder, store

if TYPE_CHECKING:
    from torch import Tensor

    from pal.encoders.pooled_tokens import Network

OPSET = 17
INPUTS = ("token_ids", "attention_mask")
TOLERANCE = 1e-3
"""How far a token's vector may lie from torch's at most; rounding alone is 1e-5."""


def network(described: Described, model: Any, limit: int) -> "Network":
    """Export the network, or open what was exported before.

    The file lies in a folder named after all that shapes it, under the name of its own hash.

    Args:
        described: The model.
        model: The library's network, on the CPU, in evaluation mode.
        limit: Tokens that it reads at most.

    Raises:
        PalError: If it cannot be exported, or gives other vectors than torch.
    """
    model.set_attn_implementation("eager")
    libraries = [f"{name} {metadata.version(name)}" for name in ("torch", "transformers", "onnx")]
    shaped_by = "\n".join([described.files_sha256, described.weights_sha256, str(OPSET), *libraries])
    short = "".join(c if c.isalnum() or c in "-." else "-" for c in described.name)
    folder = store() / "onnx" / f"{short}-{hashlib.sha256(shaped_by.encode()).hexdigest()[:16]}"
    for path in folder.glob("*.onnx"):
        if sha256_of(path) == path.stem:
            return _run_by_onnx(path)
    shutil.rmtree(folder, ignore_errors=True)
    with new_folder(folder, replace=False, advice=ADVICE) as new:
        path = new / "network.onnx"
        try:
            _export(model, path)
        except (RuntimeError, TypeError, ValueError) as error:  # the exporter's own are RuntimeErrors
            raise PalError(
                f"{described.name} could not be exported to ONNX ({reason(error)}); set encode.engine to "
                "torch"
            ) from None
        _compare(described, model, path, limit)
        path.rename(new / f"{sha256_of(path)}.onnx")
    return _run_by_onnx(next(folder.glob("*.onnx")))


def _run_by_onnx(path: Path) -> "Network":
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(token_ids: "Tensor", attention_mask: "Tensor | None") -> "Tensor":
        attention_mask = torch.ones_like(token_ids) if attention_mask is None else attention_mask
        arrays = dict(zip(INPUTS, (token_ids.numpy(), attention_mask.numpy()), strict=True))
        return torch.from_numpy(session.run(None, arrays)[0])

    return run


def _export(model: Any, path: Path) -> None:
    import torch

    class LastHiddenState(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, token_ids: Any, attention_mask: Any) -> Any:
            return self.model(input_ids=token_ids, attention_mask=attention_mask).last_hidden_state

    token_ids = torch.ones((2, 7), dtype=torch.int64)
    attention_mask = torch.ones_like(token_ids)
    attention_mask[0, 5:] = 0
    axes = {0: "rows", 1: "tokens"}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of what tracing may lose, which the comparison finds
        torch.onnx.export(
            LastHiddenState().eval(),
            (token_ids, attention_mask),
            str(path),
            input_names=list(INPUTS),
            output_names=["vectors"],
            dynamic_axes=dict.fromkeys((*INPUTS, "vectors"), axes),
            opset_version=OPSET,
            dynamo=False,
        )


def _compare(described: Described, model: Any, path: Path, limit: int) -> None:
    """Hold the export to torch's vectors at other lengths than the traced one, up to the longest."""
    import torch

    run = _run_by_onnx(path)
    generator = torch.Generator().manual_seed(0)
    for rows, tokens in ((1, 2), (3, 16), (2, limit)):
        token_ids = torch.randint(model.config.vocab_size, (rows, tokens), generator=generator)
        attention_mask = torch.ones_like(token_ids)
        attention_mask[-1, tokens // 2 :] = 0
        with torch.inference_mode():
            expected = model(input_ids=token_ids, attention_mask=attention_mask).last_hidden_state
        apart = (expected - run(token_ids, attention_mask)).abs().amax(-1)
        worst = float(apart[attention_mask.bool()].max())
        if not worst <= TOLERANCE:
            raise PalError(
                f"{described.name} exported to ONNX must give torch's vectors, got some {worst:.1e} apart; "
                "set encode.engine to torch"
            )
