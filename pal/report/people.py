"""People in a report: what each gains by a personal reward, examples of their answers, and how they answer.

A table of judged answers has a row for each held-out answer: user_id, users (seen or unseen), prompt, chosen
and rejected (numbers of items), right and one (whether the personal reward and one reward for everyone prefer
what was chosen; one half is undecided), p and p_one (the chances that they gave it). `one` and `p_one` may
be null.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from scipy.special import bdtr

from pal.evaluation.accuracy import Judged, confidence_interval, paired_test
from pal.report.page import RARE, Row

MOST_PEOPLE = 300  # with a page of their own
EXAMPLES = 3  # of either kind on a person's page
WORST = 5
BIN = 0.05  # of gains
LEAST_REPEATS, LEAST_SIDES = 5, 10  # questions answered twice, and answers with a side, to be judged by
SELF, SIDE = 0.6, 0.9  # agreement with oneself at most, share of one side at least, of who stands out
LAPSE = 0.3  # share of answers at random which that of who stands out is surely above
PAUSE = 600.0  # seconds, after which an answer was not given right after the one before
FAST, FASTER = 3.0, 0.2  # seconds an answer, and share of the median person's, of who stands out


def judge_people(answers: pl.DataFrame) -> pl.DataFrame:
    """Each person's held-out answers, accuracies and gain: user_id, users, n, accuracy, one, gain."""
    people = answers.group_by("user_id", "users", maintain_order=True)
    judged = people.agg(n=pl.len(), accuracy=pl.col("right").mean(), one=pl.col("one").mean())
    return judged.with_columns(gain=pl.col("accuracy") - pl.col("one"))


def for_whom(people: pl.DataFrame, attributes: Mapping[str, Mapping[str, str]] | None = None) -> Row | None:
    """For whom it pays: the distribution of gains, the worst served by id, and means by attribute.

    Takes what `judge_people` returns, and by attribute each person's value. None where nobody was judged.
    """
    if people.is_empty():
        return None
    worst = people.sort("accuracy", "n", descending=[False, True], maintain_order=True).head(WORST)
    n = int(people["n"].median())  # type: ignore[arg-type]
    mean = float(people["accuracy"].mean())  # type: ignore[arg-type]
    reach = 1.96 * np.sqrt(max(mean * (1 - mean), 0.02) / n)
    said, bins, named = [], [], (attributes or {}).items()
    if people["gain"].null_count() < len(people):
        gain = people["gain"].drop_nulls().to_numpy()
        helped, hurt = int((gain > 1e-9).sum()), int((gain < -1e-9).sum())
        said.append(
            f"Of {len(gain):,} people the personal reward is right more often for {helped:,}, as often for "
            f"{len(gain) - helped - hurt:,}, and less often for {hurt:,}."
        )
        place = np.round(gain / BIN).astype(int)
        bins = [
            {"at": round(float(at * BIN), 4), "people": int((place == at).sum())}
            for at in range(min(place.min(), 0), max(place.max(), 0) + 1)
        ]
    said.append(
        f"With {n:,} held-out answer{'s' * (n > 1)} a person, a single person's accuracy is uncertain by "
        f"about {100 * reach:.0f} points."
    )
    return {
        "sentence": " ".join(said),
        "bins": bins,
        "most": max((each["people"] for each in bins), default=0),
        "worst": worst.to_dicts(),
        "groups": [group for name, values in named for group in _groups(people, name, values)],
    }


def _groups(people: pl.DataFrame, attribute: str, values: Mapping[str, str]) -> list[Row]:
    """Means over the people of each value of an attribute, with 95 % intervals of the gain."""
    value = pl.col("user_id").replace_strict(dict(values), default=None, return_dtype=pl.String)
    told, rows = people.with_columns(value=value), []
    for value in sorted(told["value"].drop_nulls().unique().to_list()):
        some = told.filter(pl.col("value") == value)
        row = {"attribute": attribute, "value": value, "people": len(some), "gain": None, "gain_low": None}
        total = some["n"].cast(pl.Int64).to_numpy()
        own = Judged((some["accuracy"] * some["n"]).to_numpy(), total)
        row["accuracy"] = own.macro
        row["low"], row["high"] = confidence_interval(own, mean="macro")
        if some["gain"].null_count() == 0:
            test = paired_test(own, Judged((some["one"] * some["n"]).to_numpy(), total), flips=1)
            row |= {"gain": test.difference, "gain_low": test.low, "gain_high": test.high}
        rows.append(row)
    return rows


