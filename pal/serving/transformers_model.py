"""A `transformers` sequence classifier that holds one person's reward.

    import pal.serving.transformers_model
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    model(**tokenizer(responses, padding=True, truncation=True, return_tensors="pt")).logits  # (n, 1)

`export_scalar` writes such a folder, with encoder and tokeniser in it. No class of `transformers` itself has
a pooled sentence vector and a distance to a point. Importing this module registers one, so that no code from
the folder is ever run. See `ScalarReward` for what it cannot do.
"""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import (  # noqa: TID253 (its classes are what is subclassed; nothing else imports this)
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput  # noqa: TID253

from pal.config import HeadConfig
from pal.errors import PalError
from pal.models.base import make_model

POOLINGS = ("mean", "cls", "max")
DEFAULTS = {
    "encoder_config": {},  # the encoder's own, of `transformers`
    "pooling": ["mean"],  # how tokens become one vector: mean, cls or max, or several side by side
    "unit_length": True,  # whether that vector is brought to unit length
    "stored": "float32",  # what training kept embeddings in, or float16; they are rounded to it
    "max_tokens": 512,  # that a text may have
    "head": {},  # options of `pal.config.HeadConfig`
    "prompt_dim": 0,  # width of a prompt's embedding; 0 where there is none
    # none (the reward reads none), fixed (one, which stands in the weights) or given (a second text beside
    # every response)
    "prompts": "none",
    "made_from": {},  # the PAL model's fingerprint, the encoder's name and weights' sha256
}


class ScalarConfig(PretrainedConfig):
    """What a `ScalarReward` is made of: see DEFAULTS."""

    model_type = "pal-scalar"

    def __init__(self, **options: Any) -> None:
        for name, default in DEFAULTS.items():
            setattr(self, name, options.pop(name, deepcopy(default)))
        labels = {"id2label": {0: "reward"}, "label2id": {"reward": 0}, "problem_type": "regression"}
        wanted = options.pop("num_labels", 1)
        super().__init__(**(labels | options))
        if wanted != 1 or self.num_labels != 1:
            got = wanted if wanted != 1 else self.num_labels
            raise PalError(f"num_labels must be 1, a reward, got {got}; leave it out")


class ScalarReward(PreTrainedModel):
    """Rewards of responses to one person, from tokens: `logits` of shape (n, 1).

    Only differences between responses to one prompt mean anything. Where the reward depends on the prompt,
    it was either fixed when this was exported, or is given as a second batch of tokens:
    `prompt_input_ids` and `prompt_attention_mask`.

    It is not a drop-in for code that puts prompt and response into one text, as TRL's own path for reward
    *models* does, without the tokens at the ends that the encoder expects: that scores another text than
    `RewardModel.score` does. Use `pal.serving.policy_rewards` there, which takes both separately.
    """

    config_class = ScalarConfig
    base_model_prefix = "encoder"
    main_input_name = "input_ids"

    def __init__(self, config: ScalarConfig) -> None:
        super().__init__(config)
        # The keys that are left out could name code of the folder or of the hub.
        about = {key: value for key, value in config.encoder_config.items() if not names_code(key)}
        encoder = AutoConfig.for_model(about.pop("model_type"), **about)
        self.encoder = AutoModel.from_config(encoder, trust_remote_code=False)
        options = HeadConfig.from_options(**config.head)
        width = self.encoder.config.hidden_size * len(config.pooling)
        self.head = make_model(options, prompt_dim=config.prompt_dim, response_dim=width)
        self.register_buffer("state", torch.zeros(self.head.state_dim))
        if config.prompts == "fixed":
            self.register_buffer("prompt", torch.zeros(1, config.prompt_dim))
        self.post_init()

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> "ScalarReward":
        """As in `transformers`, from safetensors alone."""
        return super().from_pretrained(*args, **(kwargs | {"use_safetensors": True}))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        prompt_input_ids: Tensor | None = None,
        prompt_attention_mask: Tensor | None = None,
        **_: Any,
    ) -> SequenceClassifierOutput:
        """Reward responses, (n, tokens) with the tokeniser's tokens at the ends, cut by `truncation=True`.

        Prompts may be one, (1, tokens), for all. Token types must be 0: a pair of texts is no response.
        """
        if token_type_ids is not None and bool(token_type_ids.any()):
            got = "a pair of texts; give prompts as prompt_input_ids"
            raise PalError(f"each row must be one response, got {got}")
        x = self._embed(input_ids, attention_mask)
        if self.config.prompts == "none":
            prompts = x.new_zeros(1, 0)
        elif self.config.prompts == "fixed":
            if prompt_input_ids is not None:
                raise PalError("the prompt was fixed when this was exported; leave prompt_input_ids out")
            prompts = self.prompt
        elif prompt_input_ids is None:
            raise PalError(
                "prompt_input_ids must be given, got none; the reward depends on the prompt (to fix one, "
                "export_scalar(..., prompt=...))"
            )
        else:
            prompts = self._embed(prompt_input_ids, prompt_attention_mask)
        n = len(x)
        if len(prompts) not in (1, n):
            raise PalError(f"prompts must be one for all, or one for each of {n}, got {len(prompts)}")
        reward = self.head.reward(prompts.expand(n, -1), x, self.state.expand(n, -1))
        return SequenceClassifierOutput(logits=reward[:, None])

    def _embed(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Embeddings of texts as the encoder's library makes them, (n, width) float32."""
        if tokens.shape[1] > self.config.max_tokens:
            raise PalError(
                f"a text must have at most {self.config.max_tokens} tokens, got {tokens.shape[1]}; pass "
                "truncation=True to the tokeniser"
            )
        mask = torch.ones_like(tokens) if mask is None else mask
        hidden = self.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state.float()
        weight = mask[:, :, None].to(hidden.dtype)
        pooled = []
        for pooling in self.config.pooling:
            if pooling == "mean":
                pooled.append((hidden * weight).sum(1) / weight.sum(1).clamp_min(1e-9))
            elif pooling == "cls":  # the first token that is not padding, which may stand on the left
                first = mask.int().argmax(1)
                pooled.append(hidden[torch.arange(len(hidden), device=hidden.device), first])
            else:
                pooled.append(hidden.masked_fill(weight == 0, float("-inf")).amax(1))
        x = torch.cat(pooled, 1)
        x = functional.normalize(x, dim=1) if self.config.unit_length else x
        # Training read stored embeddings, which may have been rounded to float16.
        return x.to(getattr(torch, self.config.stored)).float()


def names_code(key: str) -> bool:
    """Whether a key of an encoder's config may name code, or a place on the machine that wrote it."""
    return key.startswith("_") or key in ("auto_map", "attn_implementation", "experts_implementation")


AutoConfig.register(ScalarConfig.model_type, ScalarConfig)
AutoModelForSequenceClassification.register(ScalarConfig, ScalarReward)
