"""Sentence-transformers models, batch by batch in the caller's hands."""

import json
from typing import Any

from pal.encoders.base import Described
from pal.errors import PalError


class SentenceEncoder:
    """A sentence-transformers model from local files.

    No code comes from the model's folder: its modules must be the library's own, and its weights safetensors.

    Args:
        described: The model, its weights checked.
        device: Where to compute.

    Raises:
        PalError: If the folder asks for modules that are not the library's own.
    """

    def __init__(self, described: Described, device: str) -> None:
        if described.folder is None:
            raise PalError(f"{described.name} is no sentence-transformers model: it has no files")
        for module in json.loads((described.folder / "modules.json").read_text(encoding="utf-8")):
            if not module["type"].startswith("sentence_transformers."):
                raise PalError(
                    f"{described.folder / 'modules.json'} must name modules of sentence_transformers, "
                    f"got {module['type']!r}"
                )
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()
        self._torch = torch
        self._model = SentenceTransformer(
            str(described.folder),
            device=device,
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True},
        ).eval()

    def lengths(self, texts: list[str]) -> list[int]:
        """Tokens that each text makes, cut to the model's limit."""
        limit = self._model.max_seq_length
        counts = self._model.tokenizer(texts, add_special_tokens=True, truncation=True, max_length=limit)
        return [len(tokens) for tokens in counts["input_ids"]]

    def encode(self, texts: list[str]) -> Any:
        """Vectors of texts, encoded as one batch: (len(texts), dim) float32."""
        with self._torch.inference_mode():
            batch = self._model.preprocess(texts)
            batch = {k: v.to(self._model.device) if hasattr(v, "to") else v for k, v in batch.items()}
            return self._model(batch)["sentence_embedding"].float().cpu().numpy()
