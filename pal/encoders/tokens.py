"""Texts as tokens: made once, kept flat, and handed out as padded batches."""

from typing import TYPE_CHECKING, Any

from pal.encoders.texts import unreadable
from pal.errors import PalError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

AT_ONCE = 4_096  # texts whose tokens are lists of Python numbers, for a moment
FIRST = 32  # characters read for each token that fits: more than any common text holds
LOCAL = "BertPreTokenizer"
ENDS = " \n.,;:!?\"'()*=-\u3002\uff0c"
"""Where a word of such a tokeniser ends, whatever stands on the other side."""


class Tokens:
    """Token numbers of many texts, one after the other.

    Args:
        numbers: All of them, (total,) int32.
        starts: Where each text's begin, and the end, (n_texts + 1,) int64.
    """

    def __init__(self, numbers: "np.ndarray", starts: "np.ndarray") -> None:
        self.numbers, self.starts = numbers, starts

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return (self.starts[1:] - self.starts[:-1]).tolist()

    def padded(self, rows: list[int], pad: int, side: str = "right") -> "tuple[Tensor, Tensor | None]":
        """Some texts as a batch, filled up to the longest.

        Returns:
            (len(rows), longest) int64 token numbers, and which of them are a text's own, 1 or 0 of the same
            shape; None in its place where all are.
        """
        import numpy as np
        import torch

        at = np.asarray(rows, dtype=np.int64)
        starts, lengths = self.starts[at], self.starts[at + 1] - self.starts[at]
        longest = int(lengths.max())
        if (lengths == longest).all():
            return torch.from_numpy(self.numbers[starts[:, None] + np.arange(longest)].astype(np.int64)), None
        place = np.arange(longest)[None, :]
        if side == "left":
            place = place - (longest - lengths)[:, None]
        own = (place >= 0) & (place < lengths[:, None])
        taken = np.where(own, starts[:, None] + place, 0)
        numbers = np.where(own, self.numbers[taken], pad).astype(np.int64)
        return torch.from_numpy(numbers), torch.from_numpy(own.astype(np.int64))


class Tokeniser:
    """A model's tokeniser, cut to its limit, that reads no more of a long text than it needs.

    Args:
        tokenizer: A fast tokeniser of the library.
        limit: Tokens that the model reads, the two at the ends among them.
        prompt: What stands before every text.
    """

    def __init__(self, tokenizer: Any, limit: int, prompt: str = "") -> None:
        self._tokenizer, self._prompt = tokenizer, prompt
        self.limit = limit
        # Words and punctuation are read one by one, so a text's first tokens stay as they are whatever
        # follows the end of a word; unless it stands within a token like [CLS]. Other tokenisers are given
        # the whole text.
        pre_tokenizer = type(tokenizer.backend_tokenizer.pre_tokenizer).__name__
        local = pre_tokenizer == LOCAL and tokenizer.truncation_side == "right"
        added = "".join(tokenizer.get_added_vocab())
        self._ends = [end for end in ENDS if end not in added] if local else []

    def __call__(self, texts: list[str]) -> Tokens:
        """Token numbers of texts.

        Raises:
            PalError: If a text is no text: half of a surrogate pair, or too long.
        """
        import numpy as np

        parts, lengths = [np.empty(0, np.int32)], [0]
        for start in range(0, len(texts), AT_ONCE):
            listed = self._listed(texts[start : start + AT_ONCE], start)
            lengths.extend(map(len, listed))
            parts.append(np.fromiter((n for one in listed for n in one), np.int32))
        return Tokens(np.concatenate(parts), np.cumsum(lengths, dtype=np.int64))

    def _listed(self, texts: list[str], first: int) -> list[list[int]]:
        for row, text in enumerate(texts, start=first + 1):
            if fault := unreadable(text):
                raise PalError(f"text {row:,} {fault}; change it or leave it out")
        most = FIRST * self.limit
        parts = [self._cut(text, most) for text in texts]
        found = self._numbers(parts)
        for row, (part, text) in enumerate(zip(parts, texts, strict=True)):
            if len(part) < len(text) and len(found[row]) < self.limit:
                found[row] = self._numbers_of_long(text, 2 * most)
        return found

    def _numbers_of_long(self, text: str, most: int) -> list[int]:
        """A text whose beginning did not fill the limit: twice as much of it until it does."""
        while True:
            part = self._cut(text, most)
            found = self._numbers([part])[0]
            if len(found) >= self.limit or len(part) == len(text):
                return found
            most *= 2

    def _numbers(self, texts: list[str]) -> list[list[int]]:
        return self._tokenizer(
            [self._prompt + text for text in texts],
            truncation=True,
            max_length=self.limit,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]

    def _cut(self, text: str, most: int) -> str:
        """The text up to the last end of a word within `most` characters; all of it where there is none."""
        if len(text) <= most:
            return text
        end = max((text.rfind(end, 0, most) for end in self._ends), default=0)
        return text[:end] if end > 0 else text
