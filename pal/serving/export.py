"""Export of one person's reward, with its encoder, to a folder for `transformers`.

Rewards of texts can be exported where the encoder is of sentence-transformers and made of a transformer,
pooling (mean, cls or max) and unit length, in float32. Everything else is refused. What was written is read
back and compared with `RewardModel.score` before it is put in its place.
"""

from pathlib import Path
from typing import Any

import torch
from jinja2 import Template
from safetensors import SafetensorError

from pal import encoders
from pal.errors import PalError
from pal.files import expanded, new_folder, write_text
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


def export_scalar(
    model: RewardModel, folder: Path | str, user: User = None, *, prompt: str | None = None
) -> None:
    """Write one user's reward as a model that `AutoModelForSequenceClassification` reads.

    It is that of responses to the one prompt that is given. Where none is and the reward depends on it, the
    exported model reads prompts as a second batch of tokens. For its class see
    `pal.serving.transformers_model`.
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
    from pal.encoders.sentence_transformers import library_model
    from pal.serving.transformers_model import ScalarConfig, ScalarReward, names_code

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
    config = ScalarConfig(
        encoder_config={k: v for k, v in network.config.to_dict().items() if not names_code(k)},
        pooling=pooling, unit_length=unit_length, stored=description.get("dtype", "float32"),
        max_tokens=int(encoder.max_seq_length), head=model.config.model_dump(), prompts=prompts,
        prompt_dim=model.prompt_dim if model.head.needs_prompts else 0,
        made_from={**made_from, "weights_sha256": described.weights_sha256},
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
    from pal.encoders.sentence_transformers import modules_of, pooling_of
    from pal.serving.transformers_model import POOLINGS

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
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

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
