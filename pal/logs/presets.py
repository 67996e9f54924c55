"""Public data sets with people in them, by name: where they lie, and what their columns mean.

Written from their published schemas; the reader says what it finds, and which column is missing.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Preset:
    """How a public data set is read.

    Args:
        source: What is read in its place.
        about: What a user must know before: terms, and who the people are.
        columns: Columns by role, where names do not tell.
        values: What values of the winner mean.
    """

    source: str
    about: str
    columns: dict[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)


_ASSESSED = "metadata.assessments[]"
PRESETS = {
    "personal_reward_bench": Preset(
        "hf://datasets/MichaelR207/prism_personalized_0125",
        "PRISM's people, as PersonalRewardBench splits them; responses are for non-commercial use",
        {"user_id": "user_id", "prompt": "context", "chosen": "chosen", "rejected": "rejected"},
    ),
    "chatbot_arena": Preset(
        "hf://datasets/lmsys/chatbot_arena_conversations",
        "gated: accept the terms on its page and log in first",
        {"user_id": "judge"},
    ),
    "shp": Preset(
        "hf://datasets/stanfordnlp/SHP",
        "its people are subreddits, whose votes are one answer",
        {"user_id": "domain", "prompt": "history", "winner": "labels"},
        {"1": "a", "0": "b"},
    ),
    "collective_alignment": Preset(
        "hf://datasets/openai/collective-alignment-1/comparisons",
        "each person's own ranking of four answers",
        {
            "user_id": f"{_ASSESSED}.annotator_id",
            "prompt": "prompt.messages",
            "ranking": f"{_ASSESSED}.ranking_blocks.personal[].ranking",
        },
    ),
}
