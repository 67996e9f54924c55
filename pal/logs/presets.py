"""Public data sets with people in them, by name: where they lie, and what their columns mean.

Written from their published schemas, not tried on the data themselves; the reader says what it finds, and
which column is missing. A copy of one's own is read by `NAME:PATH`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from pal.errors import PalError

HUB = "hf://datasets/"


@dataclass(frozen=True)
class Preset:
    """How a public data set is read.

    Args:
        source: What is read in its place; empty where the hub does not have it.
        about: What a user must know before: licence, terms, and who the people are.
        columns: Columns by role, where names do not tell.
        values: What values of the winner mean.
        reshape: Makes of its rows such as the reader takes.
    """

    source: str
    about: str
    columns: dict[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    reshape: Callable[[pl.DataFrame], pl.DataFrame] | None = None


def find_preset(source: object) -> tuple[Preset | None, str]:
    """The preset that a source names, as `NAME` or `NAME:PATH`, and the place to read.

    Raises:
        PalError: If it has no place of its own, and none is given.
    """
    text = str(source)
    name, _, path = text.partition(":")
    if name not in PRESETS or (not path and Path(text).exists()):
        return None, text
    preset = PRESETS[name]
    if not (place := path or preset.source):
        raise PalError(f"{name} must be read from a copy, as {name}:PATH, got no path; {preset.about}")
    return preset, place


def _reward_models(frame: pl.DataFrame) -> pl.DataFrame:
    """Each of PersonalLLM's reward models as a person, who scores the eight responses to a prompt."""
    names = [name.removeprefix("response_1_") for name in frame.columns if name.startswith("response_1_")]
    responses = [f"response_{n}" for n in range(1, 9) if f"response_{n}" in frame.columns]
    others = ["prompt", *responses, *(name for name in frame.columns if name.startswith("#"))]
    return pl.concat(
        frame.select(
            *others,
            *(pl.col(f"{name}_{model}").alias(f"score_{n}") for n, name in enumerate(responses, 1)),
            user_id=pl.lit(model),
        )
        for model in names
    )


def _with_jokes(frame: pl.DataFrame) -> pl.DataFrame:
    """Ratings with the jokes' texts, which stand in a file of their own."""
    jokes = frame.filter(pl.col("rating").is_null()).select("joke_id", "text")
    return frame.filter(pl.col("rating").is_not_null()).drop("text").join(jokes, on="joke_id")


_ASSESSED, _WORKERS, _RAW = "metadata.assessments[]", "normal_worker_annotations[]", "raw_annotations[]"
_FIRST = {f"response_{mark}": f"first_turn_response_{mark}" for mark in "abcd"}
PRESETS = {
    "prism": Preset(
        f"{HUB}HannahRoseKirk/prism-alignment@main/utterances",
        "PRISM: prompts CC BY 4.0, responses CC BY-NC 4.0; scores of 1 to 100, of a turn's prompt alone",
        {"user_id": "user_id", "prompt": "user_prompt", "response": "model_response", "rating": "score"},
    ),
    "personal_reward_bench": Preset(
        f"{HUB}MichaelR207/prism_personalized_0125",
        "PRISM's people, as PersonalRewardBench splits them; responses are for non-commercial "
        "use, as PRISM's",
        {"user_id": "user_id", "prompt": "context", "chosen": "chosen", "rejected": "rejected", "split": ""},
    ),
    "community_alignment": Preset(
        f"{HUB}facebook/community-alignment-dataset@97343c7f6399fcbea430ed0f37c1768281a78d56/"
        "community_alignment.csv",
        "CC BY 4.0; the first turn's choice of four; who is how old and lives where stands beside it",
        {
            "user_id": "annotator_id", "prompt": "first_turn_prompt", **_FIRST,
            "winner": "first_turn_preferred_response",
        },
    ),
    "collective_alignment": Preset(
        f"{HUB}openai/collective-alignment-1@main/comparisons",
        "each person's own ranking of four answers; look at its licence on its page",
        {
            "user_id": f"{_ASSESSED}.annotator_id", "prompt": "prompt.messages",
            "ranking": f"{_ASSESSED}.ranking_blocks.personal[].ranking",
        },
    ),
    "multipref": Preset(
        f"{HUB}allenai/multipref",
        "ODC-BY, as far as known; the overall preferences of its normal workers, slight ones as soft labels",
        {
            "user_id": f"{_WORKERS}.evaluator", "prompt": "text", "winner": f"{_WORKERS}.overall_pref",
            "response_a": "completion_a", "response_b": "completion_b",
        },
    ),
    "chatbot_arena": Preset(
        f"{HUB}lmsys/chatbot_arena_conversations",
        "gated: accept the terms on its page and log in first",
        {"user_id": "judge"},
    ),
    "hpdv2_test": Preset(
        f"{HUB}ymhao/HPDv2@main/test.json",
        "Apache 2.0; pictures are paths in archives beside it, so unpack these and read hpdv2_test:PATH",
        {
            "user_id": f"{_RAW}.user_hash", "prompt": "prompt", "responses": "image_path",
            "ranking": f"{_RAW}.rank",
        },
    ),
    "dices": Preset(
        "",
        "CC BY 4.0, a CSV of github.com/google-research-datasets/dices-dataset; raters say whether a "
        "conversation's last response is unsafe, so a person's safe ones stand over the unsafe ones",
        {"user_id": "rater_id", "prompt": "", "response": "response", "thumb": "Q_overall"},
        {"No": "up", "Yes": "down"},
    ),
    "personal_llm": Preset(
        f"{HUB}namkoong-lab/PersonalLLM",
        "its people are ten reward models, as simulated people are mixtures of these; its code "
        "is Apache 2.0, look at its page for the data's licence",
        {"user_id": "user_id", "prompt": "prompt"},
        reshape=_reward_models,
    ),
    "shp": Preset(
        f"{HUB}stanfordnlp/SHP@e94b5f32602712d78ed494fe79105b1959396686",
        "its people are subreddits, whose votes are one answer; look at its page for its licence",
        {"user_id": "domain", "prompt": "history", "winner": "labels"},
        {"1": "a", "0": "b"},
    ),
    "jester": Preset(
        "",
        "a folder with ratings (user_id, joke_id, rating) and jokes (joke_id, text); free for research, from "
        "eigentaste.berkeley.edu/dataset",
        {"user_id": "user_id", "prompt": "", "response": "text", "rating": "rating"},
        reshape=_with_jokes,
    ),
}  # fmt: skip
