"""CLIP models of open_clip: pictures and texts into one space."""

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pal.encoders.base import Described
from pal.encoders.clip_configs import Config
from pal.encoders.clip_models import weights_in
from pal.errors import PalError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

SEED = 0  # of untrained weights


class ClipEncoder:
    """A CLIP model, from local safetensors or untrained.

    Its vectors are raw: what the projections give, not of unit length.

    Args:
        described: The model, its weights checked.
        config: How it is built.
        device: Where to compute.

    Raises:
        PalError: If the weights do not fit the architecture.
    """

    def __init__(self, described: Described, config: Config, device: str) -> None:
        import torch

        self._torch, self._device, self._config = torch, device, config
        self._dtype = getattr(torch, described.precision)
        model = self._built(described).eval().requires_grad_(False)
        if not all(torch.isfinite(weight).all() for weight in model.parameters()):
            raise PalError(f"the weights of {described.name} must be finite, got NaN or infinity")
        self._model = model.to(device, self._dtype)
        mean, std = (
            torch.tensor(config.preprocess[of], device=device).view(3, 1, 1) for of in ("mean", "std")
        )
        self._scale, self._shift = 1 / (255 * std), -mean / std
        self._tokeniser = self._tokeniser_of()
        # Of the text tower: whether each token sees those before it alone, and the end is what counts.
        pools_end = getattr(model, "text_pool_type", "") == "argmax"
        self._looks_back = pools_end and model.attn_mask is not None
        self._image, self._text = self._towers()
        if described.engine == "compile":
            self._image, self._text = torch.compile(self._image), torch.compile(self._text, dynamic=True)

    def shrink(self, pixels: "Tensor") -> "Tensor":
        """One picture as the model takes it, resized and cropped: (3, size, size) uint8."""
        from pal.encoders.shrinking import cropped, squashed

        fit = squashed if self._config.preprocess["resize_mode"] == "squash" else cropped
        return fit(pixels, self._config.size, self._config.preprocess["interpolation"])

    def encode_images(self, batch: "Tensor") -> Any:
        """Vectors of shrunk pictures: (n, dim) float32."""
        with self._torch.inference_mode():
            pixels = batch.to(self._device, non_blocking=True)
            # (x / 255 - mean) / std as one multiply-add, in float32 whatever the model computes in.
            pixels = self._torch.addcmul(self._shift, pixels, self._scale).to(self._dtype)
            return self._image(pixels).float().cpu().numpy()

    def lengths(self, texts: list[str]) -> list[int]:
        """Tokens that each text makes, start and end among them, cut to the model's limit."""
        return [int(end) + 1 for end in self._tokens(texts).argmax(1)] if texts else []

    def encode(self, texts: list[str]) -> Any:
        """Vectors of texts, encoded as one batch: (len(texts), dim) float32."""
        with self._torch.inference_mode():
            tokens = self._tokens(texts)
            if self._looks_back:
                # Nothing behind a text's end reaches its vector; a prompt has some 20 tokens of the 77.
                tokens = tokens[:, : int(tokens.argmax(1).max()) + 1]
            return self._text(tokens.to(self._device)).float().cpu().numpy()

    def _tokens(self, texts: list[str]) -> "Tensor":
        """Token ids, 0 behind each text's end: (len(texts), context). The end has the highest id of all."""
        # Half of a surrogate pair has no bytes, and the tokeniser works on bytes.
        return self._tokeniser([text.encode("utf-8", "replace").decode() for text in texts])

    def _tokeniser_of(self) -> "Callable[[list[str]], Tensor]":
        """open_clip's own, whose vocabulary it carries: nothing is downloaded."""
        from open_clip import SimpleTokenizer

        return SimpleTokenizer(context_length=self._config.model["text_cfg"].get("context_length", 77))

    def _built(self, described: Described) -> "nn.Module":
        import open_clip

        config = copy.deepcopy(self._config.model)
        custom = config.pop("custom_text", False)
        coca = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP
        if "timm_model_name" in config["vision_cfg"]:
            config["vision_cfg"]["timm_model_pretrained"] = False
        with self._torch.random.fork_rng(devices=[]):
            self._torch.manual_seed(SEED)
            model = (coca if custom else open_clip.CLIP)(**config)
        if described.folder is not None:
            self._filled(model, described.name, weights_in(described.name, described.folder))
        return model

    def _filled(self, model: "nn.Module", name: str, path: Path) -> None:
        from open_clip import load_checkpoint
        from safetensors import SafetensorError

        try:
            load_checkpoint(model, str(path), strict=True)
        except (RuntimeError, KeyError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:200]
            raise PalError(f"{path} must hold the weights of {name}: {reason}") from None

    def _towers(self) -> "tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]":
        """Pixels to vectors, and tokens to vectors."""
        model = self._model

        def image(pixels: "Tensor") -> "Tensor":
            return model.encode_image(pixels, normalize=False)

        def text(tokens: "Tensor") -> "Tensor":
            return model.encode_text(tokens, normalize=False)

        def any_length(tokens: "Tensor") -> "Tensor":
            return _text_of_any_length(model, tokens)

        return image, any_length if self._looks_back else text


def _text_of_any_length(model: "nn.Module", tokens: "Tensor") -> "Tensor":
    """open_clip's `CLIP.encode_text`, which takes texts padded to 77 tokens alone."""
    import torch

    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    x = x[torch.arange(len(x), device=x.device), tokens.argmax(1)]
    projection = model.text_projection
    return projection(x) if callable(projection) else x @ projection
