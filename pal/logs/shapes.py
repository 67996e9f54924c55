"""Comparisons of every shape that logs have: who preferred which response to what, and how surely.

`docs/logs.md` says which comparisons each shape gives. A label is P(chosen is preferred): 1, or for an answer
of strength g of G (slightly: half) 0.5 + 0.5 g / G.
"""

import hashlib
import re
import unicodedata
from base64 import b64decode
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from pal.conversations import messages_of, parsed_json, split_conversation
from pal.errors import PalError, shorten
from pal.logs.columns import Columns, Names, parse_columns, recognise
from pal.logs.read import FILE, ROW, Files, Table, find_preset, read
from pal.logs.tables import MOST_FAULTY, row_place

NO_TEXT = pl.lit(None, pl.String)
# Reasons for which rows are left out.
SAME, TIES_LEFT_OUT = "that compare a response with itself", "ties"
EVERYONE = "everyone"  # the user of a log that names none
LONGEST_USER_ID = 512  # characters
WHOLE = re.compile(r"^(-?\d+)\.0+$")
# What programs write where nobody is named, as `normalised_id` gives it.
NOBODY = {"nan", "null", "none", "<na>", "n/a", "na", "nil", "undefined", "anonymous", "unknown"}
RANKED = [list(marks) for marks in ("abcdefghijklmnop", "123456789", "0123456789")]  # as rankings call them
FIRST_TIME, LAST_TIME = 100_000_000, 4_102_444_800  # seconds since 1970
GAP = 0.5  # standard deviations of a person's own ratings
PARTNERS = 10  # other ratings that each is compared with at most
Values = Mapping[str, str]  # what values of the winner or the thumb mean
Said = list[str]  # what was understood, one sentence each
Ranks = Callable[[dict[str, Any], list[Any]], list[float] | None]  # of a row's responses, the lowest best
# What people write for a winner.
TIES = {
    *("tie", "ties", "tied", "equal", "same", "draw", "both", "neither", "none", "both bad", "bothbad"),
    *("tie bothbad", "tie both bad", "about the same", "no preference", "unsure", "a b", "equally good", "c"),
}
THINGS = ("", "model ", "response ", "answer ", "option ", "output ", "completion ")
WINNERS = {
    **{f"{thing}{mark}": 0 for thing in THINGS for mark in ("a", "first", "left", "one")},
    **{f"{thing}{mark}": 1 for thing in THINGS for mark in ("b", "second", "right", "two")},
    **{f"{thing}{mark}": mark - 1 for thing in THINGS[1:] for mark in (1, 2)},
}
A_LITTLE = "slightly|somewhat|a little|a bit|marginally|weakly"
MUCH = "is|are|was|much|clearly|significantly|strongly|definitely|better|preferred|prefer|wins|than|over"
WEAK, STRENGTH = re.compile(rf"\b({A_LITTLE})\b"), re.compile(rf"\b({MUCH}|{A_LITTLE})\b")
UP = {"1", "true", "up", "yes", "like", "liked", "good", "positive", "👍", "thumbs up", "+1", "chosen"}
DOWN = {
    "0", "-1", "false", "down", "no", "dislike", "disliked", "bad", "negative", "👎", "thumbs down",
    "rejected",
}  # fmt: skip
PAIR_COLUMNS = ["user_id", "prompt", "chosen", "rejected", "label", "timestamp", "split", "first", FILE, ROW]