def examples(answers: pl.DataFrame, users: Sequence[str]) -> dict[str, dict[str, list[Row]]]:
    """Each person's worst mistakes and most telling answers: right where one reward is surely wrong."""
    p_one = pl.col("p_one").fill_null(0.5)
    some = answers.filter(pl.col("user_id").is_in(list(users))).with_columns(telling=pl.col("p") - p_one)
    right = some.filter(pl.col("right") > 0.5).sort("telling", descending=True, maintain_order=True)
    wrong = some.filter(pl.col("right") < 0.5).sort("p", maintain_order=True)
    found: dict[str, dict[str, list[Row]]] = {user: {"telling": [], "mistakes": []} for user in users}
    for kind, rows in (("telling", right), ("mistakes", wrong)):
        top = rows.group_by("user_id", maintain_order=True).head(EXAMPLES)
        for row in top.iter_rows(named=True):
            found[row["user_id"]][kind].append(row)
    return found


def answering(
    people: pl.DataFrame,
    repeats: pl.DataFrame | None = None,
    sides: pl.DataFrame | None = None,
    times: pl.DataFrame | None = None,
    care: pl.DataFrame | None = None,
    *,
    personal: bool = True,
) -> Row:
    """How people answer, so that careless ones are seen before they are believed.

    Takes `people` as `judge_people` returns them; `repeats` (user_id, share, n: of a question answered n
    times, how often in the one way); `sides` (user_id, first: whether the response shown first was chosen);
    `times` (user_id, seconds: since the person's answer before); `care` (user_id, lapse, low: the share of
    answers at random, and what it is surely above). Where the model is not `personal`, agreement with it says
    nothing of care.

    Returns rows by person (of those who stand out first), standing_out, sentence, and lapse: the mean.
    """
    table = people.select("user_id", "n", agreement="accuracy")
    told = []
    if repeats is not None and len(repeats):
        n, share = pl.col("n"), pl.col("share")
        # Of two of the answers to a question, the chance that they agree; graded answers are no repeats.
        whole = ((n * share) - (n * share).round()).abs() < 1e-3
        alike = (n * (share.pow(2) + (1 - share).pow(2)) - 1) / (n - 1)
        of_users = repeats.filter((n > 1) & whole).group_by("user_id")
        told.append(of_users.agg(itself=alike.mean(), repeated=pl.len()))
    if sides is not None and len(sides):
        told.append(sides.group_by("user_id").agg(first=pl.col("first").mean(), shown=pl.len()))
    if times is not None and len(times):
        told.append(times.group_by("user_id").agg(seconds=pl.col("seconds").median()))
    if care is not None and len(care):
        told.append(care)
    for each in told:
        table = table.join(each, on="user_id", how="left")
    rows = table.to_dicts()
    typical = float((table["agreement"] * table["n"]).sum() / max(table["n"].sum(), 1))
    pace = table["seconds"].median() if "seconds" in table.columns else None
    for row in rows:
        row["why"] = why = []
        right = round(row["agreement"] * row["n"])
        if personal and row["agreement"] <= SELF and bdtr(right, row["n"], typical) * len(rows) < RARE:
            why.append("hardly agrees with their own model")
        if (row.pop("low", None) or 0) > LAPSE:
            why.append("answers as if at random")
        if row.get("itself") is not None and row["repeated"] >= LEAST_REPEATS and row["itself"] <= SELF:
            why.append("answers the same question in both ways")
        if row.get("first") is not None and row["shown"] >= LEAST_SIDES:
            one_side = max(row["first"], 1 - row["first"])
            fewer = round((1 - one_side) * row["shown"])
            p = 2 * bdtr(fewer, row["shown"], 0.5) * len(rows)  # of a fair coin, two-sided
            if one_side >= SIDE and p < RARE:
                side = "first" if row["first"] > 0.5 else "second"
                why.append(f"nearly always chooses the response shown {side}")
        if row.get("seconds") is not None and row["seconds"] <= min(FAST, FASTER * pace):  # type: ignore[operator]
            why.append(f"answers every {row['seconds']:.1f} seconds")
    rows.sort(key=lambda row: (not row["why"], row["agreement"]))
    out = sum(bool(row["why"]) for row in rows)
    said = "Nobody stands out."
    if out:
        said = f"{out:,} of {len(rows):,} people stand out: look at their answers before believing them."
    lapse = table["lapse"].mean() if "lapse" in table.columns else None
    return {"rows": rows[:MOST_PEOPLE], "standing_out": out, "sentence": said, "lapse": lapse}


def seconds_between(users: pl.Series, times: pl.Series) -> pl.DataFrame:
    """Seconds between each answer and the person's next, pauses aside: user_id, seconds."""
    sorted_times = pl.DataFrame({"user_id": users, "time": times}).drop_nulls().sort("user_id", "time")
    gap = pl.col("time").diff().over("user_id").dt.total_milliseconds() / 1000
    gaps = sorted_times.select("user_id", seconds=gap)
    return gaps.filter((pl.col("seconds") > 0) & (pl.col("seconds") < PAUSE))
