"""What a log's columns mean: recognised by the names that the field uses, said, or stated by the user.

A role is what a column is to a comparison: `user_id`, `prompt`, `chosen`, ... The shape of a log follows from
the roles that it has: pair, duel, choice, ranking, rating or thumb, as `docs/logs.md` says.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import groupby, takewhile
from typing import Any

import polars as pl

from pal.conversations import parsed_json
from pal.errors import PalError, cut
from pal.logs.read import FILE, ROW, Table, as_text
from pal.logs.tables import row_place

# The names by which a role's column is recognised, of several that are there the earliest; all in lower case.
_NAMES = """
user_id: user_id user annotator_id annotator worker_id worker rater_id rater judge_id judge evaluator_id
  evaluator person_id person participant_id participant labeler_id labeler labeller_id labeller reviewer_id
  reviewer respondent_id respondent assessor_id assessor user_hash username user_name email email_address
prompt: prompt question instruction query user_prompt prompt_text input context post history task caption
  request topic
chosen: chosen preferred chosen_response response_chosen accepted better positive preferred_response
  chosen_text winning_response output_chosen preferred_output
rejected: rejected dispreferred rejected_response response_rejected worse negative dispreferred_response
  rejected_text losing_response output_rejected non_preferred_output
winner: winner preference choice preferred overall_preference overall_pref verdict vote preferred_response
  better selected which_better answer_preference best label labels judgment judgement chosen result decision
  annotation
responses: responses answers completions candidates outputs options generations images image_path image_paths
  texts
response: response answer completion output model_response reply candidate text item item_id generation
  summary image joke joke_id movie product title messages conversation
ranking: ranking ranks rank order ordering positions
rank: rank position place
rating: rating score stars grade overall_rating human_score human_rating likert overall_score points value
thumb: thumb thumbs thumbs_up thumb_up liked like feedback if_chosen is_chosen is_preferred upvote vote
  is_good label
