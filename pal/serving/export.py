"""Export: one person's reward, or one aggregate's, with its encoder, for plain `transformers` code.

What can be exported: rewards of texts by a sentence-transformers encoder of a transformer, pooling (mean, cls
or max) and unit length, in float32. Everything else is refused. What was written is read back and held to
`RewardModel.score` before it is put in its place.
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
from pal.serving.aggregates import Aggregate, rewards_at, state_of
from pal.serving.model import RewardModel, User
from pal.serving.reader import IN_PACKAGES

PROBES = (
    "Yes.",
    "No, I would rather not.",
    "It depends: on the one hand there is the time that it takes, on the other what comes of it. " * 3,
)
NEAR = {"float32": 1e-5, "float16": 1e-3}  # a vector may be rounded to one float16 or to the next
CARD = """\
---
library_name: transformers
pipeline_tag: text-classification
tags: [pal, reward-model]
---

# One reward out of a PAL model

Made from the PAL model of fingerprint {fingerprint} on {encoder}, whose weights and tokeniser are in it.

```python
import pal.serving.scalar  # registers the class; no code comes from this folder
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(FOLDER)
model = AutoModelForSequenceClassification.from_pretrained(FOLDER)
model(**tokenizer(responses, padding=True, truncation=True, return_tensors="pt")).logits  # (n, 1)
```

- {prompts}
- Only differences between responses to one prompt mean anything.
- Each row is one response with the tokens at its ends. Code that joins prompt and response into one text,
  such as TRL's own road for reward models, scores another text than this was made for.
- It serves one person, or one aggregate of people, and knows of no other.
"""
PROMPTS = {
    "none": "The reward depends on the response alone.",
    "fixed": "The reward is that of responses to one prompt, which was fixed when this was exported.",
    "given": "The reward depends on the prompt: pass `prompt_input_ids` and `prompt_attention_mask` too.",
}


def export_scalar(
    model: RewardModel,
    folder: Path | str,
    user: User | Aggregate = None,
    *,
    prompt: str | None = None,
) -> None:
    """Write one reward as a model that `AutoModelForSequenceClassification` reads; see `pal.serving.scalar`.

    Args:
        model: Where from.
        folder: Where to; must not be there yet, or be empty.
        user: Whose reward: a user, or an aggregate that is not centred. None is the average user.
        prompt: The one prompt that responses will answer. Where the reward depends on the prompt and none is
            given, the exported model reads it as a second batch of tokens.

    Raises:
        PalError: If the place is taken, the user unknown, or the encoder is none that can be exported.
    """
    folder = Path(folder).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PalError(f"{folder} must not be there yet, or be an empty folder; choose another place")
    made, tokenizer = _made(model, user, prompt)
    with new_folder(folder) as new:
        try:
            made.save_pretrained(new)
            tokenizer.save_pretrained(new)
        except (OSError, SafetensorError) as error:  # safetensors has one of its own for a full disk
            raise PalError(f"{folder} cannot be written ({error}); choose another place") from None
        about = made.config.made_from
        card = CARD.format(**about, prompts=PROMPTS[made.config.prompts])
        write_bytes(new / "README.md", card.encode("utf-8"))
        _hold_to(model, new, user, prompt)


def _made(model: RewardModel, user: User | Aggregate, prompt: str | None) -> tuple[Any, Any]:
    """The exported model and its tokeniser."""
    from pal.serving.scalar import ScalarConfig, ScalarReward, names_code

    about, described, pooling, unit = _encoder(model)
    points, mass, kind, share = _places(model, user)
    prompts = _prompts_of(model, prompt)
    network, tokenizer, limit = _network(described)
    config = ScalarConfig(
        encoder_config={k: v for k, v in network.config.to_dict().items() if not names_code(k)},
        pooling=pooling,
        unit_length=unit,
        stored=about.get("dtype", "float32"),
        max_tokens=limit,
        head=model.config.model_dump(),
        prompt_dim=model.prompt_dim if model.head.needs_prompts else 0,
        prompts=prompts,
        groups=len(points),
        kind=kind,
        share=share,
        made_from={
            "fingerprint": model.fingerprint,
            "encoder": about["encoder"],
            "weights_sha256": described.weights_sha256,
        },
    )
    with torch.random.fork_rng():
        made = ScalarReward(config)
    made.encoder.load_state_dict(network.state_dict())
    head = model.head.state_dict()
    made.head.load_state_dict({name: tensor.detach().cpu() for name, tensor in head.items()})
    made.points.copy_(points)
    made.mass.copy_(mass)
    if prompts == "fixed":
        made.prompt.copy_(model.reader.read(prompt or "", "prompts", model.prompt_dim).block(0, 1))
    return made.eval(), tokenizer


def _encoder(model: RewardModel) -> tuple[dict[str, Any], encoders.Described, list[str], bool]:
    """What the model's config says of it, its files, its poolings, and whether vectors have unit length."""
    from pal.encoders.sentence_files import _pooling, checked_modules
    from pal.serving.scalar import POOLINGS

    about = model.reader.about("responses")
    name = about["encoder"]
    if about.get("precision", "float32") != "float32":
        raise PalError(
            f"the encoder must compute in float32 to be exported, got {about['precision']} of {name}"
        )
    model.reader.read("a", "responses", model.response_dim)  # which holds its weights to the model's hash
    source = str(model.reader.weights.get(name, "package" if name in IN_PACKAGES else "hub"))
    described = encoders.describe(name, source)
    if described.module != "sentence" or described.folder is None:
        raise PalError(f"the encoder must be of sentence-transformers to be exported, got {name}")
    modules = checked_modules(described.folder)
    others = sorted({kind for kind, _ in modules} - {"Transformer", "Pooling", "Normalize"})
    if others or [kind for kind, _ in modules][1:2] != ["Pooling"] or len(modules) > 3:
        got = ", ".join(kind for kind, _ in modules)
        raise PalError(f"the encoder must be Transformer, Pooling and Normalize to be exported, got {got}")
    pooling = _pooling(modules[1][1])[1]
    if not set(pooling) <= set(POOLINGS):
        raise PalError(
            f"the encoder must pool by {', '.join(POOLINGS)} to be exported, got {', '.join(pooling)}"
        )
    return about, described, pooling, len(modules) == 3


