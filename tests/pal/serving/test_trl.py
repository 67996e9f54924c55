"""The real TRL trains a policy on personal rewards: a language model of some thousand random weights."""

from collections.abc import Callable
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch

from pal.serving.policy_rewards import PolicyReward

pytestmark = [
    pytest.mark.skipif(find_spec("trl") is None, reason="TRL is not installed (pip install -e '.[trl]')"),
    pytest.mark.filterwarnings(
        "default",  # the warnings of TRL and its libraries are theirs
        "ignore:.*gradient_checkpointing:FutureWarning",  # TRL calls transformers by the older names
    ),
]

WORDS = ["how", "who", "is", "are", "it", "you", "fine", "not", "so", "well", "the", "a", "cat", "dog", "yes", "no"]  # fmt: skip
STEPS, GENERATIONS = 2, 4


@pytest.fixture(scope="module")
def policy() -> SimpleNamespace:
    """A network 16 wide and its tokeniser of some words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    names = ["<pad>", "<eos>", "<unk>", *WORDS]
    tokens = Tokenizer(models.WordLevel({word: at for at, word in enumerate(names)}, unk_token="<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokens, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['content'] }} {% endfor %}"
        "{% if add_generation_prompt %}{{ '' }}{% endif %}"
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(names), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=64, pad_token_id=0, eos_token_id=1, bos_token_id=1,
        )  # fmt: skip
        return SimpleNamespace(make=lambda: LlamaForCausalLM(config), tokenizer=tokenizer)


def trained(policy, reward: Callable, rows: list[dict], folder) -> None:
    """A few steps of GRPO: they end, rewards and weights are finite, and some weight has moved."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    torch.manual_seed(0)
    model = policy.make()
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    args = GRPOConfig(
        output_dir=str(folder), max_steps=STEPS, per_device_train_batch_size=2 * GENERATIONS,
        num_generations=GENERATIONS, max_completion_length=6, learning_rate=1e-2, beta=0.0,
        logging_steps=1, save_strategy="no", report_to=[], use_cpu=True, bf16=False, disable_tqdm=True,
        seed=0,
    )  # fmt: skip
    trainer = GRPOTrainer(
        model=model, reward_funcs=reward, args=args, train_dataset=Dataset.from_list(rows),
        processing_class=policy.tokenizer,
    )  # fmt: skip
    trainer.train()
    assert trainer.state.global_step == STEPS
    weights = dict(trainer.model.named_parameters())
    assert all(bool(torch.isfinite(value).all()) for value in weights.values())
    assert any(not torch.equal(value, before[key]) for key, value in weights.items())
    logged = [row[f"rewards/{reward.__name__}/mean"] for row in trainer.state.log_history if "loss" in row]
    assert len(logged) == STEPS
    assert all(torch.isfinite(torch.tensor(logged)))
    if isinstance(reward, PolicyReward):
        assert all(row["pal/silent"] >= 0 for row in trainer.state.log_history if "loss" in row)


class Watched(PolicyReward):
    """A reward that keeps what it was called with."""

    def __call__(self, prompts, completions, **columns):
        rewards = super().__call__(prompts, completions, **columns)
        self.calls = [*getattr(self, "calls", []), (prompts, completions, columns, rewards)]
        return rewards


def test_every_completion_is_rewarded_by_the_user_of_its_row(policy, worded, tmp_path):
    taste = worded.adapt([("how are you", "fine", "not so well")])
    made = PolicyReward(worded, column="user_id", tastes={"ann": taste})
    reward = Watched(made.model, made.user, made.column, made.tastes)
    prompts = {"user 3": "how are you", "ann": "who is it", "user 5": "is it a dog", "user 7": "are you so"}
    rows = [{"prompt": prompt, "user_id": user} for user, prompt in prompts.items()]
    trained(policy, reward, rows, tmp_path)
    assert reward.calls
    for asked, said, columns, found in reward.calls:
        assert len(asked) == len(said) == len(found) == len(columns["user_id"])
        assert [prompts[user] for user in columns["user_id"]] == asked
        spoken = [at for at, text in enumerate(said) if text.strip()]
        users = [taste if columns["user_id"][at] == "ann" else columns["user_id"][at] for at in spoken]
        expected = worded.score([asked[at] for at in spoken], [said[at] for at in spoken], user=users)
        torch.testing.assert_close(torch.tensor(found)[spoken], expected)
    served = {user for _, _, columns, _ in reward.calls for user in columns["user_id"]}
    assert served == set(prompts)
