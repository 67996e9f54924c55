"""PickScore: CLIP-H fine-tuned on Pick-a-Pic, in transformers' layout."""

import re
import unicodedata
from typing import TYPE_CHECKING

from pal.encoders.base import Described
from pal.encoders.clip import ClipEncoder
from pal.errors import PalError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn


class PickScoreEncoder(ClipEncoder):
    """PickScore_v1, or any CLIPModel of transformers in a local folder; arguments as for `ClipEncoder`.

    Its processor is that of laion/CLIP-ViT-H-14-laion2B-s32B-b79K: CLIP's pixels, and CLIP's vocabulary,
    which open_clip carries. Texts are cleaned as that processor does, not as open_clip does: HTML
    entities stay.
    """

    def _built(self, described: Described) -> "nn.Module":
        from safetensors import SafetensorError
        from transformers import CLIPModel
        from transformers.utils import logging

        logging.disable_progress_bar()
        try:
            model, found = CLIPModel.from_pretrained(
                str(described.folder), use_safetensors=True, local_files_only=True, output_loading_info=True
            )
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:200]
            raise PalError(f"{described.folder} must hold a CLIPModel of transformers: {reason}") from None
        if missing := sorted(found["missing_keys"]):
            raise PalError(
                f"{described.folder} must hold all weights of {described.name}, got no {missing[0]}"
            )
        return model

    def _tokeniser_of(self) -> "Callable[[list[str]], Tensor]":
        from open_clip import SimpleTokenizer

        text = self._config.model.get("text_config") or {}
        tokeniser = SimpleTokenizer(context_length=text.get("max_position_embeddings", 77))
        tokeniser.clean_fn = _cleaned
        return tokeniser

    def _towers(self) -> "tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]":
        model = self._model
        self._looks_back = True

        def image(pixels: "Tensor") -> "Tensor":
            return model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)

        def text(tokens: "Tensor") -> "Tensor":
            return model.text_projection(model.text_model(input_ids=tokens).pooler_output)

        return image, text


def _cleaned(text: str) -> str:
    """What the fast CLIP tokeniser of transformers does to a text: composed, one space, lower case."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFC", text)).lower()