def _network(described: encoders.Described) -> tuple[Any, Any, int]:
    """The network, the tokeniser, cut to the encoder's limit, and that limit."""
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    found = SentenceTransformer(
        str(described.folder),
        device="cpu",
        trust_remote_code=False,
        local_files_only=True,
        model_kwargs={"use_safetensors": True, "dtype": "float32"},
    ).eval()
    if found.default_prompt_name:
        raise PalError(f"the encoder must put nothing before texts to be exported, got {described.name}")
    limit = int(found.max_seq_length)
    found.tokenizer.model_max_length = limit
    return found[0].auto_model, found.tokenizer, limit


def _prompts_of(model: RewardModel, prompt: str | None) -> str:
    if not model.head.needs_prompts:
        if prompt is not None:
            raise PalError("prompt must be left out: this model's reward does not depend on it")
        return "none"
    if prompt is not None:
        return "fixed"
    sides = [model.reader.about(side) for side in ("prompts", "responses")]  # type: ignore[arg-type]
    if any(sides[0].get(what) != sides[1].get(what) for what in ("encoder", "weights_sha256", "dtype")):
        raise PalError(
            "prompts and responses must have one encoder to be exported together, got "
            f"{sides[0]['encoder']} and {sides[1]['encoder']}; fix the prompt, export_scalar(..., prompt=...)"
        )
    return "given"


def _places(model: RewardModel, user: User | Aggregate) -> tuple[Tensor, Tensor, str, float]:
    if not isinstance(user, Aggregate):
        return state_of(model, user)[None], torch.ones(1), "mean", 0.5
    if user.centred:
        raise PalError("an aggregate must not be centred to be exported: one response is scored at a time")
    return *user.points(model), user.kind, float(user.share)


def _hold_to(model: RewardModel, folder: Path, user: User | Aggregate, prompt: str | None) -> None:
    """Read back what was written and compare it with the model's own rewards."""
    texts = list(PROBES)
    asked = (PROBES[0] if prompt is None else prompt) if model.head.needs_prompts else None
    found = _read_back(folder, texts, asked if prompt is None else None)
    if isinstance(user, Aggregate):
        points, mass = user.points(model)
        wanted = user.of(rewards_at(model, asked, texts, points), mass, texts)
    else:
        wanted = model.score(asked, texts, user=state_of(model, user))
    apart = (found - wanted).abs() / wanted.abs().clamp_min(1)
    near = NEAR[model.reader.about("responses").get("dtype", "float32")]
    if not bool((apart <= near).all()):
        raise PalError(
            f"the exported rewards must be those of the model to {near:g}, got {float(apart.max()):.2g} "
            "apart; use the model itself"
        )


def _read_back(folder: Path, texts: Sequence[str], prompt: str | None) -> Tensor:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    scalar = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True).eval()
    how = {"padding": True, "truncation": True, "return_tensors": "pt"}
    given = dict(tokenizer(list(texts), **how))
    if prompt is not None:
        given |= {f"prompt_{name}": tensor for name, tensor in tokenizer([prompt], **how).items()}
    with torch.no_grad():
        return scalar(**given).logits[:, 0]