@dataclass(frozen=True)
class Log:
    """Comparisons as they were understood.

    `pairs` has a row for each: user_id, prompt (null where there are none), chosen, rejected, label,
    timestamp (in UTC), split, first (whether the response shown first was chosen, where a duel tells), and
    the row that it comes from. Cells are texts, or bytes of pictures.
    """

    pairs: pl.DataFrame
    table: Table  # where it was read from, without its rows
    columns: Columns
    rejected: pl.DataFrame  # rows that gave no comparison: file, row, reason
    said: Said
    n_rows: int  # rows that were read, or tried to be
    attributes: pl.DataFrame = field(default_factory=pl.DataFrame)  # further columns, row for row of `pairs`

    def refuse(self, role: str, wrong: pl.Series, rule: str) -> None:
        """Raise at the first comparison whose cell is wrong; {got} in the rule stands for the cell."""
        if wrong.any():
            raise cell_error(self.pairs.filter(wrong), role, self.columns.name_of(role), rule)

    @property
    def fingerprint(self) -> str:
        """A hash of who preferred what to what, in whatever order the rows stand."""
        rows = self.pairs.select("user_id", "prompt", "chosen", "rejected").hash_rows().sort()
        return hashlib.sha256(rows.to_numpy().tobytes()).hexdigest()

    def summary(self) -> str:
        """What was understood, as a table to print."""
        responses = zip(self.columns.marks, self.columns.responses, strict=True)
        named = self.columns.roles | {f"response {mark}": column for mark, column in responses}
        prompts = self.pairs["prompt"].drop_nulls().n_unique()
        rows = [
            ("shape", self.columns.shape),
            *((role, repr(column)) for role, column in named.items()),
            ("rows", f"{self.n_rows:,}"),
            ("people", f"{self.pairs['user_id'].n_unique():,}"),
            ("prompts", f"{prompts:,}" if prompts else "none"),
            ("comparisons", f"{len(self.pairs):,}"),
        ]
        rows += [("left out", f"{n:,} rows: {reason}") for reason, n in count_reasons(self.rejected).items()]
        rows += [("note", sentence) for sentence in self.said]
        width = max(len(name) for name, _ in rows)
        return "\n".join([self.table.source, *(f"  {name:<{width}}  {value}" for name, value in rows)])


def count_reasons(rejected: pl.DataFrame) -> dict[str, int]:
    """How many rows were left out for which reason, the commonest first."""
    counts = rejected.group_by("reason", maintain_order=True).len()
    return dict(counts.sort("len", descending=True, maintain_order=True).iter_rows())


def cell_error(rows: pl.DataFrame, role: str, column: str, rule: str) -> PalError:
    """The error of the first of these rows, whose cell is wrong; {got} in the rule stands for the cell."""
    row, others = rows.row(0, named=True), rows.select(FILE, ROW).n_unique() - 1
    problem = rule.replace("{got}", shorten(row[role]))
    message = f"{column} in {row_place(row[FILE], row[ROW], None, others)} {problem}"
    return PalError(message, file=row[FILE], row=row[ROW], column=column, problem=problem)


def read_log(
    source: Any,
    columns: Mapping[str, str] | None = None,
    *,
    values: Values | None = None,
    ties: str = "drop",
    user_ids: str = "as_given",
    attributes: Sequence[str] = (),
    known: Sequence[str] = (),
    alone: bool = False,
    seed: int = 0,
) -> Log:
    """Read a log of any form and shape.

    Args:
        source: What `pal.logs.read.read` reads, or one of `PRESETS`, as `NAME` or `NAME:PATH`.
        columns: Columns by role, where names do not tell.
        values: What values of the winner mean: a, b, ..., or tie.
        ties: drop, or keep as labels of 0.5.
        user_ids: as_given, or normalised: see `normalised_id`.
        attributes: Columns to keep beside the comparisons; of a rating, the preferred row's.
        known: Further such columns, of which the log may lack some.
        alone: Whether answers without a column of users can be one person's.
        seed: Draws which ratings are compared.

    Raises:
        PalError: If it cannot be read, it is not clear what a column is, or no comparison is left.
    """
    if ties not in ("drop", "keep"):
        raise PalError(f"--ties must be drop or keep, got {ties!r}")
    named = source.source if isinstance(source, Files) else source
    preset, place = find_preset(named) if isinstance(named, str) else (None, source)
    table = read(source if isinstance(source, Files) else place)
    if preset:
        columns = parse_columns(preset.columns) | dict(columns or {})
        values = preset.values | dict(values or {})
        table = replace(table, frame=preset.reshape(table.frame) if preset.reshape else table.frame)
        table.said.insert(0, preset.about)
    table, found = recognise(table, columns, alone=alone)
    said = [*table.said]
    n_rows = len(table.frame) + len(table.rejected)
    if missing := [name for name in attributes if name not in table.columns]:
        has = ", ".join(map(repr, table.columns))
        rule = f"{table.source} has no column {missing[0]!r}, which is asked for as an attribute"
        raise PalError(f"{rule}; it has {has}", column=missing[0])
    attributes = [*attributes, *(name for name in known if name in table.columns)]
    beside = table.frame.select(FILE, ROW, *attributes).unique([FILE, ROW]) if attributes else None
    frame = _with_texts(table, found)
    table = replace(table, frame=table.frame.clear())  # which may be larger than all that is left
    frame = MAKE[found.shape](frame, found, values=values or {}, seed=seed, said=said)
    first = pl.lit(None, pl.Boolean)
    frame = _with_missing(frame, label=pl.lit(1.0), first=first, timestamp=NO_TEXT, split=NO_TEXT)
    pairs, rejected = _keep(frame, ties)
    lost = pl.DataFrame(table.rejected, schema=rejected.schema, orient="row")
    rejected = pl.concat([lost, rejected])
    if pairs.is_empty():
        why = ", ".join(f"{n:,} {reason}" for reason, n in count_reasons(rejected).items()) or said[-1]
        raise PalError(f"{table.source} must hold a comparison that tells something, got none ({why})")
    pairs = _with_times(_with_people(pairs, user_ids, said), found, said)
    if not found.roles.get("user_id"):
        said.append("no column says who answered, so all answers are taken as one person's")
    told = pl.DataFrame()
    if attributes:
        told = pairs.select(FILE, ROW).join(beside, [FILE, ROW], how="left", maintain_order="left")
    return Log(pairs, table, found, rejected, said, n_rows, told.select(attributes))


