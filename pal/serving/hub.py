"""A model as huggingface_hub's own mixin knows it: what to write, what to fetch, which card.

Imported when a model is shared and not before. The mixin writes into a folder that it is given, file by file;
`pal.serving.sharing` gives it a temporary one.
"""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download

from pal.serving.card import LIBRARY, TAGS, About, model_card
from pal.serving.storage import CONFIG, TENSORS, USERS


class OnHub(ModelHubMixin, library_name=LIBRARY, tags=list(TAGS)):
    """A reward model on its way to the hub or from it.

    Args:
        model: A `RewardModel`.
        about: What its card tells beside what the model itself knows.
    """

    # `about` is an About or None; were it said so, the mixin would make one from a config that names it.
    def __init__(self, model: Any, about: Any = None) -> None:
        self.model = model
        self.about = about

    def _save_pretrained(self, save_directory: Path) -> None:
        self.model.save(save_directory)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The card; what the mixin would put into its template is not read."""
        return ModelCard(model_card(self.model, self.about or About()))

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        kind: Any,
        how: dict[str, Any],
        **ignored: Any,  # a config may name an argument of __init__, which the mixin then passes on
    ) -> "OnHub":
        folder = snapshot_download(
            model_id, revision=revision, cache_dir=cache_dir, force_download=force_download,
            local_files_only=local_files_only, token=token, allow_patterns=[TENSORS, USERS, CONFIG],
        )  # fmt: skip
        return cls(kind.load(folder, **how))
