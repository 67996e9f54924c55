"""Export of one person's reward, or one aggregate's, with its encoder, to a folder for `transformers`.

Rewards of texts can be exported where the encoder is of sentence-transformers and made of a transformer,
pooling (mean, cls or max) and unit length, in float32. Everything else is refused. What was written is read
back and compared with `RewardModel.score` before it is put in its place.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from pal import encoders
from pal.errors import PalError
from pal.files import new_folder, write_bytes
from pal.serving.aggregates import Aggregate
from pal.serving.reward_model import RewardModel, User

PROBES = (
    "Yes.",
    "No, I would rather not.",
    "It depends: on the one hand there is the time that it takes, on the other what comes of it. " * 3,
)
TOLERANCE = {"float32": 1e-5, "float16": 1e-3}  # a vector may be rounded to one float16 or to the next
CARD = """\
---
library_name: transformers
pipeline_tag: text-classification
tags: [pal, reward-model]
---

# One reward out of a PAL model

Made from the PAL model of fingerprint {fingerprint} on {encoder}, whose weights and tokeniser are in it.

```python
import pal.serving.transformers_model  # registers the class; no code comes from this folder
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(FOLDER)
model = AutoModelForSequenceClassification.from_pretrained(FOLDER)
model(**tokenizer(responses, padding=True, truncation=True, return_tensors="pt")).logits  # (n, 1)
```

- {prompts}
- Only differences between responses to one prompt mean anything.
- Each row is one response with the tokens at its ends. Code that joins prompt and response into one text,
  such as TRL's own path for reward models, scores another text than this was made for.