def _keep(frame: pl.DataFrame, ties: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows that tell something, and for the others why not."""
    names = ("user_id", "prompt", "chosen", "rejected")
    blank = {name: pl.col(name).is_null() | (pl.col(name).cast(pl.Binary) == b"") for name in names}
    blank["user_id"] |= pl.col("user_id").str.strip_chars() == ""
    no_prompts = bool(frame.select(blank["prompt"].all()).item())
    reason = (
        pl.when(pl.col("problem").is_not_null()).then(pl.col("problem"))
        .when(blank["user_id"]).then(pl.lit("without a user"))
        .when(blank["chosen"] | blank["rejected"]).then(pl.lit("with an empty response"))
        .when(blank["prompt"] & (not no_prompts)).then(pl.lit("without a prompt, which others have"))
        .when((pl.col("label") == 0.5) & (ties == "drop")).then(pl.lit(TIES_LEFT_OUT))
        .when(pl.col("chosen") == pl.col("rejected")).then(pl.lit(SAME))
    )  # fmt: skip
    frame = frame.with_columns(problem=reason)
    rejected = rejected_rows(frame.drop_nulls("problem"), pl.col("problem")).unique(maintain_order=True)
    kept = frame.filter(pl.col("problem").is_null()).select(PAIR_COLUMNS)
    return kept.with_columns(prompt=NO_TEXT) if no_prompts else kept, rejected


def rejected_rows(rows: pl.DataFrame, reason: pl.Expr) -> pl.DataFrame:
    """Rows that are left out: file, row, reason."""
    return rows.select(file=pl.col(FILE).cast(pl.String), row=pl.col(ROW).cast(pl.Int64), reason=reason)


def normalised_id(user: str) -> str:
    """A user's id without what differs between exports: Unicode's form, blanks around it, case, 7 and 7.0."""
    plain = unicodedata.normalize("NFC", unicodedata.normalize("NFC", user).strip().casefold())
    return WHOLE.sub(r"\1", plain) or user


def _with_people(pairs: pl.DataFrame, user_ids: str, said: Said) -> pl.DataFrame:
    """User ids as they are to be; those that may be one person's, or nobody's, are told."""
    if (long := pairs["user_id"].str.len_chars() > LONGEST_USER_ID).any():
        rule = f"must have at most {LONGEST_USER_ID} characters, got {{got}}; is this the right column?"
        raise cell_error(pairs.filter(long), "user_id", "user_id", rule)
    people = pairs["user_id"].unique().sort().to_list()
    numbers = all(re.fullmatch(r"\d+(\.0)?", user) for user in people)
    floats = user_ids != "normalised" and numbers and any(user.endswith(".0") for user in people)
    if floats:
        said.append("user ids such as 7.0 are taken as 7")
    if floats or user_ids == "normalised":
        pairs = pairs.with_columns(pl.col("user_id").replace(people, list(map(normalised_id, people))))
        people = pairs["user_id"].unique().sort().to_list()
    alike = defaultdict(list)
    for user in people:
        alike[normalised_id(user)].append(user)
    if several := [users for users in alike.values() if len(users) > 1]:
        example = " and ".join(map(shorten, several[0][:3]))
        which = f"{sum(map(len, several)):,} user ids may be those of {len(several):,} people, as {example}"
        how = "which differ in case, blanks, Unicode's form or a .0 alone"
        said.append(f"warning: {which}, {how}; if they are, have user ids normalised")
    if nobody := [user for user in people if normalised_id(user) in NOBODY]:
        n, names = pairs["user_id"].is_in(nobody).sum(), ", ".join(map(shorten, nobody))
        advice = "if it does, leave these rows out, since they count as one person"
        said.append(f"warning: the user_id of {n:,} rows is {names}, which may name nobody; {advice}")
    return pairs


def _with_times(pairs: pl.DataFrame, columns: Columns, said: Said) -> pl.DataFrame:
    """Timestamps as times in UTC; one that cannot be read is empty, and told. An empty split is none."""
    cells = pairs["timestamp"].str.strip_chars().replace("", None)
    times = cells.map_elements(parse_time, pl.Datetime("us"))
    if (lost := times.is_null() & cells.is_not_null()).any():
        odd = pairs.row(lost.arg_max(), named=True)
        cell = f"{columns.roles['timestamp']} in {row_place(odd[FILE], odd[ROW])}"
        got = f"{shorten(odd['timestamp'])}, and taken as empty; write ISO 8601, or seconds since 1970"
        said.append(f"warning: {cell} is no time but {got}")
    return pairs.with_columns(pl.col("split").replace("", None), timestamp=times)


def parse_time(text: str) -> datetime | None:
    """A time in UTC, without a zone, of ISO 8601 text or seconds from 1973 to 2100; None of anything else.

    Smaller numbers are dates written as digits (20260301), larger ones milliseconds.
    """
    if (seconds := as_number(text)) is not None:
        known = FIRST_TIME <= seconds <= LAST_TIME
        return datetime(1970, 1, 1) + timedelta(seconds=seconds) if known else None
    try:
        time = datetime.fromisoformat(text)
        return time if time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None


def _with_texts(table: Table, columns: Columns) -> pl.DataFrame:
    """The columns that count, by their roles, responses as r0, r1, ..., conversations as texts.

    Turns of conversations that all sides share belong to the prompt, the rest is the response.
    """
    named = columns.roles | {f"r{n}": column for n, column in enumerate(columns.responses)}
    named |= {f"s{n}": column for n, column in enumerate(columns.scores)}
    frame = table.frame.select(FILE, ROW, problem=NO_TEXT, **{name: pl.col(named[name]) for name in named})
    frame = _with_missing(frame, user_id=pl.lit(EVERYONE), prompt=NO_TEXT)
    sides = [name for name in named if name in ("chosen", "rejected", "response") or re.match(r"r\d", name)]
    if not any(_is_talk(frame[name]) for name in ("prompt", *sides)):
        return frame
    texts = []
    for prompt, *responses in frame.select("prompt", *sides).iter_rows():
        asked, said, problem = split_conversation(prompt, responses)
        texts.append((asked, *said, problem))
    schema = dict.fromkeys(("prompt", *sides, "problem"), pl.String)
    return frame.with_columns(pl.DataFrame(texts, schema=schema, orient="row").get_columns())


def _with_missing(frame: pl.DataFrame, **cells: pl.Expr) -> pl.DataFrame:
    """The frame with those of these columns that it lacks."""
    return frame.with_columns(**{name: cell for name, cell in cells.items() if name not in frame.columns})


def _is_talk(cells: pl.Series) -> bool:
    """Whether a column holds conversations: lists of messages, or single messages, as JSON."""
    some = cells.drop_nulls().head(20) if cells.dtype == pl.String else []
    return len(some) > 0 and all(messages_of(cell) is not None for cell in some)


def _sides(turned: pl.Series, first: str, second: str) -> dict[str, pl.Expr]:
    """Chosen and rejected: the first column's response and the second's, or the other way round."""
    ends = (("chosen", second, first), ("rejected", first, second))
    return {name: pl.when(turned).then(pl.col(then)).otherwise(pl.col(other)) for name, then, other in ends}


def _pairs(frame: pl.DataFrame, columns: Columns, **_: Any) -> pl.DataFrame:
    if "label" not in frame.columns:
        return frame
    label = frame["label"].cast(pl.Float64, strict=False)
    no_number = label.is_null() & frame["label"].is_not_null() & (frame["label"] != "")
    if (wrong := no_number | (label < 0) | (label > 1)).any():
        rule = "must lie in [0, 1], got {got}; 0.5 is a tie"
        raise cell_error(frame.filter(wrong), "label", "label", rule)
    label = label.fill_null(1.0)
    surest = pl.max_horizontal(label, 1 - label)
    return frame.with_columns(**_sides(label < 0.5, "chosen", "rejected"), label=surest)


def _duels(frame: pl.DataFrame, columns: Columns, values: Values, said: Said, **_: Any) -> pl.DataFrame:
    winner = frame["winner"].str.strip_chars()
    distinct = sorted(winner.drop_nulls().unique().to_list())
    meaning = winners(distinct, columns.marks, values, said)
    if not meaning or len(meaning) < len(distinct):  # the winner may be the text of a response itself
        texts = [frame[side].str.strip_chars() for side in ("r0", "r1")]
        is_text = ((winner == texts[0]) | (winner == texts[1])).fill_null(value=False)
        if is_text.mean() >= 0.5:
            side = pl.when(winner == texts[1]).then(pl.lit("b")).when(is_text).then(pl.lit("a"))
            winner = frame.select(side.otherwise(winner)).to_series()
            meaning |= {"a": (0, 1.0), "b": (1, 1.0)}
    unknown = frame.filter(winner.is_not_null() & (winner != "") & ~winner.is_in(list(meaning)))
    if len(unknown) > MOST_FAULTY * len(frame):
        shown = ", ".join(map(repr, distinct[:6]))
        advice = f"say what the values mean, --values '{distinct[0]}=a,{distinct[-1]}=b'"
        rule = f"must say which response won, got {{got}} (of {shown}); {advice}"
        raise cell_error(unknown, "winner", columns.roles["winner"], rule)
    side, label = (
        winner.replace_strict({v: m[at] for v, m in meaning.items()}, default=None, return_dtype=kind)
        for at, kind in enumerate((pl.Int8, pl.Float64))
    )
    if any(v.lower() != columns.marks[m[0]] for v, m in meaning.items() if m[1] != 0.5):
        words = [
            f"{value!r} is {'a tie' if label == 0.5 else columns.responses[side]}"
            + (f" ({label:.2f})" if 0.5 < label < 1 else "")
            for value, (side, label) in list(meaning.items())[:8]
        ]
        said.append(f"in {columns.roles['winner']!r} {', '.join(words)}")
    problem = pl.coalesce("problem", pl.when(side.is_null()).then(pl.lit("without a winner")))
    sides = _sides(side == 1, "r0", "r1")
    return frame.with_columns(**sides, label=label, first=side == 0, problem=problem)


def winners(distinct: list[str], marks: Names, values: Values, said: Said) -> dict[str, tuple[int, float]]:
    """What each value of a winner means: the side, and the label; (0, 0.5) is a tie.

    0 and 1 alone mean the first response to some and the second to others, and are refused.
    """
    sides = WINNERS | {mark: side for side, mark in enumerate(marks)}
    meaning: dict[str, tuple[int, float]] = {}
    for value, means in values.items():
        word = plain_words(means)
        if word not in sides and word not in TIES:
            raise PalError(f"--values must say a, b or tie, got {value}={means}")
        meaning[value] = (0, 0.5) if word in TIES else (sides[word], 1.0)
    numbers = {value: float(value) for value in distinct if re.fullmatch(r"[+-]?\d+(\.\d+)?", value)}
    if numbers and min(numbers.values()) < 0:
        most = max(map(abs, numbers.values()))
        graded = {v: (int(n > 0), 0.5 + 0.5 * abs(n) / most) for v, n in numbers.items()}
        said.append("numbers below 0 prefer the first response")
        return graded | meaning
    doubled = any(">>" in value or "<<" in value for value in distinct)  # beside which a single > is weak
    for value in distinct:
        word, arrows = plain_words(value), re.findall("[<>]", value)
        if arrows:  # A>B, A<<B
            bare = plain_words(re.split("[<>]+", value, maxsplit=1)[arrows[0] == "<"])
        else:
            bare = " ".join(STRENGTH.sub(" ", word).split())
        weak = len(arrows) == 1 if doubled else bool(WEAK.search(word))
        if word in TIES or bare in TIES:
            meaning.setdefault(value, (0, 0.5))
        elif bare in sides:
            meaning.setdefault(value, (sides[bare], 0.75 if weak else 1.0))
    rest = {value: n for value, n in numbers.items() if value not in meaning}
    if 2.0 in rest.values() and set(rest.values()) <= {0.0, 1.0, 2.0}:
        meaning |= {value: (max(int(n) - 1, 0), 1.0 if n else 0.5) for value, n in rest.items()}
    elif {0.0, 1.0} & set(rest.values()) and set(rest.values()) <= {0.0, 0.5, 1.0}:
        advice = "say which, --values '0=a,1=b' or --values '1=a,0=b'"
        rule = "a winner of 0 or 1 means the first response to some and the second to others"
        raise PalError(f"{rule}; {advice}", column="winner")
    return meaning


def plain_words(value: str) -> str:
    """Words and numbers in lower case, with single spaces: `Model_A` is `model a`."""
    return " ".join(re.sub(r"[^\w+-]+|_|(?<=\w)-(?=\w)", " ", value.lower()).split())


def _last_word(value: str) -> str:
    return plain_words(value).split(" ")[-1]


def parse_ranking(text: str | None, marks: list[str]) -> list[float] | None:
    """Ranks, the lowest best, of `B>A=C`, `["B", "A", "C"]` or `[2, 1, 2]`; None if of other responses."""
    if not text:
        return None
    if re.search("[<>=]", text):
        levels = re.split(">+", text) if "<" not in text else re.split("<+", text)[::-1]
        tied = [re.split("[=~]+", level) for level in levels]
        by_mark = {_last_word(mark): float(n) for n, level in enumerate(tied) for mark in level}
        return [by_mark[mark] for mark in marks] if sorted(by_mark) == sorted(marks) else None
    cells = parsed_json(text) or re.split(r"[,;\s]+", text.strip())
    if not isinstance(cells, list) or len(cells) != len(marks):
        return None
    numbers = [as_number(cell) for cell in cells]
    if None not in numbers:
        return numbers
    order = [_last_word(str(cell)) for cell in cells]
    return [float(order.index(mark)) for mark in marks] if sorted(order) == sorted(marks) else None


def as_number(cell: Any) -> float | None:
    """A cell as a number, None where it is none."""
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None


def _choices(frame: pl.DataFrame, columns: Columns, values: Values, said: Said, **_: Any) -> pl.DataFrame:
    """The one that was taken over every other."""
    marks = [plain_words(mark) for mark in columns.marks]

    def ranks(row: dict[str, Any], responses: list[Any]) -> list[float] | None:
        value = values.get(row["winner"] or "", row["winner"]) or ""
        last = _last_word(value)
        if last in marks and not (zero_based and last.isdigit()):
            at = marks.index(last)
        elif value in responses:
            at = responses.index(value)
        elif last.isdigit():
            at = int(last) - (0 if zero_based else 1)
        elif len(last) == 1 and last.isalpha():
            at = ord(last) - ord("a")
        else:
            return [0.0] * len(responses) if plain_words(value) in TIES else None
        return [float(n != at) for n in range(len(responses))] if at < len(responses) else None

    zero_based = "0" in frame["winner"].drop_nulls().unique().to_list()
    if zero_based and "0" not in marks:
        said.append("numbers of the responses begin with 0")
    return _ranked(frame, columns, ranks, "whose winner is none of the responses")


def _rankings(frame: pl.DataFrame, columns: Columns, said: Said, **_: Any) -> pl.DataFrame:
    """Of each two that are not tied the higher one over the lower."""
    marks = [plain_words(mark) for mark in columns.marks]
    turn = -1.0 if "rating" in columns.roles else 1.0
    in_order = columns.roles.get("responses") == columns.roles.get("ranking") is not None

    def ranks(row: dict[str, Any], responses: list[Any]) -> list[float] | None:
        if columns.scores:
            cells = [as_number(row[f"s{n}"]) for n in range(len(columns.scores))]
            return None if None in cells else [turn * cell for cell in cells]
        if in_order:
            return [float(n) for n in range(len(responses))]
        read = (parse_ranking(row["ranking"], named[: len(responses)]) for named in (marks, *RANKED))
        return next((found for found in read if found), None)

    if columns.scores:
        said.append(f"of {', '.join(columns.scores)} the {'highest' if turn < 0 else 'lowest'} is best")
    elif in_order:
        said.append("each ranking is a list of responses, the best first")
    elif not frame["ranking"].str.contains("[<>=a-zA-Z]").any():
        said.append("numbers in a ranking are ranks, the lowest best")
    return _ranked(frame, columns, ranks, "whose ranking names other responses")


def _ranked(frame: pl.DataFrame, columns: Columns, ranks: Ranks, problem: str) -> pl.DataFrame:
    """Rows with several responses as a row for each two of them that are not tied."""
    n_columns = len(columns.responses)
    rows: list[tuple[Any, ...]] = []
    for at, row in enumerate(frame.iter_rows(named=True)):
        responses, prompt, wrong = [row[f"r{n}"] for n in range(n_columns)], row["prompt"], row["problem"]
        if not n_columns:
            listed = parsed_json(row["responses"])
            cells = [_content(cell) for cell in listed] if isinstance(listed, list) else []
            prompt, responses, wrong = split_conversation(prompt, cells)
        rank = ranks(row, responses) if len(responses) > 1 else None
        full = [n for n, response in enumerate(responses) if response and response != "EMPTY STRING"]
        better = [
            (at, prompt, responses[i], responses[j], wrong)
            for i in full for j in full
            if rank and rank[i] < rank[j] and responses[i] != responses[j]
        ]  # fmt: skip
        why = problem if rank is None else "that rank nothing above anything else"
        rows += better or [(at, prompt, None, None, wrong or why)]
    bytes_ = any(isinstance(chosen, bytes) for _, _, chosen, *_ in rows)  # of pictures
    cell = frame["r0"].dtype if n_columns else pl.Binary if bytes_ else pl.String
    schema = {"at": pl.UInt32, "prompt": frame["prompt"].dtype, "chosen": cell, "rejected": cell}
    made = pl.DataFrame(rows, schema={**schema, "problem": pl.String}, orient="row")
    kept = frame.with_row_index("at").drop("prompt", "problem", "chosen", "rejected", strict=False)
    return made.join(kept, on="at", how="left", maintain_order="left")


def _content(response: Any) -> Any:
    """A response in a list, which may be an object that holds its text, its messages or a picture."""
    if not isinstance(response, dict) or "role" in response:
        return response
    if response.get("bytes"):
        return b64decode(response["bytes"])
    names = ("text", "content", "response", "answer", "completion", "output", "messages", "path")
    return next((response[name] for name in names if response.get(name)), None)


def _ratings(frame: pl.DataFrame, columns: Columns, seed: int, said: Said, **_: Any) -> pl.DataFrame:
    """Two ratings of one person and prompt, the higher over the lower."""
    role = "rating" if "rating" in columns.roles else "rank"
    # 4,5 is a number to half of the world.
    rating = frame[role].str.replace(r"^\s*(-?\d+),(\d+)\s*$", "$1.$2").cast(pl.Float64, strict=False)
    wrong = rating.is_null() & frame[role].is_not_null() & (frame[role] != "")
    if wrong.sum() > MOST_FAULTY * len(frame):
        raise cell_error(frame.filter(wrong), role, columns.roles[role], "must be a number, got {got}")
    value = rating.set(~rating.is_finite().fill_null(value=False), None) * (1 if role == "rating" else -1)
    within = "person and prompt" if "prompt" in columns.roles else "person"
    apart = f"{GAP:g} of the person's standard deviations"
    compared = f"ratings are compared within a {within}, where they are at least {apart} apart"
    said.append(f"{compared}, each with at most {PARTNERS} others")
    least = GAP * pl.col("value").std(ddof=0).over("user_id")
    none = f"the ratings in {columns.roles[role]} must differ within a {within} by {apart}, got none that do"
    return _matched(frame.with_columns(value=value), least, seed, "without a rating", none)


def _thumbs(frame: pl.DataFrame, columns: Columns, values: Values, seed: int, said: Said) -> pl.DataFrame:
    """A thumb up over a thumb down, of one person and prompt."""
    distinct, name = frame["thumb"].drop_nulls().unique().sort().to_list(), columns.roles["thumb"]
    words = {value: values.get(value, value).strip().lower().replace("_", " ") for value in distinct}
    meaning = {value: float(word in UP) for value, word in words.items() if word in UP | DOWN}
    if distinct and not meaning:
        shown = ", ".join(map(repr, distinct[:6]))
        advice = f"say what the values mean, --values '{distinct[0]}=1,{distinct[-1]}=0'"
        raise PalError(f"{name} must say thumb up or thumb down, got {shown}; {advice}", column=name)
    thumb = frame["thumb"].replace_strict(meaning, default=None, return_dtype=pl.Float64)
    said.append(f"each thumb is compared with at most {PARTNERS} others")
    none = f"the thumbs in {name} make no pair: no person gave one response to a prompt a thumb up and "
    none += "another a thumb down; ask for both, or collect comparisons"
    return _matched(frame.with_columns(value=thumb), pl.lit(1.0), seed, "without a thumb up or down", none)


def _matched(frame: pl.DataFrame, least: pl.Expr, seed: int, without: str, none: str) -> pl.DataFrame:
    """Rows of one person and prompt, each with those after it in a random order, the higher `value` first.

    Two values must be `least` apart; where no two are, `none` says so. Rows without a value come last, with
    the problem `without`.
    """
    no_value = pl.when(pl.col("value").is_null()).then(pl.lit(without))
    frame = frame.with_columns(problem=pl.coalesce("problem", no_value))
    rated = frame.filter(pl.col("problem").is_null())
    item = pl.col("response").rank("dense").alias("item")
    group = pl.struct("user_id", "prompt").rank("dense").alias("group")
    draw = pl.Series("draw", np.random.default_rng(seed).permutation(len(rated)))
    # Numbers alone, since there are many times as many pairs as rows.
    rows = rated.select(group, item, "value", least.alias("least"), draw).with_row_index("at")
    rows = rows.sort("group", "draw").drop("draw")
    parts = []
    for step in range(1, PARTNERS + 1):
        other = rows.select(pl.col("at", "group", "item", "value").shift(-step).name.suffix("_2"))
        both = pl.concat([rows, other], how="horizontal")
        both = both.with_columns(apart=pl.col("value") - pl.col("value_2")).filter(
            pl.col("group") == pl.col("group_2"), pl.col("item") != pl.col("item_2"),
            pl.col("apart") != 0, pl.col("apart").abs() >= pl.col("least"),
        )  # fmt: skip
        first = pl.when(pl.col("apart") > 0)
        parts.append(both.select(first.then("at").otherwise("at_2"), low=first.then("at_2").otherwise("at")))
    pairs = pl.concat(parts)
    if pairs.is_empty():
        raise PalError(none)
    names = ("user_id", "prompt", "timestamp", "split", "problem", FILE, ROW)
    columns = [name for name in names if name in frame.columns]
    made = rated.select(*columns, chosen="response")[pairs["at"]]
    lost = frame.drop_nulls("problem").select(*columns, chosen="response")
    return pl.concat([made.with_columns(rejected=rated["response"][pairs["low"]]), lost], how="diagonal")


MAKE = {  # comparisons of rows as `_with_texts` returns them; to `said` is added what was understood
    "pair": _pairs, "duel": _duels, "choice": _choices, "ranking": _rankings, "rating": _ratings,
    "thumb": _thumbs,
}  # fmt: skip