label: label
timestamp: timestamp time created_at tstamp datetime date answered_at
split: split
"""
_ENTRIES = (entry.split(":") for entry in re.split(r"\n(?=\w)", _NAMES.strip()))
NAMES = {role: tuple(names.split()) for role, names in _ENTRIES}
# What comes before or after the letter or number of one of several responses; the earliest is taken.
STEMS = (
    *("response", "answer", "completion", "output", "candidate", "option", "reply", "generation", "summary"),
    *("text", "conversation", "human_ref", "message", "image", "image_path", "img", "picture", "item", "arg"),
    *("argument", "caption", "passage", "choice", ""),
)
SCORES = {"rating": ("score", "rating", "stars", "grade"), "rank": ("rank", "position", "place")}
LETTERS, DIGITS = "abcdefghijklmnop", "0123456789"
MARKS = (LETTERS, DIGITS, DIGITS[1:], ("left", "right"), ("first", "second"), ("one", "two"))
MARK = "[a-p]|[0-9]|left|right|first|second|one|two"
AFTER = re.compile(rf"(?P<stem>.*?)_?(?P<mark>{MARK})(_(text|content|path))?")
BEFORE = re.compile(r"(?P<mark>left|right|first|second)_(?P<stem>.+)")
Names = tuple[str, ...]
PATH = re.compile(r"[^\[\].]+(\[\])?(\.[^\[\].]+(\[\])?)*")


@dataclass(frozen=True)
class Columns:
    """What the columns of a log are."""

    shape: str
    roles: dict[str, str]  # the column of each role
    responses: Names = ()  # columns of the responses of a row, in order; empty where it has a list
    marks: Names = ()  # what the columns call these responses: `a`, `b` or `1`, `2`
    scores: Names = ()  # columns of their scores or ranks, where the shape is ranking by them

    def name_of(self, role: str) -> str:
        """What the log calls a column of the comparisons that were made of it."""
        response = self.roles.get("responses", self.roles.get("response", role))
        return self.roles.get(role, " or ".join(self.responses) or response)


def parse_columns(text: str) -> dict[str, str]:
    """Read `user_id=rater,prompt=instruction`; a role without a column is one that the log does not have."""
    given: dict[str, str] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        role, equals, column = (each.strip() for each in part.partition("="))
        if not equals:
            raise PalError(f"--columns must be ROLE=COLUMN, separated by commas, got {part!r}")
        if role not in NAMES and not re.fullmatch("response_[a-p]", role):
            known = ", ".join([*NAMES, "response_a", "response_b"])
            raise PalError(f"--columns must name roles, {known}, got {role!r}")
        given[role] = column
    return given


def column_like(role: str, names: Iterable[str]) -> str | None:
    """The column that others call what a role is, or that is spelt like it; None if there is none."""
    folded = {_folded(name): name for name in names}
    if re.fullmatch("response_[a-p]", role):
        several, at = _several({}, folded, STEMS)[1], ord(role[-1]) - ord("a")
        return several[at] if at < len(several) else None
    known = [name for name in NAMES.get(role, ()) if name in folded]
    close = known or get_close_matches(role, folded, n=1, cutoff=0.8)
    return folded[close[0]] if close else None


def recognise(
    table: Table, given: Mapping[str, str] | None = None, *, alone: bool = False
) -> tuple[Table, Columns]:
    """Find out which column is what, by what the user states first, then by names.

    `given` has columns by role, or paths in nested cells (`annotations[].evaluator`): what is returned has a
    row for each entry of the lists on the way. `alone`: a log without a user may be one person's.
    """
    given = dict(given or {})
    table = _reach(table if "user_id" in given else _nested_users(table), given)
    names = {_folded(name): name for name in reversed(table.columns)}
    roles = {role: column for role, column in given.items() if column and role in NAMES}
    free = {folded: name for folded, name in names.items() if name not in given.values()}

    def find(role: str) -> str | None:
        if role in given:
            return given[role] or None
        return next((free[name] for name in NAMES[role] if name in free), None)

    if "user_id" not in given and not (alone and free.keys().isdisjoint(NAMES["user_id"])):
        roles["user_id"] = _user(table, free)
    roles |= {role: column for role in ("timestamp", "split") if (column := find(role))}
    columns = _shape(table, roles, given, free, find)
    taken = {*columns.roles.values(), *columns.responses, *columns.scores}
    found = [free[name] for name in NAMES["prompt"] if name in free and free[name] not in taken]
    if len(found) > 1 and "prompt" not in free and "prompt" not in given:
        said = f"{table.source} has several columns that could be the prompt, {_listed(found)}"
        advice = f"say which by --columns 'prompt={found[0]}', or 'prompt=' for none"
        raise PalError(f"{said}; {advice}", column=found[0])
    if found and "prompt" not in given:
        columns.roles["prompt"] = found[0]
    return table, columns


def _shape(
    table: Table, roles: dict[str, str], given: dict[str, str], free: dict[str, str], find: Any
) -> Columns:
    """The shape that the columns make, the surest first."""
    chosen, rejected = find("chosen"), find("rejected")
    if chosen and rejected:
        label = {"label": label} if (label := find("label")) else {}
        return Columns("pair", {**roles, "chosen": chosen, "rejected": rejected, **label})
    marks, responses = _several(given, free, STEMS)
    listed = not responses and find("responses")
    if responses or (listed and _looks_listed(table, listed)):
        roles = roles if responses else {**roles, "responses": listed}
        winner = next((c for c in [find("winner")] if c and c not in responses), None)
        ranking = find("ranking")
        if ranking and (ranking in given.values() or not winner):
            return Columns("ranking", {**roles, "ranking": ranking}, responses, marks)
        if winner:
            shape = "duel" if len(responses) == 2 else "choice"
            return Columns(shape, {**roles, "winner": winner}, responses, marks)
        for kind, stems in SCORES.items():
            scored, scores = _several({}, free, stems)
            if scored[: len(marks)] == marks and marks:
                return Columns("ranking", {**roles, kind: scores[0]}, responses, marks, scores[: len(marks)])
    elif (ranking := find("ranking")) and _looks_listed(table, ranking) and not find("responses"):
        return Columns("ranking", {**roles, "responses": ranking, "ranking": ranking})
    response, advice = find("response"), "chosen=...,rejected=..."
    for role, shape in (("rating", "rating"), ("rank", "rating"), ("thumb", "thumb")):
        column = find(role)
        if column is None or column == response:
            continue
        # What is rated has many names; a column that can be nothing else is taken.
        used = {*roles.values(), column, find("prompt")}
        others = [name for folded, name in free.items() if name not in used and folded not in NAMES["prompt"]]
        rated = others[0] if response is None and "response" not in given and len(others) == 1 else response
        if rated:
            return Columns(shape, {**roles, "response": rated, role: column})
        advice = f"response={others[0] if others else '...'}"
    raise PalError(
        f"{table.source} must say what was preferred: by columns chosen and rejected; response_a, response_b "
        "and winner; responses and ranking; or response and rating or thumb; it has "
        f"{_listed(_paths(table))}; name them by --columns '{advice}'"
    )


def _several(given: Mapping[str, str], free: Mapping[str, str], stems: Iterable[str]) -> tuple[Names, Names]:
    """Marks and names of columns that differ by a letter or number alone, of the first stem that has two."""
    stated = {role[-1]: column for role, column in given.items() if re.fullmatch("response_[a-p]", role)}
    if len(stated) > 1:
        return tuple(sorted(stated)), tuple(stated[mark] for mark in sorted(stated))
    by_stem: dict[str, dict[str, str]] = {}
    for folded, name in free.items():
        for match in (AFTER.fullmatch(folded), BEFORE.fullmatch(folded)):
            if match:
                by_stem.setdefault(match["stem"].strip("_"), {})[match["mark"]] = name
    for stem in stems:
        known = by_stem.get(stem, {})
        for marks in MARKS:
            run = tuple(takewhile(known.__contains__, marks))
            if len(run) > 1:
                return run, tuple(known[mark] for mark in run)
    return (), ()


def _user(table: Table, free: Mapping[str, str]) -> str:
    """The column of the user; where there are two that name the same people, the first."""
    found = [free[name] for name in NAMES["user_id"] if name in free]
    if not found:
        said = (
            f"{table.source} must have a column that says who answered, such as user_id, annotator or rater"
        )
        advice = "name it by --columns 'user_id=...', or 'user_id=' if it was one person"
        raise PalError(f"{said}; it has {_listed(_paths(table))}; {advice}", column="user_id")
    first, *others = found
    if first == "user_id":
        return first
    frame, n = table.frame, table.frame[first].n_unique()
    if other := [c for c in others if {frame[c].n_unique(), frame.select(first, c).n_unique()} != {n}]:
        said = f"{table.source} has several columns that could be the user, {_listed([first, *other])}"
        raise PalError(f"{said}; say which by --columns 'user_id={first}'", column=first)
    return first


def _nested_users(table: Table) -> Table:
    """Where no column is the user, but lists of objects in one have it: reach into all their parts."""
    users = set(NAMES["user_id"])
    if users & set(map(_folded, table.columns)):
        return table
    for column in table.columns:
        entries = parsed_json(_example(table, column))
        entries = [each for each in entries if isinstance(each, dict)] if isinstance(entries, list) else []
        keys = dict.fromkeys(key for entry in entries for key in entry)
        if users & set(map(_folded, keys)):
            paths = {key: f"{column}[].{key}" for key in keys if key not in table.columns}
            frame = _reach(table, paths).frame.drop(column)
            return replace(table, frame=frame.rename({path: key for key, path in paths.items()}))
    return table


def _example(table: Table, column: str) -> str | None:
    """The first text of a column; None where it has none."""
    cells = table.frame[column].drop_nulls()
    return cells[0] if cells.dtype == pl.String and len(cells) else None


def _looks_listed(table: Table, column: str) -> bool:
    return (_example(table, column) or "").lstrip().startswith("[")


def _reach(table: Table, given: Mapping[str, str]) -> Table:
    """Add a column for each path in nested cells, a row for each entry of lists; responses stay a list."""
    missing = [column for column in given.values() if column and column not in table.columns]
    if not missing:
        return table
    frame = table.frame
    for path in missing:
        if not PATH.fullmatch(path) or not any(path.startswith((f"{c}.", f"{c}[]")) for c in frame.columns):
            said = f"{table.source} has no column {path!r}; it has {_listed(_paths(table))}"
            raise PalError(said, column=path)
    apart = {path for role, path in given.items() if role not in ("responses", "ranking")}
    prefixes = dict.fromkeys(  # `a[]` and `a[].b[]` of `a[].b[].c`
        path[: mark.end()] for path in missing if path in apart for mark in re.finditer(r"\[\]", path)
    )
    prefixes = sorted(prefixes, key=lambda prefix: prefix.count("[]"))
    for _, level in groupby(prefixes, key=lambda prefix: prefix.count("[]")):
        paths = list(level)
        frame = frame.with_columns(
            _at(frame, path[:-2]).map_elements(_entries, pl.List(pl.String), skip_nulls=False).alias(path)
            for path in paths
        )
        for path in paths[1:]:  # entries of one number belong together
            odd = frame.filter(pl.col(path).list.len() != pl.col(paths[0]).list.len())
            if len(odd):
                place = row_place(*odd.select(FILE, ROW).row(0))
                raise PalError(f"{paths[0]} and {path} in {place} must have as many entries", column=path)
        frame = frame.explode(paths).filter(pl.any_horizontal(pl.col(paths).is_not_null()))
    frame = frame.with_columns([_at(frame, path).alias(path) for path in missing])
    frame = frame.drop(set(prefixes) - set(missing))
    if all(frame[path].null_count() == len(frame) for path in missing):
        said = f"{table.source} holds nothing at {missing[0]} in any row; check the path"
        raise PalError(said, column=missing[0])
    if prefixes:
        table.said.append(f"a row for each entry of {', '.join(prefixes)}")
        if lost := len(table.frame) - frame.select(FILE, ROW).n_unique():
            table.said.append(f"{lost:,} rows have no entry there and are left out")
    return replace(table, frame=frame)


def _at(frame: pl.DataFrame, path: str) -> pl.Series:
    """What stands at a path, as texts, from the longest prefix that has a column."""
    start = max((c for c in frame.columns if path == c or path.startswith((f"{c}.", f"{c}[]"))), key=len)
    steps = re.findall(r"\[\]|[^\[\].]+", path[len(start) :])
    if not steps:
        return frame[start]
    texts = [as_text(_walk(parsed_json(cell), steps)) for cell in frame[start]]
    return pl.Series(path, texts, dtype=pl.String)


def _walk(value: Any, steps: list[str]) -> Any:
    for number, step in enumerate(steps):
        if step == "[]":
            return [_walk(each, steps[number + 1 :]) for each in value] if isinstance(value, list) else None
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _entries(cell: str | None) -> list[str | None]:
    value = parsed_json(cell)
    return [as_text(entry) for entry in value] if isinstance(value, list) else []


def _folded(name: str) -> str:
    """A name in lower case with underscores, as NAMES has them: `userId` and `User ID` are `user_id`."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip()).lower()).strip("_")


def _paths(table: Table) -> list[str]:
    """Columns, and in their place what the objects in a column hold, as paths that lead there."""
    found = []
    for name in table.columns:
        value = parsed_json(_example(table, name))
        inside, mark = (value[0], "[]") if isinstance(value, list) and value else (value, "")
        found += [f"{name}{mark}.{key}" for key in inside] if isinstance(inside, dict) else [name]
    return found


def _listed(names: Iterable[str]) -> str:
    return cut(", ".join(map(repr, names)) or "none", 300)
