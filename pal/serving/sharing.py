"""Sharing a model: as a folder with a card, or on the Hugging Face hub.

What is shared is what `RewardModel.save` writes, safetensors and JSON held to their hashes, and a card. A
model holds people: the ids of all who were seen in fitting, each beside their weights. An upload leaves them
out unless told otherwise; new people are located by the prior all the same, and tastes still fit.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

from pal.errors import PalError
from pal.serving.saved import SavedModel
from pal.serving.storage import CARD, CONFIG, TENSORS, USERS, place_folder

if TYPE_CHECKING:
    from pal.serving.card import About

AVERAGE = "average"  # who stands for all in a model without its users
FILES = [TENSORS, USERS, CONFIG]
Some = TypeVar("Some", bound="Shareable")  # not typing.Self, which the shape checks in tests cannot read
Saved = TypeVar("Saved", bound=SavedModel)


class Shareable:
    """Saving with a card, and the hub's three verbs, for a `RewardModel`."""

    def save_pretrained(
        self, folder: Path | str, *, about: "About | None" = None, users: bool = True
    ) -> None:
        """Write the model and its card to a folder, as a whole; a model that is there already is replaced.

        Args:
            folder: Where to.
            about: What the card tells beside what the model itself knows.
            users: Whether the people seen in fitting stay in it.

        Raises:
            PalError: If something else stands at that place.
        """
        with TemporaryDirectory() as temporary:
            whole = Path(temporary) / "model"
            _on_hub(self, about, users=users).save_pretrained(whole)
            files = {name: (whole / name).read_bytes() for name in (*FILES, CARD)}
        place_folder(Path(folder), files)

    @classmethod
    def from_pretrained(
        cls: type[Some],
        name: Path | str,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: Path | str | None = None,
        local_files_only: bool = False,
        weights: Mapping[str, str | Path] | None = None,
        device: str = "cpu",
    ) -> Some:
        """Read a model from a folder or from the hub, with every number checked and every file's hash.

        Args:
            name: A folder, or a repository of the hub, `ORG/NAME`.
            revision: The hub's commit, branch or tag; a commit is the one that cannot change under you.
            token: The hub's; by default the one that `hf auth login` kept.
            cache_dir: Where downloads are kept.
            local_files_only: Whether the hub is not asked.
            weights: See `RewardModel.load`.
            device: See `RewardModel.load`.

        Raises:
            PalError: If the hub has no such model or cannot be reached, or `load` refuses what it has.
        """
        how = {"weights": weights, "device": device}
        if Path(name).is_dir():
            return cls.load(name, **how)  # type: ignore[attr-defined, no-any-return]
        from huggingface_hub.errors import HfHubHTTPError

        from pal.serving.hub import OnHub

        # The HTTP error's bases: OSError, and the error of the HTTP library, which the client has changed
        # before. The others are what the mixin raises for a config.json that is no object.
        no_model = (*HfHubHTTPError.__bases__, OSError, ValueError, TypeError, AttributeError, RecursionError)
        try:
            return OnHub.from_pretrained(
                str(name), revision=revision, token=token, cache_dir=cache_dir,
                local_files_only=local_files_only, kind=cls, how=how,
            ).model  # fmt: skip
        except PalError:
            raise
        except no_model as error:
            raise PalError(
                f"{name} must be a folder or a PAL model on the hub, and cannot be read ({_short(error)}); "
                "check name, network and token"
            ) from None

    def push_to_hub(
        self,
        repo: str,
        *,
        about: "About | None" = None,
        users: bool = False,
        private: bool | None = None,
        token: str | None = None,
        branch: str | None = None,
        create_pr: bool | None = None,
        commit_message: str = "Add a PAL reward model",
    ) -> str:
        """Upload the model and its card to the hub, from a folder that holds nothing else.

        Args:
            repo: `ORG/NAME`; made where missing.
            about: What the card tells beside what the model itself knows.
            users: Whether the people seen in fitting, ids and weights, go with it. Think before.
            private: Whether a new repository is private; by default as the organisation has it.
            token: The hub's; by default the one that `hf auth login` kept.
            branch: Where to; by default main.
            create_pr: Whether to open a pull request.
            commit_message: Of the commit.

        Returns:
            The commit's address.

        Raises:
            PalError: If the hub refuses it or cannot be reached.
        """
        from huggingface_hub.errors import HfHubHTTPError

        try:
            return str(
                _on_hub(self, about, users=users).push_to_hub(
                    repo, private=private, token=token, branch=branch, create_pr=create_pr,
                    commit_message=commit_message,
                )
            )  # fmt: skip
        except PalError:
            raise
        except (*HfHubHTTPError.__bases__, OSError, ValueError) as error:
            raise PalError(
                f"{repo} could not be written on the hub ({_short(error)}); check the name, the network and "
                "that the token may write"
            ) from None


def without_users(model: Saved) -> Saved:
    """The same model without the people seen in fitting: one stands for all, at their mean.

    Rewards of the average user, the prior and so every taste stay as they are. The prior's points are still
    places where people stand, a person alone where few were seen, but without a name.
    """
    mean = model.population.mean[None]
    return replace(model, user_ids=[AVERAGE], states=mean)  # type: ignore[type-var]


def _on_hub(model: Any, about: "About | None", *, users: bool) -> Any:
    from pal.serving.hub import OnHub

    return OnHub(model if users else without_users(model), about)


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
