"""Sentence-transformers models, batch by batch in the caller's hands."""

from typing import TYPE_CHECKING, Any

from pal.encoders import sentence_engines
from pal.encoders.base import Described
from pal.encoders.sentence_files import checked_modules
from pal.encoders.tokens import Tokeniser, Tokens
from pal.errors import PalError

if TYPE_CHECKING:
    import numpy as np


class SentenceEncoder:
    """A sentence-transformers model from local files.

    No code comes from the model's folder: its modules must be the library's own, and its weights safetensors.
    Texts are read once: `lengths` keeps the tokens of what it was last given, and `encode` finds them there.

    Args:
        described: The model, its weights checked.
        device: Where to compute.

    Raises:
        PalError: If the folder asks for what is not run here, or engine, precision and device do not go
            together.
    """

    def __init__(self, described: Described, device: str) -> None:
        if described.folder is None:
            raise PalError(f"{described.name} is no sentence-transformers model: it has no files")
        sentence_engines.refuse(described.precision, described.engine, device)
        checked_modules(described.folder)
        model = _load(described, device)
        transformer, *self._after = model
        self._device = device
        self._tokenise = _tokeniser(described, model)
        self._pad = model.tokenizer.pad_token_id or 0, model.tokenizer.padding_side
        network = transformer.auto_model
        self._network = sentence_engines.network(described, network, self._tokenise.limit, device)
        self._dim = described.dim
        self._kept: tuple[Tokens, dict[str, int]] | None = None

    def lengths(self, texts: list[str]) -> list[int]:
        """Tokens that each text makes, cut to the model's limit."""
        tokens = self._tokenise(texts)
        self._kept = tokens, {text: row for row, text in enumerate(texts)}
        return tokens.lengths

    def encode(self, texts: list[str]) -> "np.ndarray":
        """Vectors of texts, encoded as one batch: (len(texts), dim) float32."""
        import numpy as np
        import torch

        if not texts:
            return np.empty((0, self._dim), dtype=np.float32)
        numbers, own = self._tokens(texts)
        with torch.inference_mode():
            numbers = numbers.to(self._device)
            own = None if own is None else own.to(self._device)
            features = {"token_embeddings": self._network(numbers, own)}
            if own is not None:
                features["attention_mask"] = own
            for module in self._after:
                features = module(features)
            return features["sentence_embedding"].float().cpu().numpy()

    def _tokens(self, texts: list[str]) -> tuple[Any, Any]:
        """The texts as a padded batch, from what `lengths` kept where it has them all."""
        if self._kept:
            tokens, rows = self._kept
            found = [rows.get(text) for text in texts]
            if None not in found:
                return tokens.padded([row for row in found if row is not None], *self._pad)
        return self._tokenise(texts).padded(list(range(len(texts))), *self._pad)


def _load(described: Described, device: str) -> Any:
    from safetensors import SafetensorError
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        return SentenceTransformer(
            str(described.folder),
            device=device,
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True, "dtype": "float32"},
        ).eval()
    except (OSError, ValueError, TypeError, LookupError, RuntimeError, ImportError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PalError(
            f"{described.name} could not be loaded from {described.folder} ({reason}); get its files again, "
            "or choose another encoder"
        ) from None


def _tokeniser(described: Described, model: Any) -> Tokeniser:
    """The model's, if it is of the common kind: text in, token numbers out, and nothing else needed."""
    tokenizer, limit = model.tokenizer, model.max_seq_length
    prompt = model.prompts.get(model.default_prompt_name, "") if model.default_prompt_name else ""
    output = model[0].modality_config.get("text", {}).get("method_output_name")
    faults = {
        "a fast tokeniser": not getattr(tokenizer, "is_fast", False),
        "a limit of tokens": not limit,
        "a network whose last layer gives a vector a token": output != "last_hidden_state",
        "texts without a prompt left out of the pooling": bool(prompt)
        and any(getattr(module, "include_prompt", True) is False for module in model),
    }
    for what, missing in faults.items():
        if missing:
            raise PalError(
                f"{described.name} must have {what}, or it is not run here; choose another encoder"
            )
    if any(tokenizer("a", return_token_type_ids=True).get("token_type_ids", [])):
        raise PalError(f"{described.name} must have one type of token, got several; choose another encoder")
    return Tokeniser(tokenizer, limit, prompt)
