"""Export of one person's reward, with its encoder, to a folder that plain `transformers` code reads.

    import pal.serving.export
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    model(**tokenizer(responses, padding=True, truncation=True, return_tensors="pt")).logits  # (n, 1)

No class of `transformers` itself has a pooled sentence vector and a distance to a point. Importing this
module registers one, so that no code from the folder is ever run. See `ScalarReward` for what it cannot do.

Rewards of texts can be exported where the encoder is of sentence-transformers and made of a transformer,
pooling (mean, cls or max) and unit length, in float32. Everything else is refused. What was written is read
back and compared with `RewardModel.score` before it is put in its place.
"""

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from jinja2 import Template
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional
from transformers import (  # noqa: TID253 (its classes are what is subclassed; nothing else imports this)
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput  # noqa: TID253

from pal import encoders
from pal.config import HeadConfig
from pal.encoders.sentence_transformers import library_model, modules_of, pooling_of
from pal.errors import PalError
from pal.files import expanded, new_folder, write_text
from pal.models.base import make_model
from pal.serving.reward_model import RewardModel, User

PROBES = (
    "Yes.",
    "No, I would rather not.",
    "It depends: on the one hand there is the time that it takes, on the other what comes of it. " * 3,
)
TOLERANCE = {"float32": 1e-5, "float16": 1e-3}  # a vector may be rounded to one float16 or to the next
TEMPLATE = Path(__file__).with_name("scalar_card.md.j2")
PROMPTS = {
    "none": "The reward depends on the response alone.",
    "fixed": "The reward is that of responses to one prompt, which was fixed when this was exported.",
    "given": "The reward depends on the prompt: pass `prompt_input_ids` and `prompt_attention_mask` too.",
}
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


def export_scalar(
    model: RewardModel, folder: Path | str, user: User = None, *, prompt: str | None = None
) -> None:
    """Write one user's reward as a model that `AutoModelForSequenceClassification` reads.

    It is that of responses to the one prompt that is given. Where none is and the reward depends on it, the
    exported model, a `ScalarReward`, reads prompts as a second batch of tokens.
    """
    folder = expanded(folder).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PalError(f"{folder} must not be there yet, or be an empty folder; choose another place")
    scalar, tokenizer = _scalar_model(model, user, prompt)
    with new_folder(folder) as new:
        try:
            scalar.save_pretrained(new)
            tokenizer.save_pretrained(new)
        except (OSError, SafetensorError) as error:  # safetensors has an error of its own for a full disk
            raise PalError(f"{folder} cannot be written ({error}); choose another place") from None
        card = Template(TEMPLATE.read_text(encoding="utf-8"), keep_trailing_newline=True)
        about = card.render(scalar.config.made_from, prompts=PROMPTS[scalar.config.prompts])
        write_text(new / "README.md", about)
        _compare_rewards(model, new, user, prompt)


def _scalar_model(model: RewardModel, user: User, prompt: str | None) -> tuple[Any, Any]:
    """The exported model and its tokeniser."""
    description = model.input_encoder.load("responses").description
    described, pooling, unit_length = _exportable_encoder(model, description)
    state = model.state_of(user)
    prompts = "none" if not model.head.needs_prompts else "given" if prompt is None else "fixed"
    if prompts == "none" and prompt is not None:
        raise PalError("prompt must be left out: this model's reward does not depend on it")
    if prompts == "given":
        of_prompts = model.input_encoder.describe("prompts")
        if any(of_prompts.get(x) != description.get(x) for x in ("encoder", "weights_sha256", "dtype")):
            raise PalError(
                "prompts and responses must have one encoder to be exported together, got "
                f"{of_prompts.get('encoder')} and {description['encoder']}; fix the prompt, "
                "export_scalar(..., prompt=...)"
            )
    encoder = library_model(described, "cpu")
    if encoder.default_prompt_name:
        raise PalError(f"the encoder must put nothing before texts to be exported, got {described.name}")
    encoder.tokenizer.model_max_length = int(encoder.max_seq_length)
    network = encoder[0].auto_model
    made_from = {"fingerprint": model.fingerprint, "encoder": description["encoder"]}
    made_from["weights_sha256"] = described.weights_sha256
    config = ScalarConfig(
        encoder_config={k: v for k, v in network.config.to_dict().items() if not names_code(k)},
        pooling=pooling, unit_length=unit_length, stored=description.get("dtype", "float32"),
        max_tokens=int(encoder.max_seq_length), head=model.config.model_dump(), prompts=prompts,
        prompt_dim=model.prompt_dim if model.head.needs_prompts else 0, made_from=made_from,
    )  # fmt: skip
    with torch.random.fork_rng():  # building draws random weights, which are replaced
        scalar = ScalarReward(config)
    scalar.encoder.load_state_dict(network.state_dict())
    scalar.head.load_state_dict({name: x.detach().cpu() for name, x in model.head.state_dict().items()})
    scalar.state.copy_(state)
    if prompts == "fixed":
        scalar.prompt.copy_(model.encode_prompts(prompt, 1).tensor())
    return scalar.eval(), encoder.tokenizer


def _exportable_encoder(
    model: RewardModel, description: dict[str, Any]
) -> tuple[encoders.Described, list[str], bool]:
    """The encoder's files, its poolings, and whether its vectors have unit length; others are refused."""
    name = description["encoder"]
    if model.input_encoder.template is not None:
        raise PalError("prompts and responses must be separate to be exported, got a model of joint texts")
    if description.get("precision", "float32") != "float32":
        got = f"{description['precision']} of {name}"
        raise PalError(f"the encoder must compute in float32 to be exported, got {got}")
    described = encoders.describe(name, model.input_encoder.source(name))
    if described.family != "sentence-transformers" or described.folder is None or name.endswith("+measures"):
        raise PalError(f"the encoder must be of sentence-transformers to be exported, got {name}")
    modules = modules_of(described.folder)
    kinds = [kind for kind, _ in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        wanted = "Transformer, Pooling and Normalize to be exported"
        raise PalError(f"the encoder must be {wanted}, got {', '.join(kinds)}")
    pooling = pooling_of(modules[1][1])[1]
    if not set(pooling) <= set(POOLINGS):
        wanted = f"{', '.join(POOLINGS)} to be exported"
        raise PalError(f"the encoder must pool by {wanted}, got {', '.join(pooling)}")
    return described, pooling, len(modules) == 3


def _compare_rewards(model: RewardModel, folder: Path, user: User, prompt: str | None) -> None:
    """Read back what was written and compare its rewards with the model's own."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    scalar = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True).eval()
    options = {"padding": True, "truncation": True, "return_tensors": "pt"}
    given = dict(tokenizer(list(PROBES), **options))
    probe_prompt = (prompt or PROBES[0]) if model.head.needs_prompts else None
    if scalar.config.prompts == "given":
        given |= {f"prompt_{name}": tensor for name, tensor in tokenizer([probe_prompt], **options).items()}
    with torch.no_grad():
        got = scalar(**given).logits[:, 0]
    wanted = model.score(probe_prompt, list(PROBES), user=user)
    difference = (got - wanted).abs() / wanted.abs().clamp_min(1)
    tolerance = TOLERANCE[scalar.config.stored]
    if not bool((difference <= tolerance).all()):
        raise PalError(
            f"the exported rewards must be those of the model to {tolerance:g}, got "
            f"{float(difference.max()):.2g} apart; use the model itself"
        )