- It serves one person, or one aggregate of people, and knows of no other.
"""
PROMPTS = {
    "none": "The reward depends on the response alone.",
    "fixed": "The reward is that of responses to one prompt, which was fixed when this was exported.",
    "given": "The reward depends on the prompt: pass `prompt_input_ids` and `prompt_attention_mask` too.",
}


def export_scalar(
    model: RewardModel, folder: Path | str, user: User | Aggregate = None, *, prompt: str | None = None
) -> None:
    """Write one reward as a model that `AutoModelForSequenceClassification` reads.

    See `pal.serving.transformers_model` for its class.

    Args:
        model: What to export from.
        folder: Where to; must not be there yet, or be empty.
        user: Whose reward: a user, or an aggregate that is not centred. None is the average user.
        prompt: The one prompt that responses will answer. Where the reward depends on the prompt and none is
            given, the exported model reads it as a second batch of tokens.

    Raises:
        PalError: If the place is taken, the user unknown, or the encoder cannot be exported.
    """
    folder = Path(folder).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PalError(f"{folder} must not be there yet, or be an empty folder; choose another place")
    scalar, tokenizer = _scalar_model(model, user, prompt)
    with new_folder(folder) as new:
        try:
            scalar.save_pretrained(new)
            tokenizer.save_pretrained(new)
        except (OSError, SafetensorError) as error:  # safetensors has an error of its own for a full disk
            raise PalError(f"{folder} cannot be written ({error}); choose another place") from None
        card = CARD.format(**scalar.config.made_from, prompts=PROMPTS[scalar.config.prompts])
        write_bytes(new / "README.md", card.encode("utf-8"))
        _compare_rewards(model, new, user, prompt)


def _scalar_model(model: RewardModel, user: User | Aggregate, prompt: str | None) -> tuple[Any, Any]:
    """The exported model and its tokeniser."""
    from pal.encoders.sentence_transformers import library_model
    from pal.serving.transformers_model import ScalarConfig, ScalarReward, names_code

    description = model.input_encoder.describe("responses")
    described, pooling, unit_length = _exportable_encoder(model, description)
    if isinstance(user, Aggregate):
        if user.centred:
            raise PalError(
                "an aggregate must not be centred to be exported: one response is scored at a time"
            )
        (states, mass), kind, share = user.states(model), user.kind, float(user.share)
    else:
        states, mass, kind, share = model.state_of(user)[None], torch.ones(1), "mean", 0.5
    prompts = _prompts_of(model, prompt)
    encoder = library_model(described, "cpu")
    if encoder.default_prompt_name:
        raise PalError(f"the encoder must put nothing before texts to be exported, got {described.name}")
    limit = int(encoder.max_seq_length)
    encoder.tokenizer.model_max_length = limit
    network = encoder[0].auto_model
    config = ScalarConfig(
        encoder_config={k: v for k, v in network.config.to_dict().items() if not names_code(k)},
        pooling=pooling,
        unit_length=unit_length,
        stored=description.get("dtype", "float32"),
        max_tokens=limit,
        head=model.config.model_dump(),
        prompt_dim=model.prompt_dim if model.head.needs_prompts else 0,
        prompts=prompts,
        groups=len(states),
        kind=kind,
        share=share,
        made_from={
            "fingerprint": model.fingerprint,
            "encoder": description["encoder"],
            "weights_sha256": described.weights_sha256,
        },
    )
    with torch.random.fork_rng():  # building draws random weights, which are replaced
        scalar = ScalarReward(config)
    scalar.encoder.load_state_dict(network.state_dict())
    scalar.head.load_state_dict({name: x.detach().cpu() for name, x in model.head.state_dict().items()})
    scalar.states.copy_(states)
    scalar.mass.copy_(mass)
    if prompts == "fixed":
        scalar.prompt.copy_(model.encode_prompts(prompt, 1).tensor())
    return scalar.eval(), encoder.tokenizer


def _exportable_encoder(
    model: RewardModel, description: dict[str, Any]
) -> tuple[encoders.Described, list[str], bool]:
    """The encoder's files, its poolings, and whether its vectors have unit length.

    Raises:
        PalError: If it is not a transformer, a pooling and perhaps unit length in float32.
    """
    from pal.encoders.sentence_transformers import modules_of, pooling_of
    from pal.serving.transformers_model import POOLINGS

    name = description["encoder"]
    if description.get("precision", "float32") != "float32":
        raise PalError(
            f"the encoder must compute in float32 to be exported, got {description['precision']} of {name}"
        )
    model.encode_responses(["a"])  # which compares the encoder's weights with the model's hash
    described = encoders.describe(name, model.input_encoder.source(name))
    if described.family != "sentence-transformers" or described.folder is None:
        raise PalError(f"the encoder must be of sentence-transformers to be exported, got {name}")
    modules = modules_of(described.folder)
    kinds = [kind for kind, _ in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise PalError(
            f"the encoder must be Transformer, Pooling and Normalize to be exported, got {', '.join(kinds)}"
        )
    pooling = pooling_of(modules[1][1])[1]
    if not set(pooling) <= set(POOLINGS):
        raise PalError(
            f"the encoder must pool by {', '.join(POOLINGS)} to be exported, got {', '.join(pooling)}"
        )
    return described, pooling, len(modules) == 3


def _prompts_of(model: RewardModel, prompt: str | None) -> str:
    """Whether the exported reward reads no prompt, one that is fixed, or one that is given with each call."""
    if not model.head.needs_prompts:
        if prompt is not None:
            raise PalError("prompt must be left out: this model's reward does not depend on it")
        return "none"
    if prompt is not None:
        return "fixed"
    prompts, responses = (model.input_encoder.describe(side) for side in ("prompts", "responses"))
    if any(prompts.get(what) != responses.get(what) for what in ("encoder", "weights_sha256", "dtype")):
        raise PalError(
            "prompts and responses must have one encoder to be exported together, got "
            f"{prompts['encoder']} and {responses['encoder']}; fix the prompt, export_scalar(..., prompt=...)"
        )
    return "given"


def _compare_rewards(model: RewardModel, folder: Path, user: User | Aggregate, prompt: str | None) -> None:
    """Read back what was written and compare its rewards with the model's own."""
    texts = list(PROBES)
    probe_prompt = (PROBES[0] if prompt is None else prompt) if model.head.needs_prompts else None
    got = _read_back(folder, texts, probe_prompt if prompt is None else None)
    if isinstance(user, Aggregate):
        states, mass = user.states(model)
        wanted = user.combine(model.score_states(probe_prompt, texts, states), mass, texts)
    else:
        wanted = model.score(probe_prompt, texts, user=user)
    difference = (got - wanted).abs() / wanted.abs().clamp_min(1)
    tolerance = TOLERANCE[model.input_encoder.describe("responses").get("dtype", "float32")]
    if not bool((difference <= tolerance).all()):
        raise PalError(
            f"the exported rewards must be those of the model to {tolerance:g}, got "
            f"{float(difference.max()):.2g} apart; use the model itself"
        )


def _read_back(folder: Path, texts: Sequence[str], prompt: str | None) -> Tensor:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    scalar = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True).eval()
    options = {"padding": True, "truncation": True, "return_tensors": "pt"}
    given = dict(tokenizer(list(texts), **options))
    if prompt is not None:
        given |= {f"prompt_{name}": tensor for name, tensor in tokenizer([prompt], **options).items()}
    with torch.no_grad():
        return scalar(**given).logits[:, 0]
